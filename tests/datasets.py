"""Small data sets in memory, and a configuration that trains on them in a moment."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.dataset import Dataset, Specification, Stream
from harness.models.config import TrialConfig

CONFIG = TrialConfig.of(
    stride=1, layers=1, hidden=8, head_width=8, batch_size=16, epochs=6, patience=6, seed=3
)


def make_stream(
    values: NDArray[np.floating],
    positions: ArrayLike,
    offsets: ArrayLike,
    parts: Mapping[str, slice] | None = None,
) -> Stream:
    """A stream of frames whose columns are named c0, c1, and so on."""
    names = tuple(f"c{column}" for column in range(values.shape[1]))
    return Stream(
        Specification("test", {}, names, len(names)),
        np.ascontiguousarray(values, np.float32),
        np.asarray(positions, np.int32),
        np.asarray(offsets, np.int64),
        parts or {},
        sampled=True,
    )


def make_dataset(
    stream: Stream, targets: NDArray[np.floating], rows: Mapping[str, Sequence[int]]
) -> Dataset:
    """Clips c0, c1, ... in the splits that `rows` says, with targets A, B, ..."""
    split_of = {int(row): split for split, clips in rows.items() for row in clips}
    clips = range(len(targets))
    return Dataset(
        clip_ids=tuple(f"c{clip}" for clip in clips),
        splits=tuple(split_of[clip] for clip in clips),
        targets=np.asarray(targets, np.float32),
        target_names=tuple("ABCDEFGHIJ"[: targets.shape[1]]),
        streams={"test": stream},
    )


def with_stream(data: Dataset, stream: Stream) -> Dataset:
    """The same clips with other features."""
    return replace(data, streams={"test": stream})


def timed_stream(
    name: str, steps: Sequence[ArrayLike], times: Sequence[ArrayLike] | None, sampled: bool = False
) -> Stream:
    """A stream of (steps, columns) values for each clip, with the seconds of these steps."""
    counts = [len(np.atleast_2d(clip)) if np.size(clip) else 0 for clip in steps]
    width = max(np.atleast_2d(clip).shape[1] for clip in steps if np.size(clip))
    values = [np.reshape(clip, (-1, width)) for clip in steps]
    seconds = None if times is None else np.concatenate(list(map(np.asarray, times)))
    stream = make_stream(
        np.concatenate(values),
        np.concatenate([np.arange(count) for count in counts]),
        np.concatenate([[0], np.cumsum(counts)]),
    )
    return replace(
        stream,
        specification=replace(stream.specification, source=name),
        times=None if seconds is None else seconds.astype(np.float32),
        sampled=sampled,
    )


def make_fused(clips: int = 60, seed: int = 0) -> Dataset:
    """`make_data` with frames every .5 s as the stream `eye`, and `ear` with a step every .2 s,
    which decides the ratings too. Each seventh clip lacks `ear`, each eleventh `eye`."""
    data, rng = make_data(clips, seed), np.random.default_rng(seed + 1)
    bounds = list(itertools.pairwise(data.features.offsets))
    eye = [data.features.values[a:b] for a, b in bounds]
    ear = [rng.standard_normal((int(2.5 * len(steps)), 2)) for steps in eye]
    shift = np.stack([steps.mean(axis=0)[0] for steps in ear])
    for clip in range(clips):
        if clip % 7 == 3:
            ear[clip] = np.empty((0, 2))
        if clip % 11 == 5:
            eye[clip] = np.empty((0, 4))
    streams = {
        name: timed_stream(name, steps, [np.arange(len(s)) * every for s in steps], name == "eye")
        for name, steps, every in (("ear", ear, 0.2), ("eye", eye, 0.5))
    }
    targets = (data.ratings + 1 / (1 + np.exp(-shift[:, None]))) / 2
    return replace(data, streams=streams, targets=targets.astype(np.float32))


def make_data(clips: int = 60, seed: int = 0) -> Dataset:
    """Sequences of 2 to 6 steps whose mean decides the ratings; some clips unrated."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, 7, clips)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    values = rng.standard_normal((offsets[-1], 4)).astype(np.float32)
    means = np.stack([values[a:b].mean(0) for a, b in itertools.pairwise(offsets)])
    targets = (1 / (1 + np.exp(-means[:, :3]))).astype(np.float32)
    targets[clips * 5 // 6 :] = np.nan
    parts = np.split(np.arange(clips), [clips // 2, clips * 3 // 4])
    rows = dict(zip(("train", "val", "test"), parts, strict=True))
    positions = np.concatenate([np.arange(n) for n in counts])
    return make_dataset(make_stream(values, positions, offsets), targets, rows)
