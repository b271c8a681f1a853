"""The ledger of a study: the next trial, and the end of each trial.

The study holds all of its state. A killed search therefore continues where it was, and several
searches of one study share one budget: each takes a trial, and ends one, under the lock of the
storage (`Backend.exclusive`).
"""

import logging
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError

from harness.interrupts import Wait, attended
from harness.models.config import defaults
from harness.space.search_space import Point, SearchSpace, suggest
from harness.study.deaths import death_lines, is_dead
from harness.study.trials import (
    CONFIG,
    CORRECTED,
    DRIVER,
    ERROR,
    FINISHED,
    REASON,
    RETRY_OF,
    SECONDS,
    VOID,
    complete,
    configuration,
    finished,
)
from harness.trials.trial import TrialResult
from harness.tuning.agenda import CONFIRMS, ITEM, OWN, Agenda, Item
from harness.tuning.driver import Driver, Fate
from harness.tuning.queue import close, queued
from harness.tuning.repeats import CUT_OFF, LASTING, MACHINE, first_repeat

_log = logging.getLogger(__name__)
# After so many failures in a row, of different points or of the machine, the search stops.
MAX_FAILURES_IN_A_ROW = 5
# An undefined score ranks below every defined one, which is at least -1.
WORST = -1.0
# From so many dead trials on, whenever their number has doubled, a line says what they share.
_TELLING = 4
# Seconds between two attempts to take a trial while other searches have the remaining ones.
_REST = 2.0
# Seconds for which a database may be unreachable, and between two attempts.
_PATIENCE, _PAUSE = 120.0, 0.5
#: What a call of the study's storage waits for, if it takes long.
AWAITED = "the study's storage, which does not answer (is its database or disk available?)"
_T = TypeVar("_T")


class LostError(Exception):
    """The lock was lost while this search took a trial."""


# After these errors an operation on the study is repeated, because the server may be restarting.
_PASSING = (StorageInternalError, DBAPIError, LostError)


class Watcher(Protocol):
    """Receives the events of a running search. counted: trials of the agenda, of all searches."""

    def counted(self, finished: int, running: int) -> None: ...
    def started(self, number: int, params: Point) -> None: ...
    def epochs(self, number: int, scores: list[tuple[int, float]]) -> None: ...
    def ended(self, number: int, state: str, score: float | None, reason: str) -> None: ...
    def notice(self, text: str) -> None: ...


@dataclass(frozen=True)
class Rules:
    """How a study is searched.

    sampler: makes the sampler for a study with a number of trials. decisions: epochs after which
    the pruner is asked. targets: names of the intensities. keep: writes the files of a complete
    trial, before the study marks it as complete.
    """

    space: SearchSpace
    agenda: Agenda
    seed: int
    sampler: Callable[[int], BaseSampler]
    pruner: BasePruner
    decisions: frozenset[int]
    targets: tuple[str, ...]
    keep: Callable[[optuna.Trial, TrialResult], None]


class Ledger:
    """The trials of one study, for one search of it."""

    def __init__(self, study: optuna.Study, driver: Driver, rules: Rules, watcher: Watcher) -> None:
        self.study, self.driver, self.rules, self.watcher = study, driver, rules, watcher
        study.pruner = rules.pruner
        # Thousands of trials take seconds to read; later, under the lock, only new ones are read.
        trials = study.get_trials(deepcopy=False)
        #: Trials of this search that have not ended.
        self.open: dict[int, optuna.Trial] = {}
        #: Whether no work is left for this search, as `ask` saw it last. If another search has the
        #: remaining trials, it may still turn out to be dead.
        self.over = False
        reasons = [t.user_attrs.get(REASON) for t in trials if t.state == TrialState.FAIL]
        #: Why the last trial failed that did.
        self.last_reason = str(next((why for why in reversed(reasons) if why), "unknown"))
        self._failed: set[int] = set()
        self._machine_failures = 0
        self._last: dict[int, float] = {}
        self._rests_until = -math.inf

    @property
    def hopeless(self) -> str:
        """Why the search stops: failures in a row, with no finished trial between; else empty."""
        study = f"study {self.study.study_name}: "
        if self._machine_failures >= MAX_FAILURES_IN_A_ROW:
            return (
                f"{study}{self._machine_failures} trials in a row were lost to the machine, so the "
                f"search stopped; they are retried by the same command; the last: "
                f"{self.last_reason}"
            )
        if len(self._failed) >= MAX_FAILURES_IN_A_ROW:
            return (
                f"{study}{len(self._failed)} trials failed one after another, so the search "
                f"stopped; the last: {self.last_reason}"
            )
        return ""

    def ask(self) -> tuple[int, Point] | None:
        """The number and configuration of the next trial; None: all remaining trials run."""
        if time.monotonic() < self._rests_until:
            return None
        while (trial := self._anew(self._take)) is not None:
            try:
                point, config = self._anew(partial(self._draw, trial))
            except UpdateFinishedTrialError:
                del self.open[trial.number]  # another search considered this one dead
            except _MisfitError as error:
                self._refuse(trial.number, str(error))
            except BaseException:
                del self.open[trial.number]  # it is then closed as an orphaned trial
                raise
            else:
                _log.info("trial %d begins: %s, seed %d", trial.number, point, config["seed"])
                self.watcher.started(trial.number, point)
                return trial.number, config
        if self.driver.backend.shared:
            self._rests_until = time.monotonic() + _REST
        return None

    def report(self, number: int, scores: list[tuple[int, float]]) -> bool:
        """Stores (epoch, score) of a trial; True if it is to be stopped here."""
        trial = self.open[number]
        stop = False
        for epoch, score in scores:
            self._last[number] = score
            self._anew(partial(trial.report, score if math.isfinite(score) else WORST, epoch))
            if self.rules.agenda.pruned and epoch in self.rules.decisions:
                stop = stop or self._anew(trial.should_prune)
        self.watcher.epochs(number, scores)
        return stop

    def complete(self, number: int, result: TrialResult) -> None:
        """Writes the files of a finished trial, then ends it in the study."""
        # Attributes first: Optuna accepts none after the end of a trial.
        self._note(number, _facts(result, self.rules.targets))
        self._anew(partial(self.rules.keep, self.open[number], result))
        self._end(number, TrialState.COMPLETE, result.score)
        self._has_ended()

    def prune(self, number: int, seconds: float, reason: str = "") -> None:
        """Ends a trial that `report` stopped or, with a reason, one that cannot recover."""
        notes = {SECONDS: round(seconds, 3)} | ({REASON: reason} if reason else {})
        self._note(number, notes)
        self._end(number, TrialState.PRUNED, None, reason)
        if not reason:
            self._has_ended()
            return
        deaths = sum(map(is_dead, finished(self.study)))
        if deaths >= _TELLING and deaths & (deaths - 1) == 0:
            for line in death_lines(self.study):
                self.watcher.notice(line)
        if not complete(self.study):
            # Later ones may be better, but not where the data or the space lets none live.
            self._failed.add(number)
            self.last_reason = reason

    def fail(self, number: int, reason: str, lasting: bool = False) -> None:
        """The trial failed by itself; it is retried unless the failure is permanent (`lasting`)."""
        self._note(number, {REASON: reason, LASTING: lasting})
        self._failed.add(self._frozen(number).user_attrs.get(RETRY_OF, number))
        self.last_reason = reason
        self._end(number, TrialState.FAIL, None, reason)

    def fail_by_machine(self, number: int, reason: str) -> None:
        """The machine failed: a worker or a node was lost, say. It does not count against the
        trial's point, which this search retries a few times, and later searches do, too."""
        self._note(number, {REASON: reason, MACHINE: True})
        self._machine_failures += 1
        self.last_reason = reason
        self._end(number, TrialState.FAIL, None, reason)

    def _has_ended(self) -> None:
        """A trial is finished: the study and the machine work."""
        self._failed.clear()
        self._machine_failures = 0

    def lost(self, number: int) -> None:
        """Drops a trial that another search has closed, because it considered this one dead."""
        del self.open[number]
        self.watcher.ended(number, TrialState.FAIL.name, self._last.pop(number, None), CUT_OFF)

    def close_dead(self) -> None:
        """Closes the trials of dead searches as failed; they are retried."""
        with attended(AWAITED), self.driver.backend.exclusive():
            self._close_dead(self.study.user_attrs)

    def close_open(self) -> None:
        """Closes the trials that this search leaves running; they are retried."""
        self.open.clear()
        try:
            self.close_dead()
        except _PASSING as error:
            _log.warning("trials are left to the next search, the storage is away: %r", error)
        self.driver.backend.seal()

    def _anew(self, act: Callable[[], _T]) -> _T:
        """Calls `act`, again while the storage cannot be reached; `act` may run twice."""
        wait = Wait(AWAITED)
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                with attended(AWAITED):
                    return act()
            except _PASSING as error:
                _log.info("the storage was away: %r", error)
                if time.monotonic() > until:
                    raise
            wait.pause(_PAUSE)

    def _take(self) -> optuna.Trial | None:
        """The next trial, taken under the lock; None: all remaining trials run."""
        with self.driver.backend.exclusive() as still_ours:
            attributes = self.study.user_attrs
            trials, fates = self._close_dead(attributes)
            mine = [trial for trial in trials if self.rules.agenda.counts(trial)]
            void = attributes.get(VOID, {})
            standing = {t.number for t in mine if t.state in FINISHED and str(t.number) not in void}
            running = [trial for trial in mine if trial.state == TrialState.RUNNING]
            self.watcher.counted(len(standing), len(running))
            self.over = len(standing) >= self.rules.agenda.total or "unknown" not in fates.values()
            if len(standing) + len(running) >= self.rules.agenda.total:
                return None
            # A waiting trial was queued by a user, and Optuna takes it first.
            number = next((t.number for t in trials if t.state == TrialState.WAITING), len(trials))
            if number == len(trials):
                item = self._repeat(mine, standing) or self._item(mine)
                if item is None:
                    return None
                notes = {ITEM: item.key, **item.notes, **self.driver.tags}
                self.study.enqueue_trial(item.params, user_attrs=notes)
            self.study.sampler = self.rules.sampler(number)
            trial = self.study.ask()
            tags = trial.user_attrs
            if DRIVER not in tags:
                tags = {ITEM: f"queued {trial.number}", **self.driver.tags}
                for name, value in tags.items():
                    trial.set_user_attr(name, value)
            still_ours()
            if tags[DRIVER] != self.driver.token:
                raise LostError(f"trial {trial.number} is another search's")
            self.open[trial.number] = trial
            return trial

    def _repeat(self, trials: list[FrozenTrial], standing: set[int]) -> Item | None:
        return first_repeat(trials, standing, self.rules.agenda.keys, self.driver.token)

    def _item(self, trials: list[FrozenTrial]) -> Item | None:
        taken = {trial.user_attrs.get(ITEM) for trial in trials}
        items = (item for item in self.rules.agenda.items() if item.key not in taken)
        drawn = Item(f"drawn {secrets.token_hex(8)}", {}, {}) if self.rules.agenda.drawn else None
        return next(items, drawn)

    def _close_dead(self, attributes: dict[str, Any]) -> tuple[list[FrozenTrial], dict[int, Fate]]:
        """Closes orphaned trials; all trials, and the fates of the running ones."""
        trials = self.study.get_trials(deepcopy=False)
        fates = self.driver.fates(trials, attributes)
        dead = [trial.number for trial in trials if self._is_dead(trial, fates)]
        for number in dead:
            close(self.study, self.driver.backend.storage, number, CUT_OFF)
        return (self.study.get_trials(deepcopy=False) if dead else trials), fates

    def _is_dead(self, trial: FrozenTrial, fates: dict[int, Fate]) -> bool:
        if trial.state == TrialState.WAITING:
            # Searches queue and take a trial under one lock, so that none of theirs waits.
            return ITEM in trial.user_attrs or DRIVER in trial.user_attrs
        is_mine = trial.user_attrs.get(DRIVER) == self.driver.token
        is_orphan = is_mine and trial.number not in self.open
        is_running = trial.state == TrialState.RUNNING
        return is_running and (is_orphan or fates.get(trial.number) == "dead")

    def _draw(self, trial: optuna.Trial) -> tuple[Point, Point]:
        """The searched hyperparameters and the whole configuration of a trial.

        They are drawn from the space; a trial that repeats another has the configuration of that
        one, also if the space has changed since.
        """
        frozen = self._frozen(trial.number)
        seed = trial_seed(self.rules.seed, frozen.user_attrs.get(RETRY_OF, trial.number))
        trial.set_user_attr("seed", seed)
        config: Point = {}
        for number in (frozen.user_attrs.get(RETRY_OF), frozen.user_attrs.get(CONFIRMS)):
            known = None if number is None else self._frozen(number)
            if known is not None and (config := configuration(known)):
                space = known.distributions
                point = {name: suggest(trial, name, each) for name, each in space.items()}
                break
        if not config:
            if misfit := self.rules.space.misfit(queued(frozen)):
                raise _MisfitError(misfit)
            point = self.rules.space.suggest(trial)
            config = self.rules.space.fixed | point | frozen.user_attrs.get(OWN, {})
        # Whole, so that it stays the same where another version has other defaults.
        config = defaults(config.get("family")) | config
        trial.set_user_attr(CONFIG, config)
        return point, config | {"seed": seed}

    def _refuse(self, number: int, reason: str) -> None:
        """Fails a trial that a user queued with a point outside of the space."""
        self.watcher.started(number, {})
        self._note(number, {REASON: reason, LASTING: True})
        self._end(number, TrialState.FAIL, None, reason)

    def _note(self, number: int, notes: dict[str, Any]) -> None:
        for name, value in notes.items():
            self._anew(partial(self.open[number].set_user_attr, name, value))

    def _end(self, number: int, state: TrialState, score: float | None, reason: str = "") -> None:
        self._anew(partial(self._tell, number, state, score))
        # A trial that has ended in the study is no longer open, also if the next lines fail.
        del self.open[number]
        self._rests_until = -math.inf
        self.driver.backend.seal()
        last = self._last.pop(number, None)
        _log.info("trial %d is %s, score %s %s", number, state.name, score or last, reason)
        known = last if score is None else score
        defined = None if known is None or math.isnan(known) else known
        self.watcher.ended(number, state.name, defined, reason)

    def _tell(self, number: int, state: TrialState, score: float | None) -> None:
        with self.driver.backend.exclusive() as still_ours:
            found = self._frozen(number).state
            if found == TrialState.RUNNING:
                still_ours()
                self.study.tell(number, score, state)
            elif found != state:  # equal: an earlier attempt of ours succeeded
                raise UpdateFinishedTrialError(f"trial {number} was ended by another search")

    def _frozen(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]


class _MisfitError(Exception):
    """A queued point is outside of the space."""


def done(study: optuna.Study, agenda: Agenda) -> int:
    """How many trials of an agenda are finished."""
    return sum(agenda.counts(trial) for trial in finished(study))


def trial_seed(study_seed: int, number: int) -> int:
    """A trial's seed: from the study's and the trial's number, never from Ray's ids."""
    state = np.random.SeedSequence([study_seed, number]).generate_state(1)
    return int(state[0] >> 1)  # below 2^31, which every library takes


def _facts(result: TrialResult, targets: tuple[str, ...]) -> dict[str, Any]:
    """Attributes of a complete trial for the dashboard and the report."""
    corrected = result.score - result.optimism["val"]
    return {
        CORRECTED: round(corrected, 6),
        **({ERROR: round(result.error, 6)} if math.isfinite(result.error) else {}),
        "pcc": {
            name: round(float(r), 6) for name, r in zip(targets, result.per_target, strict=True)
        },
        "best_epoch": result.best.number,
        "epochs": len(result.curve),
        SECONDS: round(result.seconds, 3),
        "steps": result.steps,
        "filled": result.filled,
    }
