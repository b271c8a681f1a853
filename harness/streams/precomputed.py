"""Features that somebody else computed: a file a clip, one row a step."""

import csv
import itertools
from pathlib import Path
from tokenize import TokenError

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.clips.csv_file import check_width
from harness.clips.table import ClipTable, some
from harness.dataset import Specification, Stream
from harness.errors import InputError

# Of MuSe's csv files: when and who, no features.
_META = ("timestamp", "subject_id", "segment_id", "id")


def read_foreign(clips: ClipTable) -> tuple[Stream, dict[str, str]]:
    """The features of a table of kind `features`, each step counted as a frame.

    Returns:
        the features, and for each clip that gave nothing the reason.

    Raises:
        InputError: the files disagree in width, or none could be read.
    """
    nothing: dict[str, str] = {}
    arrays: list[NDArray[np.float32] | None] = []
    for clip_id, path in zip(clips.clip_ids, clips.paths, strict=True):
        try:
            arrays.append(_read(path))
        except InputError as error:
            arrays.append(None)
            nothing[clip_id] = str(error)
    widths: dict[int, list[str]] = {}
    for clip_id, array in zip(clips.clip_ids, arrays, strict=True):
        if array is not None:
            widths.setdefault(array.shape[1], []).append(clip_id)
    if not widths:
        raise InputError(f"no feature file could be read: {some(list(nothing.values()))}")
    if len(widths) > 1:
        told = "; ".join(f"{width} in {some(ids)}" for width, ids in sorted(widths.items()))
        raise InputError(f"feature files differ in width: {told}")
    empty = np.empty((0, next(iter(widths))), np.float32)
    filled = [empty if array is None else array for array in arrays]
    counts = [len(array) for array in filled]
    frames = Stream(
        specification=Specification("files", {}, (), empty.shape[1]),
        values=np.concatenate(filled),
        positions=np.concatenate([np.arange(n, dtype=np.int32) for n in counts]),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )
    return frames, nothing


def _read(path: Path | None) -> NDArray[np.float32]:
    if path is None:
        raise InputError("no file")
    if not path.is_file():
        raise InputError(f"{path}: not a file")  # a pipe would be waited for
    try:
        # Mapped, a file that promises more than it holds is refused before memory is taken for it.
        values = np.load(path, "r", allow_pickle=False) if path.suffix == ".npy" else _csv(path)
        if values.dtype.kind not in "iufb":  # a cast would drop what makes a number complex
            raise ValueError(f"expected numbers, found {values.dtype}")
        with np.errstate(over="ignore"):  # told below, as infinity
            array = np.array(values, dtype=np.float32)
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
        csv.Error,
    ) as error:
        raise InputError(f"{path}: not readable as features: {error}") from error
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"{path}: expected (steps, features), found shape {array.shape}")
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise InputError(f"{path}: NaN or infinity in row {row}, feature {column}")
    return array


def _csv(path: Path) -> NDArray[np.float64]:
    header = check_width(path)
    table = pd.read_csv(path)
    if not isinstance(table.index, pd.RangeIndex):  # so pandas takes what has no heading
        raise ValueError("its rows have more cells than its header")
    if _are_values(header):
        told = ", ".join(header[:3])
        raise ValueError(f"its first row is {told}...; expected the columns' names")
    kept = [name for name in table.columns if str(name).lower() not in _META]
    values: NDArray[np.float64] = table[kept].to_numpy(np.float64)
    return values


def _are_values(names: list[str]) -> bool:
    """Whether what stands for a header is a step; columns may well be numbered, upwards."""
    try:
        values = [float(name) for name in names]
    except ValueError:
        return False
    numbered = all(name.isdecimal() for name in names)
    return not (numbered and all(a < b for a, b in itertools.pairwise(values)))
