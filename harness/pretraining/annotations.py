"""s-Aff-Wild2 annotations (4th ABAW, multi-task challenge): files in, masked labels out.

A header of 5 names is followed by rows of 16 fields: image, valence, arousal, expression, 12
action units. The images are in `cropped_aligned/`.
"""

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from harness.encoders.mtl_dan.checkpoints import some
from harness.encoders.mtl_dan.network import ACTION_UNITS, EXPRESSIONS
from harness.errors import InputError

#: The challenge's names and those of the authors of MTL-DAN.
TRAIN_FILES = ("training_set_annotations_22.txt", "train_set.txt")
VAL_FILES = ("validation_set_annotations_22.txt", "validation_set.txt")
IMAGES = "cropped_aligned"
FIELDS = ("image", "valence", "arousal", "expression", *(f"AU{unit}" for unit in ACTION_UNITS))
_INVALID_RATING = -5
_INVALID = -1


@dataclass(frozen=True)
class Annotations:
    """Faces that have an image file and at least one valid label.

    images: paths. valence_arousal: (faces, 2) in [-1, 1], NaN where invalid. expression: (faces,)
    indices into EXPRESSIONS, -1 where invalid. action_units: (faces, 12) of 0 and 1, NaN where
    invalid. missing: names of images without a file. fingerprint: sha256 of the names, labels and
    file sizes.
    """

    images: tuple[Path, ...]
    valence_arousal: NDArray[np.float32]
    expression: NDArray[np.int64]
    action_units: NDArray[np.float32]
    missing: tuple[str, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.images)

    def valid(self) -> dict[str, int]:
        """The number of faces with a valid label, by task."""
        return {
            "valence and arousal": int((~np.isnan(self.valence_arousal).any(axis=1)).sum()),
            "expression": int((self.expression >= 0).sum()),
            "action units": int((~np.isnan(self.action_units).all(axis=1)).sum()),
        }


@dataclass(frozen=True)
class AnnotatedFaces:
    """The training and validation faces of a folder. notes: warnings, one line each."""

    train: Annotations
    val: Annotations
    notes: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """sha256 of the fingerprints of both splits."""
        return hashlib.sha256(
            f"{self.train.fingerprint} {self.val.fingerprint}".encode()
        ).hexdigest()

    def summary(self) -> list[str]:
        """The sizes of both splits and the warnings, one line each."""
        lines = []
        for split, part in (("train", self.train), ("val", self.val)):
            valid = ", ".join(f"{task} {count}" for task, count in part.valid().items())
            lines.append(f"{split}: {len(part)} faces; with a valid label: {valid}")
        return [*lines, *self.notes]


def read_annotated_faces(folder: Path, *, strict: bool = False) -> AnnotatedFaces:
    """Reads the two annotation files of a folder with `cropped_aligned/`.

    Raises:
        InputError: a file is missing or has a bad row; a task has fewer than two valid labels in
            a split; or, with `strict`, an image is missing.
    """
    splits, notes = [], []
    for names in (TRAIN_FILES, VAL_FILES):
        file = _find(folder, names)
        read = read_annotations(file, folder / IMAGES)
        # The concordance of fewer than two faces is undefined.
        for task, count in read.valid().items():
            if count < 2:
                raise InputError(
                    f"{file}: {count} faces have a valid {task} label; expected at least 2"
                )
        if read.missing:
            total = len(read) + len(read.missing)
            note = (
                f"{file}: {len(read.missing)} of {total} images are missing: {some(read.missing)}"
            )
            notes.append(note)
        splits.append(read)
    if strict and notes:
        raise InputError(f"{notes[0]} (`strict`; without it this is a warning)")
    return AnnotatedFaces(splits[0], splits[1], tuple(notes))


def read_annotations(file: Path, images: Path) -> Annotations:
    """Reads an annotation file. Faces without any valid label are skipped.

    Markers: valence or arousal -5 (the pair is then invalid), expression -1, an action unit -1.

    Raises:
        InputError: the file is missing, a row is invalid (the message names line and field), no
            face has a valid label, or no image file exists.
    """
    numbers, rows = _rows(file)
    values = _values(file, numbers, rows)
    _check_ranges(file, numbers, values)
    values[(values[:, :2] == _INVALID_RATING).any(axis=1), :2] = np.nan
    values[:, 3:][values[:, 3:] == _INVALID] = np.nan
    labelled = ~np.isnan(values[:, :2]).all(axis=1) | (values[:, 2] >= 0)
    labelled |= ~np.isnan(values[:, 3:]).all(axis=1)
    if not labelled.any():
        raise InputError(f"{file}: no face has a valid label; every row holds -5 and -1 alone")
    names = [_name(file, n, row[0], images) for n, row in zip(numbers, rows, strict=True)]
    sizes = [
        _size(images / name) if keep else 0 for name, keep in zip(names, labelled, strict=True)
    ]
    there = np.array([size is not None for size in sizes])
    missing = tuple(name for name, found in zip(names, there, strict=True) if not found)
    kept = np.flatnonzero(labelled & there)
    if not kept.size:
        raise InputError(f"{file}: none of its images is in {images}: {some(missing)}")
    values = values[kept]
    digest = hashlib.sha256(repr([(names[i], sizes[i]) for i in kept]).encode())
    digest.update(values.tobytes())
    return Annotations(
        images=tuple(images / names[i] for i in kept),
        valence_arousal=values[:, :2].astype(np.float32),
        expression=values[:, 2].astype(np.int64),
        action_units=values[:, 3:].astype(np.float32),
        missing=missing,
        fingerprint=digest.hexdigest(),
    )


def _find(folder: Path, names: tuple[str, ...]) -> Path:
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) > 1:
        raise InputError(f"{folder}: holds both {' and '.join(names)}; keep one of them")
    if not found:
        raise InputError(f"{folder}: no annotation file; expected {' or '.join(names)}")
    return found[0]


def _rows(file: Path) -> tuple[list[int], list[list[str]]]:
    """The line numbers and fields of a file's rows."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not a readable annotation file: {error}") from error
    if not lines or lines[0].split(",")[0].strip() != FIELDS[0]:
        raise InputError(
            f"{file}, line 1: expected the header image,valence,arousal,expression,aus"
        )
    numbered = [(n, line.split(",")) for n, line in enumerate(lines[1:], start=2) if line.strip()]
    for number, row in numbered:
        if len(row) != len(FIELDS):
            raise InputError(
                f"{file}, line {number}: expected {len(FIELDS)} fields "
                f"({', '.join(FIELDS[:4])}, 12 action units), got {len(row)}"
            )
    return [number for number, _ in numbered], [row for _, row in numbered]


def _values(file: Path, numbers: Sequence[int], rows: list[list[str]]) -> NDArray[np.float64]:
    """All fields except the image, (rows, 15)."""
    try:
        # All rows together: the real files have some hundred thousand.
        return np.array([row[1:] for row in rows], dtype=np.float64).reshape(-1, len(FIELDS) - 1)
    except ValueError:
        return np.array(
            [
                [
                    _number(f"{file}, line {number}, {field}", cell)
                    for field, cell in zip(FIELDS[1:], row[1:], strict=True)
                ]
                for number, row in zip(numbers, rows, strict=True)
            ]
        )


def _number(place: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError as error:
        raise InputError(f"{place}: expected a number, got {cell!r}") from error


def _check_ranges(file: Path, numbers: Sequence[int], values: NDArray[np.float64]) -> None:
    ratings, labels, units = values[:, :2], values[:, 2:3], values[:, 3:]
    good = np.hstack(
        [
            (ratings == _INVALID_RATING) | (np.abs(ratings) <= 1),
            np.isin(labels, range(_INVALID, len(EXPRESSIONS))),
            np.isin(units, (_INVALID, 0, 1)),
        ]
    )
    if good.all():
        return
    row, column = np.argwhere(~good)[0]
    expected = {0: "-1 to 1, or -5 where invalid", 1: "-1 to 1, or -5 where invalid"}
    expected[2] = f"0 to {len(EXPRESSIONS) - 1}, or -1 where invalid"
    raise InputError(
        f"{file}, line {numbers[row]}, {FIELDS[1 + column]}: expected "
        f"{expected.get(int(column), '0 or 1, or -1 where invalid')}, got {values[row, column]:g}"
    )


def _name(file: Path, number: int, field: str, images: Path) -> str:
    name = field.strip()
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts:
        raise InputError(
            f"{file}, line {number}, image: expected a path inside {images}, got {field!r}"
        )
    return name


def _size(path: Path) -> int | None:
    """The size of a file in bytes; None if there is no such file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - twice as fast as Path.stat, for every image
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None
