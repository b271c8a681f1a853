"""Labels as they come: the ABAW5 release, whole and spoiled."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from harness.clips.layouts import read_clips
from harness.clips.table import EMOTIONS
from harness.errors import InputError
from harness.progress import silent
from harness.sampling import EVERY
from harness.streams.features import Machines
from harness.streams.sources import extract_all, real_sources
from tests.networks import save_tiny

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
    (root / "data_info.csv").write_bytes(b"File_ID,Split\n\xe4\xf6,Train\n")
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
    (cell("File_ID", "[00000]"), "1 ids occur more than once: [00000]"),
    (cell("File_ID", "00000"), "1 ids occur more than once: 00000"),
    (cell("File_ID", "[../00001]"), "line 3, File_ID: '[../00001]' is not an id"),
    (cell("File_ID", "[/etc/passwd]"), "line 3, File_ID"),
    (cell("File_ID", "[con]"), "line 3, File_ID"),
    (cell("File_ID", "[.hidden]"), "line 3, File_ID"),
    (cell("File_ID", "[0000\u0661]"), "line 3, File_ID"),
    (cell("File_ID", "[a\nb]"), "line 3, File_ID"),
    (cell("File_ID", "=1+1"), "line 3, File_ID"),
    (cell("File_ID", ""), "line 3, File_ID"),
    (cell("Split", "Holdout"), "line 3, Split: 'Holdout' is none of"),
    (cell("Split", ""), "line 3, Split: '' is none of"),
    (cell("Split", "Train", row=2), "no clip is in val"),
    (cell("Fear", "high"), "line 3, Fear: 'high' is no rating"),
    (cell("Fear", "101"), "line 3, Fear: '101' is no rating in [0, 100]"),
    (cell("Fear", "-0.1"), "line 3, Fear: '-0.1' is no rating"),
    (cell("Fear", "nan"), "line 3: some ratings are empty"),
    (cell("Fear", "inf"), "line 3, Fear: 'inf' is no rating"),
    (cell("Fear", ""), "line 3: some ratings are empty"),
    (unlabelled("Val"), "no clip of val is rated"),
    (unlabelled("Train"), "no clip of train is rated"),
    (
        lambda root, table: (table * 1).pipe(two_layouts, root),
        "several layouts; `layout`: choose one",
    ),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_releases_are_named(tmp_path: Path, change: Change, message: str) -> None:
    root = make_release(tmp_path, change)
    with pytest.raises(InputError) as error:
        extract_all(
            real_sources(root, save_tiny(root / "net.safetensors"), crop="none"),
            root / "cache",
            EVERY,
            Machines(torch.device("cpu")),
            silent,
        )
    assert message in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert not (root / "cache").exists(), "no store is begun for labels that are wrong"


def test_a_missing_video_is_noted_and_strictly_an_error(tmp_path: Path) -> None:
    clips = read_clips(make_release(tmp_path, without_video))
    assert clips.paths[1] is None
    assert "1 of 4 clips of the labels have no file: [00001]" in clips.notes[0]
    with pytest.raises(InputError, match=r"have no file: \[00001\] \(`strict`"):
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
    assert "above 1 in 3 of 4 rows: [00000], [00001], [00002]" in clips.notes[0]
    assert "divided by its largest" in clips.notes[0]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_clips(tmp_path / "none")
