"""The ensemble method `mean`."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.methods.method import Floats, Mask, Stepwise
from harness.ensembles.moments import Evidence
from harness.errors import InputError


@dataclass(frozen=True)
class Mean(Stepwise):
    """The mean of the predictions of the best trials.

    top: members; the default is that of the paper.
    """

    standardised: ClassVar[bool] = False
    reads_columns: ClassVar[bool] = False
    top: int = 5

    def weights(self, evidence: Evidence, allowed: Mask) -> Floats:
        return np.bincount(self.picks(evidence, allowed), minlength=len(allowed)) / self.top

    def picks(self, evidence: Evidence, allowed: Mask) -> NDArray[np.intp]:
        return top_k(np.where(allowed, evidence.ranking, -np.inf), self.top)

    def limited(self, trials: int) -> Self:
        return replace(self, top=min(self.top, trials))


def top_k(scores: Floats, k: int) -> NDArray[np.intp]:
    """The k best trials, the best first; of equal trials, the lower index comes first.

    Args:
        scores: (trials,) mean PCC of each; minus infinity for trials that are not allowed.

    Raises:
        InputError: fewer than k trials.
    """
    eligible = int(np.isfinite(scores).sum())
    if eligible < k:
        raise InputError(
            f"`top` {k}: only {eligible} eligible trials (duplicates and trials beyond "
            f"`per_family` do not count); choose `top` up to {eligible}"
        )
    return np.argsort(-scores, kind="stable")[:k]
