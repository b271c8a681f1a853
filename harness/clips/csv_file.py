"""A csv file -> a table of text, or one line that says why it cannot be read."""

import csv
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.clips.csv_form import ADVICE, UNNAMED, CsvForm, csv_form
from harness.errors import InputError, printable

#: Cells that mean "no value", in lower case.
MISSING = frozenset(
    ("", "-", "--", "\u2013", "\u2014", "?", ".", "na", "n/a", "#n/a", "nan", "null", "none", "#nv")
)
# The name of an index that holds lines of a file.
_LINE = "line"
_DECIMAL_COMMA = r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?"
_DECIMAL_POINT = r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?"
_THOUSANDS = r"[+-]?[1-9]\d{0,2}(?:,\d{3})+"


def read_csv(file: str | PathLike[str]) -> pd.DataFrame:
    """Reads a csv with every cell as text: an id read as a number would lose its leading zeros.

    The index holds the line of each row, which `line_of` gives. Names of columns are stripped.
    Decimal commas become points. A column without a name is kept under the name UNNAMED if it is a
    running index; `index_notes` reports it.

    Raises:
        InputError: missing, unreadable, ambiguous, or without a row.
    """
    file = Path(file)
    if not file.is_file():
        raise InputError(f"{file}: missing; expected a csv with a row a clip")
    try:
        form = csv_form(file)
        check_header(file, form.header)
        table = text_table(file, form)
        lines = _lines(file, form)
        if len(table) <= len(lines):
            table.index = pd.Index(lines[: len(table)], name=_LINE)
    except InputError:
        raise
    # The parser errors of pandas are ValueErrors.
    except (ValueError, OSError, csv.Error, MemoryError) as error:
        raise InputError(f"{file}: not a readable csv: {error}") from error
    if table.empty:
        raise InputError(f"{file}: has no rows; expected one a clip")
    return table.loc[:, columns_kept(file, table)]


def line_of(rows: "pd.DataFrame | pd.Series[Any]", place: int) -> int:
    """The line of the file that a row comes from; of a joined table, that of a plain csv."""
    return int(rows.index[place]) if rows.index.name == _LINE else place + 2


def text_table(file: Path, form: CsvForm) -> pd.DataFrame:
    """The stripped cells of a csv as text, without the empty rows at its end.

    Raises:
        InputError: a row has more cells than the header, or numbers are ambiguous.
    """
    table = pd.read_csv(file, dtype=str, keep_default_na=False, **form.options())
    set_header(file, table, form)
    for place in range(table.shape[1]):
        table.isetitem(place, table.iloc[:, place].str.strip())
    filled = np.flatnonzero((table != "").any(axis=1))
    table = table.iloc[: filled[-1] + 1 if filled.size else 0]
    return _with_decimal_points(file, table)


def set_header(file: Path, table: pd.DataFrame, form: CsvForm) -> None:
    """Names the columns of a table as the file does.

    Raises:
        InputError: rows have more cells than the header; pandas takes the first ones for an index.
    """
    if not isinstance(table.index, pd.RangeIndex) or len(table.columns) != len(form.header):
        raise InputError(
            f"{file}: its rows have more cells than its header (decimal commas between commas?); "
            f"{ADVICE} and decimal points"
        )
    table.columns = pd.Index(form.header)


def columns_kept(file: Path, table: pd.DataFrame) -> list[bool]:
    """Which columns of a table of text are used: all except unnamed ones without a value.

    Raises:
        InputError: an unnamed column is neither empty nor a running index.
    """
    kept = []
    for place, name in enumerate(table.columns):
        column = table.iloc[:, place]
        empty = name == UNNAMED and column.isin(MISSING).all()
        if name == UNNAMED and not empty and not is_running(column):
            raise InputError(
                f"{file}: column {place + 1} has no name; name it in the header, or remove it"
            )
        kept.append(not empty)
    return kept


def index_notes(file: Path, table: pd.DataFrame) -> list[str]:
    """A line that says that the unnamed running index of a table is not used."""
    count = list(table.columns).count(UNNAMED)
    return [f"{file}: the unnamed index column is not used"] if count else []


def is_running(column: "pd.Series[Any]") -> bool:
    """Whether a column is an index: whole numbers that rise by a constant step."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    if not (np.isfinite(values).all() and (values == np.round(values)).all()):
        return False
    steps = np.diff(values)
    return bool((steps > 0).all() and (steps == steps[:1]).all())


def rename_columns(file: Path, table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Gives the columns of a table their documented names; case is ignored.

    Raises:
        InputError: a column is missing.
    """
    found = {str(name).casefold(): str(name) for name in table.columns}
    missing = [name for name in names if name.casefold() not in found]
    if missing:
        there = ", ".join(printable(str(name)) or "(unnamed)" for name in table.columns)
        raise InputError(f"{file}: no column {', '.join(missing)}; found {there}")
    return table.rename(columns={found[name.casefold()]: name for name in names})


def check_header(file: Path, header: Iterable[str]) -> None:
    """InputError if two columns have the same name, apart from case."""
    counts = Counter(name.casefold() for name in header if name != UNNAMED)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise InputError(
            f"{file}: column {printable(twice[0])} occurs twice; keep or rename one of them"
        )


def _lines(file: Path, form: CsvForm) -> list[int]:
    """The line in which each row after the header begins; pandas leaves out blank lines.

    Raises:
        InputError: a row has fewer cells than the header; pandas would fill it up.
    """
    lines, ended = [], form.skipped
    with file.open(encoding=form.encoding, newline="") as text:
        rows = csv.reader(text, delimiter=form.separator, skipinitialspace=True)
        for row in itertools.islice(rows, form.skipped, None):
            if any(row) and len(row) < len(form.header):
                raise InputError(
                    f"{file}, line {rows.line_num}: {len(row)} cells; expected "
                    f"{len(form.header)}, as in the header"
                )
            if len(row) > 1 or any(row):
                lines.append(ended + 1)
            ended = rows.line_num
    return lines[1:]


def _with_decimal_points(file: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Replaces decimal commas by points, in the columns that hold nothing but numbers.

    Raises:
        InputError: both are used, or the commas may separate thousands.
    """
    commas = {}
    pointed = False
    for place in range(table.shape[1]):
        cells = table.iloc[:, place]
        values = cells[~cells.str.casefold().isin(MISSING)]
        has_comma = values.str.fullmatch(_DECIMAL_COMMA) | values.str.fullmatch(_THOUSANDS)
        with_comma = values[has_comma]
        others = values[~has_comma]
        if pd.to_numeric(others, errors="coerce").isna().any():
            continue
        pointed |= bool(others.str.fullmatch(_DECIMAL_POINT).any())
        if len(with_comma):
            commas[place] = with_comma
    if not commas:
        return table
    cell = next(iter(commas.values())).iloc[0]
    if pointed:
        raise InputError(
            f"{file}: has decimal commas ({cell}) and decimal points; {ADVICE} and decimal points"
        )
    if all(column.str.fullmatch(_THOUSANDS).all() for column in commas.values()):
        raise InputError(
            f"{file}: {cell} may be a thousand with a separator or a decimal comma; {ADVICE} and "
            "decimal points"
        )
    table = table.copy()
    for place, column in commas.items():
        cells = table.iloc[:, place].copy()
        cells[column.index] = column.str.replace(",", ".")
        table.isetitem(place, cells.to_numpy())
    return table
