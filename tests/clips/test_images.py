"""Folders of images: which files are read, in which order, and what is reported."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.clips.images import image_files, sampled_images, timed_images
from harness.errors import InputError
from harness.sampling import EVERY, Sampler

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


# Names of images of several faces; those that are read, in order, and what is reported.
FACES = {
    "OpenFace": (
        [f"frame_det_0{face}_00000{frame}.bmp" for face in (0, 1) for frame in (1, 2, 3)],
        ["frame_det_00_000001.bmp", "frame_det_00_000002.bmp", "frame_det_00_000003.bmp"],
        "images of 2 faces; the 3 of face 0 are read, 3 of others are not",
    ),
    "the other is there for longer": (
        ["det_0_1.jpg", "det_0_2.jpg", "det_1_1.jpg", "det_1_2.jpg", "det_1_3.jpg"],
        ["det_1_1.jpg", "det_1_2.jpg", "det_1_3.jpg"],
        "images of 2 faces; the 3 of face 1 are read, 2 of others are not",
    ),
    "the face last": (
        [f"frame{frame}_face{face}.png" for frame in (8, 9, 10) for face in (1, 2)],
        ["frame8_face1.png", "frame9_face1.png", "frame10_face1.png"],
        "images of 2 faces; the 3 of face 1 are read, 3 of others are not",
    ),
    "three persons": (
        [f"person_{face}-{frame}.jpg" for face in (3, 5, 9) for frame in range(4)],
        [f"person_3-{frame}.jpg" for frame in range(4)],
        "images of 3 faces; the 4 of face 3 are read, 8 of others are not",
    ),
    "a track that follows another": (
        ["frame_1_track_7.jpg", "frame_2_track_7.jpg", "frame_3_track_2.jpg"],
        ["frame_1_track_7.jpg", "frame_2_track_7.jpg", "frame_3_track_2.jpg"],
        None,
    ),
    "the face first, following": (
        ["face_1_frame_3.jpg", "face_2_frame_1.jpg", "face_2_frame_2.jpg"],
        ["face_2_frame_1.jpg", "face_2_frame_2.jpg", "face_1_frame_3.jpg"],
        None,
    ),
    "frames called faces": (["face_1.jpg", "face_2.jpg"], ["face_1.jpg", "face_2.jpg"], None),
    "one face of each frame": (
        ["face_1_0.jpg", "face_2_0.jpg", "face_10_0.jpg"],
        ["face_1_0.jpg", "face_2_0.jpg", "face_10_0.jpg"],
        None,
    ),
    "no word": (
        ["1_0.jpg", "1_1.jpg", "2_0.jpg", "2_1.jpg"],
        ["1_0.jpg", "1_1.jpg", "2_0.jpg", "2_1.jpg"],
        "two numbers vary in the image names (1_0.jpg to 2_1.jpg); if one is that of the face, keep"
        " the images of one face",
    ),
    "minutes and seconds": (
        [f"{minute}_{second}.jpg" for minute in (0, 1) for second in range(60)],
        [f"{minute}_{second}.jpg" for minute in (0, 1) for second in range(60)],
        None,
    ),
    "no word, many frames": (
        [f"{face}_{frame}.jpg" for face in (0, 1) for frame in range(61)],
        [f"{face}_{frame}.jpg" for face in (0, 1) for frame in range(61)],
        "two numbers vary in the image names (0_0.jpg to 1_60.jpg); if one is that of the face, "
        "keep the images of one face",
    ),
}


@pytest.mark.parametrize("kind", FACES)
def test_of_several_faces_one_is_read(tmp_path: Path, kind: str) -> None:
    names, read, problem = FACES[kind]
    touch(tmp_path, names)
    files, problems = image_files(tmp_path)
    assert [file.name for file in files] == read
    assert problems == ([problem] if problem else [])


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


@pytest.mark.parametrize(
    ("names", "seconds"),
    [
        (["0.00", "0.25", "10.50"], [0, 0.25, 10.5]),
        (["t_1.5", "t_2.0"], [1.5, 2.0]),
        (["0", "1", "2"], None),  # whole numbers count frames
        (["1.9", "1.10"], None),  # a dot between two integers
        (["frame_det_00_000001", "frame_det_00_000002"], None),
    ],
)
def test_names_with_decimals_are_times(
    names: list[str], seconds: list[float] | None, tmp_path: Path
) -> None:
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    found = [second for _, second, _ in timed_images(tmp_path, Sampler(EVERY))]
    expected = [float("nan")] * len(names) if seconds is None else seconds
    np.testing.assert_array_equal(found, expected)
