"""The fingerprints of clips follow their contents: neither paths nor times count."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.clips.layouts import read_clips
from harness.clips.table import ClipTable
from harness.dataset import NOTHING
from harness.streams import contents
from harness.streams.contents import source_fingerprint, sources
from tests.trees import plain_tree

OLD = 1_600_000_000


@pytest.fixture(scope="module", params=["frames", "clips"])
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_tree(tmp_path_factory.mktemp("data"), request.param)


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """A copy of the clips, with new times."""
    return Path(shutil.copytree(original, tmp_path / "copy", copy_function=shutil.copyfile))


def table(root: Path) -> ClipTable:
    return read_clips(root)


def test_copies_have_the_same_contents(original: Path, root: Path) -> None:
    before = sources(table(original))
    for path in root.rglob("*"):
        os.utime(path, (OLD, OLD))
    assert sources(table(root)) == before
    assert len(set(before)) == len(before), "the clips differ"


@pytest.mark.parametrize("ending", [".bmp", ".tif", ".tiff"])
def test_another_middle_of_an_uncompressed_picture_is_another_content(
    tmp_path: Path, ending: str
) -> None:
    picture = np.zeros((300, 300, 3), np.uint8)
    prints = []
    for shade in (10, 20):
        picture[150] = shade
        Image.fromarray(picture).save(tmp_path / f"1{ending}")
        prints.append(source_fingerprint(tmp_path))
    assert prints[0] != prints[1]


def last_byte(path: Path) -> None:
    """Another content of the same size."""
    file = sorted(path.iterdir())[-1] if path.is_dir() else path
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    times = file.stat()
    file.write_bytes(content)
    os.utime(file, (times.st_atime, times.st_mtime))


def rename_one(path: Path) -> None:
    (path / "1.png").rename(path / "11.png")


def remove_one(path: Path) -> None:
    (path / "1.png").unlink()


def add_one(path: Path) -> None:
    shutil.copy(path / "1.png", path / "3.png")


CHANGES: list[Callable[[Path], None]] = [last_byte, rename_one, remove_one, add_one]


@pytest.mark.parametrize("change", CHANGES)
def test_another_content_is_seen(
    root: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    paths = table(root).paths
    assert paths[4] is not None
    if not paths[4].is_dir() and change is not last_byte:
        pytest.skip("of folders")
    before = sources(table(root), tmp_path)
    change(paths[4])
    after = sources(table(root), tmp_path)
    assert [a == b for a, b in zip(after, before, strict=True)] == [n != 4 for n in range(20)]


def test_what_is_remembered_is_not_read(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sources(table(root), tmp_path)
    assert not (tmp_path / "contents.json").exists(), "they may change again at the same time"
    monkeypatch.setattr(contents, "_YOUNG", 0.0)
    assert sources(table(root), tmp_path) == before
    monkeypatch.setattr(contents, "source_fingerprint", lambda path: pytest.fail(f"reads {path}"))
    assert sources(table(root), tmp_path) == before
    (tmp_path / "contents.json").write_text("[1, 2")
    monkeypatch.undo()
    assert sources(table(root), tmp_path) == before, "a damaged file is no hindrance"


def test_only_what_changed_is_read_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_YOUNG", 0.0)
    paths = table(root).paths
    before = sources(table(root), tmp_path)
    assert len(json.loads((tmp_path / "contents.json").read_text())) == len(paths)
    assert paths[7] is not None
    last_byte(paths[7])
    read: list[Path | None] = []

    def noted(path: Path | None) -> str:
        read.append(path)
        return source_fingerprint(path)

    monkeypatch.setattr(contents, "source_fingerprint", noted)
    assert sources(table(root), tmp_path)[7] != before[7]
    assert read == [paths[7]]


def test_what_cannot_be_read_has_a_fingerprint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "1.png").symlink_to("none.png")
    first = source_fingerprint(tmp_path / "folder")
    (tmp_path / "folder" / "2.png").write_bytes(b"picture")
    assert source_fingerprint(tmp_path / "folder") != first
    assert source_fingerprint(None) == NOTHING
    assert source_fingerprint(tmp_path / "pipe") == "not a file"
    assert source_fingerprint(tmp_path / "none.mp4") == "not a file"
