"""Annotated faces as a csv table: the column image and any of expression, valence, arousal, AU1...

Expressions are names, never numbers: data sets number the classes differently.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.clips.csv_file import MISSING, line_of, read_csv
from harness.encoders.mtl_dan.network import ACTION_UNITS, EXPRESSIONS
from harness.errors import InputError

#: The tasks of the network, in the order of the fields.
TASKS = ("valence and arousal", "expression", "action units")
#: Markers of invalid labels in s-Aff-Wild2.
INVALID_RATING, INVALID = -5, -1
_IMAGE, _EXPRESSION = "image", "expression"
_RATINGS = ("valence", "arousal")
_UNITS = tuple(f"AU{unit}" for unit in ACTION_UNITS)
_COLUMNS = (_IMAGE, *_RATINGS, _EXPRESSION, *_UNITS)
# Other names of the classes, in AffectNet, RAF-DB and FER.
_SYNONYMS = {
    "neutrality": "neutral", "angry": "anger", "disgusted": "disgust", "fearful": "fear",
    "happy": "happiness", "sad": "sadness", "surprised": "surprise",
}  # fmt: skip
# A class of AffectNet that the network does not have.
_NOT_LEARNT = "contempt"


def read_table(file: Path, notes: list[str]) -> tuple[list[int], list[str], NDArray[np.float64]]:
    """Reads a csv table.

    Args:
        notes: lines on rows that are not used are added.

    Returns:
        line numbers, image names, and (rows, 15) valence, arousal, expression and 12 action units
        in the form of s-Aff-Wild2, whose markers stand for empty cells and missing columns.

    Raises:
        InputError: a column or a cell is not as expected; the message names line and column.
    """
    table = read_csv(file)
    known = {name.casefold(): name for name in _COLUMNS}
    unknown = [name for name in table.columns if name.casefold() not in known]
    table.columns = table.columns.map(lambda name: known.get(name.casefold(), name))
    if _IMAGE not in table or len(table.columns) - len(unknown) < 2:
        raise InputError(
            f"{file}, line 1: expected columns image and expression (or valence and arousal, or "
            f"some of {', '.join(_UNITS)}); found {', '.join(table.columns)}"
        )
    if ("valence" in table) != ("arousal" in table):
        raise InputError(f"{file}, line 1: expected both valence and arousal, or none of them")
    if unknown:
        notes.append(f"{file}: columns are not used: {', '.join(unknown)}")
    numbers = [line_of(table, row) for row in range(len(table))]
    values = np.full((len(table), len(_COLUMNS) - 1), float(INVALID))
    values[:, :2] = INVALID_RATING
    for place, name in enumerate(_COLUMNS[1:]):
        for row, cell in enumerate(table.get(name, ())):
            if cell.casefold() in MISSING:
                continue
            where = f"{file}, line {numbers[row]}, {name}"
            number = _class(where, cell) if name == _EXPRESSION else number_of(where, cell)
            values[row, place] = number
    if _EXPRESSION in table:
        count = int((table[_EXPRESSION].str.casefold() == _NOT_LEARNT).sum())
        if count:
            notes.append(f"{file}: {count} faces of {_NOT_LEARNT} have no class in the network; "
                         "their expression is not used")  # fmt: skip
    return numbers, list(table[_IMAGE]), values


def _class(where: str, cell: str) -> int:
    name = cell.casefold()
    name = _SYNONYMS.get(name, name)
    if name == _NOT_LEARNT:
        return INVALID
    if name not in EXPRESSIONS:
        why = ""
        if name.lstrip("+-").replace(".", "", 1).isdigit():
            why = "; data sets number the classes differently, so that numbers are refused"
        raise InputError(
            f"{where}: expected the name of a class ({', '.join(EXPRESSIONS)}; empty if it is not "
            f"known), got {cell!r}{why}"
        )
    return EXPRESSIONS.index(name)


def number_of(where: str, cell: str) -> float:
    """The number in a cell; InputError, which `where` begins, if it is none."""
    try:
        return float(cell)
    except ValueError as error:
        raise InputError(f"{where}: expected a number, got {cell!r}") from error
