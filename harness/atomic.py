"""Atomic files: a file that exists is complete.

Content goes to a temporary name in the same folder that no reader matches, is flushed to the
disk, and is then renamed over the final name.
"""

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from harness.errors import InputError
from harness.interrupts import Wait

TEMPORARY_PREFIX = ".tmp-"
# Seconds between two attempts to lock a file: the first, and at most.
_POLL, _LONGEST_POLL = 0.001, 0.02
# What file systems without a flush of folders answer, such as CIFS and some of FUSE. They have no
# other way to make a new name durable.
_NO_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path; on a clean exit it is flushed to disk and renamed to `path`.

    On an exception the temporary file is removed and `path` is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, since writers such as a video muxer choose the format by it.
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}-{path.name}")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        # Libraries that write do not always name the file.
        error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes `content` to `path` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Writes `content` to `path` atomically, as UTF-8."""
    write_bytes(path, content.encode())


def locked(file: IO[str], path: Path, *, shared: bool = False) -> bool:
    """Locks an open file unless another process has; whether it did. It ends with the file.

    Args:
        shared: among all who ask so.

    Raises:
        InputError: the file system has no locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise InputError(
            f"{path}: this file system does not lock files (flock: {error.strerror}), which keeps "
            "two commands from writing the same files; choose a folder on another one, or mount "
            "it with locks (Lustre: -o flock)"
        ) from error
    return True


@contextmanager
def alone(path: Path, whom: str = "another process") -> Iterator[None]:
    """Waits, visibly and until Ctrl-C, for the lock at `path`; it ends with the process.

    Args:
        whom: who else may hold it, for the report of a long wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    wait, poll = Wait(f"{whom}, which holds {path} (is it stopped?)"), _POLL
    with path.open("w") as file:
        while not locked(file, path):
            wait.pause(poll)
            poll = min(2 * poll, _LONGEST_POLL)
        yield


def move(path: Path, target: Path) -> None:
    """Renames a file that is on the disk; the new name survives a power loss."""
    path.replace(target)
    _flush(target.parent)
    _flush(path.parent)


def remove(path: Path) -> None:
    """Removes a file, if there is one; the removal survives a power loss."""
    if path.exists():
        path.unlink()
        _flush(path.parent)


def ensure_folder(root: Path, mark: str, make: Callable[[Path], None]) -> None:
    """Makes a folder, whole or not at all, unless it exists.

    Args:
        mark: name of the file that `make` writes last; a folder without it is made again.
        make: fills an empty folder, which is then renamed. Two processes may do so at once; both
            must make the same, and one of the two is kept.
    """
    if (root / mark).is_file():
        return
    building = root.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}-{root.name}")
    try:
        building.mkdir(parents=True)
        make(building)
        if not (root / mark).is_file():
            shutil.rmtree(root, ignore_errors=True)
        try:
            building.rename(root)
        except OSError:
            if not (root / mark).is_file():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
