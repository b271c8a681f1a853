"""From stored frames to sequences."""

import numpy as np
import pytest
import torch

from harness.models.training import Tensors
from harness.streams.sequences import FrameFeatures, sequences


def frames_of(*counts: int, every: int = 1) -> FrameFeatures:
    """Clips of `counts` stored frames; the feature of a frame is its index."""
    index = np.concatenate([np.arange(n) * every for n in counts])
    return FrameFeatures(
        features=index[:, None].astype(np.float32),
        frames=index.astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
    )


def values(counts: tuple[int, ...], row: int, stride: int, rule: str) -> list[float]:
    targets = np.zeros((len(counts), 1), np.float32)
    found = sequences(frames_of(*counts), np.array([row]), targets, stride=stride, rule=rule)
    assert found.lengths.tolist() == [len(found.features)]
    return found.features[:, 0].tolist()


def test_stride_counts_frames_from_the_first() -> None:
    assert values((10, 61), 1, 30, "full") == [0, 30, 60]
    assert values((10, 61), 0, 30, "full") == [0]


def test_fixed_12_trims_both_ends_the_odd_step_from_the_front() -> None:
    assert values((15,), 0, 1, "fixed-12") == list(range(2, 14))
    assert values((12,), 0, 1, "fixed-12") == list(range(12))


def test_fixed_12_repeats_the_last_step() -> None:
    assert values((3,), 0, 1, "fixed-12") == [0, 1] + [2] * 10


def test_clips_stand_one_after_the_other_without_padding() -> None:
    targets = np.arange(3, dtype=np.float32)[:, None]
    found = sequences(frames_of(2, 5, 1), np.array([2, 1]), targets, stride=1, rule="full")
    assert found.lengths.tolist() == [1, 5]
    assert found.features[:, 0].tolist() == [0, 0, 1, 2, 3, 4]
    assert found.targets[:, 0].tolist() == [2.0, 1.0]


def test_a_last_step_stands_on_behind_the_end_of_a_clip() -> None:
    targets = np.zeros((3, 1), np.float32)
    found = sequences(frames_of(2, 500, 3), np.arange(3), targets, stride=1, rule="full")
    split = Tensors(*map(torch.from_numpy, (found.features, found.lengths, found.targets)))
    features, lengths = split.padded(torch.tensor([2, 0]), 3)
    assert lengths.tolist() == [3, 2]
    assert features[..., 0].tolist() == [[0, 1, 2], [0, 1, 1]]


def test_a_clip_without_frames_is_an_error() -> None:
    with pytest.raises(ValueError, match="clip 1 has no stored frame"):
        values((2, 0), 1, 1, "full")
