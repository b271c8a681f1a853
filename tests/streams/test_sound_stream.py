"""The stream of the sound of clips: stored once, with the reasons for what is missing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.clips.demo import Demo
from harness.clips.layouts import read_clips
from harness.clips.sound import sound_blocks
from harness.clips.table import ClipTable, in_order
from harness.encoders.sound.encoder import sound_encoder
from harness.encoders.sound.spectrum import RATE
from harness.errors import InputError
from harness.sampling import EVERY, strides
from harness.streams.extraction import Extractor, extract, sources
from harness.streams.sound import sound_stream
from harness.streams.store import FeatureStore
from tests.networks import SPECIFICATION, Means, small
from tests.sounds import tone, write_sound
from tests.videos import cut, make_uneven, make_video

ENCODER = sound_encoder("mfcc", 0.25)


def table(paths: list[Path | None], sounds: list[Path | None] | None = None) -> ClipTable:
    return ClipTable(
        clip_ids=tuple(f"c{number}" for number in range(len(paths))),
        splits=("train",) * len(paths),
        targets=np.zeros((len(paths), 1), np.float32),
        target_names=("joy",),
        paths=tuple(paths),
        kind="video",
        sounds=None if sounds is None else tuple(sounds),
    )


@pytest.fixture
def clips(tmp_path: Path) -> ClipTable:
    """A sound file, a film without a track, 60 ms, a broken download, a text, no file."""
    (tmp_path / "bad.wav").write_text("no sound")
    noise = np.random.default_rng(0).uniform(-1, 1, 10 * RATE).astype(np.float32)
    films: list[Path | None] = [make_video(tmp_path / "film.mp4", 5)] * 5
    sounds = [
        write_sound(tmp_path / "a.wav", tone(1.0)),
        None,
        write_sound(tmp_path / "short.wav", tone(0.06)),
        cut(write_sound(tmp_path / "cut.wav", noise)),
        tmp_path / "bad.wav",
        None,
    ]
    return table([*films, None], sounds)


def test_clips_in_the_order_of_their_ids_keep_their_sounds() -> None:
    clips = table([None] * 12, [Path(f"{number}.wav") for number in range(12)])
    ordered = in_order(clips).heard()
    assert ordered.clip_ids[:3] == ("c0", "c1", "c10")
    assert set(zip(ordered.clip_ids, ordered.paths, strict=True)) == set(
        zip(clips.clip_ids, clips.heard().paths, strict=True)
    )


def test_each_clip_has_the_steps_of_its_sound(clips: ClipTable, tmp_path: Path) -> None:
    said: list[str] = []
    found = sound_stream(clips, ENCODER, tmp_path / "cache", tell=said.append)
    assert found.stream.counts.tolist() == [4, 0, 1, 20, 0, 0]
    assert found.stream.specification == ENCODER.specification()
    assert not found.stream.sampled
    assert found.stream.positions[:4].tolist() == [0, 1, 2, 3]
    assert found.stream.times is not None
    assert found.stream.times[:5].tolist() == [0, 0.25, 0.5, 0.75, 0]
    assert said[0].startswith("To compute: about ")
    assert "steps of sound of 40 columns" in said[0]


def test_what_is_missing_has_its_reason(clips: ClipTable, tmp_path: Path) -> None:
    for _ in range(2):  # computed, then stored
        gaps = sound_stream(clips, ENCODER, tmp_path / "cache").gaps
        reasons = {gap.clip_id: gap.problem for gap in gaps.clips}
        assert list(reasons) == ["c1", "c3", "c4", "c5"]
        assert reasons["c1"].endswith("film.mp4: has no sound track")
        assert "ends at 5.0 s, but the file announces 10.0 s" in reasons["c3"]
        assert "bad.wav: cannot be opened as wav" in reasons["c4"]
        assert reasons["c5"] == "no sound file"
        assert gaps.lines(" and use others")[0].startswith("3 clips have no sound and use others:")


def test_a_second_run_computes_nothing_and_a_new_sound_alone(
    clips: ClipTable, tmp_path: Path
) -> None:
    first = sound_stream(clips, ENCODER, tmp_path / "cache")
    again = sound_stream(clips, ENCODER, tmp_path / "cache")
    assert (first.extraction.clips, again.extraction.clips) == (6, 0)
    assert again.stream.digest(clips.clip_ids) == first.stream.digest(clips.clip_ids)
    write_sound(tmp_path / "a.wav", tone(2.0, pitch=300))
    changed = sound_stream(clips, ENCODER, tmp_path / "cache")
    assert changed.extraction.clips == 1
    assert changed.stream.counts.tolist() == [8, 0, 1, 20, 0, 0]


def test_a_change_between_equal_beginnings_and_ends_is_noticed(tmp_path: Path) -> None:
    sound = np.zeros(10 * RATE, np.float32)
    films: list[Path | None] = [None]
    before = sources(table(films, [write_sound(tmp_path / "a.wav", sound)]).heard())
    sound[5 * RATE :][:100] = 0.5
    assert sources(table(films, [write_sound(tmp_path / "a.wav", sound)]).heard()) != before


def test_order_and_threads_change_nothing(tiny_demo: Demo, tmp_path: Path) -> None:
    clips = read_clips(tiny_demo.root)
    found = sound_stream(clips, ENCODER, tmp_path).stream
    for row in (0, 7, 19):
        path = clips.paths[row]
        assert path is not None
        expected = ENCODER(sound_blocks(path, RATE))
        steps = slice(found.offsets[row], found.offsets[row + 1])
        np.testing.assert_array_equal(found.values[steps], expected)


def test_no_sound_at_all_is_an_error_with_the_reasons(tmp_path: Path) -> None:
    silent = table([make_video(tmp_path / "film.mp4", 5)])
    with pytest.raises(InputError, match=r"none of the clips has sound: .* has no sound track"):
        sound_stream(silent, ENCODER, tmp_path / "cache")


def test_an_interruption_ends_the_threads(clips: ClipTable, tmp_path: Path) -> None:
    def interrupt(step: str, done: int, total: int) -> None:
        assert (step, total) == ("sound", 6)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sound_stream(clips, ENCODER, tmp_path / "cache", progress=interrupt)
    again = sound_stream(clips, ENCODER, tmp_path / "cache")
    assert 0 < again.extraction.kept < 6, "what was done is kept"


def test_the_store_keeps_the_times_of_frames(tmp_path: Path) -> None:
    films = table([make_uneven(tmp_path / "v.mp4", [0, 4, 50, 51, 200])])
    keys = list(zip(films.clip_ids, sources(films), strict=True))
    extractor = Extractor([small(Means())], torch.device("cpu"))
    for numbers in ([2], [1]):
        store = FeatureStore(tmp_path / "store", SPECIFICATION)
        extract(films, lambda: extractor, [store], [strides(*numbers)])
    for each in (store, FeatureStore(tmp_path / "store", SPECIFICATION)):
        assert each.load(keys, EVERY).times == pytest.approx([0, 0.04, 0.5, 0.51, 2.0])
        assert each.load(keys, strides(2)).times == pytest.approx([0, 0.5, 2.0])
