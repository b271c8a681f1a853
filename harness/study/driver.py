"""A search at work on a study: shows that it lives, and tells which others do not."""

import fcntl
import secrets
import threading
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from harness.study.backend import GRACE, HEARTBEAT, Backend
from harness.study.storage import StudyFolder

#: Attributes of a trial: the search that ran it, and the results folder that holds its files.
DRIVER, HOME = "driver", "home"


class Driver:
    """One search; use as a context manager, under the folder's lock.

    A journal has one search at a time, so that every other one's trials are dead. Searches that
    share a database each hold a lock file in their results folder, which tells those of the same
    folder whether they live; those of other folders are told by a heartbeat in the database.
    """

    def __init__(self, folder: StudyFolder, backend: Backend) -> None:
        self.token = secrets.token_hex(8)
        self.home = folder.identity()
        self._locks = folder.path / ".drivers"
        self._storage = backend.storage if isinstance(backend.storage, RDBStorage) else None
        self.alone = not backend.shared
        self._file: IO[str] | None = None
        self._alive: set[int] = set()
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> "Driver":
        if not self.alone:
            self._locks.mkdir(exist_ok=True)
            self._file = self._lock(self.token).open("w")
            fcntl.flock(self._file, fcntl.LOCK_EX)
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
            self._lock(self.token).unlink(missing_ok=True)
            self._file.close()

    def took(self, trial: optuna.Trial) -> None:
        """Marks a trial as this search's."""
        if self._storage:
            self._storage.record_heartbeat(trial._trial_id)
            self._alive.add(trial._trial_id)
        trial.set_user_attr(DRIVER, self.token)
        trial.set_user_attr(HOME, self.home)

    def ended(self, trial: optuna.Trial) -> None:
        """The trial needs no sign of life any more."""
        self._alive.discard(trial._trial_id)

    def owns_files_of(self, trial: FrozenTrial) -> bool:
        """Whether the trial's files lie in this results folder."""
        return bool(trial.user_attrs.get(HOME, self.home) == self.home)

    def dead(self, study: optuna.Study) -> list[FrozenTrial]:
        """The running trials of searches that have died."""
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        others = [t for t in running if t.user_attrs.get(DRIVER) != self.token]
        if self.alone or not others:
            return others
        assert self._storage is not None  # what is shared is a database
        stale = set(self._storage._get_stale_trial_ids(study._study_id))
        return [
            trial
            for trial in others
            if trial._trial_id in stale
            or _is_nobodys(trial)
            or (trial.user_attrs.get(HOME) == self.home and not self._lives(trial))
        ]

    def _lives(self, trial: FrozenTrial) -> bool:
        try:
            with self._lock(trial.user_attrs[DRIVER]).open() as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _lock(self, token: str) -> Path:
        return self._locks / f"{token}.lock"

    def _beat(self) -> None:
        assert self._storage is not None  # started for a database alone
        while not self._over.wait(HEARTBEAT):
            for trial_id in tuple(self._alive):
                # A database that is away for a moment is no reason to end; the trial's own result
                # will tell if it stays away.
                try:
                    self._storage.record_heartbeat(trial_id)
                except Exception:
                    break


def _is_nobodys(trial: FrozenTrial) -> bool:
    """Whether its search died between taking the trial and saying whose it is."""
    begun = trial.datetime_start
    return (
        HOME not in trial.user_attrs
        and begun is not None
        and (datetime.now() - begun).total_seconds() > GRACE
    )
