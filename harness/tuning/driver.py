"""A search at work on a study: shows that it lives, and tells which others do not."""

import fcntl
import secrets
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from harness.study.backend import Backend
from harness.study.folder import StudyFolder

#: Attributes of a trial: the search that ran it, and the results folder that holds its files.
DRIVER, HOME = "driver", "home"
#: Seconds between two signs of life of a search, and until one without is taken for dead.
HEARTBEAT, GRACE = 10, 60
#: Of the study: a search's sign of life, which counts up; the name goes on with its token.
SIGN = "search "
# The last sign of one that has ended.
_ENDED = "ended"

Fate = Literal["alive", "dead", "unknown"]


@dataclass(frozen=True)
class _Pulse:
    """sign: the last that was seen of a search. since: when it was new, by our own clock."""

    sign: Any
    since: float
    has_changed: bool = False


class Driver:
    """One search; use as a context manager, under the folder's lock.

    A journal has one search at a time, so that every other one's trials are dead. Searches that
    share a database each have an attribute of the study, and one that does not change for `GRACE`
    seconds is dead; clocks are not compared. Those of one results folder hold lock files there,
    too, so that a killed one need not be waited for.
    """

    def __init__(self, folder: StudyFolder, backend: Backend, study: optuna.Study) -> None:
        self.backend, self._study = backend, study
        self.token = secrets.token_hex(8)
        self.home = folder.identity()
        #: Attributes of this search's trials.
        self.tags = {DRIVER: self.token, HOME: self.home}
        self._locks = folder.path / ".drivers"
        self._file: IO[str] | None = None
        self._pulses: dict[str, _Pulse] = {}
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Driver":
        if self.backend.shared:
            self._locks.mkdir(exist_ok=True)
            self._file = self._lock(self.token).open("w")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._study.set_user_attr(SIGN + self.token, 0)
            self._beating.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._file:
            self._beating.join(HEARTBEAT)
            # A database that is away takes no last sign: silence says the same, later.
            with suppress(Exception):
                self._study.set_user_attr(SIGN + self.token, _ENDED)
            self._lock(self.token).unlink(missing_ok=True)
            self._file.close()

    def owns_files_of(self, trial: FrozenTrial) -> bool:
        """Whether the trial's files lie in this results folder."""
        return bool(trial.user_attrs.get(HOME, self.home) == self.home)

    def fates(self, trials: Iterable[FrozenTrial], attributes: dict[str, Any]) -> dict[int, Fate]:
        """What became of the searches of running trials, by the trial's number.

        Left out are this search's, and those of no search, such as a notebook's own.

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
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _lock(self, token: str) -> Path:
        return self._locks / f"{token}.lock"

    def _beat(self) -> None:
        sign = 0
        while not self._over.wait(HEARTBEAT):
            sign += 1
            # A database that is away for a moment is no reason to end; the trial's own result
            # will tell if it stays away.
            with suppress(Exception):
                self._study.set_user_attr(SIGN + self.token, sign)
