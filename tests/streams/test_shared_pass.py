"""Several encoders of one run: each clip is read once, and each encoder gets what it gets alone."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from torch import Tensor

from harness.clips.demo import Demo, write_video
from harness.clips.faces import crop_recipe
from harness.clips.layouts import read_clips
from harness.clips.table import ClipTable
from harness.encoders.encoder import Encoder, EncoderOptions
from harness.encoders.registry import encoder_of
from harness.errors import InputError
from harness.progress import silent
from harness.sampling import EVERY, Sampling, strides
from harness.streams import extraction, workers
from harness.streams.extraction import Extractor, extract
from harness.streams.features import Found, Machines
from harness.streams.sources import Source, read_all
from harness.streams.store import FeatureStore
from tests.graphs import means
from tests.networks import SPECIFICATION, Means, small
from tests.photographs import film
from tests.trees import plain_tree

CPU = Machines(torch.device("cpu"))
Samplings = tuple[Sampling, ...]


@pytest.fixture
def encoders(tmp_path: Path) -> list[Encoder]:
    """Two graphs that read pictures of 16 and of 24 pixels."""
    small = encoder_of(means(tmp_path / "a.onnx"), EncoderOptions(output="mean"))
    shape = ("b", 3, "h", "w")
    options = EncoderOptions(output="relu", values=("size=24", "order=bgr"))
    large = encoder_of(means(tmp_path / "b.onnx", 1, shape=shape), options)
    return [replace(small, label="a"), replace(large, label="b")]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each film was read."""
    count: Counter[str] = Counter()
    read = extraction.timed_frames

    def counted(path: Path, sampler: Any) -> Iterator[tuple[int, float, np.ndarray]]:
        count[path.name] += 1
        return read(path, sampler)

    monkeypatch.setattr(extraction, "timed_frames", counted)
    return count


def films(root: Path) -> ClipTable:
    """Six films, two of which show a person in some frames."""
    clips = read_clips(plain_tree(root, "clips"))
    for number in (0, 1):
        write_video(root / "clips" / f"c{number}.mp4", film(11 + number))
    return first(clips, 6)


def first(clips: ClipTable, count: int) -> ClipTable:
    return replace(
        clips, clip_ids=clips.clip_ids[:count], splits=clips.splits[:count],
        targets=clips.targets[:count], paths=clips.paths[:count],
    )  # fmt: skip


def together(
    clips: ClipTable, encoders: list[Encoder], cache: Path, *samplings: Samplings, **how: Any
) -> list[Found]:
    given = [Source(clips, encoder) for encoder in encoders]
    each = list(samplings) * (len(given) if len(samplings) == 1 else 1)
    return read_all(given, cache, each, CPU, how.pop("progress", silent), **how)


def digests(clips: ClipTable, found: list[Found]) -> list[str]:
    return [each.stream.digest(clips.clip_ids) for each in found]


@pytest.mark.parametrize("crop", ["none", "detect"])
@pytest.mark.parametrize("sampling", [Sampling(3), Sampling(interval=0.1)], ids=str)
def test_together_they_give_what_each_gives_alone(
    tmp_path: Path, encoders: list[Encoder], opened: Counter[str], crop: str, sampling: Sampling
) -> None:
    clips = films(tmp_path)
    recipe = crop_recipe() if crop == "detect" else "none"
    encoders = [replace(encoder, crop=recipe) for encoder in encoders]
    alone = [
        together(clips, [encoder], tmp_path / encoder.label, (sampling,))[0] for encoder in encoders
    ]
    assert set(opened.values()) == {2}
    opened.clear()
    found = together(clips, encoders, tmp_path / "both", (sampling,))
    assert set(opened.values()) == {1}
    assert len(opened) == 6
    assert digests(clips, found) == digests(clips, alone)
    assert [each.gaps for each in found] == [each.gaps for each in alone]
    again = together(clips, encoders, tmp_path / "both", (sampling,))
    assert set(opened.values()) == {1}, "nothing is missing"
    assert digests(clips, again) == digests(clips, alone)


def test_what_one_encoder_has_is_computed_for_the_other_alone(
    tmp_path: Path, encoders: list[Encoder], opened: Counter[str]
) -> None:
    clips = films(tmp_path)
    cache = tmp_path / "cache"
    together(first(clips, 2), encoders[:1], cache, strides(2, 3))
    opened.clear()
    lines: list[str] = []
    steps: list[tuple[str, int, int]] = []
    found = together(clips, encoders, cache, strides(3), tell=lines.append,
                     progress=lambda *step: steps.append(step))  # fmt: skip
    assert [each.extraction.clips for each in found if each.extraction] == [4, 6]
    assert steps == [("features", done, 6) for done in range(1, 7)]
    assert [line.partition(": ")[0] for line in lines] == ["a", "b"]
    assert set(opened.values()) == {1}
    # Of the first two, the frames of stride 3 are there, and those of stride 2 are not for `b`.
    opened.clear()
    more = together(clips, encoders, cache, EVERY, strides(2))
    frames = [each.stream.counts.sum() for each in more]
    every, even = (int(count) for count in frames)
    assert more[0].extraction is not None
    assert more[0].extraction.frames < every, "those that are stored are not computed again"
    fresh = together(clips, encoders, tmp_path / "fresh", EVERY, strides(2))
    assert digests(clips, more) == digests(clips, fresh)
    assert even < every


def test_streams_of_one_store_are_computed_once(tmp_path: Path, encoders: list[Encoder]) -> None:
    clips = films(tmp_path)
    one = encoders[0]
    found = together(clips, [one, replace(one, label="c")], tmp_path / "cache",
                     strides(4), strides(6))  # fmt: skip
    assert [len(np.unique(each.stream.positions)) for each in found] == [3, 2]
    store = FeatureStore(tmp_path / "cache" / "features", one.specification())
    frames = sum(len(store.known_frames(*key)) for key in _keys(clips))
    assert found[0].extraction == found[1].extraction
    assert found[0].extraction is not None
    assert found[0].extraction.frames == frames


def _keys(clips: ClipTable) -> list[tuple[str, str]]:
    return list(zip(clips.clip_ids, extraction.sources(clips), strict=True))


class Broken(Means):
    """Gives NaN for pictures that are darker than `limit`."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, images: Tensor) -> Tensor:
        dark = images.float().mean((1, 2, 3))[:, None] < self.limit
        return torch.where(dark, torch.nan, super().forward(images))


def test_nan_names_the_encoder_and_the_clip_and_loses_nothing(
    tmp_path: Path, tiny_demo: Demo
) -> None:
    clips = read_clips(tiny_demo.root)
    dark = tmp_path / "dark.mp4"
    write_video(dark, (np.zeros((32, 32, 3), np.uint8) for _ in range(31)))
    clips = replace(clips, paths=(*clips.paths[:-1], dark))
    stores = [
        FeatureStore(tmp_path, replace(SPECIFICATION, source=name)) for name in ("whole", "broken")
    ]
    networks = [small(Means(), "whole"), small(Broken(8), "broken")]
    extractor = Extractor(networks, torch.device("cpu"), batch_size=1, decoders=1)
    with pytest.raises(InputError) as error:
        extract(clips, lambda: extractor, stores, [strides(10)] * 2)
    said = f"the network of broken gave NaN or infinity for clip {clips.clip_ids[-1]}; check"
    assert said in str(error.value)
    kept = [store.missing(*key, strides(10)) for store in stores for key in _keys(clips)[:-1]]
    assert not any(kept)


@pytest.mark.slow
def test_workers_give_what_one_process_gives(
    tmp_path: Path, encoders: list[Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "PIECE", 2)
    monkeypatch.setattr(workers, "_CLIPS_A_CORE", 1)
    clips = films(tmp_path)
    one = together(clips, encoders, tmp_path / "one", strides(3))
    given = [Source(clips, encoder) for encoder in encoders]
    machines = Machines(torch.device("cpu"), workers=2)
    many = read_all(given, tmp_path / "many", [strides(3)] * 2, machines, silent)
    assert digests(clips, many) == digests(clips, one)
    broken = [small(Means(), "whole"), small(Broken(256), "broken")]
    make = partial(Extractor, broken, torch.device("cpu"))
    stores = [FeatureStore(tmp_path, replace(SPECIFICATION, source=each.name)) for each in broken]
    with pytest.raises(InputError, match=r"^the network of broken gave NaN or infinity for clip c"):
        extract(clips, lambda: workers.Workers(make, None, 1), stores, [strides(3)] * 2)
    ray.shutdown()
