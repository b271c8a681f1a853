"""One clip is bad: what is said of it, and what the store holds of it and of the others."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.clips.video import write_video
from harness.errors import InputError
from harness.progress import silent
from harness.sampling import strides
from harness.streams.extraction import sources
from harness.streams.features import Machines, feature_store
from harness.streams.sources import extract_all, real_sources
from tests.networks import save_tiny
from tests.photographs import film
from tests.trees import plain_tree
from tests.videos import cut, grey, make_sound, make_uneven, make_video

STRIDE = 3
CPU = Machines(torch.device("cpu"))
Spoil = Callable[[Path], object]


def fill(content: bytes) -> Spoil:
    return lambda path: path.write_bytes(content)


def link_to(target: str) -> Spoil:
    def spoil(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return spoil


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def noise_inside(path: Path) -> None:
    """The index is whole, the pictures are not."""
    content = bytearray(make_video(path, 40).read_bytes())
    start = content.index(b"mdat") + 8
    length = content.index(b"moov") - start
    content[start : start + length] = np.random.default_rng(0).bytes(length)
    path.write_bytes(content)


def still_picture(path: Path) -> None:
    Image.new("RGB", (32, 32)).save(path, format="png")


def ends_early(path: Path) -> None:
    made = make_uneven(path.with_suffix(".mkv"), list(range(0, 1500, 30)), "mpeg4", "matroska")
    cut(made).rename(path)


def no_access(path: Path) -> None:
    # The superuser may read all, but nobody reads a pipe that has no writer: it would wait.
    path.unlink()
    os.mkfifo(path)


# What is done to the file of clip c3; what is said; how many of its frames are stored.
VIDEOS: list[tuple[Spoil, str, int]] = [
    (Path.unlink, "no file", 0),
    (fill(b""), "cannot be opened as mp4, mov, mkv, webm, avi", 0),
    (fill(b"\0" * 5000), "cannot be opened", 0),
    (fill(b"<html>403 Forbidden</html>" * 50), "cannot be opened", 0),
    (fill(b"ffconcat version 1.0\nfile c2.mp4\n"), "cannot be opened", 0),
    (fill(b"#EXTM3U\n#EXTINF:10,\nhttp://localhost:1/c2.mp4\n"), "cannot be opened", 0),
    (still_picture, "cannot be opened", 0),
    (lambda path: cut(path, 0.5), "cannot be opened", 0),
    (lambda path: cut(path, 0.01), "cannot be opened", 0),
    (noise_inside, "cannot be decoded: none of 40 packets gives a frame", 0),
    (make_sound, "holds no video stream (audio only?)", 0),
    (lambda path: make_sound(path, cover=True), "holds no video stream", 0),
    (lambda path: make_uneven(path, []), "c3.mp4: ", 0),
    (ends_early, "announces 14.7 s", 8),
    (folder, "no such video file", 0),
    (link_to("nowhere.mp4"), "no such video file", 0),
    (link_to("c3.mp4"), "c3.mp4: ", 0),
    (no_access, "no such video file", 0),
]


def clear(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()


def one(name: str, content: bytes) -> Spoil:
    return lambda path: (path / name).write_bytes(content)


def only_a_gif(path: Path) -> None:
    clear(path)
    Image.new("RGB", (32, 32)).save(path / "1.gif")


def half_a_picture(path: Path) -> None:
    picture = path / "2.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(
        picture
    )
    cut(picture)


def bomb(path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(path / "1.png")


FOLDERS: list[tuple[Spoil, str, int]] = [
    (shutil.rmtree, "no file", 0),
    (clear, "holds no image (.jpg, .jpeg, .png", 0),
    (only_a_gif, "holds no image", 0),
    (only_a_gif, "1 files are not read: 1.gif", 0),
    (one("1.png", b""), "1.png: not a readable image", 2),
    (one("1.png", b"text"), "1.png: not a readable image", 2),
    (one("2.png", b"text"), "2.png: not a readable image", 2),
    (half_a_picture, "2.png: not a readable image", 2),
    (bomb, "1.png: not a readable image", 2),
    (lambda path: (path / "2.jpg").mkdir(), "2.jpg: not a file", 3),
    (lambda path: (path / "2.jpg").symlink_to("none.jpg"), "2.jpg: not a file", 3),
    (one("3.heic", b""), "1 files are not read: 3.heic (read: .jpg", 3),
    (lambda path: (path / "more").mkdir(), "1 subfolders are not read: more", 3),
    (lambda path: (path / "1.png").rename(path / "face 1.png"), "names have 2 forms", 3),
]


def run(root: Path, tmp_path: Path, stride: int, crop: str) -> tuple[dict[str, str], list[int]]:
    """Extracts; gives the problems that a new reader of the store finds, and counts of frames."""
    weights = save_tiny(tmp_path / "net.safetensors")
    given = [(clips, encoder)] = real_sources(root, weights, crop=crop)
    assert encoder is not None
    cache = tmp_path / "cache"
    [(done, *_)] = extract_all(given, cache, strides(stride), CPU, silent)
    assert done.clips == len(clips), "one bad clip ends nothing"
    store = feature_store(encoder, cache)
    keys = list(zip(clips.clip_ids, sources(clips), strict=True))
    return store.problems(keys), np.diff(store.load(keys, strides(stride)).offsets).tolist()


@pytest.mark.parametrize(("spoil", "message", "kept"), VIDEOS)
def test_a_bad_video(tmp_path: Path, spoil: Spoil, message: str, kept: int) -> None:
    (tmp_path / "data").mkdir()
    root = plain_tree(tmp_path / "data", "clips")
    spoil(root / "clips" / "c3.mp4")
    problems, counts = run(root, tmp_path, STRIDE, "none")
    assert list(problems) == ["c3"]
    assert message in problems["c3"]
    assert counts == [4, 4, 4, kept] + [4] * 16


@pytest.mark.parametrize(("spoil", "message", "kept"), FOLDERS)
def test_a_bad_folder_of_images(tmp_path: Path, spoil: Spoil, message: str, kept: int) -> None:
    (tmp_path / "data").mkdir()
    root = plain_tree(tmp_path / "data", "frames")
    spoil(root / "frames" / "c3")
    problems, counts = run(root, tmp_path, 1, "none")
    assert list(problems) == ["c3"]
    assert message in problems["c3"]
    assert counts == [3, 3, 3, kept] + [3] * 16


def test_a_film_of_nobody(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    root = plain_tree(tmp_path / "data", "clips")
    for number in range(20):
        write_video(root / "clips" / f"c{number}.mp4", film(6, seen=number != 3))
    problems, counts = run(root, tmp_path, 1, "detect")
    assert problems == {"c3": "no face in any of its 6 frames"}
    assert counts == [5, 5, 5, 0] + [5] * 16


def test_strictly_the_first_problem_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    root = plain_tree(tmp_path / "data", "clips")
    (root / "clips" / "c3.mp4").unlink()
    with pytest.raises(InputError, match=r"1 of 20 clips .* have no file: c3 \(`strict`; "):
        real_sources(root, save_tiny(tmp_path / "net.safetensors"), crop="none", strict=True)


def test_tiny_pictures_are_pictures(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    root = plain_tree(tmp_path / "data", "clips")
    write_video(root / "clips" / "c3.mp4", (grey(9, 2, 2) for _ in range(4)))
    problems, counts = run(root, tmp_path, STRIDE, "none")
    assert problems == {}
    assert counts[3] == 2
