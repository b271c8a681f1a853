"""What a pretraining keeps beside its result until that is complete.

For `--out face.safetensors` the folder `face.training/` holds the checkpoint that a broken run
continues from, the best weights so far, and the curves. The result itself appears when all epochs
are done, so that existing means complete.
"""

import fcntl
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

import torch

from harness.atomic import move, replacing
from harness.encoders.mtl_dan.checkpoints import read_metadata, read_torch
from harness.errors import InputError
from harness.pretraining import processes

_SUFFIX = ".safetensors"
# Seconds between two looks for a lock that another run has.
_LOOK = 2.0


class TrainingFolder:
    """The files of one pretraining.

    Args:
        out: where the result goes.
        identity: all that decides the result; a file of another identity is never continued.

    Raises:
        InputError: `out` does not end in .safetensors.
    """

    def __init__(self, out: Path, identity: Mapping[str, str]) -> None:
        if out.suffix != _SUFFIX:
            raise InputError(f"{out}: the weights are safetensors; give a name ending in {_SUFFIX}")
        self.out = out
        self.identity = dict(identity)
        self.path = out.with_suffix(".training")
        self.best = self.path / f"best{_SUFFIX}"
        self.checkpoint = self.path / "checkpoint.pt"

    @contextmanager
    def locked(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Waits until no other run works here; the lock ends with the process.

        Of several processes of a run the first has it. It tells the others at every look, as they
        would not wait for an answer for ever.
        """
        first = processes.rank() == 0
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") if first else nullcontext() as file:
            told = False
            while not processes.everyones(file is not None and _is_locked(file))[0]:
                if first and not told:
                    tell(f"{self.path}: another run works here; waiting for it")
                told = True
                time.sleep(_LOOK)
            yield

    def result(self) -> dict[str, str] | None:
        """The metadata of the complete result; None where there is none yet.

        Raises:
            InputError: the file is of another making.
        """
        if not self.out.exists():
            return None
        metadata = read_metadata(self.out)
        self._check(self.out, _identity(metadata))
        return metadata

    def read(self) -> dict[str, Any] | None:
        """The checkpoint that the last run left; None where there is none.

        Raises:
            InputError: it is damaged, of another making, or without its best weights.
        """
        if not self.checkpoint.exists():
            return None
        anew = f"remove {self.path} to begin anew"
        try:
            content = read_torch(self.checkpoint)
        except InputError as error:
            raise InputError(f"{error}; {anew}") from error
        if not isinstance(content, dict) or "identity" not in content:
            raise InputError(f"{self.checkpoint}: no checkpoint of a pretraining; {anew}")
        self._check(self.checkpoint, content["identity"])
        if not self.best.exists():
            raise InputError(f"{self.best}: missing beside its checkpoint; {anew}")
        return content

    def write(self, content: Mapping[str, Any]) -> None:
        """Puts a checkpoint in the place of the last one."""
        with replacing(self.checkpoint) as temporary:
            torch.save({"identity": self.identity, **content}, temporary)

    def publish(self) -> None:
        """Makes the best weights the result; the curves stay."""
        move(self.best, self.out)
        self.checkpoint.unlink(missing_ok=True)

    def _check(self, file: Path, found: Mapping[str, str]) -> None:
        other = [
            f"{key} {found.get(key, 'unknown')}, now {value}"
            for key, value in self.identity.items()
            if found.get(key) != value
        ]
        if other:
            raise InputError(
                f"{file}: exists and is of another pretraining ({'; '.join(other[:3])}); "
                "give another --out"
            )


def _identity(metadata: Mapping[str, str]) -> dict[str, str]:
    """What a result says that it was made from; nothing where it is of others."""
    try:
        found = json.loads(metadata.get("identity", "{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_locked(file: IO[str]) -> bool:
    """Takes the lock, unless another process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
