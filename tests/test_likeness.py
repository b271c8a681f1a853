"""Features of one split that come from another tool, or are on another scale, are noticed."""

import numpy as np
import pytest

from harness.likeness import Floats, unlike, unlike_splits

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
        (lambda v: v / 100, "times less than those of train; do these files"),
        (lambda v: v[:, ::-1], "are the columns of these files permuted?"),
    ],
)  # fmt: skip
def test_a_split_of_another_tool_is_named(changed: object, said: str) -> None:
    values = features()
    values[VAL] = changed(values[VAL].copy())  # type: ignore[operator]
    (line,) = unlike_splits(values, OFFSETS, SPLITS)
    assert said in line


def test_features_that_do_not_vary_are_named() -> None:
    values = features(width=60)
    values[VAL] = 3
    (line,) = unlike_splits(values, OFFSETS, SPLITS)
    assert "60 features of val" in line


def test_features_with_names_are_called_by_them() -> None:
    values = features(width=2)
    values[VAL] *= 100
    assert unlike_splits(values, OFFSETS, SPLITS, ["AU01", "AU02"]) == [
        "2 of 2 features of val lie far from those of train, AU01 for one; do these files come "
        "from the same tool?"
    ]


@pytest.mark.parametrize("clips", [2, 10, 100])
@pytest.mark.parametrize("active", [0.01, 0.1, 0.5])
def test_features_that_are_rarely_not_zero_are_alike(clips: int, active: float) -> None:
    """As those of a network behind a rectifier."""
    rng = np.random.default_rng(0)
    shape = (2 * clips, 256)
    of_clips = rng.lognormal(size=shape) * (rng.random(shape) < active)
    values = np.repeat(of_clips, STEPS, axis=0) * rng.random((2 * clips * STEPS, 256))
    splits = ("train",) * clips + ("val",) * clips
    assert unlike_splits(values.astype(np.float32), np.arange(2 * clips + 1) * STEPS, splits) == []


def test_of_new_clips_one_feature_is_enough() -> None:
    """As `predict` compares them."""
    values, new = features()[: VAL.start], features()[VAL]
    mean, scale = values.mean(0), 1 / values.std(0)
    assert unlike(new, mean, scale, CLIPS) == ""
    new[:, 5] += 100 * values[:, 5].std()
    assert unlike(new, mean, scale, CLIPS).startswith("1 of 8 features lie far from those of train")


def test_without_train_there_is_nothing_to_compare_with() -> None:
    assert unlike_splits(features(), OFFSETS, ("test",) * len(SPLITS)) == []
