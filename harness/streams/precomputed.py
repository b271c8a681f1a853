"""Precomputed features: the files of all clips -> one array, their columns matched by name."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.clips.csv_file import check_header
from harness.clips.folder import COLUMN_LIST
from harness.clips.table import SPLITS, ClipTable, some
from harness.dataset import Specification, Stream
from harness.errors import InputError, printable
from harness.likeness import unlike_splits
from harness.streams.feature_file import FeatureFile, read_feature_file
from harness.streams.file_store import FILES, FileStore

# A counter may be off by this part of a step: times are written with two or three decimals.
_ROUNDING = 0.25
# In the unit of a file: a longer median step counts milliseconds.
_LONGEST_STEP = 10.0
# A column that rises in every row of so many clips, of so many rows each, is a counter or a time.
# A feature that changes slowly rises throughout a short clip about once in four.
_COUNTED_CLIPS, _COUNTED_ROWS = 10, 3
_RISES = "rises in every row of every clip"
_NUMBERS = "is a whole number of its own in each clip"
# Folders within a feature set.
_WITHIN_SET = (*SPLITS, "5_fold_train", *(f"fold{number}" for number in range(1, 6)))


@dataclass(frozen=True)
class FeatureColumns:
    """What the columns of precomputed features are.

    set_name: the folder that holds the files of all clips, such as `FAUs`; folders of splits and
    folds do not count. names: the columns of csv files, in the order of the values; None for .npy
    files, which have no names. count: the number of columns. left_out: columns that are no
    features, in the spelling of the last file that has them, with the reason. notes: what else a
    user should know. times: what the times of the steps are taken from; "" if they have none.
    """

    set_name: str
    names: tuple[str, ...] | None
    count: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    times: str = ""

    def lines(self) -> list[str]:
        """What is used and what is not, for the terminal."""
        names = f": {some(self.names)}" if self.names else ""
        lines = [f"{self.count} features of the set {printable(self.set_name)}{names}"]
        return [*lines, *self.left_out_lines(), *self.notes]

    def left_out_lines(self) -> list[str]:
        """The columns that are no features, and what their times are; no line if there are none."""
        left_out = ", ".join(printable(f"{n} ({why})") for n, why in self.left_out.items())
        used = f"; {self.times}" if self.times else ""
        return [f"columns that are not used as features: {left_out}{used}"] if left_out else []


def read_foreign(
    clips: ClipTable, names: Sequence[str] | None = None, store: FileStore | None = None
) -> tuple[Stream, dict[str, str], FeatureColumns]:
    """The features of a table of kind `features`, each step counted as a frame.

    Args:
        names: the columns that a study used, in its order; the columns of the files are brought
            into this order, and others are left out. None: those in COLUMN_LIST, or else those of
            the first file, except columns that rise in every row of every clip.
        store: has the files that were read before; None: all files are read.

    Returns:
        the features; the clips without features, or with several faces, each with the reason; and
        what the columns are.

    Raises:
        InputError: the files disagree in columns or width, have other columns than `names`, or
            none could be read.
    """
    wanted = _listed_columns(clips.paths) if names is None else names
    known = frozenset(map(str.casefold, wanted or ()))
    folder = _set_folder(clips.paths) if any(clips.paths) else Path()
    read = (store or FileStore()).read(clips.paths, known, folder)
    by_clip = dict(zip(clips.clip_ids, read, strict=True))
    files = {clip: file for clip, file in by_clip.items() if isinstance(file, FeatureFile)}
    problems = {clip: reason for clip, reason in by_clip.items() if isinstance(reason, str)}
    if not files:
        raise InputError(f"no feature file could be read: {some(list(problems.values()))}")
    _check_same_columns(files)
    clip, first = next(iter(files.items()))
    of = "the study" if names is not None else COLUMN_LIST
    if wanted is not None:
        _check_expected(clip, first, wanted, of)
    order, unused = _chosen(files, first, wanted, of)
    width = len(order) if order else first.values.shape[1]
    empty = np.empty((0, width), np.float32)
    arrays = [_in_order(files[i], order) if i in files else empty for i in clips.clip_ids]
    counts = [len(array) for array in arrays]
    set_name = set_name_of(clips.paths)
    times, where = _times([files.get(clip) for clip in clips.clip_ids], counts)
    stream = Stream(
        specification=Specification(FILES, {"set": set_name}, order or (), width),
        values=np.concatenate(arrays),
        positions=np.concatenate([np.arange(n, dtype=np.int32) for n in counts]),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        times=times,
    )
    listed = order or [f"column {place + 1}" for place in range(width)]
    left_out = {
        name.casefold(): (name, why)
        for file in files.values()
        for name, why in file.left_out.items()
    } | {name.casefold(): (name, why) for name, why in unused.items()}
    for clip, file in files.items():
        if file.face:
            problems[clip] = f"several faces, one is used: {file.face}"
    columns = FeatureColumns(
        set_name=set_name,
        names=order,
        count=width,
        times=where,
        left_out=dict(left_out.values()),
        notes=(*_unused_notes(unused), *_failed_notes(files), *_value_notes(arrays, listed),
               *unlike_splits(stream.values, stream.offsets, clips.splits, order or ())),
    )  # fmt: skip
    return stream, problems, columns


def first_file(clips: ClipTable, wanted: Collection[str] = ()) -> FeatureFile:
    """The features of the first clip whose file can be read.

    Args:
        wanted: as of `read_feature_file`.

    Raises:
        InputError: there is none.
    """
    reasons = []
    for path in filter(None, clips.paths):
        try:
            return read_feature_file(path, wanted)
        except InputError as error:
            reasons.append(str(error))
    raise InputError(f"no feature file could be read: {some(reasons)}")


def _listed_columns(paths: Sequence[Path | None]) -> list[str] | None:
    """The names in the COLUMN_LIST of a set; None if it has none.

    Raises:
        InputError: the list is empty, not readable, or names a column twice.
    """
    file = _set_folder(paths) / COLUMN_LIST if any(paths) else None
    if file is None or not file.is_file():
        return None
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not readable as UTF-8 text: {error}") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise InputError(f"{file}: names no column; expected one a line, or remove the file")
    check_header(file, names)
    return names


def _chosen(
    files: Mapping[str, FeatureFile], first: FeatureFile, wanted: Sequence[str] | None, of: str
) -> tuple[tuple[str, ...] | None, dict[str, str]]:
    """The columns that are features in their order, and the others with the reason."""
    if first.names is None:
        return None, {}
    if wanted is not None:
        known = frozenset(map(str.casefold, wanted))
        others = [name for name in first.names if name.casefold() not in known]
        return tuple(wanted), dict.fromkeys(others, f"is not among the columns of {of}")
    counters = _counters(list(files.values()), first.names)
    numbers = _clip_numbers(list(files.values()), first.names)
    unused = dict.fromkeys(counters, _RISES) | dict.fromkeys(numbers, _NUMBERS)
    order = tuple(name for name in first.names if name not in unused)
    if not order:
        raise InputError(
            "every column rises from row to row in every clip, as counters and times do, or "
            f"numbers the clips: {some(first.names)}; expected features; if these are some, list "
            f"them in {COLUMN_LIST}"
        )
    return order, unused


def _counters(files: Sequence[FeatureFile], names: Sequence[str]) -> list[str]:
    """The columns that rise from each row to the next in every clip."""
    if sum(len(file.values) >= _COUNTED_ROWS for file in files) < _COUNTED_CLIPS:
        return []
    rising = [
        {n.casefold() for n, rises in zip(file.names or (), file.rising, strict=True) if rises}
        for file in files
        if file.rising is not None
    ]
    common = set.intersection(*rising)
    return [name for name in names if name.casefold() in common]


def _clip_numbers(files: Sequence[FeatureFile], names: Sequence[str]) -> list[str]:
    """The columns that are one whole number in each clip, and in no two clips the same."""
    if sum(len(file.values) >= _COUNTED_ROWS for file in files) < _COUNTED_CLIPS:
        return []
    seen: dict[str, set[float]] = {name.casefold(): set() for name in names}
    count = 0
    for file in files:
        if file.constant is None:
            continue
        count += 1
        for name, value in zip(file.names or (), file.constant.tolist(), strict=True):
            if value == value:  # not NaN
                seen[name.casefold()].add(value)
    return [name for name in names if len(seen[name.casefold()]) == count]


def _check_same_columns(files: dict[str, FeatureFile]) -> None:
    """InputError unless all files have the same columns, in any order."""
    named = {clip: file.names for clip, file in files.items() if file.names is not None}
    unnamed = [clip for clip in files if clip not in named]
    if named and unnamed:
        raise InputError(
            f"feature files differ in form: .npy without column names in {some(unnamed)}; csv with "
            f"names in {some(list(named))}; give all clips the same form"
        )
    widths: dict[int, list[str]] = {}
    for clip in unnamed:
        widths.setdefault(files[clip].values.shape[1], []).append(clip)
    if len(widths) > 1:
        listed = "; ".join(f"{width} in {some(ids)}" for width, ids in sorted(widths.items()))
        raise InputError(f"feature files differ in width (a vector is one step): {listed}")
    sets: dict[frozenset[str], list[str]] = {}
    for clip, names in named.items():
        sets.setdefault(frozenset(map(str.casefold, names)), []).append(clip)
    if len(sets) > 1:
        usual, other = sorted(sets.values(), key=len, reverse=True)[:2]
        difference = _difference(named[other[0]], named[usual[0]])
        raise InputError(
            f"feature files differ in columns: {some(other)} {difference}, unlike {some(usual)}; "
            "give all clips the same columns"
        )


def _check_expected(clip: str, file: FeatureFile, names: Sequence[str], of: str) -> None:
    """InputError unless a file has the columns that a study used, or that a list names."""
    if file.names is None:
        raise InputError(
            f"the features of {clip} have no column names; expected a csv file with the columns "
            f"{some(names)}"
        )
    difference = _difference(file.names, names)
    if difference.startswith("lacks"):  # columns beside them are not read
        raise InputError(f"the features are not those of {of}: {clip} {difference}")


def _difference(found: Sequence[str], expected: Sequence[str]) -> str:
    """Which names differ, such as "lacks AU01 and has AU02"; "" if none does."""
    ours, theirs = set(map(str.casefold, found)), set(map(str.casefold, expected))
    missing = [name for name in expected if name.casefold() not in ours]
    extra = [name for name in found if name.casefold() not in theirs]
    listed = {"lacks": missing, "has": extra}
    return " and ".join(f"{verb} {some(names)}" for verb, names in listed.items() if names)


def _in_order(file: FeatureFile, names: tuple[str, ...] | None) -> NDArray[np.float32]:
    """The values with their columns in the order of the names."""
    if names is None or file.names is None or file.names == names:
        return file.values
    places = {name.casefold(): place for place, name in enumerate(file.names)}
    return file.values[:, [places[name.casefold()] for name in names]]


def _times(
    files: Sequence[FeatureFile | None], counts: Sequence[int]
) -> tuple[NDArray[np.float32] | None, str]:
    """(steps,) seconds at which the steps of all clips begin, and a line on their source."""
    timed = [file for file in files if file is not None and file.times is not None]
    if not timed:
        return None, ""
    units = {file.time_unit for file in timed}
    steps = np.concatenate([np.diff(f.times) for f in timed if f.times is not None])
    # Features of clips of a few seconds have steps of less than ten.
    long = len(steps) > 0 and bool(np.median(steps) >= _LONGEST_STEP)
    unit = units.pop() if len(units) == 1 else ""
    unit = unit or ("ms" if long else "s")
    scale = 1e-3 if unit == "ms" else 1.0
    times = [
        np.full(count, np.nan) if file is None or file.times is None else file.times * scale
        for file, count in zip(files, counts, strict=True)
    ]
    meant = "milliseconds" if unit == "ms" else "seconds"
    return np.concatenate(times).astype(np.float32), f"times of the steps are read as {meant}"


def _unused_notes(unused: Mapping[str, str]) -> list[str]:
    """Lines on the columns that are left out because of their values."""
    notes = []
    for why, kind in ((_RISES, "a counter or a time does"), (_NUMBERS, "the number of a clip is")):
        if found := [name for name, reason in unused.items() if reason == why]:
            notes.append(
                f"{some(found)}: {why}, as {kind}; not used as a feature; to use it, write the "
                f"names of all features into {COLUMN_LIST} beside the files, one a line"
            )
    return notes


def _failed_notes(files: Mapping[str, FeatureFile]) -> list[str]:
    """A line on the rows in which a tool found no face."""
    failed = {clip: file.failed for clip, file in files.items() if file.failed}
    if not failed:
        return []
    listed = some([f"{clip} ({count})" for clip, count in failed.items()])
    return [
        f"{sum(failed.values())} rows of {len(failed)} clips have success 0 and are used as they "
        f"are: {listed}; remove them if the tool found no face there"
    ]


def _value_notes(arrays: Sequence[NDArray[np.float32]], names: Sequence[str]) -> list[str]:
    """Lines on columns that look like counters or ids, and are used as features all the same."""
    long = [array for array in arrays if len(array) > 2]
    if len(long) < 2:
        return []
    rising = _columns_where(_is_rising, long)
    constant = _columns_where(lambda values: (values == values[0]).all(axis=0), long)
    ids = [place for place in constant if len({array[0, place] for array in long}) > 1]
    notes = []
    for found, what, kind in (
        (rising, "rises by a constant step in every clip", "a counter or a time"),
        (ids, "is constant in every clip and differs between clips", "an id"),
    ):
        if listed := [names[place] for place in found]:
            notes.append(f"{some(listed)}: {what}; used as a feature, remove it if it is {kind}")
    return notes


def _columns_where(
    test: Callable[[NDArray[np.float32]], NDArray[np.bool_]], arrays: Sequence[NDArray[np.float32]]
) -> list[int]:
    """The columns that pass a test in each array (steps, columns)."""
    left = np.arange(arrays[0].shape[1])
    for array in arrays:
        left = left[test(array[:, left])]
        if not left.size:
            break
    return left.tolist()


def _is_rising(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which columns of (steps, columns) rise by a constant step, up to rounding."""
    with np.errstate(over="ignore", invalid="ignore"):
        step = (values[-1] - values[0]) / (len(values) - 1)
        regular = values[0] + step * np.arange(len(values), dtype=np.float32)[:, np.newaxis]
        near = (np.abs(values - regular) < _ROUNDING * step).all(axis=0)
    rising: NDArray[np.bool_] = near & (step > 0)
    return rising


def set_name_of(paths: Sequence[Path | None]) -> str:
    """The name of the deepest folder that holds all files; folders of splits and folds do not
    count."""
    return _set_folder(paths).name


def _set_folder(paths: Sequence[Path | None]) -> Path:
    names = {os.path.dirname(path) for path in paths if path}  # noqa: PTH120 - 10 times as fast
    folders = {Path(name).absolute() for name in names}
    common = folders.pop()
    for folder in folders:
        while common != folder and common not in folder.parents:
            common = common.parent
    while common.name in _WITHIN_SET:
        common = common.parent
    return common
