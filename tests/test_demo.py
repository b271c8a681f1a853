"""Synthetic clips: seeded, whole, and moved by the action units they are rated by."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.clips.demo import Demo, Plan, ensure_demo
from harness.clips.drawing import UNITS, draw_faces, draw_identity
from harness.clips.layouts import EMOTIONS, read_clips
from harness.clips.reactions import Episode, draw_ratings, intensity, unit_curves
from harness.clips.video import sampled_frames

SMALL = Plan(clips=(3, 2, 2), faces=(8, 8), frames=8)


def test_labels_have_the_real_form(tiny_demo: Demo) -> None:
    table = pd.read_csv(tiny_demo.root / "data_info.csv", dtype=str)
    assert list(table.columns) == ["File_ID", "Split", *EMOTIONS, "Age", "Country"]
    assert table["File_ID"].str.fullmatch(r"\[\d{5}\]").all()
    labels = table[list(EMOTIONS)].astype(float).to_numpy()
    assert ((labels == 1).sum(axis=1) == 1).all(), "divided by the row's maximum"
    assert (labels >= 0).all()


def test_clips_are_real_video(tiny_demo: Demo) -> None:
    clips = read_clips(tiny_demo.root)
    assert clips.synthetic
    assert len(clips) == 20
    frames = list(sampled_frames(clips.paths[0], [1]))
    assert [index for index, _ in frames] == list(range(31))
    assert frames[0][1].shape == (96, 96, 3)


def test_equal_plans_give_equal_clips(tmp_path: Path) -> None:
    one = ensure_demo(tmp_path / "a", SMALL, processes=1)
    two = ensure_demo(tmp_path / "b", SMALL, processes=2)
    files = sorted(path.relative_to(one.root) for path in one.root.rglob("*") if path.is_file())
    assert len(files) > 20
    for file in files:
        assert (one.root / file).read_bytes() == (two.root / file).read_bytes(), file
    other = ensure_demo(tmp_path / "a", Plan(seed=1, clips=(3, 2, 2), faces=(8, 8), frames=8))
    assert other.root != one.root
    assert other.oracle != one.oracle


def test_what_is_there_is_kept_and_half_is_made_again(tmp_path: Path) -> None:
    demo = ensure_demo(tmp_path, SMALL, processes=1)
    mark, labels = demo.root / "demo.json", demo.root / "data_info.csv"
    before = labels.stat().st_mtime_ns
    ensure_demo(tmp_path, SMALL, processes=1)
    assert labels.stat().st_mtime_ns == before
    mark.unlink()  # as an interrupted run would leave it
    assert ensure_demo(tmp_path, SMALL, processes=1).oracle == demo.oracle
    assert labels.stat().st_mtime_ns != before


def test_two_runs_at_once_both_give_whole_clips(tmp_path: Path) -> None:
    inner: list[Demo] = []

    def start_another(step: str, done: int, total: int) -> None:
        if not inner:
            inner.append(ensure_demo(tmp_path, SMALL, processes=1))

    outer = ensure_demo(tmp_path, SMALL, processes=1, progress=start_another)
    assert inner == [outer]
    assert len(list(outer.root.rglob("*.mp4"))) == sum(SMALL.clips)
    assert [path.name for path in tmp_path.iterdir()] == [outer.root.name]


def test_a_run_broken_off_leaves_nothing_to_be_taken_for_whole(tmp_path: Path) -> None:
    def stop(step: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_demo(tmp_path, SMALL, processes=1, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_everything_says_that_it_is_synthetic(tiny_demo: Demo) -> None:
    assert "synthetic" in (tiny_demo.root / "README.txt").read_text()
    assert json.loads((tiny_demo.root / "demo.json").read_text())["synthetic"] is True


def test_the_oracle_is_good_and_not_perfect(tiny_demo: Demo) -> None:
    assert 0.2 < tiny_demo.oracle["val"] < 1


@pytest.mark.parametrize("unit", UNITS)
def test_each_action_unit_moves_the_face(unit: int) -> None:
    person = draw_identity(np.random.default_rng(0))
    units = np.zeros((2, len(UNITS)))
    units[1, UNITS.index(unit)] = 1
    still, moved = draw_faces(person, units, np.zeros((2, 2)), None).astype(int)
    assert np.abs(moved - still).max() > 25


def test_order_tells_surprise_from_fear() -> None:
    def onsets(emotion: str) -> tuple[int, int]:
        curves = unit_curves([Episode(EMOTIONS.index(emotion), 10, 40, 1.0)], 80)
        brow, jaw = (curves[:, UNITS.index(unit)] for unit in (1, 26))
        return int(np.argmax(brow > 0.1)), int(np.argmax(jaw > 0.1))

    brow, jaw = onsets("Surprise")
    assert brow < jaw
    brow, jaw = onsets("Fear")
    assert jaw < brow


def test_surprise_and_fear_differ_in_order_alone() -> None:
    # An episode in the middle of the clip, so that the clip backwards is the other emotion's.
    fear, surprise = (
        unit_curves([Episode(EMOTIONS.index(emotion), 10, 40, 0.8)], 61)
        for emotion in ("Fear", "Surprise")
    )
    np.testing.assert_allclose(fear[::-1], surprise, atol=1e-12)
    assert np.abs(fear - surprise).max() > 0.5


def test_longer_episodes_rate_higher() -> None:
    short, long = (intensity([Episode(1, 0, frames, 0.8)]) for frames in (16, 45))
    assert long[1] > short[1]


def test_ratings_are_scaled_by_the_row() -> None:
    ratings = draw_ratings(np.random.default_rng(0), np.full(7, 0.5), 50)
    assert (ratings.max(axis=1) == 1).all()
    assert (ratings > 0).all()


def test_annotations_have_the_real_form(tiny_demo_faces: Path) -> None:
    for name, count in (("training", 64), ("validation", 24)):
        lines = (tiny_demo_faces / f"{name}_set_annotations_22.txt").read_text().splitlines()
        assert lines[0] == "image,valence,arousal,expression,aus"
        assert len(lines) == 1 + count
        for line in lines[1:]:
            image, *values = line.split(",")
            assert len(values) == 15
            assert (tiny_demo_faces / "cropped_aligned" / image).is_file()
