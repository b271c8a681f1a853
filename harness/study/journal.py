"""The study's log, of which Optuna keeps no checksum: a changed digit would be a changed score.

Beside `study.log` lies `study.log.seal`: how many of its bytes were there, and their sha256, when
the last trial ended. What was appended since is read as it is.
"""

import hashlib
from pathlib import Path

from harness.errors import InputError
from harness.sealed import read_sealed, write_sealed

_SCHEMA = "log 1"
_BLOCK = 1 << 20


class Journal:
    """A log that is sealed by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seal = path.with_name(path.name + ".seal")
        self._read = 0
        self._digest = hashlib.sha256()

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
