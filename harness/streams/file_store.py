"""What was read of feature files, kept in the cache, so that only changed files are read again.

Each feature set has a folder there with one Parquet file. This has a row for each feature file: its
state (size, times, inode), the digest of its contents, and what `read_feature_file` returned. A
file in its stored state is not opened. Any other file is read; if its contents have the stored
digest, they are not parsed again. Files that cannot be read have no row.
"""

import hashlib
import importlib.metadata
import json
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.atomic import write_text
from harness.clips import csv_file, csv_form
from harness.dataset import Specification
from harness.errors import InputError
from harness.parquet import sealed_content, writing
from harness.streams import feature_file
from harness.streams.contents import may_change
from harness.streams.feature_file import FeatureFile, read_feature_file
from harness.streams.store import DESCRIPTION, SCHEMA

#: The source of a stream of precomputed features.
FILES = "files"
_ROWS = "files.parquet"
# Reading waits for the file system, most of all for a remote one. More threads wait for Python.
_THREADS = 4
# Files per task; a task of its own for each file costs as much as reading it.
_TASK = 32
# Bytes: a copy of a larger .npy file would take as long to read as the file itself.
_LARGE = 1 << 18
# Files per row group, which bounds the memory of writing.
_GROUP = 1_000
_READER, _FORMS = b"harness.reader", b"harness.forms"
# FeatureFile's arrays beside its values, and their types.
_ARRAYS = {"times": pa.float64(), "rising": pa.bool_(), "constant": pa.float64()}
_SCHEMA = pa.schema(
    [("path", pa.binary()), ("state", pa.string()), ("digest", pa.binary(16))]
    + [("form", pa.int32()), ("steps", pa.int64()), ("values", pa.large_list(pa.float32()))]
    + [(name, pa.list_(kind)) for name, kind in _ARRAYS.items()]
    + [("face", pa.string()), ("failed", pa.int64()), ("time_unit", pa.string())]
)


class _Row(NamedTuple):
    """What is stored of one file. state: "" if the file may have changed since it was read."""

    state: str
    digest: bytes
    file: FeatureFile


class FileStore:
    """Reads the files of a feature set.

    root: the folder of the stored streams; None: nothing is stored. After `read`, `parsed` is the
    number of files that were parsed, and `steps` that of their steps; `compared`, of the files that
    were read and have the stored contents; `kept`, of those that were not opened; `gone`, of stored
    files that are no longer there. problem: why nothing could be stored, or why what was stored was
    not used; "" without one.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root
        self.parsed = self.steps = self.compared = self.kept = self.gone = 0
        self.problem = ""

    def read(
        self, paths: Sequence[Path | None], wanted: Collection[str], folder: Path
    ) -> list[FeatureFile | str]:
        """The features of each file in order, or the reason why it cannot be read.

        Args:
            wanted: as of `read_feature_file`.
            folder: that of the set.
        """
        store = self.root / _key(folder, wanted) if self.root else None
        known = self._rows(store) if store else {}
        absolute = [None if path is None else path.absolute() for path in paths]
        names = ["" if path is None else str(path) for path in absolute]
        parts = [absolute[first : first + _TASK] for first in range(0, len(paths), _TASK)]
        look = partial(_look_at, wanted=wanted, known=known, storing=store is not None)
        pool = ThreadPoolExecutor(_THREADS)
        try:
            found = [each for part in pool.map(look, parts) for each in part]
        finally:
            pool.shutdown(cancel_futures=True)
        files = [row.file if isinstance(row, _Row) else row for row in found]
        rows = {n: row for n, row in zip(names, found, strict=True) if isinstance(row, _Row)}
        same = {n for n, row in rows.items() if n in known and known[n].digest == row.digest}
        self.kept = sum(rows[name] is known[name] and rows[name].state != "" for name in same)
        self.compared = len(same) - self.kept
        new = [f for n, f in zip(names, files, strict=True)
               if isinstance(f, FeatureFile) and n not in same]  # fmt: skip
        self.parsed, self.steps = len(new), sum(len(file.values) for file in new)
        # Another table of clips may have files in the same folder.
        others = known.keys() - rows.keys()
        left = {name: known[name] for name in others if Path(name).exists()}
        self.gone = len(others) - len(left)
        if store and rows and (self.gone or any(rows[n] is not known.get(n) for n in rows)):
            self._write(store, folder, left | rows)
        return files

    def _rows(self, store: Path) -> dict[str, _Row]:
        """What is stored; nothing if another version of the reader wrote it."""
        file = store / _ROWS
        if not file.exists():
            return {}
        with suppress(OSError):  # a cache that others keep may be read-only
            os.utime(store / DESCRIPTION)
        try:
            table = pq.read_table(sealed_content(file))
            if table.schema.metadata[_READER] != _reader():
                return {}
            return dict(_stored(table))
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            self.problem = f"{file}: damaged ({error}); the feature files are read again"
            return {}

    def _write(self, store: Path, folder: Path, rows: Mapping[str, _Row]) -> None:
        width = next(iter(rows.values())).file.values.shape[1]
        details: dict[str, str | int] = {"set": folder.name, "folder": str(folder)}
        description = json.dumps(Specification(FILES, details, (), width).to_dict(), indent=2)
        try:
            if not (store / DESCRIPTION).exists():
                write_text(store / DESCRIPTION, description + "\n")
            _write_rows(store / _ROWS, rows)
        except OSError as error:  # the features are there all the same
            self.problem = (
                f"{store}: {error.strerror}; the feature files are not stored and will be read "
                "again; to store them, choose another `cache`"
            )


def _key(folder: Path, wanted: Collection[str]) -> str:
    """The name of the folder of a feature set, of which some columns are wanted by name."""
    text = json.dumps([str(folder), sorted(wanted)])
    return f"{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:16]}-{SCHEMA}"


@cache
def _reader() -> bytes:
    """Changes with everything that may read the same bytes in another way."""
    digest = hashlib.sha256()
    for module in (feature_file, csv_file, csv_form):
        digest.update(Path(str(module.__file__)).read_bytes())
    for package in ("numpy", "pandas", "pyarrow"):
        digest.update(importlib.metadata.version(package).encode())
    return digest.hexdigest().encode()


def _look_at(
    paths: Sequence[Path | None], wanted: Collection[str], known: Mapping[str, _Row], storing: bool
) -> list[_Row | FeatureFile | str]:
    return [_one(path, wanted, known.get(str(path)), storing) for path in paths]


def _one(
    path: Path | None, wanted: Collection[str], known: _Row | None, storing: bool
) -> _Row | FeatureFile | str:
    """One file: as it is stored, or read; without a row if it is not to be stored."""
    if path is None:
        return _read(None, wanted)
    try:
        before = path.stat()
        if known and known.state == _state(before):
            return known
        large = before.st_size > _LARGE and path.suffix.lower() == ".npy"
        whole = storing and not large and stat.S_ISREG(before.st_mode)
        content = path.read_bytes() if whole else None
    except (OSError, MemoryError):  # the reader says what is wrong
        content = None
    if content is None:
        return _read(path, wanted)
    digest = hashlib.blake2b(content, digest_size=16).digest()
    same = known is not None and known.digest == digest
    file = known.file if known and same else _read(path, wanted, content)
    if isinstance(file, str):
        return file
    try:
        after = path.stat()
    except OSError:
        return file
    certain = _state(after) == _state(before) and not may_change(after)
    state = _state(after) if certain else ""
    return known if known and same and known.state == state else _Row(state, digest, file)


def _read(
    path: Path | None, wanted: Collection[str], content: bytes | None = None
) -> FeatureFile | str:
    try:
        return read_feature_file(path, wanted, content)
    except InputError as error:
        return str(error)


def _state(found: os.stat_result) -> str:
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def _write_rows(path: Path, rows: Mapping[str, _Row]) -> None:
    forms: dict[tuple[Any, ...], int] = {}
    for row in rows.values():
        forms.setdefault(_form(row.file), len(forms))
    text = json.dumps([[names, dict(left_out)] for names, left_out in forms])
    schema = _SCHEMA.with_metadata({_READER: _reader(), _FORMS: text.encode()})
    names = list(rows)
    # Hardly any value occurs twice: dictionaries take ten times as long, and save nothing.
    with writing(path, schema, use_dictionary=False, write_statistics=False) as writer:
        for first in range(0, len(names), _GROUP):
            part = {name: rows[name] for name in names[first : first + _GROUP]}
            files = [row.file for row in part.values()]
            columns = {
                # As bytes: a name need not be text.
                "path": pa.array([os.fsencode(name) for name in part], pa.binary()),
                "state": [row.state for row in part.values()],
                "digest": pa.array([row.digest for row in part.values()], pa.binary(16)),
                "form": pa.array([forms[_form(file)] for file in files], pa.int32()),
                "steps": [len(file.values) for file in files],
                "values": pa.LargeListArray.from_arrays(
                    np.cumsum([0, *(file.values.size for file in files)]),
                    np.concatenate([file.values.ravel() for file in files]),
                ),
                "face": [file.face for file in files],
                "failed": [file.failed for file in files],
                "time_unit": [file.time_unit for file in files],
            } | {
                name: pa.array([getattr(file, name) for file in files], pa.list_(kind))
                for name, kind in _ARRAYS.items()
            }
            writer.write_table(pa.table(columns, schema=schema))


def _form(file: FeatureFile) -> tuple[Any, ...]:
    """What many files of a set have in common: the names of their columns."""
    return file.names, tuple(file.left_out.items())


def _stored(table: pa.Table) -> Iterator[tuple[str, _Row]]:
    """The rows of a table by the path of their file."""
    forms = [
        (None if names is None else tuple(names), left_out)
        for names, left_out in json.loads(table.schema.metadata[_FORMS])
    ]
    for batch in table.to_batches():
        plain = {
            name: batch[name].to_pylist()
            for name in ("path", "state", "digest", "form", "steps", "face", "failed", "time_unit")
        }
        arrays = {name: _slices(batch[name]) for name in ("values", *_ARRAYS)}
        for place, path in enumerate(plain["path"]):
            names, left_out = forms[plain["form"][place]]
            values = arrays["values"][place]
            assert values is not None  # each file has steps
            file = FeatureFile(
                values.reshape(plain["steps"][place], -1),
                names,
                left_out,
                plain["face"][place],
                arrays["rising"][place],
                arrays["constant"][place],
                plain["failed"][place],
                arrays["times"][place],
                plain["time_unit"][place],
            )
            yield os.fsdecode(path), _Row(plain["state"][place], plain["digest"][place], file)


def _slices(column: Any) -> list[NDArray[Any] | None]:
    """The arrays of a column of lists, without a copy; None where there is none."""
    if column.null_count == len(column):
        return [None] * len(column)
    flat = column.values.to_numpy(zero_copy_only=False)
    bounds = column.offsets.to_pylist()
    present = column.is_valid().to_pylist()
    return [
        flat[bounds[place] : bounds[place + 1]] if there else None
        for place, there in enumerate(present)
    ]
