"""Estimates the gain of an ensemble over the best single trial, and what the selection adds to the
errors of scores. No I/O.

A bootstrap repeats the whole selection. Each replicate draws blocks of clips with replacement,
selects the ensemble and the best single trial on them, and scores both on the blocks that were not
drawn. Resampling of fixed predictions would ignore that other clips select other trials: its
intervals contain the true gain in about 70 % of the cases (`tests.benchmarks.estimates`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.intervals import Interval, student_interval
from harness.ensembles.methods import METHODS
from harness.ensembles.moments import GRAM_TRIALS, Moments, Pick
from harness.ensembles.selection import Recipe, best_single, choose, factors
from harness.metrics import pcc_of_sums

Floats = NDArray[np.float64]
#: Number of blocks of clips or persons. More blocks need more replicates.
BLOCKS = 50
# Replicates, and those of a method that reads correlations.
_REPLICATES, _SLOW_REPLICATES = 500, 100
# Averages that are summed at once: 100 of 4,657 clips take 4 MiB.
_BATCH = 100
_STEP = "Resampling the selection"


@dataclass(frozen=True)
class Gain:
    """PCC of the ensemble minus that of the best single trial.

    value: mean over the replicates.
    interval: 95 % interval.
    replicates: number of replicates.
    undefined: replicates that were skipped, because a PCC was undefined on the clips not drawn.
    """

    value: float
    interval: Interval
    replicates: int
    undefined: int


@dataclass(frozen=True)
class Selections:
    """The PCC of repeated selections. The models are the ensemble and the best single trial.

    counts: (replicates, blocks) the number of times that each block was drawn.
    held_out: (replicates, models, targets) on the blocks that were not drawn, NaN if undefined.
    whole: (replicates, models, targets) of the same selection on all blocks.
    """

    counts: Floats
    held_out: Floats
    whole: Floats

    def gain(self, target: int | None = None) -> Gain | None:
        """The gain of one target, or of the mean over the targets. None if it is undefined in half
        of the replicates.

        The variance is the sum of two parts: that of the mean over the replicates by the
        infinitesimal jackknife (Efron, 2014, section 3, with the correction for the number of
        replicates of Wager et al., 2014), and that of the gain on all clips between the
        selections, because the ensemble is one of them. Simulations show that this is
        conservative.
        """
        held_out, whole = (
            self._mean(part[:, 0] - part[:, 1], target) for part in (self.held_out, self.whole)
        )
        defined = np.isfinite(held_out) & np.isfinite(whole)
        used, blocks = int(defined.sum()), self.counts.shape[1]
        if used <= len(defined) / 2:
            return None
        deviations = held_out[defined] - held_out[defined].mean()
        covariances = deviations @ (self.counts[defined] - 1) / used
        noise = blocks / used * deviations.var()
        variance = max((covariances**2).sum() - noise, 0.0) + whole[defined].var()
        value = float(held_out[defined].mean())
        interval = student_interval(value, float(np.sqrt(variance)), blocks - 1, bound=2.0)
        return Gain(value, interval, len(defined), len(defined) - used)

    def variance(self, model: int, target: int | None = None) -> float:
        """The variance of the PCC on all blocks between the selections; 0 if it is undefined."""
        scores = self._mean(self.whole[:, model], target)
        return 0.0 if np.isnan(scores).all() else float(np.nanvar(scores))

    @staticmethod
    def _mean(scores: Floats, target: int | None) -> Floats:
        return np.asarray(scores.mean(axis=1) if target is None else scores[:, target])


def is_feasible(method: str, trials: int) -> bool:
    """Whether the selection can be repeated: methods that read correlations would take an hour if
    there is no memory for the whole Gram matrix."""
    return trials <= GRAM_TRIALS or not METHODS[method].reads_columns


def resample_selection(
    moments: Moments,
    recipe: Recipe,
    method: str,
    families: Sequence[str],
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
) -> Selections:
    """Repeats the selection on resampled blocks of clips.

    Args:
        moments: their folds are the blocks.
        method: a method other than auto; the choice between methods is not repeated.
        families: (trials,) the family of each trial.
        progress: called with (step, done, total).
    """
    count = _SLOW_REPLICATES if METHODS[method].reads_columns else _REPLICATES
    blocks = moments.folds
    rng = np.random.default_rng(recipe.seed)
    counts = rng.multinomial(blocks, np.full(blocks, 1 / blocks), count).astype(np.float64)
    picks: list[Pick] = []
    for number, drawn in enumerate(counts):
        evidence = moments.weighted(drawn)
        choice, single = choose(recipe, method, evidence, families), best_single(evidence)
        picks.append((choice.members, factors(choice, moments, evidence)))
        picks.append((single.members, single.weights))
        progress(_STEP, number + 1, count)
    batches = (picks[first : first + _BATCH] for first in range(0, len(picks), _BATCH))
    models = np.concatenate([moments.sums(batch) for batch in batches], axis=1)
    targets = len(moments.truth)
    # As columns of `group_sums`: the clips and the truth, then the two models of a replicate.
    models = models.reshape(blocks, count, 6 * targets).swapaxes(0, 1)
    truth = np.broadcast_to(moments.truth_sums(), (count, blocks, 1 + 2 * targets))
    weights = np.stack([counts == 0, np.ones_like(counts)], axis=1)
    summed = weights @ np.concatenate([truth, models], axis=2)
    pcc = pcc_of_sums(summed.reshape(2 * count, -1), targets).reshape(count, 2, 2, targets)
    return Selections(counts, pcc[:, 0], pcc[:, 1])
