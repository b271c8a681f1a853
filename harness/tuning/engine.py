"""Ray Tune runs the trials, the ledger keeps the study; this file connects the two."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

# Ray Tune reads these when it is imported; a site may have set them otherwise. Tune's output and
# loggers are off: the harness prints, and the study keeps the results.
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
# At Ctrl-C, Tune would end its run as if it were finished.
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
# The study is the state; nobody reads Tune's snapshots of its trials.
os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "inf"
# With these, Tune refuses to run.
os.environ.pop("TUNE_RESULT_DIR", None)
os.environ.pop("RAY_AIR_LOCAL_CACHE_DIR", None)

from optuna.exceptions import UpdateFinishedTrialError
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher

from harness import cluster
from harness.dataset import Dataset
from harness.errors import InputError
from harness.interrupts import Wait, restore, unchanged, uninterrupted
from harness.tuning.ledger import Ledger
from harness.tuning.worker import HeadTrainable

# Tune logs the errors of its trials; here the study keeps them and the board prints them.
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resources:
    """concurrency: trials at once; None: as many as fit. cpus, gpus: of each trial.
    address: of a running Ray cluster; None starts one on this machine."""

    concurrency: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    address: str | None = None


class Broken(tune.Stopper):
    """Stops all trials after a result could not be written."""

    def __init__(self, search_alg: "StudySearch") -> None:
        self._search = search_alg

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._search.broken is not None


class StudySearch(Searcher):
    """Takes trials from the ledger and reports their ends to it.

    Tune's own search class for Optuna marks trials that a scheduler stopped as complete, loses
    each trial's last step, and leaves trials running in the study when a search is killed.
    """

    def __init__(self, ledger: Ledger, slots: int, deterministic: bool) -> None:
        super().__init__()
        self._ledger, self._slots, self._deterministic = ledger, slots, deterministic
        self._numbers: dict[str, int] = {}
        self._batch_is_full = False
        self._is_lowered = False
        #: What kept a result from being written. Tune would log it and continue.
        self.broken: Exception | None = None
        #: Ray's errors by Tune's id of the trial, until Tune reports the end of the trial.
        self.errors: dict[str, object] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        idle = not self._ledger.open
        if len(self._ledger.open) >= self._slots:
            return None
        if self._deterministic and not idle and self._batch_is_full:
            return None
        asked = None
        if not self.broken and not self._ledger.hopeless:
            with self._guarded():
                asked = self._ledger.ask()
        if asked is None:
            # None means "ask again later": what is still in work may fail, and a search that has
            # the rest of the budget may be dead.
            ends = idle and (self.broken or self._ledger.hopeless or self._ledger.over)
            return cast(dict[str, Any], Searcher.FINISHED) if ends else None
        self._numbers[trial_id], config = asked
        self._batch_is_full = len(self._ledger.open) >= self._slots
        return config

    def report(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Notes a trial's epochs; True if it is to be stopped."""
        stop = False
        with self._guarded(), self._held(trial_id) as number:
            stop = self._ledger.report(number, result["epochs"])
        return stop or trial_id not in self._numbers

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if trial_id not in self._numbers or self.broken:
            return
        with self._guarded(), self._held(trial_id) as number:
            if error or not result:
                self._lose(number, self.errors.pop(trial_id, None))
            elif "failure" in result:
                _log.error("trial %s failed\n%s", number, result["traceback"])
                self._ledger.fail(number, result["failure"], result["lasting"])
            elif "outcome" in result:
                self._ledger.report(number, result["epochs"])
                self._ledger.complete(number, result["outcome"].take())
            else:
                if "dead" in result:  # Tune skips the last report of a trial that ends itself
                    self._ledger.report(number, result["epochs"])
                self._ledger.prune(number, result["seconds"], result.get("dead", ""))
        self._numbers.pop(trial_id, None)

    def _lose(self, number: int, error: object) -> None:
        """Ray lost the trial. Errors of the trial itself arrive as results of the worker."""
        self._ledger.fail_by_machine(number, cluster.reason(error))
        if cluster.is_out_of_memory(error) and not self._is_lowered and self._slots > 1:
            self._is_lowered = True
            self._slots = max(1, self._slots // 2)
            self._ledger.watcher.notice(
                "The machine ran out of memory; from now on, trials at the same time: "
                f"{self._slots} (`concurrency` sets this)"
            )

    @contextmanager
    def _held(self, trial_id: str) -> Iterator[int]:
        """The trial's number in the study, while it is this search's."""
        number = self._numbers[trial_id]
        try:
            yield number
        except UpdateFinishedTrialError:
            self._ledger.lost(number)
            del self._numbers[trial_id]

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Keeps an error for `run_trials` to raise; after it nothing more is written.

        A trial that is asked for, or ends, does so wholly before Ctrl-C is heard.
        """
        try:
            with uninterrupted():
                yield
        except Exception as error:
            self.broken = error

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its search into snapshots that nobody reads: the study is the state.
        return {}

    def save(self, checkpoint_path: str) -> None:
        # The study is the state; Tune insists on a file.
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        raise RuntimeError("a search is resumed from its study, not from Ray's snapshots")


class StudyScheduler(FIFOScheduler):
    """Stops the trials that the ledger's pruner stops."""

    def __init__(self, search_alg: StudySearch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._search = search_alg

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        stop = self._search.report(trial.trial_id, result)
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        # Tune tells the scheduler first, which alone sees the error.
        self._search.errors[trial.trial_id] = cluster.error_of(trial)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # as that of the search


class Lookout(tune.Callback):
    """Keeps the handlers of signals, and reports a long time in which no trial runs.

    handlers: those of this process; Tune replaces that of SIGUSR1 when it starts.
    """

    def __init__(self, resources: Resources, handlers: dict[int, Any]) -> None:
        self._resources, self._handlers = resources, handlers
        self._wait: Wait | None = None
        self._is_pending, self._begun = False, 0

    def setup(self, *_: Any, **__: Any) -> None:
        restore(self._handlers)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        # The newest last: of thousands of trials, those at work are found at once.
        states = (trial.status for trial in reversed(trials))
        found = next((state for state in states if state in ("RUNNING", "PENDING")), "")
        # A trial that began since the last look may have ended at once.
        if found == "RUNNING" or len(trials) > self._begun:
            self._begun, self._wait = len(trials), None
            return
        self._is_pending = found == "PENDING"
        self._wait = self._wait or Wait(self._awaited)
        self._wait.report()

    def _awaited(self) -> str:
        if not self._is_pending:
            return "other searches, which have the remaining trials"
        needed = {"CPU": self._resources.cpus, "GPU": self._resources.gpus}
        free = cluster.free()
        return "a trial to start: it needs " + " and ".join(
            f"{amount:g} {name} ({free.get(name, 0):g} of {cluster.resource(name):g} are free)"
            for name, amount in needed.items()
            if amount
        )

    def __getstate__(self) -> dict[str, Any]:
        return {}


def run_trials(
    ledger: Ledger,
    data: Dataset,
    resources: Resources,
    *,
    deterministic: bool = False,
    last_words: Callable[[], str] = lambda: "run the same command again",
) -> None:
    """Runs trials until the ledger has no more of them.

    Args:
        last_words: gives the line for a search whose Ray is killed. deterministic: trials are asked
            for in batches, each when the one before has ended.

    Raises:
        InputError: trials failed one after another; the message gives the last reason.
        Exception: what kept a result from being written.
    """
    if not resources.cpus and not resources.gpus:
        raise InputError("`cpus_per_trial` 0: a trial needs a part of a CPU or of a GPU")
    cluster.join(resources.address)
    slots = _slots(resources)
    search_alg = StudySearch(ledger, slots, deterministic)
    try:
        with cluster.watched(last_words):
            _fit(search_alg, ledger, data, slots, resources)
    finally:
        # Also after Ctrl-C: the next run retries the running trials.
        ledger.close_open()
    if search_alg.broken:
        raise search_alg.broken
    if ledger.hopeless:
        raise InputError(ledger.hopeless)


def _fit(
    search_alg: StudySearch, ledger: Ledger, data: Dataset, slots: int, resources: Resources
) -> None:
    decisions = ledger.rules.decisions if ledger.rules.agenda.pruned else frozenset()
    trainable = tune.with_resources(
        tune.with_parameters(HeadTrainable, data=data, decisions=decisions),
        {"cpu": resources.cpus, "gpu": resources.gpus},
    )
    with tempfile.TemporaryDirectory(prefix="harness-tune-") as scratch, unchanged() as handlers:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=ConcurrencyLimiter(search_alg, max_concurrent=slots),
                scheduler=StudyScheduler(search_alg),
                num_samples=-1,  # the ledger decides when the search ends
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=scratch,
                verbose=0,
                stop=Broken(search_alg),
                callbacks=[Lookout(resources, handlers)],
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
            ),
        )
        tuner.fit()


def _slots(resources: Resources) -> int:
    cpus, gpus = cluster.resource("CPU"), cluster.resource("GPU")
    fit = int(cpus / resources.cpus) if resources.cpus else 1 << 16
    if resources.gpus:
        fit = min(fit, int(gpus / resources.gpus))
    if fit < 1:
        raise InputError(
            f"a trial needs {resources.cpus:g} CPUs and {resources.gpus:g} GPUs, here are "
            f"{cpus:g} and {gpus:g}; "
            "lower `cpus_per_trial` or `gpus_per_trial`"
        )
    return min(fit, resources.concurrency or fit)
