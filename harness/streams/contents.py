"""Fingerprints of the files behind clips. They depend on contents alone, not on paths or times.

Reading every image again would take minutes for a large data set. A file beside the stores keeps
the fingerprints of paths whose sizes and times have not changed since.
"""

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from os import stat_result
from pathlib import Path

from harness.atomic import write_text
from harness.clips.folder import entries
from harness.clips.table import ClipTable
from harness.dataset import NOTHING

_THREADS = 8
# Enough of a file to tell it from any other: the index of a video is at its beginning or end.
_SAMPLE = 1 << 16
# These have no index, have the same size for other contents of the same form, and may begin and end
# with silence, or with the edge of a picture.
_READ_WHOLE = (".wav", ".aif", ".aiff", ".caf", ".bmp", ".tif", ".tiff")
_MEMORY = "contents.json"
# Raised with each change of what a fingerprint reads, so that none of before is remembered.
_VERSION = 2
# Seconds in which a file may change again without another time.
_YOUNG = 3.0
# State and fingerprint.
_Known = tuple[str, str]


def sources(clips: ClipTable, root: Path | None = None) -> list[str]:
    """The fingerprint of each clip's file, in the order of the table.

    Args:
        root: the folder of the feature stores, which remembers fingerprints; None: read all files.
    """
    memory = None if root is None else root / _MEMORY
    known = _read(memory) if memory else {}

    def of_clip(path: Path | None) -> _Known:
        state = _state(path) if memory else ""
        remembered = known.get(str(path and path.absolute()))
        if state and remembered and remembered[0] == state:
            return remembered
        return state, source_fingerprint(path)

    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(of_clip, clips.paths))
    read = {str(p.absolute()): each for p, each in zip(clips.paths, found, strict=True)
            if p and each[0]}  # fmt: skip
    if memory and (known | read) != known:
        with suppress(PermissionError):  # in a read-only cache, files are read each time
            write_text(memory, json.dumps(known | read))
    return [fingerprint for _, fingerprint in found]


def source_fingerprint(path: Path | None) -> str:
    """Tells one content of the file or folder of a clip from another.

    Of a file: its size and its first and last 64 KiB, or all of uncompressed sound and pictures. Of
    a folder: the same of each of its files, and their names. If there is no file, or it cannot be
    read, that.
    """
    try:
        return _fingerprint(path) if path else NOTHING
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _fingerprint(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    if path.is_dir():
        for entry in entries(path):
            digest.update(f"{entry.name}\0".encode(errors="surrogateescape"))
            with suppress(OSError):  # an image that cannot be read costs no other
                digest.update(_content(entry) if entry.is_file() else b"no file")
    elif path.is_file():
        digest.update(_content(path))
    else:
        return "not a file"  # a pipe would be waited for
    return digest.hexdigest()


def _content(file: Path) -> bytes:
    """The size of a file, and its first and last bytes: all of them if it is small."""
    size = file.stat().st_size
    with file.open("rb") as content:
        if file.suffix.lower() in _READ_WHOLE:
            return str(size).encode() + hashlib.file_digest(content, "sha256").digest()
        first = content.read(_SAMPLE)
        content.seek(max(0, size - _SAMPLE))
        return str(size).encode() + first + content.read(_SAMPLE)


def _state(path: Path | None) -> str:
    """Sizes and times of a clip's file, or of those in its folder; "" where they do not tell
    whether the contents are the same: after a change of the last seconds, or without a file."""
    if path is None:
        return ""
    try:
        files = [path, *entries(path)] if path.is_dir() else [path]
        states = [(file.name, file.stat()) for file in files]
    except OSError:
        return ""
    if any(may_change(state) for _, state in states):
        return ""
    told: list[object] = [(n, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for n, s in states]
    told.append(_VERSION)
    return hashlib.blake2b(repr(told).encode(errors="replace"), digest_size=16).hexdigest()


def may_change(state: stat_result) -> bool:
    """Whether a file is so young that another change may leave its times as they are."""
    return max(state.st_mtime, state.st_ctime) > time.time() - _YOUNG


def _read(memory: Path) -> dict[str, _Known]:
    """What is remembered by path; nothing if the file is missing or damaged, because fingerprints
    can be computed again."""
    try:
        content = json.loads(memory.read_text())
        return {str(key): (str(state), str(found)) for key, (state, found) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
