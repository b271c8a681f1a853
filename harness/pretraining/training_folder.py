"""The files that a pretraining keeps beside its result.

For `--out face.safetensors` the folder `face.training/` holds the checkpoint from which an
interrupted run continues, the best weights so far, and the curves. The result is written when all
epochs are done: if it exists, it is complete.
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
# Seconds between two attempts to take a lock that another run holds.
_LOOK = 2.0


class TrainingFolder:
    """The files of one pretraining.

    Args:
        out: path of the result.
        identity: everything that determines the result; a run of another identity is not continued.

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
        """Waits until no other run works here. The lock is released when the process ends.

        Of several processes of a run the first holds the lock. It informs the others at every
        attempt, because their communication has a time limit.
        """
        first = processes.rank() == 0
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") if first else nullcontext() as file:
            reported = False
            while not processes.everyones(file is not None and _is_locked(file))[0]:
                if first and not reported:
                    tell(f"{self.path}: another run works here; waiting until it ends")
                reported = True
                time.sleep(_LOOK)
            yield

    def result(self) -> dict[str, str] | None:
        """The metadata of the complete result; None if there is none yet.

        Raises:
            InputError: the file belongs to another pretraining.
        """
        if not self.out.exists():
            return None
        metadata = read_metadata(self.out)
        self._check(self.out, _identity(metadata))
        return metadata

    def read(self) -> dict[str, Any] | None:
        """The checkpoint of the last run; None if there is none.

        Raises:
            InputError: it is damaged, belongs to another pretraining, or has no best weights.
        """
        if not self.checkpoint.exists():
            return None
        anew = f"remove {self.path} to start again"
        try:
            content = read_torch(self.checkpoint)
        except InputError as error:
            raise InputError(f"{error}; {anew}") from error
        if not isinstance(content, dict) or "identity" not in content:
            raise InputError(f"{self.checkpoint}: not a checkpoint of a pretraining; {anew}")
        self._check(self.checkpoint, content["identity"])
        if not self.best.exists():
            raise InputError(f"{self.best}: missing beside its checkpoint; {anew}")
        return content

    def write(self, content: Mapping[str, Any]) -> None:
        """Replaces the checkpoint."""
        with replacing(self.checkpoint) as temporary:
            torch.save({"identity": self.identity, **content}, temporary)

    def publish(self) -> None:
        """Moves the best weights to the result. The curves stay."""
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
                f"{file}: exists and belongs to another pretraining ({'; '.join(other[:3])}); "
                "give another `out`"
            )


def _identity(metadata: Mapping[str, str]) -> dict[str, str]:
    """The identity that a result records; empty if it records none."""
    try:
        found = json.loads(metadata.get("identity", "{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_locked(file: IO[str]) -> bool:
    """Takes the lock. False if another process holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
