"""Bootstrap of correlations, computed from the sums of each group of clips. No I/O.

A replicate draws groups with replacement. Its correlations follow from the number of times that
each group was drawn and from the sums of the groups, so 10,000 replicates are one matrix product.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
REPLICATES = 10_000
# Replicates computed at once: the counts of 250 x 4,657 clips take 9 MiB.
_CHUNK = 250
_NO_VARIANCE = 1e-12


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


def replicates(
    truth: Floats, predictions: Floats, groups: NDArray[np.intp], count: int, seed: int
) -> Floats:
    """Computes the PCC of each bootstrap replicate. All models share the drawn groups, so that
    their replicates are paired.

    Args:
        truth: (targets, clips).
        predictions: (models, targets, clips).
        groups: (clips,) group numbers from 0; the clips of a group are drawn together.
        count: the number of replicates.
        seed: of the random generator.

    Returns:
        (count, models, targets); 0 where a replicate's correlation is undefined.
    """
    models, targets, clips = predictions.shape
    # Standardised values keep the sums of squares accurate.
    y, p = _standardised(truth), _standardised(predictions)
    parts = [np.ones((1, clips)), y, y * y]
    for model in p:
        parts += [model, model * model, model * y]
    rows = np.concatenate(parts)
    size = int(groups.max()) + 1
    sums = np.stack([np.bincount(groups, row, minlength=size) for row in rows], axis=1)
    rng = np.random.default_rng(seed)
    found = np.empty((count, models, targets))
    for first in range(0, count, _CHUNK):
        part = found[first : first + _CHUNK]
        total = _counts(rng, len(part), size) @ sums
        part[:] = _pcc((total[:, 1:] / total[:, :1]).reshape(len(total), -1, targets))
    return found


def interval(values: Floats) -> Interval:
    """The percentile interval of values (replicates,)."""
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(float(low), float(high))


def two_sided(differences: Floats) -> float:
    """The two-sided bootstrap p-value of the hypothesis that the difference is 0; never 0.

    Args:
        differences: (replicates,).
    """
    count = len(differences)
    tail = min((differences <= 0).sum(), (differences >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (count + 1)))


def holm(p: Floats) -> Floats:
    """Adjusts p-values so that the probability of any false positive is bounded (Holm, 1979)."""
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def _counts(rng: np.random.Generator, count: int, size: int) -> Floats:
    """(count, size) the number of times that each replicate drew each of `size` groups."""
    drawn = rng.integers(0, size, (count, size)) + np.arange(count)[:, None] * size
    return np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size).astype(float)


def _pcc(moments: Floats) -> Floats:
    """PCC from the means of y, y^2 and each model's p, p^2, py: (replicates, 2 + 3 models,
    targets)."""
    y, yy = moments[:, None, 0], moments[:, None, 1]
    p, pp, py = moments[:, 2::3], moments[:, 3::3], moments[:, 4::3]
    variance = (yy - y * y) * (pp - p * p)
    defined = variance > _NO_VARIANCE
    return np.where(defined, (py - p * y) / np.sqrt(np.where(defined, variance, 1.0)), 0.0)


def _standardised(values: Floats) -> Floats:
    deviation = values.std(axis=-1, keepdims=True)
    centred = values - values.mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.where(deviation > 0, deviation, 1.0))
