"""Clips as they come: the ABAW5 layout, and frames of real video files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.clips.layouts import read_clips
from harness.clips.table import EMOTIONS
from harness.clips.video import sampled_frames, write_video
from harness.errors import InputError

Change = Callable[[Path, pd.DataFrame], pd.DataFrame | None]


def make_release(root: Path, change: Change = lambda root, table: None) -> Path:
    """A small tree of the ABAW5 release; `change` spoils it before it is written."""
    splits = ["Train", "Train", "Val", "Test"]
    table = pd.DataFrame({"File_ID": [f"[{n:05d}]" for n in range(4)], "Split": splits})
    for name in EMOTIONS:
        table[name] = ["0.25", "1.0", "0.5", ""]
    for number, split in enumerate(splits):
        path = root / split.lower() / "mp4" / f"{number:05d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    changed = change(root, table)
    if changed is None or len(changed.columns):
        (table if changed is None else changed).to_csv(root / "data_info.csv", index=False)
    return root


def test_the_release_is_read_as_it_is(tmp_path: Path) -> None:
    clips = read_clips(make_release(tmp_path))
    assert clips.clip_ids == ("[00000]", "[00001]", "[00002]", "[00003]")
    assert clips.splits == ("train", "train", "val", "test")
    assert clips.paths[2] == tmp_path / "val" / "mp4" / "00002.mp4"
    assert clips.targets[:3, 0].tolist() == [0.25, 1.0, 0.5]
    assert np.isnan(clips.targets[3]).all(), "an unlabelled clip"
    assert not clips.synthetic
    assert clips.notes == ()


def test_splits_know_no_case(tmp_path: Path) -> None:
    def devel(root: Path, table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(Split=["TRAIN", "train", "Devel", "test"])

    assert read_clips(make_release(tmp_path, devel)).splits == ("train", "train", "val", "test")


def without_csv(root: Path, table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame()


def binary_csv(root: Path, table: pd.DataFrame) -> pd.DataFrame:
    (root / "data_info.csv").write_bytes(b"\xff\xfe\x00\x81")
    return pd.DataFrame()


def without_val(root: Path, table: pd.DataFrame) -> None:
    (root / "val" / "mp4" / "00002.mp4").unlink()


def unlabelled(split: str) -> Change:
    def change(root: Path, table: pd.DataFrame) -> pd.DataFrame:
        table.loc[table["Split"] == split, list(EMOTIONS)] = ""
        return table

    return change


def two_layouts(table: pd.DataFrame, root: Path) -> pd.DataFrame:
    (root / "clips.csv").touch()
    return table


def without_video(root: Path, table: pd.DataFrame) -> None:
    (root / "train" / "mp4" / "00001.mp4").unlink()


def cell(column: str, value: str, row: int = 1) -> Change:
    def change(root: Path, table: pd.DataFrame) -> pd.DataFrame:
        table.loc[row, column] = value
        return table

    return change


BAD: list[tuple[Change, str]] = [
    (without_csv, "no known layout"),
    (binary_csv, "data_info.csv: not a readable csv"),
    (lambda root, table: table.iloc[:0], "data_info.csv: has no rows"),
    (without_val, "none of the 1 clips of val has a file"),
    (lambda root, table: table.drop(columns="Fear"), "no column Fear; found File_ID"),
    (cell("File_ID", "[00000]"), "1 ids stand there more than once: [00000]"),
    (cell("File_ID", "00000"), "1 ids stand there more than once: 00000"),
    (cell("File_ID", "[../00001]"), "line 3, File_ID: '[../00001]' is not an id"),
    (cell("File_ID", "[/etc/passwd]"), "line 3, File_ID"),
    (cell("File_ID", "[con]"), "line 3, File_ID"),
    (cell("File_ID", "[.hidden]"), "line 3, File_ID"),
    (cell("File_ID", "[0000\u0661]"), "line 3, File_ID"),
    (cell("File_ID", "[a\nb]"), "line 3, File_ID"),
    (cell("File_ID", "=1+1"), "line 3, File_ID"),
    (cell("File_ID", ""), "line 3, File_ID"),
    (cell("Split", "Validation"), "line 3, Split: 'Validation' is none of"),
    (cell("Split", ""), "line 3, Split: '' is none of"),
    (cell("Split", "Train", row=2), "no clip is in val"),
    (cell("Fear", "high"), "line 3, Fear: 'high' is no rating"),
    (cell("Fear", "101"), "line 3, Fear: '101' is no rating in [0, 100]"),
    (cell("Fear", "-0.1"), "line 3, Fear: '-0.1' is no rating"),
    (cell("Fear", "nan"), "line 3, Fear: 'nan' is no rating"),
    (cell("Fear", "inf"), "line 3, Fear: 'inf' is no rating"),
    (cell("Fear", ""), "line 3: some ratings are empty"),
    (unlabelled("Val"), "no clip of val is labelled"),
    (unlabelled("Train"), "no clip of train is labelled"),
    (lambda root, table: (table * 1).pipe(two_layouts, root), "several layouts; choose --layout"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_releases_are_named(tmp_path: Path, change: Change, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_clips(make_release(tmp_path, change))
    assert message in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_missing_video_is_noted_and_strictly_an_error(tmp_path: Path) -> None:
    clips = read_clips(make_release(tmp_path, without_video))
    assert clips.paths[1] is None
    assert "1 of 4 clips of the labels have no file: [00001]" in clips.notes[0]
    with pytest.raises(InputError, match=r"have no file: \[00001\] \(--strict\)"):
        read_clips(tmp_path, strict=True)


def test_a_file_without_a_label_is_noted(tmp_path: Path) -> None:
    root = make_release(tmp_path)
    (root / "train" / "mp4" / "99999.mp4").touch()
    assert (
        "1 files belong to no clip of the labels: train/mp4/99999.mp4" in read_clips(root).notes[0]
    )


def test_raw_ratings_are_divided_by_their_largest(tmp_path: Path) -> None:
    def raw(root: Path, table: pd.DataFrame) -> pd.DataFrame:
        table.loc[0, list(EMOTIONS)] = ["20", "80", "1", "1", "1", "1", "40"]
        table.loc[1, list(EMOTIONS)] = ["100"] + ["50"] * 6
        table.loc[2, list(EMOTIONS)] = ["50"] * 7
        return table

    clips = read_clips(make_release(tmp_path, raw))
    assert clips.targets[0, [0, 1, 6]].tolist() == [0.25, 1.0, 0.5]
    assert "divided by its largest" in clips.notes[0]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_clips(tmp_path / "none")


def make_video(path: Path, frames: int) -> Path:
    """Frame k is a grey of about 5 k."""
    pictures = (np.full((32, 48, 3), 5 * k, np.uint8) for k in range(frames))
    write_video(path, pictures)
    return path


@pytest.mark.parametrize(
    ("strides", "expected"),
    [([1], list(range(40))), ([30], [0, 30]), ([10, 15], [0, 10, 15, 20, 30]), ([100], [0])],
)
def test_strides_count_frames_from_the_first(
    tmp_path: Path, strides: list[int], expected: list[int]
) -> None:
    got = list(sampled_frames(make_video(tmp_path / "v.mp4", 40), strides))
    assert [index for index, _ in got] == expected
    for index, picture in got:
        assert abs(picture.mean() - 5 * index) < 4, "the right frame, not only its number"


def test_known_frames_are_counted_and_not_converted(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", 12)
    assert [i for i, _ in sampled_frames(path, [3], skip=frozenset({0, 6}))] == [3, 9]


def test_unreadable_videos_are_named(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "v.mp4", 40).read_bytes()
    for name, content, message in [
        ("empty.mp4", b"", "cannot be decoded"),
        ("text.mp4", b"not a video" * 50, "cannot be decoded"),
        ("cut.mp4", whole[: len(whole) // 2], "cannot be decoded"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            list(sampled_frames(tmp_path / name, [1]))
    with pytest.raises(InputError, match="no such video"):
        list(sampled_frames(tmp_path / "none.mp4", [1]))


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    def frames() -> object:
        yield np.zeros((32, 32, 3), np.uint8)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_video(tmp_path / "v.mp4", frames())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
