"""Annotated faces: files in, masked labels out.

Either s-Aff-Wild2 annotations (4th ABAW, multi-task challenge): a header of 5 names is followed by
rows of 16 fields: image, valence, arousal, expression, 12 action units. Or csv tables with columns
of these names, such as `image, expression`; `face_table` reads them. The images are in
`cropped_aligned/`.
"""

import hashlib
import os
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from harness.cores import cores
from harness.encoders.mtl_dan.checkpoints import some
from harness.encoders.mtl_dan.network import ACTION_UNITS, EXPRESSIONS
from harness.errors import InputError
from harness.pictures import read_picture
from harness.pretraining.face_table import INVALID, INVALID_RATING, TASKS, number_of, read_table

#: The challenge's names and those of the authors of MTL-DAN.
TRAIN_FILES = ("training_set_annotations_22.txt", "train_set.txt", "train.csv")
VAL_FILES = ("validation_set_annotations_22.txt", "validation_set.txt", "val.csv")
IMAGES = "cropped_aligned"
FIELDS = ("image", "valence", "arousal", "expression", *(f"AU{unit}" for unit in ACTION_UNITS))
# Pixels a side to which a picture is decoded to find damage.
_LOOK = 32


@dataclass(frozen=True)
class Annotations:
    """Faces that have an image file and at least one valid label.

    images: paths. valence_arousal: (faces, 2) in [-1, 1], NaN where invalid. expression: (faces,)
    indices into EXPRESSIONS, -1 where invalid. action_units: (faces, 12) of 0 and 1, NaN where
    invalid. missing: names of images without a file. fingerprint: sha256 of the names, labels and
    file sizes. notes: rows that are not used, one line each.
    """

    images: tuple[Path, ...]
    valence_arousal: NDArray[np.float32]
    expression: NDArray[np.int64]
    action_units: NDArray[np.float32]
    missing: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def valid(self) -> dict[str, int]:
        """The number of faces with a valid label, by task."""
        rated = int((~np.isnan(self.valence_arousal).any(axis=1)).sum())
        units = int((~np.isnan(self.action_units).all(axis=1)).sum())
        return dict(zip(TASKS, (rated, int((self.expression >= 0).sum()), units), strict=True))

    def select(self, rows: NDArray[np.intp], root: Path) -> "Annotations":
        """Some of the faces, whose images are in `root`."""
        part = replace(
            self,
            images=tuple(self.images[row] for row in rows),
            valence_arousal=self.valence_arousal[rows],
            expression=self.expression[rows],
            action_units=self.action_units[rows],
        )
        return replace(part, fingerprint=_fingerprint(part, root))


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
    """Reads the annotation files of train and val in a folder with `cropped_aligned/`.

    Every image is decoded once, so that training does not meet a damaged one. Missing and damaged
    images are skipped and listed. Tasks without labels are not trained and not scored.

    Raises:
        InputError: a file is missing or has a bad row; no task has two valid labels in both
            splits; or, with `strict`, an image is missing or damaged.
    """
    train, val = (read_split(folder, names, strict=strict) for names in (TRAIN_FILES, VAL_FILES))
    notes = [*train.notes, *val.notes]
    learnt, scored = (
        {task for task, count in part.valid().items() if count >= 2} for part in (train, val)
    )
    if not learnt & scored:
        raise InputError(
            f"{folder}: no task has valid labels of two faces in train and in val; expected some "
            f"of {', '.join(TASKS)} (train has {train.valid()}, val has {val.valid()})"
        )
    for task in TASKS:
        if task not in learnt | scored:
            notes.append(f"no labels of {task}: not trained and not scored")
        elif task not in learnt:
            notes.append(f"no labels of {task} in train: scored, but not trained")
        elif task not in scored:
            notes.append(f"no labels of {task} in val: trained, but not scored")
    if shared := sorted(set(map(str, train.images)) & set(map(str, val.images))):
        notes.append(
            f"{len(shared)} of {len(val)} images of val are also in train ({some(shared)}): scores "
            "on val are too high"
        )
    return AnnotatedFaces(train, val, tuple(notes))


def read_split(
    folder: Path, names: tuple[str, ...] = VAL_FILES, *, strict: bool = False
) -> Annotations:
    """Reads one annotation file of a folder, without missing and damaged images.

    Raises:
        InputError: as `read_annotated_faces` for one split.
    """
    file, root = _find(folder, names), folder / IMAGES
    if file.suffix == ".csv" and not root.is_dir():
        root = folder
    read = read_annotations(file, root)
    notes = list(read.notes)
    if read.missing:
        total = len(read) + len(read.missing)
        notes.append(
            f"{file}: {len(read.missing)} of {total} images are missing: {some(read.missing)}"
        )
    problems = _problems(read.images)
    if any(problems):
        told = [problem for problem in problems if problem]
        notes.append(f"{file}: {len(told)} of {len(read)} images are damaged: {some(told)}")
        rows = np.flatnonzero([not problem for problem in problems])
        if not rows.size:
            raise InputError(notes[-1])
        read = read.select(rows, root)
    if strict and notes:
        raise InputError(f"{notes[0]} (`strict`; without it this is a warning)")
    return replace(read, notes=tuple(notes))


def read_annotations(file: Path, images: Path) -> Annotations:
    """Reads an annotation file. Faces without any valid label are skipped.

    Markers: valence or arousal -5 (the pair is then invalid), expression -1, an action unit -1.

    Raises:
        InputError: the file is missing, a row is invalid (the message names line and field), no
            face has a valid label, or no image file exists.
    """
    notes: list[str] = []
    if file.suffix == ".csv":
        numbers, cells, values = read_table(file, notes)
    else:
        numbers, rows = _rows(file)
        cells, values = [row[0] for row in rows], _values(file, numbers, rows)
    _check_ranges(file, numbers, values)
    values[(values[:, :2] == INVALID_RATING).any(axis=1), :2] = np.nan
    values[:, 3:][values[:, 3:] == INVALID] = np.nan
    labelled = ~np.isnan(values[:, :2]).all(axis=1) | (values[:, 2] >= 0)
    labelled |= ~np.isnan(values[:, 3:]).all(axis=1)
    if not labelled.any():
        raise InputError(f"{file}: no face has a valid label; expected some in its rows")
    names = [_name(file, n, cell, images) for n, cell in zip(numbers, cells, strict=True)]
    there = np.array(
        [not keep or _is_file(images / n) for n, keep in zip(names, labelled, strict=True)]
    )
    missing = tuple(name for name, found in zip(names, there, strict=True) if not found)
    kept = np.flatnonzero(labelled & there)
    if not kept.size:
        raise InputError(f"{file}: none of its images is in {images}: {some(missing)}")
    values = values[kept]
    found = Annotations(
        images=tuple(images / names[i] for i in kept),
        valence_arousal=values[:, :2].astype(np.float32),
        expression=values[:, 2].astype(np.int64),
        action_units=values[:, 3:].astype(np.float32),
        missing=missing,
        fingerprint="",
        notes=tuple(notes),
    )
    return replace(found, fingerprint=_fingerprint(found, images))


def _fingerprint(faces: Annotations, root: Path) -> str:
    names = [(i.relative_to(root).as_posix(), i.stat().st_size) for i in faces.images]
    digest = hashlib.sha256(repr(names).encode())
    for labels in (faces.valence_arousal, faces.expression, faces.action_units):
        digest.update(np.ascontiguousarray(labels).tobytes())
    return digest.hexdigest()


def _problems(images: Sequence[Path]) -> list[str]:
    """Of each image, why it cannot be read; empty text if it can."""

    def problem(file: Path) -> str:
        try:
            read_picture(file, _LOOK)
        except InputError as error:
            return str(error)
        return ""

    # Decoders release the interpreter lock.
    with ThreadPoolExecutor(cores()) as pool:
        return list(pool.map(problem, images))


def _find(folder: Path, names: tuple[str, ...]) -> Path:
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) > 1:
        raise InputError(
            f"{folder}: holds both {' and '.join(f.name for f in found)}; keep one of them"
        )
    if not found:
        raise InputError(
            f"{folder}: no annotation file; expected {' or '.join(names)} (docs/pretraining.md "
            "lists their columns)"
        )
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
                    number_of(f"{file}, line {number}, {field}", cell)
                    for field, cell in zip(FIELDS[1:], row[1:], strict=True)
                ]
                for number, row in zip(numbers, rows, strict=True)
            ]
        )


def _check_ranges(file: Path, numbers: Sequence[int], values: NDArray[np.float64]) -> None:
    ratings, labels, units = values[:, :2], values[:, 2:3], values[:, 3:]
    good = np.hstack(
        [
            (ratings == INVALID_RATING) | (np.abs(ratings) <= 1),
            np.isin(labels, range(INVALID, len(EXPRESSIONS))),
            np.isin(units, (INVALID, 0, 1)),
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


def _is_file(path: Path) -> bool:
    try:
        # Twice as fast as Path.is_file, for every image.
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return False
