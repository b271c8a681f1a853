"""The study's log, of which Optuna keeps no checksum: a changed digit would be a changed score.

Beside `study.log` lies `study.log.seal`: how many of its bytes were there, and their sha256, when
the last trial ended. What was appended since is read as it is.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._file import get_lock_file
from optuna.storages.journal._storage import JournalOperation

from harness.errors import InputError
from harness.interrupts import uninterrupted
from harness.sealed import read_sealed, write_sealed

_SCHEMA = "log 1"
_BLOCK = 1 << 20
# A lock that nobody touched for so many seconds is that of a killed process: a write takes
# milliseconds. The dashboard takes the same lock.
_LOCK_GRACE = 3
# Taken back by nothing; with them the lines before are on the disk as well.
_LASTING = {JournalOperation.CREATE_STUDY, JournalOperation.SET_TRIAL_STATE_VALUES}


class Journal:
    """A log that is sealed by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seal = path.with_name(path.name + ".seal")
        self._read = 0
        self._digest = hashlib.sha256()

    def open(self) -> JournalStorage:
        """The log as a storage of Optuna, for a search. InputError if it was damaged."""
        self.check()
        return self.read()

    def read(self) -> JournalStorage:
        """The same for those who only read, even while it is written. InputError: no log."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = JournalFileSymlinkLock(str(self.path), grace_period=_LOCK_GRACE)
            return JournalStorage(_File(str(self.path), lock))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self.path}: not readable: {error!r}") from error

    def check(self) -> None:
        """Compares the log with its seal, and cuts off a last line that was not written whole.

        Raises:
            InputError: the log was damaged, edited, cut, or is gone.
        """
        if not self._seal.exists():
            return
        sealed = read_sealed(self._seal, _SCHEMA)
        size = self.path.stat().st_size if self.path.exists() else 0
        if size >= sealed["bytes"]:
            self._advance(sealed["bytes"])
        if size < sealed["bytes"] or self._digest.hexdigest() != sealed["digest"]:
            raise InputError(
                f"{self.path}: its first {sealed['bytes']} bytes are not those that a search "
                "wrote; put back a copy, or choose another --study; harness.ensemble still "
                "combines the trials' own files"
            )
        self._mend()

    def seal(self) -> None:
        """Notes how far the log has come. Without a log there is nothing to note."""
        if self.path.exists():
            self._advance(self.path.stat().st_size)
            values = {"bytes": self._read, "digest": self._digest.hexdigest()}
            write_sealed(self._seal, _SCHEMA, values)

    def _advance(self, end: int) -> None:
        with self.path.open("rb") as file:
            file.seek(self._read)
            while self._read < end and (block := file.read(min(_BLOCK, end - self._read))):
                self._digest.update(block)
                self._read += len(block)

    def _mend(self) -> None:
        # Optuna would append to the half of a line that a power loss left.
        content = self.path.read_bytes()[self._read :]
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with self.path.open("rb+") as file:
                file.truncate(self._read + whole)


class _File(JournalFileBackend):
    """Optuna's file, which waits for the disk after every line, but only where a state changes.

    A power loss can cost epochs and notes of trials that had not ended, which are trained again
    anyway; a trial that has ended is on the disk with all that was said of it.
    """

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with (
            uninterrupted(),
            get_lock_file(self._lock),
            Path(self._file_path).open("ab") as file,
        ):
            file.write(lines.encode())
            file.flush()
            if any(log["op_code"] in _LASTING for log in logs):
                os.fsync(file.fileno())
