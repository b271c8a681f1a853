"""s-Aff-Wild2 files: both namings, masks, and rows that are refused by name."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.errors import InputError
from harness.pretraining.annotations import read_annotated_faces, read_annotations
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


def test_every_task_needs_labels(tmp_path: Path) -> None:
    write_faces(tmp_path)
    file = tmp_path / "validation_set_annotations_22.txt"
    header, *rows = file.read_text().splitlines()
    masked = [",".join([(f := row.split(","))[0], "-5", "-5", *f[3:]]) for row in rows]
    file.write_text("\n".join([header, *masked]) + "\n")
    with pytest.raises(InputError, match="0 faces have a valid valence and arousal label"):
        read_annotated_faces(tmp_path)
