"""A table of clips -> ids, splits, groups and ratings, every cell checked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.clips.csv_file import MISSING, index_notes, line_of, rename_columns
from harness.clips.ratings import RAW_SCALE, check_target_names, divide_by_largest, read_ratings
from harness.clips.table import some
from harness.errors import InputError

# What files call the splits, in lower case.
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "devel", "development"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
# A path component and nothing else: no separator, no leading dot, no control character.
_SAFE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_WHOLE = re.compile(r"[0-9]{1,6}(\.0*)?", re.ASCII)
# Names that some file systems reserve.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Labels:
    """What a table says about each clip, row by row."""

    #: As written in the file.
    ids: tuple[str, ...]
    #: File names of the clips without a suffix, safe as path components.
    stems: tuple[str, ...]
    #: "train", "val" or "test".
    splits: tuple[str, ...]
    #: (clips, targets) in [0, 1]; rows are all NaN where a clip is unrated.
    targets: NDArray[np.float32]
    target_names: tuple[str, ...]
    #: The person of each clip; None where the table names none.
    groups: tuple[str, ...] | None = None
    #: What was corrected or is not used, a line each.
    notes: tuple[str, ...] = ()


def labels_of(
    file: str | PathLike[str],
    table: pd.DataFrame,
    *,
    id_column: str,
    split_column: str,
    target_names: Sequence[str],
    group_column: str | None = None,
    raw_ratings: bool = False,
    notes: Sequence[str] = (),
) -> Labels:
    """Checks the cells of a table and returns them as Labels.

    Columns are found by their names; case does not matter, nor does the order of columns.

    Args:
        file: the csv that the messages name.
        table: a row a clip, every cell as text; an unrated cell is empty or one of MISSING.
        raw_ratings: ratings above 1 are raw ones, up to 100; each row is then divided by its
            largest, as the published labels are, and a note says so.
        notes: notes on the table, to which those on its cells are added.

    Raises:
        InputError: naming file, line and column of the first bad cell.
    """
    file = Path(file)
    table = rename_columns(file, table, (id_column, split_column, *target_names))
    check_target_names(file, target_names)
    ids = table[id_column]
    stems = stems_of(file, ids)
    targets = read_ratings(file, table, target_names, RAW_SCALE if raw_ratings else 1.0)
    notes = [*notes, *index_notes(file, table)]
    with np.errstate(invalid="ignore"):
        raw = np.flatnonzero((targets > 1).any(axis=1))
    if raw.size:
        targets = divide_by_largest(file, table, targets)
        notes.append(
            f"{file}: ratings are raw (above 1 in {raw.size} of {len(table)} rows: "
            f"{some([str(ids.iloc[row]) for row in raw])}); each row was divided by "
            "its largest"
        )
    groups = None
    if group_column and group_column.casefold() in map(str.casefold, table.columns):
        table = rename_columns(file, table, (group_column,))
        groups, alone = _groups(ids, table[group_column])
        if alone:
            notes.append(
                f"{file}, {group_column}: {len(alone)} clips name no person and count as one each: "
                f"{some(alone)}"
            )
    return Labels(
        ids=tuple(ids),
        stems=tuple(stems),
        splits=splits_of(file, table[split_column]),
        targets=targets.astype(np.float32),
        target_names=tuple(target_names),
        groups=groups,
        notes=tuple(notes),
    )


def is_safe(stem: str) -> bool:
    """Whether a name may become a part of a path, and a cell of a csv."""
    return bool(_SAFE_ID.fullmatch(stem)) and not _RESERVED.fullmatch(stem)


def stems_of(file: Path, ids: "pd.Series[str]") -> list[str]:
    """File names of ids: `[00042]` names 00042.mp4. Checked, because they become paths."""
    stems = []
    for row, clip_id in enumerate(ids):
        stem = clip_id.removeprefix("[").removesuffix("]")
        if not is_safe(stem):
            raise InputError(
                f"{file}, line {line_of(ids, row)}, {ids.name}: {clip_id!r} is not an id such as "
                "[00042] (letters, digits, '_', '-' and '.')"
            )
        stems.append(stem)
    # Compared without case and brackets: on some file systems both name the same file.
    keys = pd.Series([stem.lower() for stem in stems])
    repeated = sorted(set(ids[keys.duplicated().to_numpy()]))
    if repeated:
        raise InputError(
            f"{file}, {ids.name}: {len(repeated)} ids occur more than once: {some(repeated)}"
        )
    return stems


def _groups(
    ids: "pd.Series[str]", column: "pd.Series[str]"
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The person of each clip, and the clips that name none.

    Each of the latter is a group of its own, because a common group would always be held out as a
    whole.
    """
    named = [(clip, value.strip()) for clip, value in zip(ids, column, strict=True)]
    named = [(clip, "" if value.casefold() in MISSING else value) for clip, value in named]
    # One person has one name: P01 is p01, and 7 is 7.0, as pandas writes it beside empty cells.
    spelling: dict[str, str] = {}
    named = [(clip, spelling.setdefault(_person(value), value)) for clip, value in named]
    alone = tuple(clip for clip, value in named if not value)
    return tuple(value or f"nobody but {clip}" for clip, value in named), alone


def _person(name: str) -> str:
    """What is equal for two spellings of one person: case and the form of a number do not count."""
    return f"{float(name):g}" if _WHOLE.fullmatch(name) else name.casefold()


def splits_of(file: Path, column: "pd.Series[str]") -> tuple[str, ...]:
    """The splits by their names here. InputError names the line of one that is none."""
    splits = []
    for row, value in enumerate(column):
        split = _SPLIT_NAMES.get(value.strip().lower())
        if split is None:
            raise InputError(
                f"{file}, line {line_of(column, row)}, {column.name}: {value!r} is none of "
                "train, val (or devel, dev, validation), test"
            )
        splits.append(split)
    return tuple(splits)
