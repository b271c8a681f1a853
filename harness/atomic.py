"""Atomic files: a file that exists is complete.

Content goes to a temporary name in the same folder that no reader matches, is flushed to the
disk, and is then renamed over the final name.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"


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
        # Libraries that write do not always say where.
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


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Waits until no other process holds the lock at `path`; it ends with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def move(path: Path, target: Path) -> None:
    """Gives a file that is on the disk another name, also where the power fails next."""
    path.replace(target)
    _flush(target.parent)
    _flush(path.parent)


def remove(path: Path) -> None:
    """Removes a file, which need not be there; it stays removed when the power fails."""
    if path.exists():
        path.unlink()
        _flush(path.parent)


def ensure_folder(root: Path, mark: str, make: Callable[[Path], None]) -> None:
    """Makes a folder, whole or not at all, unless it is there.

    Args:
        mark: name of the file that `make` writes last; a folder without it is made again.
        make: fills an empty folder, which then gets its name. Two processes may do so at once;
            both must make the same, of which one is kept.
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
    finally:
        os.close(descriptor)
