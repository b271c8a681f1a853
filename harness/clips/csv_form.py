"""How a csv file is written: its encoding, separator and header.

The documented form is UTF-8 with commas and decimal points. Other forms are read where only one
reading is possible: UTF-8 or UTF-16 with a byte order mark; semicolons, tabs or vertical bars
between the cells; Excel's first line `sep=;`; decimal commas; blanks around names.
"""

import codecs
import csv
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError

#: The name that a column without a name has in a table.
UNNAMED = ""
#: What to do with a file that cannot be read.
ADVICE = "save as UTF-8 csv with commas"
# The widest published feature sets have some thousand columns.
_MOST_COLUMNS = 20_000
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# Rows that show which separator a file has.
_SHOWN = 10
_DIRECTIVE = re.compile(r'"?sep=(.)"?[,;|\t]*\s*', re.IGNORECASE)
# UTF-32 comes first, because its mark begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_OTHER_FILES = {
    b"PK\x03\x04": "an Excel workbook or a zip file",
    b"\xd0\xcf\x11\xe0": "an Excel workbook",
    b"\x1f\x8b": "a gzip file",
    b"PAR1": "a Parquet file",
    b"\x93NUMPY": "a .npy file",
}
# The names that pandas gives to columns without one; people save its tables again.
_NAMED_BY_PANDAS = re.compile(r"Unnamed: \d+(\.\d+)?")


@dataclass(frozen=True)
class CsvForm:
    """How a csv file is written."""

    encoding: str
    separator: str
    #: Lines before the header: 1 with Excel's `sep=;`.
    skipped: int
    #: The names of the columns, stripped; UNNAMED where a column has none.
    header: tuple[str, ...]

    def options(self) -> dict[str, Any]:
        """The arguments with which pandas reads the file."""
        return {
            "sep": self.separator,
            "encoding": self.encoding,
            "skiprows": self.skipped,
            "skipinitialspace": True,
        }


def csv_form(file: Path) -> CsvForm:
    """Finds the encoding, the separator and the header of a csv.

    Raises:
        InputError: no text, another encoding, several possible separators, or one of the first two
            rows has more cells than any table needs: pandas would take minutes or all memory.
        OSError, csv.Error: the file cannot be read.
    """
    encoding = _encoding(file)
    try:
        with file.open(encoding=encoding, newline="") as text:
            first = text.readline()
            directive = _DIRECTIVE.fullmatch(first)
            lines = list(itertools.islice(itertools.chain([first], text), _SHOWN))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}: not a readable csv: looks like an encoding other than UTF-8, such as "
            f"Windows-1252; {ADVICE}"
        ) from error
    lines = lines[1:] if directive else lines
    separator = directive[1] if directive else _separator(file, lines)
    rows = list(itertools.islice(_rows(lines, separator), 2))
    for row in rows:
        if len(row) > _MOST_COLUMNS:
            raise InputError(
                f"{file}: a row has {len(row)} cells; expected at most {_MOST_COLUMNS}"
            )
    header = tuple(map(column_name, rows[0] if rows else ()))
    return CsvForm(encoding, separator, int(directive is not None), header)


def column_name(cell: str) -> str:
    """The name of a column: stripped; UNNAMED where pandas made one up."""
    name = cell.strip()
    return UNNAMED if _NAMED_BY_PANDAS.fullmatch(name) else name


def _encoding(file: Path) -> str:
    with file.open("rb") as binary:
        head = binary.read(4096)
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    for magic, what in _OTHER_FILES.items():
        if head.startswith(magic):
            raise InputError(f"{file}: not a readable csv: looks like {what}; {ADVICE}")
    if zeros := head.count(0):
        utf16 = not (any(head[::2]) and any(head[1::2])) and zeros < len(head)
        what = "UTF-16 without a byte order mark" if utf16 else "a file that is not text"
        raise InputError(f"{file}: not a readable csv: looks like {what}; {ADVICE}")
    return "utf-8"


def _rows(lines: Iterable[str], separator: str) -> Iterable[list[str]]:
    """The rows of a csv that are not empty."""
    return filter(any, csv.reader(lines, delimiter=separator, skipinitialspace=True))


def _separator(file: Path, lines: Sequence[str]) -> str:
    """The separator that gives every shown row as many cells as the header."""
    header = next((line for line in lines if line.strip()), "")
    possible = [mark for mark in _SEPARATORS if mark in header]
    fitting = [mark for mark in possible if len(_widths(lines, mark)) == 1]
    # In a header, a separator may also be a part of a name, in quotes or not.
    fitting = [mark for mark in fitting if _widths(lines, mark) != {1}]
    if len(fitting) > 1:
        marks = " or ".join(_SEPARATORS[mark] for mark in fitting)
        raise InputError(f"{file}: its cells may be separated by {marks}; {ADVICE}")
    if fitting:
        return fitting[0]
    cells = {len(line.split()) for line in lines if line.strip()}
    if not possible and len(cells) == 1 and cells != {1} and len(lines) > 1:
        raise InputError(f"{file}: looks like cells separated by blanks; {ADVICE}")
    return possible[0] if possible else ","


def _widths(lines: Sequence[str], separator: str) -> set[int]:
    return {len(row) for row in _rows(lines, separator)}
