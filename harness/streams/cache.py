"""The stored streams of a cache: listed by name, size and last use, and removed."""

import itertools
import json
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.dataset import Specification
from harness.errors import InputError, printable
from harness.streams.estimate import readable_size
from harness.streams.store import DESCRIPTION, SCHEMA

_AGE = re.compile(r"(\d+)d")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(kB|MB|GB|TB)")
_UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_DAY = 24 * 3600.0


@dataclass(frozen=True)
class Entry:
    """A stored stream. key: names its folder. size: bytes. used: when a search, an extraction or a
    prediction last opened it, in seconds since 1970. current: whether this version reads it."""

    folder: Path
    name: str
    columns: int
    size: int
    used: float
    current: bool

    @property
    def key(self) -> str:
        return self.folder.name[:12]

    def __str__(self) -> str:
        day = time.strftime("%Y-%m-%d", time.localtime(self.used))
        old = "" if self.current else ", of another version: never read"
        return printable(
            f"{self.key}  {self.name}, {self.columns} columns, {readable_size(self.size)}, last "
            f"used {day}{old}"
        )


def entries(cache: Path) -> list[Entry]:
    """The stored streams, the last used first. Folders that are no stored stream are left out."""
    found = []
    for file in sorted((cache / "features").glob(f"*/{DESCRIPTION}")):
        try:
            specification = Specification.from_dict(json.loads(file.read_text()))
            size = sum(each.stat().st_size for each in file.parent.iterdir())
            used = file.stat().st_mtime
        except (OSError, ValueError, KeyError, TypeError):
            continue
        current = file.parent.name.endswith(f"-{SCHEMA}")
        name, columns = specification.name, specification.width
        found.append(Entry(file.parent, name, columns, size, used, current))
    return sorted(found, key=lambda entry: -entry.used)


def chosen(known: Sequence[Entry], what: str) -> list[Entry]:
    """The entries that `--prune-cache` removes.

    Args:
        known: the last used first.
        what: the name of a stream or a key; `30d`, those not used for 30 days; or `10GB`, the ones
            not used for longest, so that the rest takes at most that. Of any, those that this
            version does not read, too, except for a name or a key.

    Raises:
        InputError: nothing has this name or key.
    """
    if age := _AGE.fullmatch(what):
        limit = time.time() - int(age[1]) * _DAY
        return [entry for entry in known if entry.used < limit or not entry.current]
    if size := _SIZE.fullmatch(what):
        limit = float(size[1]) * _UNITS[size[2]]
        totals = itertools.accumulate(entry.size * entry.current for entry in known)
        pairs = zip(known, totals, strict=True)
        return [entry for entry, total in pairs if total > limit or not entry.current]
    found = [entry for entry in known if what in (entry.name, entry.key)]
    if not found:
        names = ", ".join(dict.fromkeys(entry.name for entry in known)) or "none"
        raise InputError(
            f"{what}: no stored stream of this name or key; there are {printable(names)}; an age "
            "such as 30d or a size such as 10GB is accepted, too",
            "prune_cache",
        )
    return found


def remove(entry: Entry) -> None:
    """Removes the features. InputError if the folder cannot be changed."""
    try:
        shutil.rmtree(entry.folder)
    except OSError as error:
        raise InputError(f"{entry.folder}: cannot be removed: {error.strerror}") from error
