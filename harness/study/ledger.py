"""The ledger of a study: what is tried next, and what became of each trial.

Everything it goes by stands in the study. So a search that was killed goes on as if it had not
been, and several searches of one study keep one budget.
"""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from harness.study.agenda import CONFIRMS, ITEM, REPEAT, Agenda, Item
from harness.study.driver import Driver
from harness.study.space import CONFIG, Point, SearchSpace, suggest
from harness.study.storage import FINISHED, RETRY_OF, VOID, finished
from harness.study.trial import TrialResult

_log = logging.getLogger(__name__)
#: A point that failed this often after its first try is the cause, not the victim.
MAX_RETRIES = 2
#: One that was at work so often when its search was cut off may be what cut it off.
MAX_CUT_OFFS = 10
# A study in which so many points fail, and nothing else ends, is broken, not unlucky.
MAX_FAILURES_IN_A_ROW = 5
# An undefined score ranks below every defined one, which is at least -1.
WORST = -1.0
# How often a search looks whether others have died, in seconds.
_ROUND = 10.0
#: Reasons of failures that are no fault of the trial's.
CUT_OFF, GIVEN_BACK = "the search was cut off", "another search was faster"
LASTING = "lasting"


class Watcher(Protocol):
    """What is told of a search while it runs."""

    def started(self, number: int, params: Point) -> None: ...
    def epochs(self, number: int, scores: list[tuple[int, float]]) -> None: ...
    def ended(self, number: int, state: str, score: float | None, reason: str) -> None: ...


@dataclass(frozen=True)
class Rules:
    """How a study is searched. sampler: made for a study that holds so many trials. decisions:
    epochs after which the pruner is asked. targets: names of the intensities. keep: writes a
    complete trial's files, before the study is told that it is complete. seal: called when a trial
    has ended."""

    space: SearchSpace
    agenda: Agenda
    seed: int
    sampler: Callable[[int], BaseSampler]
    pruner: BasePruner
    decisions: frozenset[int]
    targets: tuple[str, ...]
    keep: Callable[[optuna.Trial, TrialResult], None]
    seal: Callable[[], None] = lambda: None


class Ledger:
    """Keeps one study, for one search of it."""

    def __init__(self, study: optuna.Study, driver: Driver, rules: Rules, watcher: Watcher) -> None:
        self.study, self.driver, self.rules, self.watcher = study, driver, rules, watcher
        study.pruner = rules.pruner
        #: Trials of this search that have not ended.
        self.open: dict[int, optuna.Trial] = {}
        self.last_reason = ""
        self._failed: set[int] = set()
        self._last: dict[int, float] = {}
        self._looked = -math.inf

    @property
    def hopeless(self) -> bool:
        """Points failed one after another, and nothing else has ended."""
        return len(self._failed) >= MAX_FAILURES_IN_A_ROW

    def ask(self) -> tuple[int, Point] | None:
        """The number and configuration of the next trial, or None: all that is left is in work."""
        if time.monotonic() - self._looked > _ROUND:
            self.close_dead()
            self._looked = time.monotonic()
        trial = self._taken()
        if trial is None:
            return None
        seed = trial_seed(self.rules.seed, trial.user_attrs.get(RETRY_OF, trial.number))
        try:
            trial.set_user_attr("seed", seed)
            point, config = self._configured(trial)
            trial.set_user_attr(CONFIG, config)
        except UpdateFinishedTrialError:
            # SQLite may let two searches take one trial at once; the other has ended it.
            self.driver.ended(trial)
            return self.ask()
        self.open[trial.number] = trial
        _log.info("trial %d begins: %s, seed %d", trial.number, point, seed)
        self.watcher.started(trial.number, point)
        return trial.number, config | {"seed": seed}

    def report(self, number: int, scores: list[tuple[int, float]]) -> bool:
        """Notes (epoch, score) of a trial; True if it is to be stopped here."""
        trial = self.open[number]
        stop = False
        for epoch, score in scores:
            self._last[number] = score
            trial.report(score if math.isfinite(score) else WORST, epoch)
            if self.rules.agenda.pruned and epoch in self.rules.decisions:
                stop = stop or trial.should_prune()
        self.watcher.epochs(number, scores)
        return stop

    def complete(self, number: int, result: TrialResult) -> None:
        """Keeps a finished trial's files, then tells the study."""
        trial = self.open[number]
        # Attributes first: Optuna takes none after a trial has ended.
        for name, value in _facts(result, self.rules.targets).items():
            trial.set_user_attr(name, value)
        self.rules.keep(trial, result)
        self._end(number, TrialState.COMPLETE, result.score)
        self._failed.clear()

    def prune(self, number: int) -> None:
        """The trial was stopped, as `report` said."""
        self._end(number, TrialState.PRUNED, None)
        self._failed.clear()

    def fail(self, number: int, reason: str, lasting: bool = False) -> None:
        """The trial failed; it is tried again, but if it would fail again (`lasting`)."""
        trial = self.open[number]
        trial.set_user_attr("reason", reason)
        trial.set_user_attr(LASTING, lasting)
        self._failed.add(trial.user_attrs.get(RETRY_OF, number))
        self.last_reason = reason
        self._end(number, TrialState.FAIL, None, reason)

    def lost(self, number: int) -> None:
        """Another search took this one for dead and has given the trial up; so does this one."""
        self.driver.ended(self.open.pop(number))
        self.watcher.ended(number, TrialState.FAIL.name, self._last.pop(number, None), CUT_OFF)

    def close_dead(self) -> None:
        """Closes as failed what searches that died left running; it is tried again."""
        for trial in self.driver.dead(self.study):
            self._cut_off(trial.number, trial._trial_id)

    def close_open(self) -> None:
        """Closes what this search leaves running."""
        for number, trial in list(self.open.items()):
            self._cut_off(number, trial._trial_id)
            self.driver.ended(trial)
            del self.open[number]
        self.rules.seal()

    def _configured(self, trial: optuna.Trial) -> tuple[Point, Point]:
        """What is searched of a trial, and all of its configuration: drawn from the space, or, of
        one that repeats another, that one's, whatever the space has become since."""
        trials = self.study.get_trials(deepcopy=False)
        for number in (trial.user_attrs.get(RETRY_OF), trial.user_attrs.get(CONFIRMS)):
            known = None if number is None else trials[number]
            if known is not None and CONFIG in known.user_attrs:
                point = {
                    name: suggest(trial, name, distribution)
                    for name, distribution in known.distributions.items()
                }
                return point, known.user_attrs[CONFIG]
        point = self.rules.space.suggest(trial)
        return point, self.rules.space.fixed | point

    def _cut_off(self, number: int, trial_id: int) -> None:
        # Another search may have been faster.
        try:
            self.study._storage.set_trial_user_attr(trial_id, "reason", CUT_OFF)
            self.study.tell(number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):
            return

    def _end(self, number: int, state: TrialState, score: float | None, reason: str = "") -> None:
        trial = self.open[number]
        self._tell(trial, state, score)
        # A trial that has ended in the study is no longer in work, whatever comes next.
        del self.open[number]
        self.driver.ended(trial)
        self.rules.seal()
        last = self._last.pop(number, None)
        _log.info("trial %d is %s, score %s %s", number, state.name, score or last, reason)
        self.watcher.ended(number, state.name, last if score is None else score, reason)

    def _tell(self, trial: optuna.Trial, state: TrialState, score: float | None = None) -> None:
        if self.study._storage.get_trial(trial._trial_id).state.is_finished():
            raise UpdateFinishedTrialError(f"trial {trial.number} was ended by another search")
        if state == TrialState.COMPLETE:
            self.study.tell(trial, score)
        else:
            self.study.tell(trial, state=state)

    def _trials(self) -> list[FrozenTrial]:
        """Those of the agenda."""
        trials = self.study.get_trials(deepcopy=False)
        return [
            trial
            for trial in trials
            if self.rules.agenda.counts(trial) and trial.user_attrs.get("reason") != GIVEN_BACK
        ]

    def _claimed(self, trials: list[FrozenTrial]) -> int:
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        return running + len(self._standing(trials))

    def _standing(self, trials: list[FrozenTrial]) -> set[int]:
        """Numbers of the trials that are finished and whose files are there."""
        void = self.study.user_attrs.get(VOID, {})
        return {t.number for t in trials if t.state in FINISHED and str(t.number) not in void}

    def _taken(self) -> optuna.Trial | None:
        """A trial that is this search's alone, and within the budget."""
        while True:
            trials = self._trials()
            if self._claimed(trials) >= self.rules.agenda.total:
                return None
            trial = self._next(trials)
            if isinstance(trial, optuna.Trial):
                self.driver.took(trial)
                if not self._is_too_many(trial):
                    return trial
                trial.set_user_attr("reason", GIVEN_BACK)
                self._tell(trial, TrialState.FAIL)
            elif trial == "over":
                return None

    def _next(self, trials: list[FrozenTrial]) -> optuna.Trial | Literal["over", "again"]:
        """A trial that was taken; or that there is none; or that another search was faster."""
        waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
        for trial in waiting:
            if claimed := self._claim(trial):
                return claimed
        item = self._retry(trials) or self._item(trials)
        if item:
            self.study.enqueue_trial(item.params, user_attrs={ITEM: item.key, **item.notes})
            claimed = next(filter(None, map(self._claim, self._waiting(item.key))), None)
            return claimed or "again"
        if not self.rules.agenda.drawn:
            return "over"
        return self._drawn()

    def _drawn(self) -> optuna.Trial:
        """A new trial. `study.ask` would first take whatever waits, a confirmation for one."""
        self.study.sampler = self.rules.sampler(len(self.study.get_trials(deepcopy=False)))
        self.study._thread_local.cached_all_trials = None
        return optuna.Trial(self.study, self.study._storage.create_new_trial(self.study._study_id))

    def _waiting(self, key: str) -> list[FrozenTrial]:
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return [trial for trial in waiting if trial.user_attrs.get(ITEM) == key]

    def _claim(self, trial: FrozenTrial) -> optuna.Trial | None:
        """Takes a queued trial, unless another search was faster."""
        storage = self.study._storage
        try:
            if not storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING):
                return None
        except UpdateFinishedTrialError:
            return None
        # As Optuna does where it takes the next of the queue; here it is a certain one.
        self.study._thread_local.cached_all_trials = None
        self.study.sampler = self.rules.sampler(trial.number)
        return optuna.Trial(self.study, trial._trial_id)

    def _item(self, trials: list[FrozenTrial]) -> Item | None:
        taken = {trial.user_attrs.get(ITEM) for trial in trials}
        return next((item for item in self.rules.agenda.items() if item.key not in taken), None)

    def _retry(self, trials: list[FrozenTrial]) -> Item | None:
        """The first point that has failed, but not too often, or whose files were lost."""
        standing = self._standing(trials)
        tries: dict[int, list[FrozenTrial]] = defaultdict(list)
        for trial in trials:
            tries[trial.user_attrs.get(RETRY_OF, trial.number)].append(trial)
        for root, attempts in tries.items():
            ended = all(t.state in (TrialState.FAIL, *FINISHED) for t in attempts)
            if not ended or any(t.number in standing for t in attempts):
                continue
            ends = [trial for trial in attempts if trial.state == TrialState.FAIL]
            # That a search was cut off is no fault of the trial's, unless it always is.
            failed = [trial for trial in ends if trial.user_attrs.get("reason") != CUT_OFF]
            point = _point_of(attempts)
            lasting = any(trial.user_attrs.get(LASTING) for trial in failed)
            often = len(failed) > MAX_RETRIES or len(ends) > MAX_CUT_OFFS
            if point and not lasting and not often:
                notes = {
                    name: value
                    for name, value in attempts[0].user_attrs.items()
                    if name in (CONFIRMS, REPEAT)
                }
                key = attempts[0].user_attrs.get(ITEM, f"trial {root}")
                return Item(key, point, notes | {RETRY_OF: root, "attempt": len(attempts)})
        return None

    def _is_too_many(self, trial: optuna.Trial) -> bool:
        """Whether another search was faster: with the rest of the budget, or with this item."""
        if self.driver.alone:
            return False
        earlier = [t for t in self._trials() if t.number < trial.number]
        same = {"attempt": trial.user_attrs.get("attempt"), ITEM: trial.user_attrs.get(ITEM)}
        twin = same[ITEM] is not None and any(
            all(t.user_attrs.get(name) == value for name, value in same.items()) for t in earlier
        )
        return twin or self._claimed(earlier) >= self.rules.agenda.total


def done(study: optuna.Study, agenda: Agenda) -> int:
    """How many trials of an agenda are finished."""
    return sum(agenda.counts(trial) for trial in finished(study))


def trial_seed(study_seed: int, number: int) -> int:
    """A trial's seed: from the study's and the trial's number, never from Ray's ids."""
    state = np.random.SeedSequence([study_seed, number]).generate_state(1)
    return int(state[0] >> 1)  # below 2^31, which every library takes


def _point_of(attempts: list[FrozenTrial]) -> Point:
    """What was drawn for a point; empty if its search died before."""
    first = attempts[0]
    point: Point = first.system_attrs.get("fixed_params", {}) | first.params
    return point


def _facts(result: TrialResult, targets: tuple[str, ...]) -> dict[str, Any]:
    """What the dashboard and the report show of a complete trial."""
    return {
        "pcc": {
            name: round(float(r), 6) for name, r in zip(targets, result.per_target, strict=True)
        },
        "best_epoch": result.best.number,
        "epochs": len(result.curve),
        "seconds": round(result.seconds, 3),
        "steps": result.steps,
        "filled": result.filled,
    }
