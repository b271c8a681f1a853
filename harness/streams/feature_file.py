"""One file of precomputed features, .npy, Parquet or csv -> (steps, columns), each value checked.

Columns of a table that number or time the rows, or that say whose rows they are, are not features;
docs/formats.md lists them.
"""

import csv
import datetime
import io
import itertools
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from os import PathLike
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.clips.csv_file import MISSING, check_header, is_running, set_header, text_table
from harness.clips.csv_form import UNNAMED, CsvForm, column_name, csv_form
from harness.clips.table import some
from harness.errors import InputError, printable

# Columns that are no features. Names are compared without case, blanks and punctuation.
# OpenFace: frame, face_id, timestamp, confidence, success. mexca: frame, time. PyAFAR: Frame.
# MuSe: timestamp, subject_id, segment_id, id, File_ID. LibreFace: frame_idx, frame_time_in_ms.
# Py-Feat: frame, approx_time, FaceScore, Identity, input. openSMILE: file, name, start, end,
# frameIndex, frameTime. MediaPipe: timestamp_ms. FaceReader: Video Time.
_FRAME = (
    *("frame", "frameidx", "frameindex", "frameid", "framenumber", "framenum", "frameno"),
    *("framenr", "framecount"),
)
_TIME = (
    *("timestamp", "timestampms", "timestamps", "time", "times", "timesec", "timeseconds"),
    *("timems", "frametime", "frametimeinms", "approxtime", "videotime", "start", "seconds"),
)
_FACE = ("faceid", "facelabel", "identity")
# Of one value in a file.
_CLIP = (
    *("fileid", "clipid", "subjectid", "subject", "participant", "participantid", "personid"),
    *("videoid", "sampleid"),
)
_OTHER = (
    *("id", "segmentid", "confidence", "success", "facescore", "facedetectionscore"),
    *("end", "file", "filename", "input", "name"),
)
# No features either, where they are a running index of the rows.
_INDEX = (UNNAMED, "index", "idx", "level0", "row", "step")
# Names of columns that hold numbers, and no features.
_NUMBERED = (*_FRAME, *_TIME, *_FACE, "confidence", "success", "facescore")
# Of _TIME, those whose name says milliseconds.
_MILLISECONDS = ("timestampms", "timems", "frametimeinms")
# Why columns are no features, by name.
_BOOKKEEPING = {
    **dict.fromkeys(_FRAME, "numbers the frames"),
    **dict.fromkeys(_TIME, "times the frames"),
    **dict.fromkeys(_FACE, "names the face"),
    **dict.fromkeys(_CLIP, "names the clip or the person"),
    **dict.fromkeys(_OTHER, "describes the row"),
}
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?|nan", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class FeatureFile:
    """The features of one clip.

    values: (steps, columns) float32, finite. names: of the columns; None for .npy files.
    left_out: columns that are no features, with the reason. face: which of several faces was kept;
    "" if there is one. rising: (columns,) which rise from each row to the next, and constant:
    (columns,) the value of those that are one whole number, NaN of others; None where names or a
    second row are missing. failed: rows that the tool marks as without success. times: (steps,) the
    numbers of the column that times the steps, rising; None without one. time_unit: of these, `s`
    or `ms`; "" where the column does not say it.
    """

    values: NDArray[np.float32]
    names: tuple[str, ...] | None
    left_out: Mapping[str, str] = field(default_factory=dict)
    face: str = ""
    rising: NDArray[np.bool_] | None = None
    constant: NDArray[np.float64] | None = None
    failed: int = 0
    times: NDArray[np.float64] | None = None
    time_unit: str = ""


def read_feature_file(
    path: str | PathLike[str] | None, wanted: Collection[str] = (), content: bytes | None = None
) -> FeatureFile:
    """Reads a file of precomputed features.

    Args:
        wanted: names in lower case of columns that are features, whatever their names mean.
        content: the bytes of the file, if they were read already.

    Raises:
        InputError: no file, not readable, not of the shape (steps, features), text, NaN or
            infinity, an unnamed column, or rows of several clips or faces.
    """
    if path is None:
        raise InputError("no file")
    path = Path(path)
    if content is None and not path.is_file():
        raise InputError(f"{path}: not a file")  # a pipe would be waited for
    try:
        suffix = path.suffix.lower()
        if suffix == ".npy":
            found = _npy(path, content)
        else:
            found = (_parquet if suffix == ".parquet" else _csv)(path, wanted)
    except InputError:
        raise
    except (
        OSError,
        ValueError,
        TypeError,
        EOFError,
        SyntaxError,
        OverflowError,
        TokenError,
        AttributeError,
        MemoryError,
        LookupError,
        NotImplementedError,
        csv.Error,
    ) as error:
        raise InputError(f"{path}: not readable as features: {error}") from error
    finite = np.isfinite(found.values)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        name = printable(found.names[column]) if found.names else str(column + 1)
        raise InputError(f"{path}: NaN or infinity in row {row + 1} of values, column {name}")
    return found


def _npy(path: Path, content: bytes | None) -> FeatureFile:
    # Of a file that promises more than it holds, no more memory is touched than it holds.
    values = _plain_npy(path.read_bytes() if content is None else content)
    if values is None:
        values = np.load(path, allow_pickle=False)
    if not isinstance(values, np.ndarray):
        raise ValueError("an archive of arrays (.npz); save one array with numpy.save")
    if values.dtype.kind not in "iufb":  # a cast would drop what makes a number complex
        raise ValueError(f"expected numbers, found {values.dtype}")
    with np.errstate(over="ignore"):  # reported as infinity
        array = np.array(values, dtype=np.float32)
    return FeatureFile(_as_steps(path, array), None)


def _plain_npy(content: bytes) -> NDArray[Any] | None:
    """The array of a .npy file of format 1.0 in C order; None for any other file, also a damaged
    one. `np.load` takes four times as long for a small file, most of it to parse the header, and
    the files of a set have few different headers."""
    start = content[: 10 + int.from_bytes(content[8:10], "little")]
    if not start.startswith(b"\x93NUMPY\x01\x00"):
        return None
    header = _npy_header(start)
    if header is None or len(content) - len(start) < math.prod(header[0]) * header[1].itemsize:
        return None
    shape, dtype = header
    return np.frombuffer(content, dtype, math.prod(shape), len(start)).reshape(shape)


@lru_cache(maxsize=1_000)
def _npy_header(start: bytes) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
    """Shape and type by the first bytes of a .npy file of format 1.0; None if it is not plain."""
    stream = io.BytesIO(start)
    try:
        np.lib.format.read_magic(stream)
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except (ValueError, TypeError, SyntaxError, TokenError, OverflowError):
        return None  # `np.load` says what is wrong
    return None if is_fortran or dtype.hasobject else (shape, dtype)


def _as_steps(path: Path, array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Brings an array into the shape (steps, features).

    A vector is one step, because people squeeze clips of one frame. Of more than two axes, those
    of length 1 are removed where steps and features can still be told apart.
    """
    shape = array.shape
    if array.ndim > 2:
        array = array.squeeze()
        if array.ndim == 1 and shape[-1] != array.size:
            raise InputError(f"{path}: expected (steps, features), found shape {shape}")
    if array.ndim == 1:
        array = array[np.newaxis]
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"{path}: expected (steps, features), found shape {shape}")
    return array


def _csv(path: Path, wanted: Collection[str]) -> FeatureFile:
    form = csv_form(path)
    header = form.header
    if _are_values(header):
        raise ValueError(f"its first row is {', '.join(header[:3])}...; expected column names")
    check_header(path, header)
    table = pd.read_csv(path, low_memory=False, **form.options())
    set_header(path, table, form)
    if len(table) and pd.isna(table.iat[-1, 0]):
        # Spreadsheets may end with rows of empty cells.
        filled = np.flatnonzero(table.notna().any(axis=1))
        table = table.iloc[: filled[-1] + 1 if filled.size else 0]
    return _of_table(path, _with_numbers(path, table, form, _known(header, wanted)), wanted)


def _parquet(path: Path, wanted: Collection[str]) -> FeatureFile:
    table = pd.read_parquet(path, engine="pyarrow")
    if not isinstance(table.index, pd.RangeIndex):
        table = _with_named_index(table)
    header = tuple(column_name(str(name)) for name in table.columns)
    table.columns = pd.Index(header)
    check_header(path, header)
    known = _known(header, wanted)
    for place, kind in enumerate(table.dtypes):
        if kind.kind not in "iufb" and place not in known:
            raise InputError(
                f"{path}: not readable as features: column {printable(header[place])} holds "
                f"{kind}; expected numbers; remove the column if it is no feature"
            )
        if kind.kind in "iufb" and not isinstance(kind, np.dtype):  # of pandas, with empty cells
            table.isetitem(place, table.iloc[:, place].to_numpy(np.float64, na_value=np.nan))
    return _of_table(path, table, wanted)


def _with_named_index(table: pd.DataFrame) -> pd.DataFrame:
    """The named levels of an index as columns, such as openSMILE's file, start and end. Others
    number rows: of a table that the clips were cut out of, or before some were dropped."""
    names = table.index.names
    unnamed = [level for level, name in enumerate(names) if name is None]
    if len(unnamed) == len(names):
        return table.reset_index(drop=True)
    return table.droplevel(list[Any](unnamed)).reset_index()


def _known(header: Sequence[str], wanted: Collection[str]) -> list[int]:
    """Places of the columns whose names say that they are no features."""
    return [
        place
        for place, name in enumerate(header)
        if _key(name) in _BOOKKEEPING and name.casefold() not in wanted
    ]


def _of_table(path: Path, table: pd.DataFrame, wanted: Collection[str]) -> FeatureFile:
    """The features in a table whose columns are numbers, except for those that are no features."""
    header = tuple("" if name == UNNAMED else str(name) for name in table.columns)
    known = _known(header, wanted)
    left_out = [
        place
        for place, name in enumerate(header)
        if place in known
        or (_key(name) in _INDEX and name.casefold() not in wanted
            and _is_index(path, table, place))
    ]  # fmt: skip
    _check_one_clip(path, table, left_out)
    table, face = _one_face(path, table)
    used = [place for place in range(len(header)) if place not in left_out]
    if not used or table.empty:
        raise InputError(
            f"{path}: expected (steps, features), found {len(table)} rows and {len(used)} features"
        )
    # Much faster than a choice of columns, if no column is text.
    numeric = all(kind.kind in "iufb" for kind in table.dtypes)
    numbers = table.to_numpy()[:, used] if numeric else table.iloc[:, used].to_numpy()
    with np.errstate(over="ignore", invalid="ignore"):  # reported as infinity
        values = numbers.astype(np.float32)
        # Before rounding: times since 1970 have more digits than float32.
        exact = numbers.astype(np.float64)
        steps = np.diff(exact, axis=0)
    rising = constant = None
    if len(steps):
        rising = np.logical_and.reduce(steps > 0)
        plain = np.logical_and.reduce(steps == 0) & (exact[0] == np.round(exact[0]))
        constant = np.where(plain, exact[0], np.nan)
    names = tuple(header[place] for place in used)
    why = {
        header[p] or "(unnamed)": _BOOKKEEPING.get(_key(header[p]), "a running index")
        for p in left_out
    }
    success = _place([_key(name) for name in header], ("success",))
    failed = 0 if success is None or success in used else int((table.iloc[:, success] == 0).sum())
    times, unit = _times(table)
    return FeatureFile(values, names, why, face, rising, constant, failed, times, unit)


def _times(table: pd.DataFrame) -> tuple[NDArray[np.float64] | None, str]:
    """The numbers of the column that times the rows, and their unit where it is known."""
    keys = [_key(str(name)) for name in table.columns]
    place = _place(keys, _TIME)
    if place is None:
        return None, ""
    column, unit = table.iloc[:, place], "ms" if keys[place] in _MILLISECONDS else ""
    if column.dtype.kind == "M" or isinstance(column.iat[0], datetime.time):
        return None, ""  # a time of day does not say when the clip begins
    if column.dtype.kind not in "iuf":  # openSMILE: 0 days 00:00:01
        if column.dtype.kind != "m":
            # pandas would leave out the comma of 00:00:01,500, and read nanoseconds.
            column = column.astype(str).str.replace(",", ".", regex=False)
        column = pd.to_timedelta(column, errors="coerce").dt.total_seconds()
        unit = "s"
    times = column.to_numpy(np.float64)
    usable = bool(np.isfinite(times).all() and (np.diff(times) > 0).all())
    return (times, unit) if usable else (None, "")


def _with_numbers(
    path: Path, table: pd.DataFrame, form: CsvForm, left_out: Collection[int]
) -> pd.DataFrame:
    """Reads the columns again that pandas took for text, such as those with decimal commas.

    Args:
        left_out: columns that are no features. Those that number or time the rows are read so, too;
            others may hold text.

    Raises:
        InputError: a column of features holds text.
    """
    odd = [
        place
        for place, kind in enumerate(table.dtypes)
        if kind.kind not in "iufb" and place not in left_out
    ]
    for place in left_out:
        _read_commas(table, form, place)
    if not odd:
        return table
    text = text_table(path, form)
    table = table.iloc[: len(text)].copy()
    for place in odd:
        cells = text.iloc[:, place]
        missing = cells.str.casefold().isin(MISSING)
        values = pd.to_numeric(cells.mask(missing), errors="coerce")
        if len(bad := cells[values.isna() & ~missing]):
            name = form.header[place] or str(place + 1)
            raise InputError(
                f"{path}: not readable as features: column {printable(name)} holds text, such as "
                f"{bad.iloc[0]!r}; expected numbers; remove the column if it is no feature"
            )
        table.isetitem(place, values.to_numpy())
    return table


def _read_commas(table: pd.DataFrame, form: CsvForm, place: int) -> None:
    """Reads a column that numbers or times the rows as numbers, if it has decimal commas."""
    column = table.iloc[:, place]
    if column.dtype.kind in "iufb" or _key(form.header[place]) not in _NUMBERED:
        return
    cells = column.dropna().astype(str).str.strip()
    if cells.empty or not _NUMBER.fullmatch(cells.iloc[0]):
        return
    values = pd.to_numeric(cells.str.replace(",", ".", regex=False), errors="coerce")
    # Between commas, 1,000 in quotes is a thousand.
    thousands = form.separator == "," and cells.str.fullmatch(r"[1-9]\d{0,2}(,\d{3})*").all()
    if values.notna().all() and not thousands:
        table.isetitem(place, values.reindex(column.index).to_numpy())


def _is_index(path: Path, table: pd.DataFrame, place: int) -> bool:
    """Whether a column is a running index, or unnamed and empty.

    Raises:
        InputError: an unnamed column is neither.
    """
    column = table.iloc[:, place]
    unnamed = table.columns[place] == UNNAMED
    if is_running(column) or (unnamed and column.isna().all()):
        return True
    if unnamed:
        raise InputError(
            f"{path}: column {place + 1} has no name; name it in the header, or remove it"
        )
    return False


def _check_one_clip(path: Path, table: pd.DataFrame, places: list[int]) -> None:
    """InputError if a column shows that the rows belong to several clips."""
    for place in places:
        if _key(str(table.columns[place])) not in _CLIP:
            continue
        values = table.iloc[:, place].unique()
        if len(values) > 1:
            raise InputError(
                f"{path}: {table.columns[place]} has {len(values)} values ("
                f"{some([str(value) for value in values])}); expected the rows of one clip"
            )


def _one_face(path: Path, table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Keeps one row per frame.

    Of several faces, the one with the most rows is kept (rows with success, where the file has this
    column); of equal ones the one with the higher mean confidence, then the first in the file.

    Returns:
        the rows of one face in their order, and a description of the choice; "" if there is none.

    Raises:
        InputError: a frame has several rows and no column names the face, or frames go backwards.
    """
    keys = [_key(str(name)) for name in table.columns]
    position = _place(keys, (*_FRAME, *_TIME))
    if position is None:
        return table, ""
    numeric = table.dtypes.iloc[position].kind in "iuf"
    if numeric and (_steps(table.iloc[:, position]) > 0).all():
        return table, ""
    chosen = ""
    face = _place(keys, _FACE)
    if face is not None and table.iloc[:, face].isna().all():
        face = None  # Py-Feat leaves Identity empty
    if face is not None and table.iloc[:, position].duplicated().any():
        kept, count = _main_face(table, keys, face)
        rows = table.iloc[:, face] == kept
        chosen = f"face {kept} of {count}, {int((~rows).sum())} rows of other faces not used"
        table = table[rows]
    column, name = table.iloc[:, position], table.columns[position]
    if (twice := column[column.duplicated()]).size:
        raise InputError(
            f"{path}: {name} {twice.iloc[0]} occurs in several rows; expected one row per step; "
            "keep one face per frame"
        )
    if numeric and (_steps(column) < 0).any():
        raise InputError(f"{path}: {name} goes backwards; sort the rows by {name}")
    return table, chosen


def _steps(column: "pd.Series[Any]") -> NDArray[np.float64]:
    """From each row to the next; differences of unsigned numbers would never be below 0."""
    return np.diff(column.to_numpy(np.float64))


def _main_face(table: pd.DataFrame, keys: list[str], face: int) -> tuple[object, int]:
    """The face to keep, and the number of faces."""
    success, confidence = _place(keys, ("success",)), _place(keys, ("confidence", "facescore"))
    ranked = pd.DataFrame({"face": table.iloc[:, face]})
    ranked["rows"] = 1 if success is None else table.iloc[:, success] > 0
    ranked["confidence"] = 0.0 if confidence is None else table.iloc[:, confidence]
    faces = ranked.groupby("face", sort=False).agg({"rows": "sum", "confidence": "mean"})
    best = faces.sort_values(["rows", "confidence"], ascending=False, kind="stable")
    return best.index[0], len(best)


def _place(keys: list[str], names: tuple[str, ...]) -> int | None:
    return next((keys.index(name) for name in names if name in keys), None)


@lru_cache(maxsize=10_000)
def _key(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _are_values(header: tuple[str, ...]) -> bool:
    """Whether the first row is a step instead of a header.

    Names may be numbers, if they are whole and rise; any other number in a header is a value.
    """
    numbers = [name for name in header if _NUMBER.fullmatch(name)]
    whole = all(name.isascii() and name.isdecimal() for name in numbers)
    rising = whole and all(int(a) < int(b) for a, b in itertools.pairwise(numbers))
    return bool(numbers) and not rising
