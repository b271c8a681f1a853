"""The lock of a journal file; Optuna's own writers, such as the dashboard, take the same one."""

import os
import time
from pathlib import Path
from types import TracebackType

from optuna.storages.journal import JournalFileSymlinkLock

from harness.interrupts import Wait

# As Optuna's writers wait by default: a lock that stays for so many seconds is that of a process
# that was killed within a write.
_GRACE = 30.0
# Seconds until a wait is reported, and between two attempts: the first, and at most.
_REPORTED, _POLL, _LONGEST_POLL = 5.0, 0.001, 0.1


class JournalLock(JournalFileSymlinkLock):
    """Optuna's symbolic link beside the file, waited for visibly and until Ctrl-C.

    Optuna's own class waits for ever where the link points to nothing, as one does that was made
    from another folder. Ours points to the journal's folder, so that the search that has the folder
    for itself knows the link of one that was killed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._journal = path
        self._link = path.with_name(path.name + ".lock")

    def acquire(self) -> bool:
        """Waits for the lock. Returns True, as Optuna expects."""
        wait = Wait(f"{self._link}, which another process holds", _REPORTED)
        seen, since, poll = None, time.monotonic(), _POLL
        while True:
            try:
                self._link.symlink_to(self._journal.parent.resolve())
                return True
            except FileExistsError:
                pass
            if (found := self._identity()) != seen:
                seen, since = found, time.monotonic()
            elif time.monotonic() - since > _GRACE:
                self._break()
                continue
            wait.pause(poll)
            poll = min(2 * poll, _LONGEST_POLL)

    def break_own(self) -> None:
        """Removes the link of a search that was killed, for the one that holds the folder now."""
        if self._link.is_symlink() and self._link.readlink().name != self._journal.name:
            self._break()

    def __enter__(self) -> "JournalLock":
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _identity(self) -> tuple[int, int] | None:
        """Of the link itself, not of what it points to; None: it has just gone."""
        try:
            found = self._link.lstat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _break(self) -> None:
        # Under another name first, as Optuna does: one of several that break it at once succeeds.
        aside = self._link.with_name(f"{self._link.name}.{os.getpid()}.rename")
        try:
            self._link.rename(aside)
            aside.unlink()
        except FileNotFoundError:
            return
