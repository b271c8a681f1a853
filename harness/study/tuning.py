"""Ray Tune runs the trials, Optuna proposes them. The only importer of Tune.

Ray holds no state that matters: the study in the Optuna storage and the files beside it are the
truth, and resuming is opening the study.
"""

import gc
import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

# Both are read while ray.tune is imported: the terminal is ours, and the study keeps the results.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# Ctrl-C is ours, too: Tune would end its run as if it were finished.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")

import numpy as np
import optuna
import ray
import torch
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher
from ray.tune.search.optuna import OptunaSearch

from harness import cluster
from harness.errors import InputError
from harness.predictions import ClipIndex
from harness.study.config import TrialConfig
from harness.study.space import SearchSpace
from harness.study.storage import RETRY_OF, StudyFolder, close_unfinished, finished
from harness.study.trial import Trial, TrialData, TrialResult

# Tune tells of its trials' errors in logs; the study and the last line tell of them here.
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
# A study that yields this many failures in a row, and nothing else, is broken, not unlucky.
MAX_FAILURES_IN_A_ROW = 5
# An undefined score ranks below every defined one, which is at least -1.
WORST = -1.0


@dataclass(frozen=True)
class Resources:
    """concurrency: trials at once; None: as many as fit. cpus, gpus: of each trial.
    address: of a running Ray cluster; None starts one on this machine."""

    concurrency: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    address: str | None = None


class Watcher(Protocol):
    """What is told of a search while it runs."""

    def started(self, number: int, params: dict[str, Any]) -> None: ...
    def epoch(self, number: int, epoch: int, score: float) -> None: ...
    def ended(self, number: int, state: str, score: float | None, reason: str) -> None: ...


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
    """One worker, reused for trial after trial; each step is an epoch."""

    def setup(self, config: dict[str, Any], data: TrialData | None = None) -> None:
        assert data is not None  # with_parameters gives it
        # A head is too small to share among cores; whole trials run side by side instead.
        torch.set_num_threads(1)
        self.device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        self.data = data
        self._build(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        del self.trial
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._build(new_config)
        return True

    def _build(self, config: dict[str, Any]) -> None:
        self.trial: Trial | str
        try:
            self.trial = Trial(TrialConfig.from_dict(config), self.data, self.device)
        except Exception as error:
            self.trial = _reason(error)

    def step(self) -> dict[str, Any]:
        if isinstance(self.trial, str):
            return _failure(self.trial)
        try:
            epoch = self.trial.step()
            report: dict[str, Any] = {
                "score": epoch.score,
                "rank": epoch.score if math.isfinite(epoch.score) else WORST,
                "done": self.trial.finished,
            }
            if self.trial.finished:
                report["outcome"] = Outcome(self.trial.result())
        except Exception as error:  # a trial's failure is a result: FAIL with its reason
            return _failure(_reason(error))
        return report


class Broken(tune.Stopper):
    """Stops all trials once a result could not be written."""

    def __init__(self, search_alg: "StudySearch") -> None:
        self._search = search_alg

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._search.broken is not None


class StudySearch(OptunaSearch):
    """Tells Optuna what really happened to each trial.

    A trial's files are written before the study is told that it is complete. Tune's own search
    class reports trials that a scheduler stopped as complete and loses each trial's last step.
    """

    def __init__(
        self,
        space: SearchSpace,
        folder: StudyFolder,
        index: ClipIndex,
        study_seed: int,
        watcher: Watcher,
        failures_in_a_row: int,
        **optuna_options: Any,
    ) -> None:
        # Tune's class wants a space of its own; `suggest` below asks for ours.
        super().__init__(space=lambda trial: None, metric="rank", mode="max", **optuna_options)
        # Made by Tune's class, since it was given a space.
        self.study = cast(optuna.Study, self._ot_study)
        self.search_space, self.folder, self.index = space, folder, index
        self.study_seed, self.watcher = study_seed, watcher
        self.failures_in_a_row = failures_in_a_row
        self.last_reason = ""
        #: What kept a result from being written. Tune would log it and go on.
        self.broken: Exception | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        if self.broken or self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            # None would only mean "ask again later".
            return cast(dict[str, Any], Searcher.FINISHED)
        trial = self.study.ask(fixed_distributions=self.search_space.distributions)
        self._ot_trials[trial_id] = trial
        root = trial.user_attrs.get(RETRY_OF, trial.number)
        seed = trial_seed(self.study_seed, root)
        trial.set_user_attr("seed", seed)
        self.watcher.started(trial.number, trial.params)
        config: dict[str, Any] = self.search_space.fixed | trial.params | {"seed": seed}
        return config

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if trial_id not in self._completed_trials and not self.broken:
            with self._guarded():
                self._report(self._ot_trials[trial_id], result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if trial_id in self._completed_trials:
            return
        self._completed_trials.add(trial_id)
        if not self.broken:
            with self._guarded():
                self._end(self._ot_trials[trial_id], result, error)
                self.folder.journal.seal()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Keeps an error for `search` to raise; after it nothing more is written."""
        try:
            yield
        except Exception as error:
            self.broken = error

    def _end(self, trial: optuna.Trial, result: dict[str, Any] | None, error: bool) -> None:
        if error or not result or "failure" in result:
            reason = (result or {}).get("failure", "the worker process died")
            self._fail(trial, reason)
        elif "outcome" in result:
            self._report(trial, result)
            self._complete(trial, result["outcome"].take())
        else:
            self._report(trial, result)
            self.study.tell(trial, state=TrialState.PRUNED)
            self.failures_in_a_row = 0
            self.watcher.ended(trial.number, "PRUNED", result["score"], "")

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its search into snapshots that nobody reads: the study is the state.
        return {}

    def save(self, checkpoint_path: str) -> None:
        # The study is the state; Tune insists on a file.
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a search is resumed from its study, not from Ray's snapshots")

    def _report(self, trial: optuna.Trial, result: dict[str, Any]) -> None:
        epoch = int(result["training_iteration"])
        trial.report(float(result["rank"]), epoch)
        self.watcher.epoch(trial.number, epoch, float(result["score"]))

    def _complete(self, trial: optuna.Trial, result: TrialResult) -> None:
        # Attributes first: Optuna takes none after a trial has ended.
        targets = self.index.target_names
        trial.set_user_attr(
            "pcc", {n: round(float(r), 6) for n, r in zip(targets, result.per_target, strict=True)}
        )
        trial.set_user_attr("best_epoch", result.best.number)
        trial.set_user_attr("seconds", round(result.seconds, 3))
        trial.set_user_attr("steps", result.steps)
        trial.set_user_attr("filled", result.filled)
        self.folder.save(trial.number, result, self.index)
        self.study.tell(trial, result.score)
        self.failures_in_a_row = 0
        self.watcher.ended(trial.number, "COMPLETE", result.score, "")

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        trial.set_user_attr("reason", reason)
        self.study.tell(trial, state=TrialState.FAIL)
        self.failures_in_a_row += 1
        self.last_reason = reason
        self.watcher.ended(trial.number, "FAIL", None, reason)


def search(
    space: SearchSpace,
    data: TrialData,
    index: ClipIndex,
    folder: StudyFolder,
    *,
    trials: int,
    seed: int,
    sampler: str,
    scheduler: str,
    resources: Resources,
    storage_url: str | None,
    watcher: Watcher,
) -> optuna.Study:
    """Runs what is left of the budget; call it under the folder's lock.

    Args:
        trials: finished trials (complete or pruned) that the study shall hold in all.

    Raises:
        InputError: trials failed one after another; the message gives the last reason.
    """
    storage = folder.storage(storage_url)
    study = folder.study(storage)
    close_unfinished(study)
    if not study.get_trials(deepcopy=False):
        for point in space.start:
            study.enqueue_trial(point)
    failures = 0
    while (left := trials - len(finished(study))) > 0:
        cluster.join(resources.address)
        search_alg = StudySearch(
            space,
            folder,
            index,
            seed,
            watcher,
            failures,
            sampler=_sampler(sampler, seed + len(study.get_trials(deepcopy=False))),
            storage=storage,
            study_name=folder.name,
        )
        try:
            _fit(search_alg, space, data, left, scheduler, resources)
        finally:
            # Also after Ctrl-C: what was running is queued for the next run.
            close_unfinished(study)
            folder.journal.seal()
        # Counted on from round to round: a small budget makes short rounds.
        failures = search_alg.failures_in_a_row
        if failures >= MAX_FAILURES_IN_A_ROW:
            raise InputError(
                f"study {folder.name}: {MAX_FAILURES_IN_A_ROW} trials failed one after another, "
                f"so the search stopped; the last: {search_alg.last_reason}"
            )
    return study


def trial_seed(study_seed: int, number: int) -> int:
    """A trial's seed: from the study's and the trial's number, never from Ray's ids."""
    state = np.random.SeedSequence([study_seed, number]).generate_state(1)
    return int(state[0] >> 1)  # below 2^31, which every library takes


def _fit(
    search_alg: StudySearch,
    space: SearchSpace,
    data: TrialData,
    trials: int,
    scheduler: str,
    resources: Resources,
) -> None:
    slots = _slots(resources)
    trainable = tune.with_resources(
        tune.with_parameters(HeadTrainable, data=data),
        {"cpu": resources.cpus, "gpu": resources.gpus},
    )
    with tempfile.TemporaryDirectory(prefix="harness-tune-") as scratch:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=ConcurrencyLimiter(search_alg, max_concurrent=slots),
                scheduler=_scheduler(scheduler, space),
                num_samples=trials,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=scratch,
                verbose=0,
                stop=Broken(search_alg),
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
            ),
        )
        tuner.fit()
    if search_alg.broken:
        raise search_alg.broken


def _slots(resources: Resources) -> int:
    cpus, gpus = cluster.resource("CPU"), cluster.resource("GPU")
    fit = int(cpus / resources.cpus) if resources.cpus else 1 << 16
    if resources.gpus:
        fit = min(fit, int(gpus / resources.gpus))
    if fit < 1:
        raise InputError(
            f"a trial needs {resources.cpus:g} CPUs and {resources.gpus:g} GPUs, here are "
            f"{cpus:g} and {gpus:g}; "
            "lower --cpus-per-trial or --gpus-per-trial"
        )
    return min(fit, resources.concurrency or fit)


def _sampler(name: str, seed: int) -> BaseSampler:
    makers: dict[str, Callable[[], BaseSampler]] = {
        # Trials that run at once must not all be drawn to the same spot.
        "tpe": lambda: TPESampler(seed=seed, multivariate=True, constant_liar=True),
        "random": lambda: RandomSampler(seed=seed),
    }
    if name not in makers:
        raise InputError(f"--sampler {name}: choose of {', '.join(makers)}")
    return makers[name]()


def _scheduler(name: str, space: SearchSpace) -> TrialScheduler:
    if name == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    if name != "asha":
        raise InputError(f"--scheduler {name}: choose of asha, none")
    return ASHAScheduler(
        metric="rank",
        mode="max",
        grace_period=space.budget.grace,
        reduction_factor=space.budget.reduction,
        # The trial ends by itself; a smaller max_t would end it before its result is there.
        max_t=10**9,
    )


def _failure(reason: str) -> dict[str, Any]:
    return {"score": math.nan, "rank": WORST, "done": True, "failure": reason}


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:2000]
