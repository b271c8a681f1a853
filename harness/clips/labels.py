"""A csv of clips -> ids, splits, groups and ratings, every cell checked."""

import csv
import itertools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.clips.table import some
from harness.errors import InputError

SPLITS = {"train": "train", "val": "val", "devel": "val", "test": "test"}
# A path component and nothing else: no separator, no leading dot, no control character.
_SAFE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# Names that some file systems keep for themselves.
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# Of features that others computed, the widest are some thousands.
_MOST_COLUMNS = 20_000
#: The highest raw rating.
RAW_SCALE = 100.0


@dataclass(frozen=True)
class Labels:
    """ids: as they stand in the file. stems: the names of their files, safe as path components.
    targets: (clips, targets), rows all NaN where unlabelled. notes: what was mended, a line each.
    """

    ids: tuple[str, ...]
    stems: tuple[str, ...]
    splits: tuple[str, ...]
    targets: NDArray[np.float32]
    target_names: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def read_csv(file: Path) -> pd.DataFrame:
    """A csv with every cell as text, since an id read as a number would lose its padding.

    Raises:
        InputError: missing, unreadable, or without a row.
    """
    if not file.is_file():
        raise InputError(f"{file}: missing; expected a csv with a row a clip")
    try:
        _check_header(file, check_width(file))
        table = pd.read_csv(
            file, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True
        )
    except InputError:
        raise
    # pandas' parser errors are ValueErrors.
    except (ValueError, OSError, csv.Error, MemoryError) as error:
        raise InputError(f"{file}: not a readable csv: {error}") from error
    if table.empty:
        raise InputError(f"{file}: has no rows; expected one a clip")
    if not isinstance(table.index, pd.RangeIndex):  # so pandas takes what has no heading
        raise InputError(f"{file}: its rows have more cells than its header")
    return table


def check_width(file: Path) -> list[str]:
    """The first row of a csv that holds something, its cells stripped. InputError where the first
    rows have more cells than any table needs: pandas would take minutes, or all memory, for them.
    """
    with file.open(encoding="utf-8-sig", newline="") as text:
        filled = filter(any, csv.reader(text, skipinitialspace=True))
        rows = list(itertools.islice(filled, 2))
    for row in rows:
        if len(row) > _MOST_COLUMNS:
            raise InputError(
                f"{file}: a row has {len(row)} cells; expected at most {_MOST_COLUMNS}"
            )
    return [cell.strip() for cell in rows[0]] if rows else []


def _check_header(file: Path, header: list[str]) -> None:
    """InputError where a name stands twice: pandas would rename the second, or take one of them."""
    names = [name for name in header if name]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{file}: column {twice[0]} stands there twice; keep one of them")


def labels_of(
    file: Path,
    table: pd.DataFrame,
    *,
    id_column: str,
    split_column: str,
    target_names: Sequence[str],
    group_column: str | None = None,
    raw_ratings: bool = False,
) -> Labels:
    """Checks a table's cells and gives them as Labels.

    Args:
        raw_ratings: ratings above 1 are raw ones, up to 100; each row is then divided by its
            largest, as the published labels are, and a note says so.

    Raises:
        InputError: naming file, line and column of the first bad cell.
    """
    require_columns(file, table, (id_column, split_column, *target_names))
    for name in target_names:
        if name.startswith("Unnamed: "):  # so pandas calls them
            raise InputError(f"{file}: column {name.removeprefix('Unnamed: ')} has no name")
        # Spreadsheets begin a formula with these, some also with those of full width.
        plain = unicodedata.normalize("NFKC", name).strip()
        if not name.isprintable() or not plain or plain[0] in "=+-@":
            raise InputError(
                f"{file}: {name!r} is no name of a target: expected text that a spreadsheet does "
                "not take for a formula"
            )
    stems = _stems(file, table[id_column])
    targets = _targets(file, table, target_names, RAW_SCALE if raw_ratings else 1.0)
    notes: list[str] = []
    with np.errstate(invalid="ignore"):
        raw = np.flatnonzero((targets > 1).any(axis=1))
    if raw.size:
        targets = _by_largest(file, targets)
        notes.append(
            f"{file}: ratings are raw (above 1 in {raw.size} of {len(table)} rows: "
            f"{some([str(table[id_column].iloc[row]) for row in raw])}); each row was divided by "
            "its largest"
        )
    groups = None
    if group_column in table.columns:
        groups, alone = _groups(table[id_column], table[group_column])
        if alone:
            notes.append(
                f"{file}, {group_column}: {len(alone)} clips name no person and count as one each: "
                f"{some(alone)}"
            )
    return Labels(
        ids=tuple(table[id_column]),
        stems=tuple(stems),
        splits=_splits(file, table[split_column]),
        targets=targets.astype(np.float32),
        target_names=tuple(target_names),
        groups=groups,
        notes=tuple(notes),
    )


def require_columns(file: Path, table: pd.DataFrame, names: Sequence[str]) -> None:
    """InputError if a column is missing."""
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise InputError(
            f"{file}: no column {', '.join(missing)}; found {', '.join(map(str, table.columns))}"
        )


def is_safe(stem: str) -> bool:
    """Whether a name may become a part of a path, and a cell of a csv."""
    return bool(_SAFE_ID.fullmatch(stem)) and not _RESERVED.fullmatch(stem)


def _stems(file: Path, ids: "pd.Series[str]") -> list[str]:
    """File names of ids: `[00042]` names 00042.mp4. Checked, since they become paths."""
    stems = []
    for line, clip_id in enumerate(ids, start=2):  # the header is line 1
        stem = clip_id.removeprefix("[").removesuffix("]")
        if not is_safe(stem):
            raise InputError(
                f"{file}, line {line}, {ids.name}: {clip_id!r} is not an id such as [00042] "
                "(letters, digits, '_', '-' and '.')"
            )
        stems.append(stem)
    # Compared without case and brackets: both name the same file on some file systems.
    keys = pd.Series([stem.lower() for stem in stems])
    repeated = sorted(set(ids[keys.duplicated().to_numpy()]))
    if repeated:
        raise InputError(
            f"{file}, {ids.name}: {len(repeated)} ids stand there more than once: {some(repeated)}"
        )
    return stems


def _groups(
    ids: "pd.Series[str]", column: "pd.Series[str]"
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The person of each clip, and the clips that name none: taken for one person, unknown ones
    would all be held out together."""
    named = [(clip, value.strip()) for clip, value in zip(ids, column, strict=True)]
    alone = tuple(clip for clip, value in named if not value)
    return tuple(value or f"nobody but {clip}" for clip, value in named), alone


def _splits(file: Path, column: "pd.Series[str]") -> tuple[str, ...]:
    splits = []
    for line, value in enumerate(column, start=2):
        split = SPLITS.get(value.strip().lower())
        if split is None:
            raise InputError(
                f"{file}, line {line}, {column.name}: {value!r} is none of "
                "train, val (or devel), test"
            )
        splits.append(split)
    return tuple(splits)


def _targets(
    file: Path, table: pd.DataFrame, names: Sequence[str], highest: float
) -> NDArray[np.float64]:
    targets = np.stack([_column(file, table[name], highest) for name in names], axis=1)
    unlabelled = np.isnan(targets)
    partly = np.flatnonzero(unlabelled.any(axis=1) & ~unlabelled.all(axis=1))
    if partly.size:
        raise InputError(
            f"{file}, line {partly[0] + 2}: some ratings are empty and some are not "
            f"({partly.size} such rows); give all or none"
        )
    return targets


def _column(file: Path, column: "pd.Series[str]", highest: float) -> NDArray[np.float64]:
    text = column.str.strip()
    filled = (text != "").to_numpy(dtype=bool)
    values = pd.to_numeric(text.where(filled), errors="coerce").to_numpy(np.float64)
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(filled & ~((values >= 0) & (values <= highest)))
    if bad.size:
        raise InputError(
            f"{file}, line {bad[0] + 2}, {column.name}: {column.iloc[bad[0]]!r} is no rating "
            f"in [0, {highest:g}] ({bad.size} such cells in this column)"
        )
    return values


def _by_largest(file: Path, targets: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = targets.max(axis=1, keepdims=True)
    empty = np.flatnonzero(largest[:, 0] == 0)
    if empty.size:
        raise InputError(
            f"{file}, line {empty[0] + 2}: all ratings are 0, so that they cannot be scaled"
        )
    scaled: NDArray[np.float64] = targets / largest
    return scaled
