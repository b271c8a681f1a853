"""Columns of a csv -> an array of ratings, every cell and every name checked."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.clips.csv_file import MISSING, line_of
from harness.clips.csv_form import UNNAMED
from harness.errors import InputError

#: The highest raw rating of Hume-Reaction.
RAW_SCALE = 100.0
# Columns beside the targets in the tables that the harness writes and returns.
_RESERVED = ("clip_id", "file_id", "filled", "frame", "group", "split")


def check_target_names(file: Path, names: Sequence[str]) -> None:
    """InputError if a target has no name, a reserved one, or one like a spreadsheet's formula."""
    for name in names:
        if name == UNNAMED:
            raise InputError(f"{file}: a target has no name; name its column in the header")
        if name.casefold() in _RESERVED:
            raise InputError(
                f"{file}: a target is called {name}; rename it, as {', '.join(_RESERVED)} are "
                "columns of other tables"
            )
        # Formulas begin with these characters; some spreadsheets accept their full-width forms.
        plain = unicodedata.normalize("NFKC", name).strip()
        if not name.isprintable() or not plain or plain[0] in "=+-@":
            raise InputError(
                f"{file}: {name!r} is no name of a target: expected text that a spreadsheet does "
                "not take for a formula"
            )


def read_ratings(
    file: Path, table: pd.DataFrame, names: Sequence[str], highest: float
) -> NDArray[np.float64]:
    """Converts the columns `names` to (clips, targets); unrated rows are NaN throughout.

    Unrated cells are empty or one of MISSING, such as NA.

    Raises:
        InputError: another cell that is no number in [0, highest], or a row that is rated in part.
    """
    targets = np.stack([_column(file, table[name], highest) for name in names], axis=1)
    unlabelled = np.isnan(targets)
    partly = np.flatnonzero(unlabelled.any(axis=1) & ~unlabelled.all(axis=1))
    if partly.size:
        raise InputError(
            f"{file}, line {line_of(table, partly[0])}: some ratings are empty and some are not "
            f"({partly.size} such rows); give all or none"
        )
    return targets


def divide_by_largest(
    file: Path, table: pd.DataFrame, targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Divides each row of (clips, targets) by its largest rating, as the published labels are.

    Args:
        table: that the ratings come from.
    """
    largest = targets.max(axis=1, keepdims=True)
    empty = np.flatnonzero(largest[:, 0] == 0)
    if empty.size:
        line = line_of(table, empty[0])
        raise InputError(f"{file}, line {line}: all ratings are 0, so that they cannot be scaled")
    scaled: NDArray[np.float64] = targets / largest
    return scaled


def _column(file: Path, column: "pd.Series[str]", highest: float) -> NDArray[np.float64]:
    text = column.str.strip()
    filled = ~text.str.casefold().isin(MISSING).to_numpy(dtype=bool)
    values = pd.to_numeric(text.where(filled), errors="coerce").to_numpy(np.float64)
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(filled & ~((values >= 0) & (values <= highest)))
    if bad.size:
        line, cell = line_of(column, bad[0]), column.iloc[bad[0]]
        raise InputError(
            f"{file}, line {line}, {column.name}: {cell!r} is no rating "
            f"in [0, {highest:g}] ({bad.size} such cells in this column); scale the ratings of "
            "other ranges, and remove a column that is no target"
        )
    return values
