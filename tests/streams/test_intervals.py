"""Frames by an interval of time: from files to the store, and through the commands."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import harness
from harness.clips.demo import Demo
from harness.clips.faces import load_detector
from harness.clips.layouts import read_clips
from harness.clips.table import ClipTable
from harness.clips.video import write_video
from harness.errors import InputError
from harness.sampling import EVERY, Sampling, strides
from harness.streams.contents import sources
from harness.streams.estimate import estimate
from harness.streams.extraction import Extraction, Extractor, extract
from harness.streams.store import FeatureStore
from tests.commands import command
from tests.networks import SPECIFICATION, Means, save_tiny, small
from tests.photographs import film
from tests.trees import plain_tree
from tests.videos import make_uneven

HUNDREDTHS = [0, 4, 10, 49, 51, 99, 130, 131, 350, 351, 399, 401]


def run(
    clips: ClipTable, store: FeatureStore, *samplings: Sampling, faces: bool = False
) -> Extraction:
    detector = load_detector() if faces else None
    extractor = Extractor([small(Means())], torch.device("cpu"), detector)
    return extract(clips, lambda: extractor, [store], [samplings])[0]


def only(clips: ClipTable, *rows: int) -> ClipTable:
    return dataclasses.replace(
        clips,
        clip_ids=tuple(clips.clip_ids[row] for row in rows),
        splits=tuple(clips.splits[row] for row in rows),
        targets=clips.targets[list(rows)],
        paths=tuple(clips.paths[row] for row in rows),
    )


def keys(clips: ClipTable) -> list[tuple[str, str]]:
    return list(zip(clips.clip_ids, sources(clips), strict=True))


@pytest.fixture
def uneven(tmp_path: Path) -> ClipTable:
    """A film of uneven times, and one of 12 frames at 30 a second."""
    clips = only(read_clips(plain_tree(tmp_path, "clips")), 0, 1)
    make_uneven(tmp_path / "clips" / "c0.mp4", HUNDREDTHS)
    return clips


def test_a_film_has_a_frame_for_each_interval(tmp_path: Path, uneven: ClipTable) -> None:
    store = FeatureStore(tmp_path / "store", SPECIFICATION)
    assert run(uneven, store, Sampling(interval=0.5)).frames == 5 + 1
    loaded = FeatureStore(tmp_path / "store", SPECIFICATION).load(
        keys(uneven), [Sampling(interval=0.5)]
    )
    # At 0, 0.51, 1.30, 3.50 and 4.01 s; no frame begins from 1.5 to 3.5 s.
    assert loaded.positions.tolist() == [0, 4, 6, 8, 11, 0]


def test_what_is_stored_serves_longer_intervals_and_changes_nothing(
    tmp_path: Path, uneven: ClipTable
) -> None:
    quarter, half, other = (Sampling(interval=seconds) for seconds in (0.25, 0.5, 0.4))
    grown, whole, every = (FeatureStore(tmp_path / name, SPECIFICATION) for name in "abc")
    run(uneven, grown, quarter)
    assert run(uneven, grown, half).kept == 2, "every second multiple"
    assert run(uneven, grown, other).clips == 2
    assert run(uneven, grown, *strides(5)).clips == 2
    run(uneven, whole, half, other)
    run(uneven, every, *EVERY)
    assert run(uneven, every, half, other, quarter).kept == 2, "each frame is stored"
    for sampling in (half, other):
        loads = [each.load(keys(uneven), [sampling]) for each in (grown, whole, every)]
        for each in loads:
            np.testing.assert_array_equal(each.positions, loads[0].positions)
            np.testing.assert_allclose(each.values, loads[0].values, atol=1e-6)
        # A trial that shares its stream with others reads the same frames.
        shared = grown.load(keys(uneven), [*strides(5), quarter, half, other])
        assert shared.positions[shared.chosen(sampling)].tolist() == loads[0].positions.tolist()


def test_a_frame_without_a_face_leaves_its_interval_to_the_next(tmp_path: Path) -> None:
    clips = only(read_clips(plain_tree(tmp_path, "clips")), 1)
    write_video(tmp_path / "clips" / "c1.mp4", film(11))  # no face in the frames 4 and 9
    stores = [FeatureStore(tmp_path / name, SPECIFICATION) for name in "ab"]
    sampling = Sampling(interval=4 / 30)
    run(clips, stores[0], sampling, faces=True)
    run(clips, stores[1], *EVERY, faces=True)
    for store in stores:
        assert store.load(keys(clips), [sampling]).positions.tolist() == [0, 5, 8]
    assert stores[0].faceless(keys(clips), [sampling]) == {"c1": 1}


def images(root: Path, names: list[str]) -> ClipTable:
    clips = only(read_clips(plain_tree(root, "frames")), 0)
    folder = root / "frames" / "c0"
    for file in folder.iterdir():
        file.unlink()
    for shade, name in enumerate(names):
        Image.new("RGB", (8, 8), (40 * shade, 0, 0)).save(folder / name)
    return clips


def test_images_are_sampled_by_the_times_in_their_names(tmp_path: Path) -> None:
    clips = images(tmp_path, ["0.0.png", "0.25.png", "0.5.png", "0.7.png", "2.25.png", "2.5.png"])
    (tmp_path / "frames" / "c0" / "0.5.png").write_bytes(b"no image")
    store, half = FeatureStore(tmp_path / "store", SPECIFICATION), Sampling(interval=0.5)
    assert estimate(clips, [0], [half], SPECIFICATION).frames == 4
    run(clips, store, half)
    assert store.load(keys(clips), [half]).positions.tolist() == [0, 3, 4, 5]
    assert "0.5.png" in store.problems(keys(clips))["c0"]


def test_an_interval_needs_times(tmp_path: Path) -> None:
    clips, half = images(tmp_path, ["1.png", "2.png"]), Sampling(interval=0.5)
    store = FeatureStore(tmp_path / "store", SPECIFICATION)
    message = r"^clip c0: the times of its frames are not known.* give stride instead"
    with pytest.raises(InputError, match=message):
        estimate(clips, [0], [half], SPECIFICATION)
    with pytest.raises(InputError, match=message):
        run(clips, store, half)
    run(clips, store, *EVERY)
    with pytest.raises(InputError, match=message):
        store.load(keys(clips), [half])


SPACE = """
[budget]
trials = 3
epochs = 2
[fixed]
hidden = 8
head_width = 8
[parameters.interval]
type = "categorical"
choices = [0.2, 0.3, 0.45]
[[start]]
interval = 0.2
[[start]]
interval = 0.3
[[start]]
interval = 0.45
"""


@pytest.mark.slow
def test_intervals_are_searched_combined_and_predicted(tmp_path: Path, tiny_demo: Demo) -> None:
    (tmp_path / "space.toml").write_text(SPACE)
    results = ["--results", tmp_path]
    data = ["--data", tiny_demo.root, "--weights", save_tiny(tmp_path / "net.safetensors")]
    extracted = command("extract", *data, *results, "--interval", 0.1, "--interval", 0.45)
    # Of 31 frames 30 a second: every third, and 0, 14 and 27, of which 14 is new.
    assert "20 clips computed (240 frames" in extracted.stdout, extracted.stderr
    search = [*results, "--study", "s", "--scheduler", "none", "--space", tmp_path / "space.toml"]
    done = command("search", *data, *search)
    assert "0 clips computed (0 frames), 20 were stored" in done.stdout, done.stderr
    trials = harness.load_study(tmp_path / "s").trials()
    assert set(trials["interval"]) == {0.2, 0.3, 0.45}
    assert set(trials["family"].str.split("/").str[2]) == {"0.2s", "0.3s", "0.45s"}
    assert command("ensemble", *results, "--study", "s", "--top", 3).returncode == 0
    folder = tmp_path / "s" / "ensembles" / "mean-top3"
    stored = pd.read_csv(folder / "predictions.csv", index_col="File_ID")
    # From stored features, and from features that are computed again. Heads that have hardly learnt
    # are calibrated by large slopes, which multiply the rounding of float32.
    for place, tolerance in ((tmp_path, 1e-5), (tmp_path / "other", 2e-5)):
        out = tmp_path / "new.csv"
        line = ["--ensemble", folder, *data, "--out", out, "--results", place]
        done = command("predict", *line)
        assert done.returncode == 0, done.stderr
        found = pd.read_csv(out, index_col="File_ID")
        np.testing.assert_allclose(found.loc[stored.index], stored, atol=tolerance)
