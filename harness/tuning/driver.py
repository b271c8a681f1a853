"""A running search of a study: its heartbeat, and which other searches are dead."""

import secrets
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from harness.atomic import locked
from harness.study.backend import Backend
from harness.study.folder import StudyFolder
from harness.study.trials import DRIVER

#: Attribute of a trial: the results folder that holds its files.
HOME = "home"
#: Seconds between two heartbeats of a search, and until a search without one is dead.
HEARTBEAT, GRACE = 10, 60
#: Attributes of the study begin so, followed by a search's token: its heartbeat, a counter.
SIGN = "search "
# The last heartbeat of a search that ended.
_ENDED = "ended"

Fate = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True)
class _Pulse:
    """sign: the last heartbeat that was seen. since: when it was new, by our own clock."""

    sign: Any
    since: float
    has_changed: bool = False


class Driver(ExitStack):
    """One search; use as a context manager, under the folder's lock.

    A journal has one search at a time, so that the running trials of any other search are dead.
    Searches that share a database each keep a heartbeat, an attribute of the study; a search is
    dead if it does not change for `GRACE` seconds. Clocks are not compared. Searches of one results
    folder also hold lock files there, so that nobody waits for a killed one.
    """

    def __init__(self, folder: StudyFolder, backend: Backend, study: optuna.Study) -> None:
        super().__init__()
        self.backend, self._study = backend, study
        self.token = secrets.token_hex(8)
        self.home = folder.identity()
        #: Attributes of this search's trials.
        self.tags = {DRIVER: self.token, HOME: self.home}
        self._locks = folder.path / ".drivers"
        # The journal in the folder is of this folder's trials alone, also in a copy of both.
        self._owns_all = backend.journal is not None and backend.journal.path.parent == folder.path
        self._pulses: dict[str, _Pulse] = {}
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Driver":
        if self.backend.shared:
            self._locks.mkdir(exist_ok=True)
            file = self.enter_context(self._lock(self.token).open("w"))
            locked(file, self._lock(self.token))
            self._study.set_user_attr(SIGN + self.token, 0)
            self._beating.start()
            self.callback(self._stop)
        return self

    def _stop(self) -> None:
        self._over.set()
        self._beating.join(HEARTBEAT)
        # If the database cannot be reached, the others notice later that the heartbeat stopped.
        with suppress(Exception):
            self._study.set_user_attr(SIGN + self.token, _ENDED)
        self._lock(self.token).unlink(missing_ok=True)

    def owns_files_of(self, trial: FrozenTrial) -> bool:
        """Whether the trial's files are in this results folder."""
        return self._owns_all or bool(trial.user_attrs.get(HOME, self.home) == self.home)

    def fates(self, trials: Iterable[FrozenTrial], attributes: dict[str, Any]) -> dict[int, Fate]:
        """Whether the searches of running trials are alive, by the number of the trial.

        Trials of this search, and of no search, such as those of a notebook, are not included.

        Args:
            attributes: of the study.
        """
        return {
            trial.number: self._fate(trial, attributes)
            for trial in trials
            if trial.state == TrialState.RUNNING
            and trial.user_attrs.get(DRIVER, self.token) != self.token
        }

    def _fate(self, trial: FrozenTrial, attributes: dict[str, Any]) -> Fate:
        if not self.backend.shared:
            return "dead"
        token, now = trial.user_attrs[DRIVER], time.monotonic()
        sign = attributes.get(SIGN + token)
        pulse = self._pulses.get(token) or _Pulse(sign, now)
        if pulse.sign != sign:
            pulse = _Pulse(sign, now, has_changed=True)
        self._pulses[token] = pulse
        here = trial.user_attrs.get(HOME) == self.home
        is_locked = here and self._is_locked(token)
        if sign == _ENDED or (here and not is_locked) or now - pulse.since > GRACE:
            return "dead"
        return "alive" if pulse.has_changed or is_locked else "unknown"

    def _is_locked(self, token: str) -> bool:
        try:
            with self._lock(token).open() as file:
                return not locked(file, self._lock(token))
        except FileNotFoundError:
            return False

    def _lock(self, token: str) -> Path:
        return self._locks / f"{token}.lock"

    def _beat(self) -> None:
        sign = 0
        while not self._over.wait(HEARTBEAT):
            sign += 1
            # If the database stays unreachable, the result of the next trial reports it.
            with suppress(Exception):
                self._study.set_user_attr(SIGN + self.token, sign)
