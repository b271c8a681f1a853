"""95 % intervals of correlations, by resampling groups of clips. No I/O.

The PCC on a resample follows from the sums over the clips of each group, so that 10,000 bootstrap
replicates are one matrix product. With few groups, the percentiles of a bootstrap contain the true
value too rarely; the delete-one-group jackknife with Student's t is used instead
(`python -m tests.benchmarks.estimates` measures both).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.metrics import group_sums, jackknife_error, pcc_of_sums

Floats = NDArray[np.float64]
#: Replicates of a bootstrap.
REPLICATES = 10_000
#: Up to this number of groups, intervals are those of the jackknife.
FEW_GROUPS = 10_000
#: A nested estimate and its intervals need this many groups: persons, or clips if persons are not
#: known.
MIN_GROUPS = 4
_LEVEL = 0.95
# Replicates computed at once: the counts of 250 x 4,657 clips take 9 MiB.
_CHUNK = 250


@dataclass(frozen=True)
class Interval:
    """A 95 % interval. A format such as `+.4f` applies to both limits."""

    low: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.low:{spec}} to {self.high:{spec}}"


@dataclass(frozen=True)
class Resamples:
    """PCC of several models on resampled clips. The models share the resamples, so that their
    differences are paired.

    pcc: (models, targets) on all clips.
    values: (resamples, models, targets), NaN where a correlation is undefined.
    jackknife: resample i has all groups except group i; otherwise the resamples are a bootstrap.
    """

    pcc: Floats
    values: Floats
    jackknife: bool

    @property
    def undefined(self) -> int:
        """Number of resamples in which the PCC of some model and target is undefined."""
        return int(np.isnan(self.values).any(axis=(1, 2)).sum())

    def score(
        self, model: int, target: int | None = None, variance: float = 0.0
    ) -> Interval | None:
        """The interval of the PCC of a model, of one target or of the mean over the targets.

        Args:
            variance: added to that of the jackknife: that of the choice of the model.

        Undefined bootstrap replicates are skipped. The result is None if there are fewer than
        `MIN_GROUPS` groups, or if the PCC is undefined without one of the groups.
        """
        which = _columns(target)
        found = self.values[:, model, which].mean(axis=1)
        return self._interval(found, self.pcc[model, which].mean(), 1.0, variance)

    def difference(self, target: int | None = None) -> Interval | None:
        """The interval of the PCC of model 0 minus that of model 1, otherwise as `score`."""
        which = _columns(target)
        found = (self.values[:, 0, which] - self.values[:, 1, which]).mean(axis=1)
        return self._interval(found, (self.pcc[0, which] - self.pcc[1, which]).mean(), 2.0)

    def _interval(
        self, values: Floats, estimate: float, bound: float, variance: float = 0.0
    ) -> Interval | None:
        defined = values[~np.isnan(values)]
        if self.jackknife and (len(defined) < len(values) or len(values) < MIN_GROUPS):
            return None
        if not len(defined):
            return None
        if self.jackknife:
            error = float(np.hypot(jackknife_error(defined), np.sqrt(variance)))
            degrees = degrees_of_freedom(defined)
            if bound == 1:
                return fisher_interval(estimate, error, degrees)
            return student_interval(estimate, error, degrees, bound)
        low, high = np.quantile(defined, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
        return Interval(float(low), float(high))


def resample(
    truth: Floats,
    predictions: Floats,
    groups: NDArray[np.intp],
    seed: int,
    count: int = REPLICATES,
    *,
    jackknife: bool | None = None,
) -> Resamples:
    """Computes the PCC of models on resampled groups of clips.

    Args:
        truth: (targets, clips).
        predictions: (models, targets, clips), or (models, divisions, targets, clips): the PCC of a
            model is then the mean over the divisions.
        groups: (clips,) group numbers from 0; the clips of a group are kept together.
        seed: of the bootstrap.
        count: number of bootstrap replicates.
        jackknife: None: if there are at most `FEW_GROUPS` groups.
    """
    targets, models = len(truth), len(predictions)
    flat = predictions.reshape(-1, *truth.shape)
    sums = group_sums(truth, flat, groups)
    size = len(sums)

    def averaged(sums: Floats) -> Floats:
        """(resamples, models, targets)."""
        found: Floats = pcc_of_sums(sums, targets).reshape(len(sums), models, -1, targets)
        return np.asarray(found.mean(axis=2))

    total = sums.sum(axis=0)
    if jackknife or (jackknife is None and size <= FEW_GROUPS):
        return Resamples(averaged(total[None])[0], averaged(total - sums), True)
    rng = np.random.default_rng(seed)
    parts = [
        averaged(_counts(rng, min(_CHUNK, count - first), size) @ sums)
        for first in range(0, count, _CHUNK)
    ]
    return Resamples(averaged(total[None])[0], np.concatenate(parts), False)


def _columns(target: int | None) -> slice:
    return slice(None) if target is None else slice(target, target + 1)


def degrees_of_freedom(values: Floats) -> float:
    """Those of the standard error of a delete-one-group jackknife, at most one less than the
    groups.

    A few groups with a large influence make the standard error itself uncertain, more than
    Student's t with one degree less than the groups allows for. The degrees are those of a
    chi-squared variable with the variance of the estimated variance (Satterthwaite, 1946), which
    follows from the kurtosis k of n values: var(s2) = s2^2 (k - (n - 3) / (n - 1)) / n.

    Args:
        values: (groups,) the statistic without each of the groups.
    """
    groups = len(values)
    squares = (values - values.mean()) ** 2
    total = squares.sum()
    if not total > 0:
        return groups - 1
    kurtosis = groups * ((squares / total) ** 2).sum()
    spread = kurtosis - (groups - 3) / (groups - 1)
    return float(min(2 * groups / spread, groups - 1)) if spread > 0 else groups - 1


def fisher_interval(estimate: float, error: float, degrees: float) -> Interval:
    """The interval of Student's t of a PCC in Fisher's z = artanh(PCC).

    A PCC that is too high by chance has an error that is too small; in z it does not depend on the
    PCC, and the limits stay within -1 and 1.

    Args:
        estimate: its centre.
        error: the standard error of the PCC.
        degrees: of freedom.
    """
    if abs(estimate) >= 1:
        return Interval(estimate, estimate)
    centre = student_interval(np.arctanh(estimate), error / (1 - estimate**2), degrees, np.inf)
    return Interval(float(np.tanh(centre.low)), float(np.tanh(centre.high)))


def student_interval(
    estimate: float, error: float, degrees: float, bound: float, level: float = _LEVEL
) -> Interval:
    """The interval of Student's t.

    Args:
        estimate: its centre.
        error: the standard error.
        degrees: of freedom.
        bound: largest possible absolute value, 1 of a PCC and 2 of a difference.
        level: its nominal coverage.
    """
    # Imported here, because it takes .1 s.
    from scipy.special import stdtrit

    half = stdtrit(degrees, (1 + level) / 2) * error
    return Interval(float(max(estimate - half, -bound)), float(min(estimate + half, bound)))


def _counts(rng: np.random.Generator, count: int, size: int) -> Floats:
    """(count, size) the number of times that each replicate drew each of `size` groups."""
    drawn = rng.integers(0, size, (count, size)) + np.arange(count)[:, None] * size
    return np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size).astype(float)
