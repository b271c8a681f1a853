"""Folders of images: which files are read, in which order, and what is reported."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.clips.images import image_files, sampled_images
from harness.errors import InputError

# Names in the order in which they are frames.
ORDERS = [
    "0 0.25 0.5 0.75",
    "0.0 0.5 1.0 1.5 2.0 10.0",
    "8 9 10 11",
    "08 09 10 11",
    "frame_9 frame_10 frame_100",
    "00042_0.1 00042_0.25 00042_1.5 00042_12",
    "a1_b10 a2_b9 a10_b1",
    "0,5 0,75 1,25",
    "5e-05 0.0001 0.001 1",
    "1.1 1.2 1.9 1.10 1.11",
    "1.2.9 1.2.10 1.3.1",
    "clip.0001 clip.0002 clip.0010",
    "2024-01-05 12.30.45.9|2024-01-05 12.30.45.10|2024-01-05 12.31.00.1",
    "IMG_1 img_2 IMG_3",
    "a b c",
    "²1 ²2 ²10",
]


def touch(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize("stems", ORDERS)
@pytest.mark.parametrize("suffixes", [[".jpg"], [".png", ".JPG", ".webp", ".bmp", ".tiff"]])
def test_images_are_in_order_of_the_numbers(
    tmp_path: Path, stems: str, suffixes: list[str]
) -> None:
    split = stems.split("|" if "|" in stems else " ")
    names = [f"{stem}{suffixes[k % len(suffixes)]}" for k, stem in enumerate(split)]
    touch(tmp_path, names)
    files, problems = image_files(tmp_path)
    assert [file.name for file in files] == names
    assert problems == []


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=12, unique=True))
def test_times_as_python_prints_them_are_in_order(
    tmp_path_factory: pytest.TempPathFactory, times: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("times")
    touch(folder, [f"t{time}.jpg" for time in times])
    files, problems = image_files(folder)
    assert [float(file.stem[1:]) for file in files] == sorted(times)
    assert problems == []


# Names, and what is said of them.
DOUBTS = [
    ("1 2 frame_3", "the image names have 2 forms (1.jpg, frame_3.jpg)"),
    ("1 2 cover", "the image names have 2 forms (1.jpg, cover.jpg)"),
    ("left_1 left_2 right_1 right_2", "have 2 forms (left_1.jpg, right_1.jpg)"),
    ("1 1_2 1_2_3 1-2", "have 4 forms"),
    ("-1 0 1", "have 2 forms"),
    ("1 01 2", "1 images have the number of the one before (01.jpg and 1.jpg)"),
    ("1 1.0", "1 images have the number of the one before"),
]


@pytest.mark.parametrize(("stems", "doubt"), DOUBTS)
def test_names_whose_order_is_doubtful_are_reported(tmp_path: Path, stems: str, doubt: str) -> None:
    touch(tmp_path, [f"{stem}.jpg" for stem in stems.split()])
    files, (problem,) = image_files(tmp_path)
    assert len(files) == len(stems.split()), "all are read"
    assert doubt in problem


def test_one_number_under_two_suffixes_is_reported(tmp_path: Path) -> None:
    touch(tmp_path, ["1.jpg", "1.png", "2.jpg"])
    assert "(1.jpg and 1.png)" in image_files(tmp_path)[1][0]


SYSTEM = ["._1.jpg", ".DS_Store", ".1.jpg.swp", "Thumbs.db", "desktop.ini", "Desktop.INI"]


def write(folder: Path, names: list[str]) -> None:
    """Image k is a grey of 10 k."""
    for k, name in enumerate(names):
        Image.new("RGB", (8, 8), (10 * k,) * 3).save(folder / name)


def test_hidden_and_system_files_are_no_input(tmp_path: Path) -> None:
    write(tmp_path, ["0.png", "1.png", "2.png"])
    touch(tmp_path, SYSTEM)
    (tmp_path / "__MACOSX").mkdir()
    assert [index for index, _ in sampled_images(tmp_path, [1])] == [0, 1, 2]


UNREAD = [
    (["3.gif"], [], "1 files are not read: 3.gif (read: .jpg"),
    (["3.heic", "4.heic", "5.avif", "notes.txt"], [], "4 files are not read: 3.heic, 4.heic, 5"),
    ([], ["more", "other"], "2 subfolders are not read: more, other"),
]


@pytest.mark.parametrize(("files", "folders", "message"), UNREAD)
def test_what_is_not_read_is_reported_after_the_last_image(
    tmp_path: Path, files: list[str], folders: list[str], message: str
) -> None:
    write(tmp_path, ["0.png", "1.bmp", "2.webp", "10.tif"])
    touch(tmp_path, files)
    for name in folders:
        (tmp_path / name).mkdir()
    found = []
    with pytest.raises(InputError) as error:
        found.extend(sampled_images(tmp_path, [1]))
    assert message in str(error.value)
    assert [int(picture.mean()) for _, picture in found] == [0, 10, 20, 30]


def test_an_image_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    write(tmp_path, [f"{k}.png" for k in range(6)])
    for k in (1, 4):
        (tmp_path / f"{k}.png").write_bytes(b"text")
    found = []
    with pytest.raises(InputError, match=r"1\.png: not a readable.*1 more images cannot be read"):
        found.extend(sampled_images(tmp_path, [1]))
    assert {index: int(np.mean(picture)) for index, picture in found} == {
        0: 0, 2: 20, 3: 30, 5: 50,
    }  # fmt: skip
