"""Estimates by how much the score of the best trial is optimistic, because the clips that score it
also selected it. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.ensembles.estimate import assign_folds
from harness.ensembles.gain import BLOCKS
from harness.ensembles.library import PredictionMatrix
from harness.ensembles.moments import Moments

_REPLICATES = 500


@dataclass(frozen=True)
class Luck:
    """The luck of selected trials on the clips that selected them, in mean PCC.

    first: expected optimism of the score by which the best trial was selected.
    kept: the part of it that the scores of the same configuration under new seeds keep, because
        they are computed on the same clips.
    """

    first: float
    kept: float


def luck_of_best(
    matrix: PredictionMatrix, searched: Sequence[str], repeats: Mapping[str, Sequence[str]]
) -> Luck:
    """Estimates the luck of the best of the searched trials.

    A bootstrap draws blocks of rated clips (or of persons) and selects the best trial on them. Its
    optimism is the score on the drawn clips minus the mean over the replicates. New seeds keep a
    share of it: the regression of the repeated scores on the first one over the replicates.

    The estimate is too small if all trials are about equally good: in simulations of twelve equal
    configurations, it was .6 of the true luck.

    Args:
        searched: ids of the trials that were compared.
        repeats: selected trial -> ids of the trials that repeat it under new seeds.
    """
    rows = matrix.labelled
    blocks = assign_folds(matrix.group_numbers(), 0, BLOCKS)
    moments = Moments(matrix.predictions[:, :, rows], matrix.truth[rows], blocks)
    count = moments.folds
    counts = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), _REPLICATES)
    drawn = np.stack([moments.weighted(each.astype(np.float64)).ranking for each in counts])
    moved = drawn - drawn.mean(axis=0)
    # A duplicate has the predictions of another trial, so nothing is lost without it.
    known = {trial.id for trial in matrix.trials}
    places = matrix.slots([trial for trial in searched if trial in known])
    best = drawn[:, places].argmax(axis=1)
    first = float(moved[:, places][np.arange(len(drawn)), best].mean())
    covariance = variance = 0.0
    for trial, others in repeats.items():
        found = matrix.slots([other for other in others if other in known])
        if trial not in known or not found:
            continue
        own = moved[:, matrix.slots([trial])[0]]
        covariance += float(own @ moved[:, found].mean(axis=1))
        variance += float(own @ own)
    share = min(max(covariance / variance, 0.0), 1.0) if variance else 0.0
    return Luck(first, share * first)
