"""The data sheet of a folder of clips, and what a search reads of files before it computes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.clips.layouts import read_clips
from harness.errors import InputError
from harness.streams.data_sheet import DataSheet, Leak, check_headers, data_sheet
from tests.commands import command
from tests.trees import plain_tree


def table(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / "clips.csv")


def write(root: Path, labels: pd.DataFrame) -> None:
    labels.to_csv(root / "clips.csv", index=False)


def sheet_of(root: Path) -> DataSheet:
    return data_sheet(read_clips(root, allow_shared_groups=True))


@pytest.fixture
def features(tmp_path: Path) -> Path:
    return plain_tree(tmp_path, "features")


@pytest.mark.parametrize(("folder", "steps"), [("features", 4), ("frames", 3), ("clips", 12)])
def test_a_sheet_counts_what_is_there(tmp_path: Path, folder: str, steps: int) -> None:
    sheet = sheet_of(plain_tree(tmp_path, folder))
    counts = {k: (v.clips, v.rated, v.with_file, v.persons) for k, v in sheet.splits.items()}
    assert counts == {"train": (10, 10, 10, 5), "val": (6, 6, 6, 3), "test": (4, 4, 4, 2)}
    assert (sheet.persons, sheet.targets) == (10, ("joy", "awe"))
    assert sheet.steps == (steps, steps, steps)
    assert sheet.warnings() == []
    assert sheet.lines()[:2] == [
        f"20 clips ({read_clips(tmp_path).kind}), 10 persons; targets: joy, awe",
        "train: 10 clips, 10 rated, 10 with a file, 5 persons",
    ]


def test_clips_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    root = plain_tree(tmp_path, "clips")
    (root / "clips" / "c3.mp4").write_bytes(b"nothing")
    (root / "clips" / "c19.mp4").unlink()
    (root / "clips" / "c5.mp4").write_bytes(b"nothing")
    sheet = sheet_of(root)
    assert sheet.same_contents == (), "what cannot be read has no contents"
    assert list(sheet.missing) == ["c3", "c5", "c19"]
    assert sheet.warnings()[0].startswith("3 clips cannot be read: c3 (")
    assert sheet.splits["test"].with_file == 3


def test_persons_in_several_splits_are_named(features: Path) -> None:
    labels = table(features)
    labels.loc[10, "group"] = "person0"
    write(features, labels)
    assert sheet_of(features).shared_persons == ("person0 (train, val)",)


@pytest.mark.parametrize("folder", ["features", "frames", "clips"])
def test_equal_clips_are_named(tmp_path: Path, folder: str) -> None:
    root = plain_tree(tmp_path, folder)
    suffix = {"features": ".npy", "frames": "", "clips": ".mp4"}[folder]
    for source, target in (("c2", "c3"), ("c4", "c12")):
        place = root / folder / f"{target}{suffix}"
        if folder == "frames":
            shutil.rmtree(place)
            shutil.copytree(root / folder / source, place)
        else:
            shutil.copy(root / folder / f"{source}{suffix}", place)
    sheet = sheet_of(root)
    assert sheet.same_contents == (("c2", "c3"), ("c4", "c12"))
    assert sheet.same_contents_across == 1
    (line,) = sheet.warnings()
    assert line == "2 sets of clips are equal, 1 across splits: c2 = c3, c4 = c12"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([0.5] * 6, "joy in val (100% of the clips have one rating"),
        ([0.5, 0.501, 0.502, 0.503, 0.504, 0.505], "joy in val (17% of the clips have one rating"),
        ([0.5, 0.1, 0.5, 0.5, 0.5, 0.5], None),
    ],
)
def test_targets_that_hardly_vary_are_named(
    features: Path, values: list[float], told: str | None
) -> None:
    labels = table(features)
    labels.loc[labels["split"] == "val", "joy"] = values
    write(features, labels)
    found = sheet_of(features).constant_targets
    assert [target.startswith(told or "") for target in found] == [True] * bool(told)


def save(root: Path, clip: str, values: np.ndarray) -> None:
    np.save(root / "features" / f"{clip}.npy", values)


def position(root: Path, labels: pd.DataFrame) -> None:
    """The row number in the recording, from which the ratings follow."""
    labels["joy"] = np.linspace(0, 1, 20)
    for number, clip in enumerate(labels["clip_id"]):
        values = np.load(root / "features" / f"{clip}.npy")
        values[:, 2] = 4 * number + np.arange(4)
        save(root, clip, values)


def label(root: Path, labels: pd.DataFrame) -> None:
    """The rating itself, the other way round."""
    for clip, awe in zip(labels["clip_id"], labels["awe"], strict=True):
        values = np.load(root / "features" / f"{clip}.npy")
        values[:, 0] = 1 - awe
        save(root, clip, values)


def length(root: Path, labels: pd.DataFrame) -> None:
    labels["joy"] = [n % 7 / 7 for n in range(20)]
    for number, clip in enumerate(labels["clip_id"]):
        save(root, clip, np.random.default_rng(number).random((2 + number % 7, 6)))


LEAKS = {position: ("column 3", "joy", 1), label: ("column 1", "awe", -1),
         length: ("number of steps", "joy", 1)}  # fmt: skip


@pytest.mark.parametrize("leak", LEAKS)
def test_columns_that_give_the_rating_away_are_named(features: Path, leak) -> None:
    labels = table(features)
    leak(features, labels)
    write(features, labels)
    (found,) = sheet_of(features).leaks
    column, target, sign = LEAKS[leak]
    assert found == Leak(column, target, pytest.approx(sign, abs=1e-6))


def test_bad_headers_end_a_search_before_it_computes(tmp_path: Path) -> None:
    root = plain_tree(tmp_path, "clips")
    assert check_headers(read_clips(root)) == []
    for number in (3, 11, 17):
        (root / "clips" / f"c{number}.mp4").write_bytes(b"nothing")
    (line,) = check_headers(read_clips(root))
    assert line.startswith("3 of 20 clips that were tried cannot be read: c3 (")
    for number in range(10, 16):
        (root / "clips" / f"c{number}.mp4").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"val: none of 6 clips can be read: c10 \("):
        check_headers(read_clips(root))


@pytest.mark.slow
def test_the_command_prints_the_sheet(features: Path, tmp_path: Path) -> None:
    labels = table(features)
    labels.loc[10, "group"] = "person0"
    write(features, labels)
    shutil.copy(features / "features" / "c0.npy", features / "features" / "c15.npy")
    line = ["--data", features, "--check", "--results", tmp_path / "results"]
    done = command("extract", *line)
    assert done.returncode == 0, done.stderr
    for expected in (
        "20 clips (features), 10 persons; targets: joy, awe",
        "val: 6 clips, 6 rated, 6 with a file, 4 persons",
        "steps per clip: 4 to 4, median 4",
        "files features: 20 clips, 80 steps, 6 columns without names",
        "1 persons have clips in several splits: person0 (train, val)",
        "1 sets of clips are equal, 1 across splits: c0 = c15",
    ):
        assert expected in done.stdout
    told = json.loads(command("extract", *line, "--json").stdout)
    assert told["splits"]["test"] == {"clips": 4, "rated": 4, "with_file": 4, "persons": 2}
    assert told["same_contents"] == [["c0", "c15"]]
    assert command("extract", *line, "--strict").returncode == 1
