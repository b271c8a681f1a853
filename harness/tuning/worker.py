"""A worker of a search: trains trial after trial in a process of its own, an actor of Ray Tune."""

import gc
import time
import traceback
from typing import Any

import ray

from harness.allocator import keep_memory, return_memory
from harness.collection import collect_rarely

# In a worker, not in the process that starts it; and without Ray, the context would start it.
if ray.is_initialized() and ray.get_runtime_context().get_actor_id():
    collect_rarely()  # before torch is imported

import torch
from ray import tune

from harness.dataset import Dataset
from harness.errors import InputError
from harness.models.config import TrialConfig
from harness.models.training import Epoch, UndefinedScoreError
from harness.trials.trial import Trial, TrialResult

# Each report costs the driver milliseconds; a person watching does not see more than this.
REPORT_SECONDS = 0.5


class Outcome:
    """A finished trial's result on its way to the driver.

    The driver takes it out at once; what Tune keeps of it afterwards, in memory and in its
    snapshots, is empty.
    """

    def __init__(self, result: TrialResult) -> None:
        self._result: TrialResult | None = result

    def take(self) -> TrialResult:
        result, self._result = self._result, None
        assert result is not None  # taken once, by the search
        return result


class HeadTrainable(tune.Trainable):
    """One worker, reused for trial after trial.

    A step trains epochs until one after which the trial may be stopped, and for no longer than
    `REPORT_SECONDS` begins anew. It reports `epochs` and `seconds` since the trial began, and at
    the end `outcome`, `dead` (why the trial cannot recover) or `failure`.
    """

    def setup(
        self,
        config: dict[str, Any],
        data: Dataset | None = None,
        decisions: frozenset[int] = frozenset(),
    ) -> None:
        assert data is not None  # with_parameters gives it
        # A head is too small to share among cores; whole trials run side by side instead.
        torch.set_num_threads(1)
        keep_memory()
        self.device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        self.data, self.decisions = data, decisions
        # What is imported stays; a collection need not walk through it again for every trial.
        gc.collect()
        gc.freeze()
        self._build(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        del self.trial
        gc.collect()
        return_memory()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._build(new_config)
        return True

    def _build(self, config: dict[str, Any]) -> None:
        self.trial: Trial | dict[str, Any]
        try:
            self.trial = Trial(TrialConfig.from_dict(config), self.data, self.device)
        except Exception as error:
            self.trial = _failure(error)

    def step(self) -> dict[str, Any]:
        if isinstance(self.trial, dict):
            return self.trial
        try:
            report: dict[str, Any] = {"epochs": _epochs(self.trial, self.decisions)}
            report |= {"done": self.trial.finished, "seconds": self.trial.seconds}
            if self.trial.dead:
                report["dead"] = self.trial.dead
            elif self.trial.finished:
                report["outcome"] = Outcome(self.trial.result())
        except Exception as error:  # a trial's failure is a result: FAIL with its reason
            return _failure(error)
        return report


def _epochs(trial: Trial, decisions: frozenset[int]) -> list[tuple[int, float]]:
    """Trains some epochs; their numbers and scores."""
    epochs: list[Epoch] = []
    begun = time.monotonic()
    while not epochs or not (
        trial.finished
        or epochs[-1].number in decisions
        or time.monotonic() - begun >= REPORT_SECONDS
    ):
        epochs.append(trial.step())
    return [(epoch.number, epoch.score) for epoch in epochs]


def _failure(error: Exception) -> dict[str, Any]:
    # The same seed and data would give the same error again.
    lasting = isinstance(error, UndefinedScoreError | InputError)
    return {
        "epochs": [],
        "done": True,
        "failure": f"{type(error).__name__}: {error}"[:2000],
        "lasting": lasting,
        "traceback": "".join(traceback.format_exception(error)),
    }
