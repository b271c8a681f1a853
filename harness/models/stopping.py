"""Estimates by how much the score of a trial is optimistic, because the clips that score it also
chose its epoch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.grouping import divided
from harness.metrics import group_sums, pcc_of_sums

Floats = NDArray[np.float64]
#: Clips are resampled in at most this number of blocks, so that an epoch is kept as blocks x 3 sums
#: for each target instead of its predictions.
BLOCKS = 200
_REPLICATES = 500
# Share of the out-of-bag estimate, by measurement.
_OUT_OF_BAG = 1 / 3


class Stopping:
    """The scores of all epochs of a head on resampled clips.

    Args:
        truth: (clips, targets) ratings of the clips that choose the epoch.
        groups: (clips,) numbers from 0 of persons, or of clips if persons are not known.
    """

    def __init__(self, truth: NDArray[np.float32], groups: NDArray[np.intp]) -> None:
        count = min(BLOCKS, int(groups.max()) + 1)
        self._blocks = divided(groups, [1.0] * count, seed=0)
        self._truth = truth.T.astype(np.float64)
        self._sums: list[Floats] = []

    def add(self, predictions: NDArray[np.float32]) -> None:
        """Adds an epoch with a defined score: predictions (clips, targets)."""
        model = predictions.T.astype(np.float64)[None]
        self._sums.append(group_sums(self._truth, model, self._blocks))

    def optimism(self, seed: int) -> float:
        """The expected score of the chosen epoch on these clips minus that on other clips.

        Each bootstrap replicate draws blocks of clips and chooses the epoch with the best mean PCC
        on them. Two estimates follow. The score of that epoch on the drawn clips minus its score on
        all clips (Efron, 1983) is too small if the epochs are about equally good. The best score on
        all clips minus the scores on the clips that were not drawn (as in BBC-CV) is too large if
        the clips are few, because fewer clips choose. The result is two thirds of the first and one
        third of the second (`tests.benchmarks.estimates --only optimism` measures it). It is 0 with
        a single epoch or block.
        """
        return selection_optimism(self._sums, len(self._truth), seed)


def selection_optimism(sums: Sequence[Floats], targets: int, seed: int) -> float:
    """The optimism of choosing the model with the best mean PCC.

    Args:
        sums: of each model, `group_sums` of the same truth and blocks.
    """
    if len(sums) < 2 or len(sums[0]) < 2:
        return 0.0
    blocks, head = len(sums[0]), 1 + 2 * targets
    table = np.concatenate([sums[0], *(each[:, head:] for each in sums[1:])], axis=1)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(blocks, np.full(blocks, 1 / blocks), _REPLICATES).astype(np.float64)
    drawn, rest = (
        pcc_of_sums(part @ table, targets).mean(axis=2) for part in (counts, counts == 0)
    )
    defined = np.isfinite(drawn).all(axis=1) & np.isfinite(rest).all(axis=1)
    if not defined.any():
        return 0.0
    drawn, rest = drawn[defined], rest[defined]
    best = drawn.argmax(axis=1)
    full = pcc_of_sums(table.sum(axis=0, keepdims=True), targets).mean(axis=2)[0]
    # Minus the mean over the replicates: the PCC of a resample has a small bias of its own.
    row = np.arange(len(drawn))
    resampled = (drawn - drawn.mean(axis=0))[row, best].mean()
    out_of_bag = full.max() - (full[best] + (rest - rest.mean(axis=0))[row, best]).mean()
    return float((1 - _OUT_OF_BAG) * resampled + _OUT_OF_BAG * out_of_bag)
