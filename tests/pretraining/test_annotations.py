"""s-Aff-Wild2 files: both namings, masks, and rows that are refused by name."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.errors import InputError
from harness.pretraining.annotations import read_annotated_faces, read_annotations, read_split
from tests.faces import GOOD, HEADER, write_faces


def written(folder: Path, *rows: str, header: str = HEADER) -> Path:
    image = folder / "v" / "1.jpg"
    image.parent.mkdir(exist_ok=True)
    image.write_bytes(b"any")
    file = folder / "train_set.txt"
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("v/1.jpg,0.5", r"line 3: expected 16 fields .*, got 2"),
        (GOOD + ",0", r"line 3: expected 16 fields .*, got 17"),
        (GOOD.replace("0.5", "x", 1), r"line 3, valence: expected a number, got 'x'"),
        (GOOD.replace("-0.5", ""), r"line 3, arousal: expected a number, got ''"),
        (GOOD.replace("-0.5", "-3"), r"line 3, arousal: expected -1 to 1, or -5 .*, got -3"),
        (GOOD.replace("-0.5", "nan"), r"line 3, arousal: expected .*, got nan"),
        (GOOD.replace(",4,", ",9,"), r"line 3, expression: expected 0 to 7, or -1 .*, got 9"),
        (GOOD.replace(",4,", ",1.5,"), r"line 3, expression: .* got 1.5"),
        (GOOD.replace(",4,", ",happy,"), r"line 3, expression: expected a number, got 'happy'"),
        (GOOD.replace(",0,0,", ",2,0,", 1), r"line 3, AU1: expected 0 or 1, or -1 .*, got 2"),
        (GOOD[:-1] + "0.5", r"line 3, AU26: expected 0 or 1"),
        (GOOD.replace("v/1.jpg", "../1.jpg"), r"line 3, image: expected a path inside"),
        (GOOD.replace("v/1.jpg", "v/../../1.jpg"), r"line 3, image"),
        (GOOD.replace("v/1.jpg", "/etc/passwd"), r"line 3, image"),
        (GOOD.replace("v/1.jpg", ""), r"line 3, image"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: str, message: str) -> None:
    file = written(tmp_path, GOOD, row)
    with pytest.raises(InputError, match=message) as error:
        read_annotations(file, tmp_path)
    assert str(file) in str(error.value)


def test_files_without_faces_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no face has a valid label"):
        read_annotations(written(tmp_path, "v/1.jpg,-5,-5,-1" + ",-1" * 12), tmp_path)
    with pytest.raises(InputError, match="no face has a valid label"):
        read_annotations(written(tmp_path), tmp_path)
    with pytest.raises(InputError, match="line 1: expected the header"):
        read_annotations(written(tmp_path, header=GOOD), tmp_path)
    with pytest.raises(InputError, match="none of its images"):
        read_annotations(written(tmp_path, GOOD.replace("1.jpg", "2.jpg")), tmp_path)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a readable annotation file"):
        read_annotations(tmp_path / "binary.txt", tmp_path)


def test_markers_become_masks(tmp_path: Path) -> None:
    rows = [
        GOOD,
        GOOD.replace(",4,", ",-1,"),
        GOOD.replace("0.5,-0.5", "-5,-5"),
        GOOD.replace("0.5,-0.5", "0.5,-5.0"),
        GOOD[:-1] + "-1",
        "v/1.jpg,-5,-5,-1" + ",-1" * 12,
    ]
    read = read_annotations(written(tmp_path, *rows), tmp_path)
    assert len(read) == 5, "only the face without any valid label is left out"
    assert read.expression.tolist() == [4, -1, 4, 4, 4]
    assert np.isnan(read.valence_arousal).tolist() == [
        [row in (2, 3), row in (2, 3)] for row in range(5)
    ]
    assert np.argwhere(np.isnan(read.action_units)).tolist() == [[4, 11]]
    assert read.valid() == {"valence and arousal": 3, "expression": 4, "action units": 5}


def test_carriage_returns_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\r\n{GOOD}\r\n\r\n".encode())
    assert len(read_annotations(file, tmp_path)) == 1


@pytest.mark.parametrize("authors", [True, False])
def test_both_namings_are_read(tmp_path: Path, authors: bool) -> None:
    faces = read_annotated_faces(write_faces(tmp_path, authors=authors))
    assert (len(faces.train), len(faces.val), faces.notes) == (48, 24, ())
    assert all(image.is_file() for image in (*faces.train.images, *faces.val.images))


def test_missing_images_are_counted_and_named(tmp_path: Path) -> None:
    before = read_annotated_faces(write_faces(tmp_path))
    before.train.images[5].unlink()
    before.train.images[6].unlink()
    faces = read_annotated_faces(tmp_path)
    assert len(faces.train) == 46
    (note,) = faces.notes
    assert "2 of 48 images are missing: train/00005.jpg, train/00006.jpg" in note
    assert note in faces.summary()
    with pytest.raises(InputError, match=r"missing.*`strict`"):
        read_annotated_faces(tmp_path, strict=True)
    before.val.images[0].unlink()
    assert "images are missing" in read_split(tmp_path).notes[0]
    with pytest.raises(InputError, match=r"missing.*`strict`"):
        read_split(tmp_path, strict=True)


def test_the_fingerprint_changes_with_labels_and_images(tmp_path: Path) -> None:
    def fingerprint() -> str:
        return read_annotated_faces(tmp_path).fingerprint

    write_faces(tmp_path)
    first = fingerprint()
    assert fingerprint() == first
    file = tmp_path / "training_set_annotations_22.txt"
    text = file.read_text()
    file.write_text(text.replace(",0,", ",1,", 1))
    assert fingerprint() != first
    file.write_text(text)
    assert fingerprint() == first
    image = read_annotated_faces(tmp_path).val.images[0]
    image.write_bytes(image.read_bytes() + b"0")
    assert fingerprint() != first


def test_a_folder_must_say_which_files_count(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected training_set_annotations_22\.txt or train_set"):
        read_annotated_faces(tmp_path)
    write_faces(tmp_path)
    shutil.copy(tmp_path / "training_set_annotations_22.txt", tmp_path / "train_set.txt")
    with pytest.raises(InputError, match="holds both"):
        read_annotated_faces(tmp_path)


def mask(file: Path, *fields: int) -> None:
    """Makes some fields invalid in all rows."""
    header, *rows = file.read_text().splitlines()
    masked = []
    for row in rows:
        cells = row.split(",")
        for field in fields:
            cells[field] = "-5" if field < 3 else "-1"
        masked.append(",".join(cells))
    file.write_text("\n".join([header, *masked]) + "\n")


VAL, TRAIN = "validation_set_annotations_22.txt", "training_set_annotations_22.txt"


@pytest.mark.parametrize(
    ("files", "fields", "note"),
    [
        ((TRAIN, VAL), (1, 2), "no labels of valence and arousal: not trained and not scored"),
        ((VAL,), (3,), "no labels of expression in val: trained, but not scored"),
        ((TRAIN,), range(4, 16), "no labels of action units in train: scored, but not trained"),
    ],
)
def test_tasks_without_labels_are_named(
    tmp_path: Path, files: Sequence[str], fields: Sequence[int], note: str
) -> None:
    write_faces(tmp_path)
    for name in files:
        mask(tmp_path / name, *fields)
    assert read_annotated_faces(tmp_path).notes == (note,)


def test_train_and_val_need_a_common_task(tmp_path: Path) -> None:
    write_faces(tmp_path)
    mask(tmp_path / TRAIN, 1, 2, *range(4, 16))
    mask(tmp_path / VAL, 3)
    with pytest.raises(InputError, match="no task has valid labels of two faces in train and in"):
        read_annotated_faces(tmp_path)


def test_images_in_both_splits_give_a_warning(tmp_path: Path) -> None:
    write_faces(tmp_path)
    shutil.copy(tmp_path / TRAIN, tmp_path / VAL)
    (note,) = read_annotated_faces(tmp_path).notes
    assert note.startswith("48 of 48 images of val are also in train")


@pytest.mark.parametrize("damage", [b"", b"no image", None])
@pytest.mark.parametrize("split", ["train", "val"])
def test_damaged_images_are_skipped_before_training(
    tmp_path: Path, split: str, damage: bytes | None
) -> None:
    """As missing ones are; removing them afterwards changes nothing."""
    image = getattr(read_annotated_faces(write_faces(tmp_path)), split).images[3]
    image.write_bytes(image.read_bytes()[:400] if damage is None else damage)
    found = read_annotated_faces(tmp_path)
    (note,) = found.notes
    assert f"1 of {48 if split == 'train' else 24} images are damaged: {image}: " in note
    with pytest.raises(InputError, match=r"damaged.*`strict`"):
        read_annotated_faces(tmp_path, strict=True)
    image.unlink()
    removed = read_annotated_faces(tmp_path)
    assert (len(removed.train), len(removed.val)) == (len(found.train), len(found.val))
    assert removed.fingerprint == found.fingerprint


FACES = [f"train/{n:05d}.jpg" for n in range(6)]


def csv_folder(folder: Path, *rows: str, header: str = "image,expression") -> Path:
    """A folder with the same rows in train.csv and val.csv, about other images."""
    write_faces(folder)
    for name, start in (("train.csv", "train/"), ("val.csv", "valid/")):
        text = "\n".join([header, *rows]).replace("train/", start)
        (folder / name).write_text(text + "\n")
    for name in (TRAIN, VAL):
        (folder / name).unlink()
    return folder


def test_expressions_are_read_by_name(tmp_path: Path) -> None:
    names = ("Happy", "sadness", " neutral", "ANGRY", "", "contempt")
    rows = [f"{face},{name}" for face, name in zip(FACES, names, strict=True)]
    found = read_annotated_faces(csv_folder(tmp_path, *rows))
    assert found.train.expression.tolist() == [4, 5, 0, 1]
    assert np.isnan(found.train.action_units).all()
    assert found.val.valid() == {"valence and arousal": 0, "expression": 4, "action units": 0}
    assert "no labels of action units: not trained and not scored" in found.notes
    assert sum("1 faces of contempt have no class" in note for note in found.notes) == 2


def test_any_labels_may_be_columns(tmp_path: Path) -> None:
    rows = [f"{face},{n % 2},0.5,-0.5,x" for n, face in enumerate(FACES)]
    header = "Image,au12,valence,arousal,source"
    found = read_annotated_faces(csv_folder(tmp_path, *rows, header=header))
    assert found.train.action_units[:, 6].tolist() == [0, 1, 0, 1, 0, 1]
    assert np.isnan(np.delete(found.train.action_units, 6, axis=1)).all()
    assert (found.train.valence_arousal == [0.5, -0.5]).all()
    assert any("columns are not used: source" in note for note in found.notes)


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (
            "image,expression",
            "train/00001.jpg,3",
            r"line 3, expression: .* numbers are ref",
        ),
        ("image,expression", "train/00001.jpg,-1", r"line 3, expression: .* numbers are refused"),
        (
            "image,expression",
            "train/00001.jpg,joy",
            r"expected the name of a class",
        ),
        ("image,label", "train/00001.jpg,happy", "expected columns image and expression"),
        ("path,expression", "train/00001.jpg,happy", "expected columns image and expression"),
        ("image,valence", "train/00001.jpg,0.5", "expected both valence and arousal"),
        ("image,AU6", "train/00001.jpg,yes", "line 3, AU6: expected a number, got 'yes'"),
        ("image,AU6", "train/00001.jpg,5", "line 3, AU6: expected 0 or 1"),
        ("image,expression", "../1.jpg,happy", "line 3, image: expected a path inside"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, header: str, row: str, message: str) -> None:
    first = {"expression": "happy", "AU6": "0", "valence": "0.1", "label": "happy"}
    rows = (f"train/00000.jpg,{first[header.split(',')[1]]}", row)
    with pytest.raises(InputError, match=message):
        read_annotated_faces(csv_folder(tmp_path, *rows, header=header))
