"""The lock of a journal file; Optuna's own writers, such as the dashboard, take the same one."""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.storages.journal import JournalFileSymlinkLock

from harness.interrupts import Wait

# Optuna's writers take a lock over after so many seconds: its process was killed within a write.
_GRACE = 30.0
# Seconds until a wait is reported, and between two attempts: the first, and at most.
_REPORTED, _POLL, _LONGEST_POLL = 5.0, 0.001, 0.1
# What file systems without symbolic links answer, such as exFAT.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)


class JournalLock(JournalFileSymlinkLock):
    """Optuna's symbolic link beside the file. A long wait is reported and ends at Ctrl-C.

    Optuna's own class waits forever if the link points to nothing, as a link with a relative path
    does. This one points to the journal's folder, so that the next search of the folder recognises
    the link of a killed search. Without symbolic links it is a file, as Optuna's other lock is.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._journal = path
        self._link = path.with_name(path.name + ".lock")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock for a block."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def acquire(self) -> bool:
        """Waits for the lock. Returns True, as Optuna expects."""
        wait = Wait(f"{self._link}, which another process holds", _REPORTED)
        seen, since, poll = None, time.monotonic(), _POLL
        while not self._made():
            if (found := self._identity()) != seen:
                seen, since = found, time.monotonic()
            elif time.monotonic() - since > _GRACE:
                self._break()
                continue
            wait.pause(poll)
            poll = min(2 * poll, _LONGEST_POLL)
        return True

    def break_own(self) -> None:
        """Removes the lock of a killed search, for the search that holds the folder now."""
        is_link = self._link.is_symlink()
        if (
            self._link.is_file()
            if not is_link
            else self._link.readlink().name != self._journal.name
        ):
            self._break()

    def _made(self) -> bool:
        try:
            self._link.symlink_to(self._journal.parent.resolve())
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._made_as_file()
        return True

    def _made_as_file(self) -> bool:
        try:
            self._link.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _identity(self) -> tuple[int, int] | None:
        """Of the link itself, not of its target; None: it was just removed."""
        try:
            found = self._link.lstat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _break(self) -> None:
        # Renamed first, as Optuna does: of several processes that break it at once, one succeeds.
        aside = self._link.with_name(f"{self._link.name}.{os.getpid()}.rename")
        try:
            self._link.rename(aside)
            aside.unlink()
        except FileNotFoundError:
            return
