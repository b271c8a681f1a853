"""Features without information, in files whose bookkeeping columns tell the ratings.

The clips are cut out of one recording, over which the ratings drift. So the row number, the frame
and the time of a clip predict its ratings; none of them may become a feature.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.clips.layouts import read_clips, read_new_clips
from harness.dataset import Dataset
from harness.ensembles.intervals import Interval, resample
from harness.predictions import read_clips as read_study_clips
from harness.predictions import read_predictions
from harness.streams.precomputed import read_foreign
from harness.trials.trial import run_trial
from tests.commands import command
from tests.datasets import CONFIG

CLIPS, STEPS = 160, 6
Table = pd.DataFrame


def position(clip: int) -> np.ndarray:
    """Of the steps of a clip, in the recording."""
    return clip * STEPS + np.arange(STEPS)


def pandas_index(table: Table, clip: int) -> Table:
    return table.set_index(position(clip))


def openface(table: Table, clip: int) -> Table:
    where = position(clip)
    head = {"frame": where + 1, " face_id": 0, " timestamp": where / 30, " confidence": where / 1e3}
    return pd.DataFrame(head).assign(**{" success": 1}).join(table.add_prefix(" "))


def muse(table: Table, clip: int) -> Table:
    head = pd.DataFrame({"timestamp": position(clip) * 500, "File_ID": f"[{clip:05d}]"})
    return head.assign(segment_id=clip).join(table)


def mexca(table: Table, clip: int) -> Table:
    return pd.DataFrame({"frame": position(clip), "time": position(clip) / 25}).join(table)


def opensmile(table: Table, clip: int) -> Table:
    where = position(clip)
    return pd.DataFrame({"name": "'x'", "frameIndex": where, "frameTime": where / 100}).join(table)


def pyfeat(table: Table, clip: int) -> Table:
    where = position(clip)
    tail = {"input": "recording.mp4", "frame": where, "FaceScore": 1 - where / 1e3}
    return table.join(pd.DataFrame(tail))


def german(table: Table, clip: int) -> Table:
    """Names of no list: a time with uneven steps, and one beyond the digits of float32."""
    where = position(clip)
    head = {"Zeit": where / 25 + where % 2 / 100, "Uhrzeit": 1.7e12 + 40 * where}
    return pd.DataFrame(head).join(table)


TOOLS: list[Callable[[Table, int], Table]] = [
    pandas_index, openface, muse, mexca, opensmile, pyfeat, german,
]  # fmt: skip


def plain(table: Table, clip: int) -> Table:
    return table


def write_recording(root: Path, tool: Callable[[Table, int], Table], clips: int = CLIPS) -> Path:
    """A plain folder of features: noise, with the columns that a tool adds.

    Args:
        clips: with files, from the beginning of the recording.
    """
    rng = np.random.default_rng(0)
    (root / "features").mkdir(parents=True)
    drift = np.linspace(0.05, 0.95, CLIPS)
    labels = pd.DataFrame({"clip_id": [f"c{n}" for n in range(CLIPS)]})
    labels["split"] = rng.permutation(["train"] * 80 + ["val"] * 40 + ["test"] * 40)
    labels["joy"], labels["awe"] = drift, drift**2
    labels.to_csv(root / "clips.csv", index=False)
    for clip in range(clips):
        table = pd.DataFrame(rng.standard_normal((STEPS, 3)), columns=["a", "b", "c"])
        written = tool(table, clip)
        index = tool is pandas_index
        written.to_csv(root / "features" / f"c{clip}.csv", index=index)
    return root


def score(truth: np.ndarray, predicted: np.ndarray) -> Interval:
    """The 95 % interval of the mean PCC on test."""
    groups = np.arange(len(truth))
    models = predicted.T[np.newaxis].astype(np.float64)
    found = resample(truth.T.astype(np.float64), models, groups, 0, 2000).score(0)
    assert found is not None
    return found


def interval_of(root: Path) -> Interval:
    """Of a trial on the features of a folder."""
    clips = read_clips(root)
    stream, *_ = read_foreign(clips)
    data = Dataset(
        clips.clip_ids, clips.splits, clips.targets, clips.target_names, streams={"files": stream}
    )
    config = CONFIG.changed(epochs=10, patience=10, lr=0.02, pooling="mean")
    predicted = run_trial(config, data).predictions["test"]
    return score(data.ratings[data.rows("test")], predicted)


@pytest.mark.parametrize("tool", TOOLS)
def test_nothing_but_the_noise_is_read(tmp_path: Path, tool: Callable[[Table, int], Table]) -> None:
    found, expected = (
        read_foreign(read_new_clips(write_recording(tmp_path / each.__name__, each, 12)))[0]
        for each in (tool, plain)
    )
    assert found.specification == expected.specification
    np.testing.assert_array_equal(found.values, expected.values)


def test_noise_scores_nothing(tmp_path: Path) -> None:
    found = interval_of(write_recording(tmp_path, plain))
    assert found.low < 0 < found.high


def test_a_feature_that_tells_the_position_would_score(tmp_path: Path) -> None:
    """Otherwise the test above could not fail."""
    found = interval_of(
        write_recording(tmp_path, lambda table, clip: table.assign(level=clip / 1e3))
    )
    assert found.low > 0.8


@pytest.mark.slow
def test_a_noise_study_through_the_commands(tmp_path: Path) -> None:
    root = write_recording(tmp_path / "data", openface)
    space = tmp_path / "space.toml"
    space.write_text(
        "[budget]\ntrials = 2\nepochs = 10\n[fixed]\nhidden = 8\nhead_width = 8\nbatch_size = 16\n"
        '[parameters.lr]\ntype = "float"\nlow = 0.005\nhigh = 0.02\n'
    )
    base = ["--study", "noise", "--results", tmp_path]
    done = command("search", "--data", root, "--space", space, "--scheduler", "none", *base)
    assert done.returncode == 0, done.stderr
    left_out = (
        "frame (numbers the frames), face_id (names the face), timestamp (times the frames), "
    )
    left_out += "confidence (describes the row), success (describes the row)"
    assert f"columns that are not used as features: {left_out}" in done.stdout
    assert "files features: 160 clips, 960 steps, 3 columns, a to c" in done.stdout
    page = (tmp_path / "noise" / "report.html").read_text()
    for text in ("timestamp: times the frames", "confidence: describes the row", "3 columns, a to"):
        assert text in page
        assert text in (tmp_path / "noise" / "study.json").read_text()
    assert command("ensemble", "--top", 2, *base).returncode == 0
    folder = tmp_path / "noise"
    index = read_study_clips(folder / "clips.parquet")
    file = folder / "ensembles" / "mean-top2" / "predictions.parquet"
    _, predicted = read_predictions(file, index, "test")
    found = score(index.ratings[index.rows("test")], predicted)
    assert found.low < 0 < found.high
