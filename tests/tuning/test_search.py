"""The main job, from mp4 files to predictions.csv, through the commands."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.trial import TrialState
from safetensors import safe_open

import harness
from harness.clips.demo import Demo
from harness.predictions import read_clips, read_predictions
from harness.spaces import SPACES
from tests.commands import HANGS, command
from tests.searches import trials_of
from tests.trees import authors_tree, muse_tree, plain_tree, release_tree

SMOKE = SPACES / "smoke.toml"
GRID = """
[budget]
trials = 4
epochs = 3
[fixed]
stride = 1
[parameters.layers]
type = "categorical"
choices = [1, 2]
[parameters.loss]
type = "categorical"
choices = ["ccc", "pcc"]
"""
# One step, after which every intensity is 0 or 1.
STEEP = """
[budget]
trials = 2
epochs = 2
[fixed]
stride = 5
[parameters.lr]
type = "categorical"
choices = [1e30, 1e31]
"""
# A decay of 1e6 at this learning rate sets every weight to zero in each step.
DECAYED = """
[budget]
trials = 2
epochs = 6
[fixed]
stride = 1
lr = 1e-6
[parameters.weight_decay]
type = "categorical"
choices = [0.001, 1e6]
"""


def wait_for_trials(predictions: Path, process: subprocess.Popen[Any]) -> None:
    """Until a running search has finished two."""
    deadline = time.monotonic() + HANGS
    while len(list(predictions.glob("[0-9]*"))) < 2:
        assert process.poll() is None, "the search ended before it was to"
        assert time.monotonic() < deadline, "no trial is finished"
        time.sleep(0.02)


@pytest.mark.slow
def test_from_video_to_submission(tmp_path: Path, tiny_demo: Demo, weights: Path) -> None:
    base = ["--results", tmp_path, "--study", "s"]
    data = ["--data", tiny_demo.root, "--weights", weights]
    search = [*base, *data, "--space", SMOKE]

    done = command("search", *search)
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" in done.stdout
    assert done.stderr == ""
    found = trials_of(tmp_path, "s")
    states = [trial.state for trial in found]
    assert states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED) == 3
    assert TrialState.RUNNING not in states
    assert all(trial.intermediate_values for trial in found)

    complete = [trial for trial in found if trial.state == TrialState.COMPLETE]
    index = read_clips(tmp_path / "s" / "clips.parquet")
    for trial in complete:
        file = tmp_path / "s" / "predictions" / f"{trial.number:05d}.parquet"
        info, values = read_predictions(file, index, "val")
        assert info.val_pcc == trial.value
        assert values.shape == (6, 7)
        with safe_open(str(file).replace("predictions", "heads")[:-8] + ".safetensors", "np") as f:
            assert json.loads(f.metadata()["config"]) == info.config

    again = command("search", *search)
    assert "The study is complete: 3 trials" in again.stdout
    assert command("search", *search, "--trials", 5).returncode == 0
    more = trials_of(tmp_path, "s")
    assert [t.number for t in more] == list(range(len(more)))
    assert sum(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in more) == 5
    assert [t.value for t in more[: len(found)]] == [t.value for t in found], "kept as they were"

    combined = command("ensemble", "--results", tmp_path, "--top", 2)
    assert combined.returncode == 0, combined.stderr
    with (tmp_path / "s" / "ensembles" / "mean-top2" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = pd.read_csv(tiny_demo.root / "data_info.csv", dtype=str)
    assert [r["File_ID"] for r in rows] == sorted(table["File_ID"][table["Split"] == "Test"])
    assert all(0 <= float(value) <= 1 for row in rows for value in list(row.values())[1:])


@pytest.mark.slow
def test_folds_keep_predictions_of_train_and_belong_to_the_study(
    tmp_path: Path, tiny_demo: Demo, weights: Path
) -> None:
    data = ["--data", tiny_demo.root, "--weights", weights, "--space", SMOKE]
    search = [*data, "--results", tmp_path, "--study", "s", "--scheduler", "none", "--trials", 1]
    done = command("search", *search, "--folds", 3)
    assert done.returncode == 0, done.stderr
    index = read_clips(tmp_path / "s" / "clips.parquet")
    (file,) = (tmp_path / "s" / "predictions").glob("*.parquet")
    info, values = read_predictions(file, index, "train")
    assert info.early_stop_split == "folds"
    assert values.shape == (10, 7)
    study = harness.load_study(tmp_path / "s")
    np.testing.assert_array_equal(study.predictions("00000", "train"), values)
    other = command("search", *search, "--folds", 2)
    assert other.returncode == 1
    assert "was begun with 3 parts" in other.stderr
    assert "was begun with folds, now it is val" in command("search", *search).stderr


@pytest.mark.slow
def test_a_killed_search_goes_on(tmp_path: Path, tiny_demo: Demo, weights: Path) -> None:
    search = ["--results", tmp_path, "--study", "s", "--data", tiny_demo.root]
    search += ["--weights", weights, "--space", SMOKE, "--epochs", 10, "--scheduler", "none"]
    line = [sys.executable, "-m", "harness.search", *map(str, search), "--trials", "500"]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, start_new_session=True)
    predictions = tmp_path / "s" / "predictions"
    wait_for_trials(predictions, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {path.name: path.read_bytes() for path in predictions.glob("[0-9]*")}
    assert 2 <= len(before) < 500

    budget = len(before) + 4
    done = command("search", *search, "--trials", budget)
    assert done.returncode == 0, done.stderr
    found = trials_of(tmp_path, "s")
    states = [trial.state for trial in found]
    assert states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED) == budget
    assert TrialState.RUNNING not in states
    complete = {f"{t.number:05d}.parquet" for t in found if t.state == TrialState.COMPLETE}
    assert complete <= {path.name for path in predictions.glob("[0-9]*")}
    for trial in found:
        if trial.state == TrialState.FAIL:
            assert trial.user_attrs["reason"] == "the search was cut off"
    for name in complete & set(before):
        assert (predictions / name).read_bytes() == before[name], "no finished trial is redone"


@pytest.mark.slow
def test_an_interrupted_search_says_how_to_go_on(
    tmp_path: Path, tiny_demo: Demo, weights: Path
) -> None:
    search = ["--results", tmp_path, "--study", "s", "--data", tiny_demo.root]
    search += ["--weights", weights, "--space", SMOKE, "--trials", 500]
    line = [sys.executable, "-m", "harness.search", *map(str, search)]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_trials(tmp_path / "s" / "predictions", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == 130, err
    assert "of 500 trials of the search are kept. Continue: python -m harness.search" in out
    assert "Traceback" not in err
    assert TrialState.RUNNING not in [trial.state for trial in trials_of(tmp_path, "s")]


@pytest.mark.slow
@pytest.mark.parametrize("budget", [2, 30])
def test_a_hopeless_study_stops_and_says_why(
    tmp_path: Path, tiny_demo: Demo, weights: Path, budget: int
) -> None:
    space = tmp_path / "steep.toml"  # one step, and every intensity is 0 or 1 for good
    steep = SMOKE.read_text().replace("low = 0.001\nhigh = 0.01", "low = 1e30\nhigh = 1e31")
    space.write_text(steep)
    done = command(
        "search", "--data", tiny_demo.root, "--weights", weights, "--space", space,
        "--trials", budget, "--results", tmp_path, "--study", "s", "--scheduler", "none",
    )  # fmt: skip
    assert done.returncode == 1
    expected = "no trial is complete; 2 of 2" if budget == 2 else "trials failed one after another"
    assert expected in done.stderr
    assert " since epoch 1" in done.stdout
    found = trials_of(tmp_path, "s")
    assert {trial.state for trial in found} == {TrialState.PRUNED}
    assert len(found) < 12, "the budget is not burnt"


@pytest.mark.slow
def test_workers_that_the_memory_monitor_kills_are_retried_by_the_next_search(
    tmp_path: Path,
) -> None:
    space = tmp_path / "grid.toml"
    space.write_text(GRID)
    search = ["--data", plain_tree(tmp_path, "features"), "--space", space, "--sampler", "grid"]
    search += ["--results", tmp_path, "--study", "s", "--concurrency", 2]
    full = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "200"}
    for _ in range(2):
        done = command("search", *search, environment=full)
        assert done.returncode == 1
        assert "trials in a row were lost to the machine" in done.stderr
        assert "ran out of memory: " in done.stderr, "with the figure"
        assert "GB used / " in done.stderr
    found = trials_of(tmp_path, "s")
    assert {trial.state for trial in found} == {TrialState.FAIL}
    if len(os.sched_getaffinity(0)) > 1:
        assert "from now on, trials at the same time: 1" in done.stdout
    done = command("search", *search)
    assert done.returncode == 0, done.stderr
    assert [t.state for t in trials_of(tmp_path, "s")].count(TrialState.COMPLETE) == 4


@pytest.mark.slow
def test_points_that_are_abandoned_are_an_error(
    tmp_path: Path, tiny_demo: Demo, weights: Path
) -> None:
    space = tmp_path / "steep.toml"
    space.write_text(STEEP)
    for _ in range(2):  # the second finds nothing to retry
        done = command(
            "search", "--data", tiny_demo.root, "--weights", weights, "--space", space,
            "--sampler", "grid", "--results", tmp_path, "--study", "s", "--scheduler", "none",
        )  # fmt: skip
        assert done.returncode == 1, done.stdout
        assert "no trial is complete; 2 of 2 finished trials ended early" in done.stderr


@pytest.mark.slow
def test_a_dead_trial_ends_after_two_epochs_with_its_reason(tmp_path: Path) -> None:
    space = tmp_path / "decayed.toml"
    space.write_text(DECAYED)
    place = ["--results", tmp_path, "--study", "s"]
    done = command("search", "--data", plain_tree(tmp_path, "features"), "--space", space,
                   "--sampler", "grid", "--scheduler", "none", *place)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 complete, 1 pruned (1 dead), 0 failed" in done.stdout
    alive, dead = sorted(trials_of(tmp_path, "s"), key=lambda trial: trial.params["weight_decay"])
    assert (alive.state, dead.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    assert dead.user_attrs["reason"] == "predicts a constant since epoch 1"
    assert dead.intermediate_values == {1: -1.0, 2: -1.0}
    assert dead.user_attrs["seconds"] > 0
    assert [file.stem for file in (tmp_path / "s" / "predictions").glob("*.parquet")] == [
        f"{alive.number:05d}"
    ]
    said = f"1 of 2 finished trials ended early, because each predicts a constant: {dead.number}"
    assert said in done.stdout
    assert "predicts a constant since epoch 1" in (tmp_path / "s" / "report.html").read_text()


@pytest.mark.slow
def test_ratings_that_cannot_be_scored_are_said_before_a_trial_runs(
    tmp_path: Path, tiny_demo: Demo, weights: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(tiny_demo.root, root, ignore=shutil.ignore_patterns("annotations"))
    table = pd.read_csv(root / "data_info.csv", dtype=str)
    table.loc[table["Split"] == "Val", "Fear"] = "0.5"
    table.to_csv(root / "data_info.csv", index=False)
    done = command(
        "search", "--data", root, "--weights", weights, "--space", SMOKE, "--results", tmp_path
    )
    assert done.returncode == 1
    assert "val: all ratings of Fear are equal" in done.stderr


LAYOUTS: dict[str, tuple[Callable[[Path], Path], str, list[str]]] = {
    "release": (release_tree, "frames", []),
    "crops": (lambda root: authors_tree(root, "crops"), "frames", []),
    "features": (lambda root: authors_tree(root, "features"), "features", []),
    "muse": (muse_tree, "features", ["--features", "VGGFace2"]),
    "own-frames": (lambda root: plain_tree(root, "frames"), "frames", []),
    "own-clips": (lambda root: plain_tree(root, "clips"), "frames", ["--crop", "none"]),
    "own-features": (lambda root: plain_tree(root, "features"), "features", []),
    "one-target": (lambda root: plain_tree(root, "features", ("joy",)), "features", []),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_goes_all_the_way(tmp_path: Path, weights: Path, name: str) -> None:
    make, brings, options = LAYOUTS[name]
    (tmp_path / "data").mkdir()
    line = ["--data", make(tmp_path / "data"), *options, "--results", tmp_path]
    stored = ["--stride", 5, "--stride", 10]
    if brings == "frames":
        line += ["--weights", weights]
    extracted = command("extract", *line, *stored)
    assert extracted.returncode == 0, extracted.stderr
    said = {"frames": "20 clips computed", "features": " clips have precomputed features"}
    assert said[brings] in extracted.stdout
    line += ["--space", SMOKE, "--study", "s", "--trials", 2, "--scheduler", "none"]
    done = command("search", *line)
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" not in done.stdout
    nobody = "1 clips have no frame and are predicted by train's mean: [00019] (no face in any"
    assert (nobody in done.stdout) is (name == "release")
    nothing = {"frames": "0 clips computed (0 frames), 20", "features": "0 clips read (0 steps), "}
    assert f"Features: {nothing[brings]}" in done.stdout
    combined = command("ensemble", "--results", tmp_path, "--top", 2)
    assert combined.returncode == 0, combined.stderr
    with (tmp_path / "s" / "ensembles" / "mean-top2" / "predictions.csv").open() as file:
        header, *rows = csv.reader(file)
    index = read_clips(tmp_path / "s" / "clips.parquet")
    assert header == ["File_ID", *index.target_names]
    assert [row[0] for row in rows] == sorted(index.ids("test"))
    if name == "release":
        with (tmp_path / "s" / "clips-with-gaps.csv").open() as file:
            gaps = {row["clip_id"]: row for row in csv.DictReader(file)}
        assert list(gaps) == ["[00019]"]
        assert gaps["[00019]"]["problem"] == "no face in any of its 3 frames"
        train = np.nanmean(index.ratings[index.rows("train")], axis=0)
        np.testing.assert_allclose([float(v) for v in rows[-1][1:]], train, atol=1e-5)


def test_extract_then_extract_again(tmp_path: Path, tiny_demo: Demo, weights: Path) -> None:
    line = ["--data", tiny_demo.root, "--weights", weights, "--results", tmp_path]
    first = command("extract", *line, "--stride", 15)
    assert "20 clips computed (60 frames" in first.stdout, first.stderr
    second = command("extract", *line, "--stride", 15)
    assert "0 clips computed (0 frames), 20 were stored" in second.stdout
    more = command("extract", *line, "--stride", 15, "--stride", 10)
    assert "20 clips computed (40 frames" in more.stdout, "10 and 20; 0, 15 and 30 were there"


def test_clips_that_give_nothing_are_all_listed_and_strictly_an_error(
    tmp_path: Path, weights: Path
) -> None:
    (tmp_path / "data").mkdir()
    root = plain_tree(tmp_path / "data", "clips")
    broken = [root / "clips" / f"c{number}.mp4" for number in (1, 4, 6, 11, 17)]
    for path in broken:
        path.write_bytes(b"nothing, with a comma")
    line = ["--data", root, "--weights", weights, "--results", tmp_path, "--crop", "none"]
    done = command("extract", *line, "--stride", 5)
    assert done.returncode == 0, done.stderr
    assert "5 clips have no frame: c1 (" in done.stdout
    assert "and 2 more" in done.stdout
    file = tmp_path / ".cache" / "data-gaps.csv"
    assert f"All of these clips: {file}" in done.stdout
    listed = pd.read_csv(file)
    assert list(listed.columns) == ["clip_id", "frames", "frames_without_face", "problem"]
    assert listed["clip_id"].tolist() == [path.stem for path in broken]
    assert listed["problem"].str.contains("cannot be opened").all()

    strictly = command("extract", *line, "--stride", 5, "--strict")
    assert strictly.returncode == 1
    assert strictly.stderr.startswith("error: c1: ")
    assert strictly.stderr.rstrip().endswith("and 2 more (--strict; without it this is a warning)")
    for path in broken:
        shutil.copy(root / "clips" / "c0.mp4", path)
    mended = command("extract", *line, "--stride", 5, "--strict")
    assert "5 clips computed (15 frames" in mended.stdout, "what was well is kept"
    assert not file.exists()


BAD = [
    (["--data", "/nowhere", "--weights", "WEIGHTS"], "/nowhere: no such folder"),
    (["--data", "DATA"], "holds video: give a published MTL-DAN checkpoint"),
    (["--data", "DATA", "--weights", "/none"], "/none: no such weight file"),
    (["--space", "/none.toml"], "/none.toml: no such search space"),
    (["--data", "DATA", "--weights", "BROKEN"], "broken.pth: damaged or no weight file"),
    (["--study", "../up"], "expected a plain folder name"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_mistakes_are_one_line(
    tmp_path: Path, tiny_demo: Demo, weights: Path, arguments: list[str], message: str
) -> None:
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"nothing")
    names = {"DATA": str(tiny_demo.root), "WEIGHTS": str(weights), "BROKEN": str(broken)}
    results = tmp_path / "results"
    line = [names.get(argument, argument) for argument in arguments]
    done = command("search", *line, "--results", results)
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not list(results.glob("*/study.json")), "nothing half-written"


@pytest.mark.slow
def test_a_deterministic_search_is_the_same_again(tmp_path: Path) -> None:
    data = plain_tree(tmp_path, "features")
    found = []
    for name in ("first", "second"):
        done = command(
            "search", "--data", data, "--space", SMOKE, "--trials", 14, "--results", tmp_path,
            "--study", name, "--deterministic", "--concurrency", 2,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found.append([(t.params, t.value) for t in trials_of(tmp_path, name)])
    assert found[0] == found[1]
    assert len(found[0]) == 14
