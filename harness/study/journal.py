"""The study's log with a checksum, which Optuna's journal lacks: a changed digit changes a score.

`study.log.seal` beside `study.log` holds the number of its bytes, and their sha256, when the last
trial ended. What was appended since is read without a check.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import IO, Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from harness.errors import InputError
from harness.interrupts import uninterrupted
from harness.sealed import read_sealed, write_sealed
from harness.study.journal_lock import JournalLock

_SCHEMA = "log 1"
_BLOCK = 1 << 20
# Bytes read at once to find the end of the last complete line.
_TAIL = 1 << 12
# Numbers in Optuna's journal: a study is made; a trial's state changes.
_CREATE_STUDY, _SET_STATE = 0, 6


class Journal:
    """A log whose checksum is written by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seal = path.with_name(path.name + ".seal")
        self._read = 0
        self._digest = hashlib.sha256()

    def open(self) -> JournalStorage:
        """The log as Optuna's storage, for a search. InputError if it is damaged."""
        self.check()
        return self.read()

    def read(self) -> JournalStorage:
        """The log as Optuna's storage, for reading, also while it is written.

        Raises:
            InputError: it is no log.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(_File(self.path))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self.path}: not readable: {error!r}") from error

    def check(self) -> None:
        """Compares the log with its checksum, and cuts off an incomplete last line.

        For the search that holds the study's folder, before it writes.

        Raises:
            InputError: the log is damaged, edited, truncated or missing.
        """
        lock = JournalLock(self.path)
        lock.break_own()
        if self._seal.exists():
            self._compare()
        if self.path.exists():
            with uninterrupted(), lock.held(), self.path.open("rb+", buffering=0) as file:
                _cut_half_line(file)

    def _compare(self) -> None:
        sealed = read_sealed(self._seal, _SCHEMA)
        size = self.path.stat().st_size if self.path.exists() else 0
        if size >= sealed["bytes"]:
            self._advance(sealed["bytes"])
        if size < sealed["bytes"] or self._digest.hexdigest() != sealed["digest"]:
            raise InputError(
                f"{self.path}: its first {sealed['bytes']} bytes are not those that a search "
                "wrote; put back a copy, or choose another `study`; harness.ensemble still "
                "combines the trials' own files"
            )

    def seal(self) -> None:
        """Stores the checksum of the log, if there is one."""
        if self.path.exists():
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                os.fsync(file.fileno())  # else a power loss could leave fewer bytes than it covers
            self._advance(size)
            values = {"bytes": self._read, "digest": self._digest.hexdigest()}
            write_sealed(self._seal, _SCHEMA, values)

    def _advance(self, end: int) -> None:
        with self.path.open("rb") as file:
            file.seek(self._read)
            while self._read < end and (block := file.read(min(_BLOCK, end - self._read))):
                self._digest.update(block)
                self._read += len(block)


class _File(JournalFileBackend):
    """Optuna's file, which is flushed to the disk only when a trial ends, not after every line.

    A power loss can cost epochs and attributes of running trials, which are trained again anyway.
    An ended trial is on the disk with all its attributes. An incomplete line, left by a power loss
    or a full disk, is cut off before anything is appended.
    """

    def __init__(self, path: Path) -> None:
        self.lock, self.path = JournalLock(path), path
        super().__init__(str(path), self.lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with uninterrupted(), self.lock.held(), self.path.open("ab+", buffering=0) as file:
            end = _cut_half_line(file)
            try:
                while lines:
                    lines = lines[file.write(lines) :]
                if any(map(_is_lasting, logs)):
                    os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise


def _is_lasting(log: dict[str, Any]) -> bool:
    """Whether a line is final, so that it and the lines before it are flushed to the disk."""
    kind = log["op_code"]
    return kind == _CREATE_STUDY or (kind == _SET_STATE and TrialState(log["state"]).is_finished())


def _cut_half_line(file: IO[bytes]) -> int:
    """Cuts off an incomplete last line, under the lock; returns the new size."""
    size = end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _TAIL)
        file.seek(start)
        whole = file.read(end - start).rfind(b"\n") + 1
        end = start + whole
        if whole:
            break
    if end < size:
        file.truncate(end)
    return end
