"""From stored frames to sequences."""

import numpy as np
import pytest
import torch

from harness.dataset import Stream
from harness.models.sequences import sequences
from harness.models.training import Steps
from harness.sampling import Sampling
from tests.datasets import make_stream


def frames_of(*counts: int, every: int = 1) -> Stream:
    """Clips of `counts` stored frames; the feature of a frame is its index."""
    index = np.concatenate([np.arange(n) * every for n in counts])
    return make_stream(index[:, None], index, np.concatenate([[0], np.cumsum(counts)]))


def values(counts: tuple[int, ...], row: int, stride: int, rule: str) -> list[float]:
    steps, lengths = sequences(
        frames_of(*counts), np.array([row]), sampling=Sampling(stride), rule=rule
    )
    assert lengths.tolist() == [len(steps)]
    return steps[:, 0].tolist()


def test_stride_counts_frames_from_the_first() -> None:
    assert values((10, 61), 1, 30, "full") == [0, 30, 60]
    assert values((10, 61), 0, 30, "full") == [0]


def test_fixed_12_trims_both_ends_the_odd_step_from_the_front() -> None:
    assert values((15,), 0, 1, "fixed-12") == list(range(2, 14))
    assert values((12,), 0, 1, "fixed-12") == list(range(12))


def test_fixed_12_repeats_the_last_step() -> None:
    assert values((3,), 0, 1, "fixed-12") == [0, 1] + [2] * 10


def test_clips_stand_one_after_the_other_without_padding() -> None:
    steps, lengths = sequences(
        frames_of(2, 5, 1), np.array([2, 1]), sampling=Sampling(1), rule="full"
    )
    assert lengths.tolist() == [1, 5]
    assert steps[:, 0].tolist() == [0, 0, 1, 2, 3, 4]


def test_a_last_step_stands_on_behind_the_end_of_a_clip() -> None:
    found = sequences(frames_of(2, 500, 3), np.arange(3), sampling=Sampling(1), rule="full")
    split = Steps(*map(torch.from_numpy, found))
    features, lengths = split.padded(torch.tensor([2, 0]), 3)
    assert lengths.tolist() == [3, 2]
    assert features[..., 0].tolist() == [[0, 1, 2], [0, 1, 1]]


def test_a_clip_without_frames_is_an_error() -> None:
    with pytest.raises(ValueError, match="clip 1 has no stored frame"):
        values((2, 0), 1, 1, "full")
