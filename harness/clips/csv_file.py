"""A csv file -> a table of text, or one line that says why it cannot be read."""

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness.errors import InputError

# The widest published feature sets have some thousand columns.
_MOST_COLUMNS = 20_000


def read_csv(file: Path) -> pd.DataFrame:
    """Reads a csv with every cell as text: an id read as a number would lose its leading zeros.

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
    # The parser errors of pandas are ValueErrors.
    except (ValueError, OSError, csv.Error, MemoryError) as error:
        raise InputError(f"{file}: not a readable csv: {error}") from error
    if table.empty:
        raise InputError(f"{file}: has no rows; expected one a clip")
    # pandas takes the cells without a header for an index.
    if not isinstance(table.index, pd.RangeIndex):
        raise InputError(f"{file}: its rows have more cells than its header")
    return table


def check_width(file: Path) -> list[str]:
    """Returns the first non-empty row of a csv, its cells stripped.

    Raises:
        InputError: one of the first two rows has more cells than any table needs. pandas would
            spend minutes or all memory on them.
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


def require_columns(file: Path, table: pd.DataFrame, names: Sequence[str]) -> None:
    """InputError if a column is missing."""
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise InputError(
            f"{file}: no column {', '.join(missing)}; found {', '.join(map(str, table.columns))}"
        )


def _check_header(file: Path, header: list[str]) -> None:
    """InputError if two columns have the same name: pandas would rename the second one."""
    names = [name for name in header if name]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{file}: column {twice[0]} stands there twice; keep one of them")
