"""Sums over the clips of each fold, from which the correlations on any set of folds follow.

Selection and its estimates read these sums instead of the predictions: the sums outside a held-out
fold are the total minus that fold.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.metrics import standardised

Floats = NDArray[np.float64]
#: The members of an average, and their factors (targets, members) of `Moments.values`.
Pick = tuple[NDArray[np.intp], Floats]
#: Up to this number of trials, whole Gram matrices are kept: folds x targets x trials^2 float32,
#: 1.1 GiB for 2,000 trials, 7 targets and 10 folds. Above it, columns are computed on demand.
GRAM_TRIALS = 2000
# Columns computed at once: the cost is one pass over all predictions, whatever their number.
_BATCH = 16
# Bytes of cached columns; the oldest are dropped first.
_COLUMN_BYTES = 384 * 2**20
# Trials that are converted to float64 at once.
_BLOCK = 256
# Number of values from which threads are faster.
_WORTH_THREADS = 2**22
# A smaller variance of values standardised on all folds is rounding.
_NO_VARIANCE = 1e-12


@dataclass(frozen=True)
class Evidence:
    """The statistics of the trials that a selection uses.

    scores: (targets, trials) PCC of each trial; 0 where it is undefined, because such a trial has
        no information.
    scales: (targets, trials) standard deviation of each trial's predictions in `Moments.values`.
    column: (trial, others) -> (targets, trials) the correlations of a trial with every trial.
        `others`: trials of which the columns will probably be needed next.
    """

    scores: Floats
    scales: Floats
    column: Callable[[int, NDArray[np.intp]], Floats]

    @cached_property
    def ranking(self) -> Floats:
        """(trials,) mean of `scores` over the targets, by which trials are ranked."""
        mean: Floats = self.scores.mean(axis=0)
        return mean

    def only(self, target: int) -> "Evidence":
        """The same for a single target."""
        part = slice(target, target + 1)
        return Evidence(
            self.scores[part], self.scales[part], lambda j, others: self.column(j, others)[part]
        )


class Moments:
    """The moments of the predictions of trials in each fold.

    Args:
        predictions: (targets, trials, clips) float32, finite.
        truth: (clips, targets), finite.
        folds: (clips,) the fold of each clip, 0 to folds - 1, none empty.
        slopes: (targets, trials) of the calibrations; None: the predictions are raw outputs.

    Attributes:
        values: (targets, trials, clips) float32, standardised over all clips, sorted by fold.
        truth: (targets, clips) float64, likewise.
        means, deviations: (targets, trials) of the given predictions over all clips.
        slopes: (targets, trials) as given.
        order: (clips,) the given clip at each place of the sorted arrays.
        bounds: (folds + 1,) fold f has the places bounds[f]:bounds[f + 1].
    """

    def __init__(
        self,
        predictions: NDArray[np.float32],
        truth: NDArray[np.float32],
        folds: NDArray[np.intp],
        slopes: Floats | None = None,
    ) -> None:
        self.order = np.argsort(folds, kind="stable")
        counts = np.bincount(folds)
        self.bounds = np.concatenate([[0], np.cumsum(counts)])
        self.truth = standardised(truth[self.order].astype(np.float64).T)
        targets, trials, _ = predictions.shape
        self.slopes = np.ones((targets, trials)) if slopes is None else slopes
        shape = (len(counts), targets, trials)
        self.values = np.empty((targets, trials, len(folds)), np.float32)
        self.means, self.deviations = np.empty(shape[1:]), np.empty(shape[1:])
        self._counts = counts.astype(np.float64)
        self._sums, self._squares, self._cross = np.empty(shape), np.empty(shape), np.empty(shape)

        def add(target: int) -> None:
            for first in range(0, trials, _BLOCK):
                block = slice(first, first + _BLOCK)
                self._add(target, block, predictions[target, block][:, self.order])

        self._each_target(add)
        starts = self.bounds[:-1]
        self._truth_sums = np.add.reduceat(self.truth, starts, axis=1).T
        self._truth_squares = np.add.reduceat(self.truth**2, starts, axis=1).T
        self._columns: dict[int, NDArray[np.float32]] = {}
        self._gram: NDArray[np.float32] | None = None

    @property
    def folds(self) -> int:
        return len(self._counts)

    @property
    def sizes(self) -> NDArray[np.intp]:
        """(folds,) numbers of clips."""
        return np.diff(self.bounds)

    def places(self, fold: int) -> slice:
        """The places of the clips of a fold."""
        return slice(self.bounds[fold], self.bounds[fold + 1])

    def outside(self, held: frozenset[int]) -> NDArray[np.bool_]:
        """(clips,) True at the places of clips outside the held-out folds."""
        inside = np.zeros(len(self.order), dtype=bool)
        for fold in held:
            inside[self.places(fold)] = True
        return ~inside

    def evidence(self, held: frozenset[int] = frozenset()) -> Evidence:
        """The statistics on the clips outside the held-out folds."""
        return self.weighted(np.array([float(fold not in held) for fold in range(self.folds)]))

    def weighted(self, weights: Floats) -> Evidence:
        """The statistics with fold f counted weights[f] times."""
        n = weights @ self._counts
        mean, square, cross = (
            np.tensordot(weights, part, 1) / n for part in (self._sums, self._squares, self._cross)
        )
        scale = _deviation(square - mean**2)
        y_mean, y_square = (weights @ part / n for part in (self._truth_sums, self._truth_squares))
        y_scale = _deviation(y_square - y_mean**2)
        scores = np.clip((cross - mean * y_mean[:, None]) / scale / y_scale[:, None], -1.0, 1.0)
        known: dict[int, Floats] = {}

        def column(j: int, others: NDArray[np.intp]) -> Floats:
            if j not in known:
                products = np.tensordot(weights, self._column(j, others), 1) / n
                known[j] = (products - mean * mean[:, [j]]) / scale / scale[:, [j]]
            return known[j]

        # An infinite scale marks no variance; later divisions need a finite one.
        return Evidence(scores, np.where(np.isinf(scale), 1.0, scale), column)

    def fill(self) -> None:
        """Computes all columns at once, which is faster if most of them are needed."""
        _, trials, _ = self.values.shape
        if self._gram is not None or trials > GRAM_TRIALS:
            return
        gram = np.empty((self.folds, len(self.values), trials, trials), np.float32)

        def multiply(target: int) -> None:
            for fold in range(self.folds):
                part = self.values[target][:, self.places(fold)]
                np.matmul(part, part.T, out=gram[fold, target])

        self._each_target(multiply)
        self._gram = gram

    def combined(self, members: NDArray[np.intp], factors: Floats) -> Floats:
        """(targets, clips) sum over the members of factor x `values`; factors is (targets, m)."""
        return np.stack([f @ v[members] for f, v in zip(factors, self.values, strict=True)])

    def truth_sums(self) -> Floats:
        """(folds, 1 + 2 x targets) sums of 1, y and y^2 of the truth."""
        return np.column_stack([self._counts, self._truth_sums, self._truth_squares])

    def sums(self, picks: Sequence[Pick]) -> Floats:
        """(folds, picks, 3, targets) sums of p, p^2 and py of averages p, up to the scale of p."""
        used = np.unique(np.concatenate([members for members, _ in picks]))
        targets = len(self.truth)
        weights = np.zeros((targets, len(picks), len(used)))
        for place, (members, own) in enumerate(picks):
            weights[:, place, np.searchsorted(used, members)] = own
        found = np.empty((self.folds, len(picks), 3, targets))
        for target, (w, y) in enumerate(zip(weights, self.truth, strict=True)):
            average = w @ self.values[target, used].astype(np.float64)
            # A common scale keeps the sums of squares accurate.
            average /= _safe(average.std(axis=1, keepdims=True))
            for kind, part in enumerate((average, average * average, average * y)):
                found[:, :, kind, target] = np.add.reduceat(part, self.bounds[:-1], axis=1).T
        return found

    def _each_target(self, work: Callable[[int], None]) -> None:
        """Runs the targets in parallel threads: matrix products release the interpreter lock."""
        if self.values.size < _WORTH_THREADS:
            for target in range(len(self.values)):
                work(target)
            return
        with ThreadPoolExecutor() as pool:
            list(pool.map(work, range(len(self.values))))

    def _add(self, target: int, block: slice, raw: NDArray[np.float32]) -> None:
        values = raw.astype(np.float64)
        mean = values.mean(axis=1)
        values -= mean[:, None]
        deviation = _safe(np.sqrt(np.einsum("kn,kn->k", values, values) / values.shape[1]))
        values /= deviation[:, None]
        self.means[target, block], self.deviations[target, block] = mean, deviation
        self.values[target, block] = values
        for fold in range(self.folds):
            part, y = values[:, self.places(fold)], self.truth[target, self.places(fold)]
            self._sums[fold, target, block] = part.sum(axis=1)
            self._squares[fold, target, block] = np.einsum("kn,kn->k", part, part)
            self._cross[fold, target, block] = part @ y

    def _column(self, j: int, others: NDArray[np.intp]) -> NDArray[np.float32]:
        """(folds, targets, trials) sums of the products with trial j."""
        if self._gram is not None:
            return self._gram[:, :, j]
        if j not in self._columns:
            wanted = [j, *(k for k in others.tolist() if k != j and k not in self._columns)]
            self._make(wanted[:_BATCH])
        return self._columns[j]

    def _make(self, wanted: list[int]) -> None:
        targets, trials, _ = self.values.shape
        made = np.empty((len(wanted), self.folds, targets, trials), np.float32)

        def multiply(target: int) -> None:
            values = self.values[target]
            right = values[wanted].T
            for fold in range(self.folds):
                part = self.places(fold)
                made[:, fold, target] = (values[:, part] @ right[part]).T

        self._each_target(multiply)
        room = max(_COLUMN_BYTES // made[0].nbytes, _BATCH) - len(wanted)
        for old in list(self._columns)[: max(len(self._columns) - room, 0)]:
            del self._columns[old]
        # Copies, so that a dropped column frees its memory.
        self._columns |= {j: made[place].copy() for place, j in enumerate(wanted)}


def _deviation(variance: Floats) -> Floats:
    """The square root; infinity where there is no variance, so that quotients become 0."""
    return np.sqrt(np.where(variance > _NO_VARIANCE, variance, np.inf))


def _safe(deviation: Floats) -> Floats:
    return np.where(deviation > 0, deviation, 1.0)
