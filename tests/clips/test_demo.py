"""Synthetic clips: seeded, whole, seen and heard as their stories say, and rated by them."""

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from harness.clips.demo import Demo, Plan, ensure_demo, story_of
from harness.clips.drawing import UNITS, draw_faces, draw_identity
from harness.clips.expressions import unit_curves
from harness.clips.layouts import read_clips
from harness.clips.stories import (
    BURST_OF,
    BURSTS,
    STREAMS,
    Episode,
    Stories,
    consistent_stories,
    draw_ratings,
    draw_stories,
    expected_rating,
    intensity,
)
from harness.clips.table import EMOTIONS
from harness.clips.video import FPS, sampled_frames
from harness.clips.voices import RATE, draw_sound, draw_voice
from harness.metrics import mean_pcc
from tests.plans import TINY

SMALL = Plan(clips=(3, 4, 4), faces=(8, 8), frames=8)


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
    assert frames[0][1].shape == (64, 64, 3)


def test_equal_plans_give_equal_clips(tmp_path: Path) -> None:
    one = ensure_demo(tmp_path / "a", SMALL, processes=1)
    ensure_demo(tmp_path / "b", SMALL, processes=2)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*")]
    assert len(files) > 30
    for file in files:
        if (tmp_path / "a" / file).is_file():
            same = (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
            assert same, file
    other = ensure_demo(tmp_path / "a", replace(SMALL, seed=1), processes=1)
    assert other.root != one.root
    assert other.annotations != one.annotations
    assert (other.root / "data_info.csv").read_text() != (one.root / "data_info.csv").read_text()


def test_what_is_there_is_kept_and_half_is_made_again(tmp_path: Path) -> None:
    demo = ensure_demo(tmp_path, SMALL, processes=1)
    oracles = read_clips(demo.root).oracles
    mark, labels = demo.root / "demo.json", demo.root / "data_info.csv"
    before = labels.stat().st_mtime_ns
    ensure_demo(tmp_path, SMALL, processes=1)
    assert labels.stat().st_mtime_ns == before
    mark.unlink()  # as an interrupted run would leave it
    assert read_clips(ensure_demo(tmp_path, SMALL, processes=1).root).oracles == oracles
    assert labels.stat().st_mtime_ns != before


def test_two_runs_at_once_both_give_whole_clips(tmp_path: Path) -> None:
    inner: list[Demo] = []

    def start_another(step: str, done: int, total: int) -> None:
        if not inner:
            inner.append(ensure_demo(tmp_path, SMALL, processes=1))

    outer = ensure_demo(tmp_path, SMALL, processes=1, progress=start_another)
    assert inner == [outer]
    assert len(list(outer.root.rglob("*.mp4"))) == sum(SMALL.clips)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted([outer.root.name, outer.annotations.name])


def test_a_run_broken_off_leaves_nothing_to_be_taken_for_whole(tmp_path: Path) -> None:
    def stop(step: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_demo(tmp_path, SMALL, processes=1, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_everything_says_that_it_is_synthetic(tiny_demo: Demo) -> None:
    assert "synthetic" in (tiny_demo.root / "README.txt").read_text()
    assert json.loads((tiny_demo.root / "demo.json").read_text())["synthetic"] is True


def test_oracles_are_given_for_each_stream_split_and_target(tiny_demo: Demo) -> None:
    oracles = read_clips(tiny_demo.root).oracles
    assert tuple(oracles) == STREAMS
    for splits in oracles.values():
        assert tuple(splits) == ("val", "test")
        for values in splits.values():
            assert tuple(values) == EMOTIONS
            assert all(-1 < value < 1 for value in values.values())


def test_each_stream_knows_what_the_other_does_not() -> None:
    rng = np.random.default_rng(0)
    stories = draw_stories(rng, 300)
    labels = draw_ratings(rng, intensity(stories))
    reached = {}
    for stream in STREAMS:
        expected = [expected_rating(rng, stories, clip, stream) for clip in range(len(stories))]
        reached[stream] = mean_pcc(labels, np.stack(expected))
    assert 0.4 < reached["sound"] < reached["picture"] < 0.75
    assert reached["both"] > reached["picture"] + 0.1


def _told(stories: Stories, clip: int) -> tuple[list[Episode], list[tuple[str, float, float]]]:
    """The face of a clip, and kind, length and strength of its bursts."""
    bursts = [
        (BURST_OF[EMOTIONS[e.emotion]], e.frames, e.strength) for e in stories.audible(clip, 90)
    ]
    return [replace(e, begin=0) for e in stories.visible(clip, 90)], bursts


@pytest.mark.parametrize("stream", STREAMS)
def test_an_oracle_averages_stories_that_agree_with_what_its_stream_reveals(stream: str) -> None:
    rng = np.random.default_rng(1)
    for clip in range(20):
        story = draw_stories(np.random.default_rng(clip), 1)
        face, voice = _told(story, 0)
        possible = consistent_stories(rng, story, 0, stream, draws=50)
        hidden = set()
        for draw in range(len(possible)):
            drawn_face, drawn_voice = _told(possible, draw)
            if stream != "sound":
                assert drawn_face == face
            if stream != "picture":
                assert drawn_voice == voice
            hidden.add(str((drawn_face, drawn_voice)))
        if stream != "both":
            assert len(hidden) > 1, "the other stream is left open"


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


def _story(*emotions: str, strength: float = 0.8, length: float = 1.0) -> Stories:
    """One clip that shows these on the face, one a slot; "" is an empty slot."""
    named = [EMOTIONS.index(emotion) if emotion else 0 for emotion in emotions]
    shape = (1, len(emotions))
    return Stories(
        np.array([named]),
        np.array([[int(bool(emotion)) for emotion in emotions]]),
        np.full(shape, strength),
        np.full(shape, length),
        np.zeros(shape),
    )


def _rated(story: Stories, emotion: str) -> float:
    return float(intensity(story)[0, EMOTIONS.index(emotion)])


def test_longer_and_stronger_episodes_rate_higher() -> None:
    long = _rated(_story("Fear", "", ""), "Fear")
    assert long > _rated(_story("Fear", "", "", length=0.6), "Fear")
    assert long > _rated(_story("Fear", "", "", strength=0.5), "Fear")


def test_what_came_before_changes_the_rating() -> None:
    once = _rated(_story("", "", "Amusement"), "Amusement")
    gain = _rated(_story("Amusement", "", "Amusement"), "Amusement") - once
    assert 0 < gain < 0.5 * once, "repeated emotions count less"
    # Contrast: an order effect, with the same emotions in both clips.
    after, before = _story("Disgust", "Amusement", ""), _story("Amusement", "Disgust", "")
    assert _rated(after, "Amusement") > 1.1 * _rated(before, "Amusement")
    assert _rated(before, "Disgust") > 1.1 * _rated(after, "Disgust")


def test_ratings_are_scaled_by_the_row() -> None:
    ratings = draw_ratings(np.random.default_rng(0), np.full((50, 7), 0.5))
    assert (ratings.max(axis=1) == 1).all()
    assert (ratings > 0).all()


def test_the_bursts_of_a_story_are_heard_in_its_film(tiny_demo: Demo) -> None:
    """Level within bursts against level elsewhere, of the decoded sound track."""
    heard = 0
    for number in range(20):
        story = story_of(TINY, number)
        (path,) = tiny_demo.root.glob(f"*/mp4/{number:05d}.mp4")
        sound = _decoded(path)
        # The coder fills its last windows, of 1,024 samples each, with silence.
        assert 0 <= len(sound) - TINY.frames / FPS * RATE < 2048
        inside = np.zeros(len(sound), dtype=bool)
        for episode in story.audible(0, TINY.frames):
            begin, end = (
                round(x / FPS * RATE) for x in (episode.begin, episode.begin + episode.frames)
            )
            inside[begin:end] = True
            assert sound[begin:end].std() > 0.03, "as loud as it is strong"
            heard += 1
        edge = np.convolve(inside, np.ones(2001), "same") > 0  # of the coder's own windows
        if not edge.all():
            assert sound[~edge].std() < 0.01, "nothing is heard between bursts"
    assert heard > 10


def test_bursts_sound_unlike_each_other() -> None:
    """Brightness and roughness separate the kinds, whoever utters them."""
    rng = np.random.default_rng(0)
    centres: dict[str, list[float]] = {kind: [] for kind in BURSTS}
    for _ in range(10):
        voice = draw_voice(rng)
        for emotion, kind in BURST_OF.items():
            episode = Episode(EMOTIONS.index(emotion), 0, FPS, 1.0)
            power = np.abs(np.fft.rfft(draw_sound(rng, voice, [episode], 1.0, FPS))) ** 2
            centres[kind].append(float((power * np.arange(len(power))).sum() / power.sum()))
    assert min(centres["gasp"]) > max(max(centres[kind]) for kind in BURSTS if kind != "gasp")
    assert np.mean(centres["hum"]) < min(np.mean(centres[k]) for k in BURSTS if k != "hum")


def _decoded(path: Path) -> NDArray[np.float32]:
    with av.open(str(path)) as film:
        (stream,) = film.streams.audio
        assert (stream.codec_context.name, stream.rate) == ("aac", RATE)
        frames = [frame.to_ndarray()[0] for frame in film.decode(stream)]
    return np.concatenate(frames)


def test_annotations_have_the_real_form(tiny_demo_faces: Path) -> None:
    for name, count in (("training", 64), ("validation", 24)):
        lines = (tiny_demo_faces / f"{name}_set_annotations_22.txt").read_text().splitlines()
        assert lines[0] == "image,valence,arousal,expression,aus"
        assert len(lines) == 1 + count
        for line in lines[1:]:
            image, *values = line.split(",")
            assert len(values) == 15
            assert (tiny_demo_faces / "cropped_aligned" / image).is_file()
