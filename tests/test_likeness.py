"""Features of one split that come from another tool, or are on another scale, are noticed."""

import numpy as np
import pytest

from harness.likeness import Floats, unlike_splits

STEPS, CLIPS = 6, 40
SPLITS = ("train",) * CLIPS + ("val",) * CLIPS + ("test",) * CLIPS
OFFSETS = np.arange(len(SPLITS) + 1) * STEPS
VAL = slice(CLIPS * STEPS, 2 * CLIPS * STEPS)


def features(seed: int = 0, width: int = 8) -> Floats:
    """Each column on a scale of its own, and clips that differ as persons do."""
    rng = np.random.default_rng(seed)
    clips = np.repeat(rng.standard_normal((len(SPLITS), width)), STEPS, axis=0)
    values = clips + rng.standard_normal(clips.shape)
    return (values * rng.uniform(0.1, 10, width) + rng.uniform(-20, 20, width)).astype(np.float32)


@pytest.mark.parametrize("seed", range(20))
def test_clips_of_one_tool_are_alike(seed: int) -> None:
    assert unlike_splits(features(seed), OFFSETS, SPLITS) == []


def test_few_clips_are_alike_too() -> None:
    for seed in range(20):
        few = slice((CLIPS - 2) * STEPS, (CLIPS + 2) * STEPS)
        offsets, splits = OFFSETS[:5], SPLITS[CLIPS - 2 : CLIPS + 2]
        assert unlike_splits(features(seed)[few], offsets, splits) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda v: v * 100, "8 of 8 features of val lie far from those of train, column 1"),
        (lambda v: v + 1000, "8 of 8 features of val lie far"),
        (lambda v: v / 100, "times less than those of train; are they"),
        (lambda v: v * 0, "the 8 features of val do not vary, unlike those of train"),
        (lambda v: v[:, ::-1], "are the columns of these files permuted?"),
    ],
)  # fmt: skip
def test_a_split_of_another_tool_is_named(changed: object, said: str) -> None:
    values = features()
    values[VAL] = changed(values[VAL].copy())  # type: ignore[operator]
    (line,) = unlike_splits(values, OFFSETS, SPLITS)
    assert said in line


def test_features_with_names_are_called_by_them() -> None:
    values = features(width=2)
    values[VAL, 1] *= 100
    assert unlike_splits(values, OFFSETS, SPLITS, ["AU01", "AU02"]) == [
        "1 of 2 features of val lie far from those of train, AU02 for one; do these files come "
        "from the same tool?"
    ]


def test_a_rare_event_among_many_features_is_not_named() -> None:
    values = features(width=40)
    values[:, 7] = 0
    values[0, 7] = 1  # once in train
    values[VAL, 7] = 1
    assert unlike_splits(values, OFFSETS, SPLITS) == []


def test_without_train_there_is_nothing_to_compare_with() -> None:
    assert unlike_splits(features(), OFFSETS, ("test",) * len(SPLITS)) == []
