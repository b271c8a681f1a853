"""The method `mean`."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.methods.method import Floats, Mask, Stepwise
from harness.ensembles.moments import Evidence
from harness.errors import InputError


@dataclass(frozen=True)
class Mean(Stepwise):
    """The mean of the best trials' predictions as they are. top: members, by default as many as in
    the paper."""

    standardised: ClassVar[bool] = False
    top: int = 5

    def weights(self, evidence: Evidence, allowed: Mask) -> Floats:
        return np.bincount(self.picks(evidence, allowed), minlength=len(allowed)) / self.top

    def picks(self, evidence: Evidence, allowed: Mask) -> NDArray[np.intp]:
        return top_k(np.where(allowed, evidence.ranking, -np.inf), self.top)

    def limited(self, trials: int) -> Self:
        return replace(self, top=min(self.top, trials))


def top_k(scores: Floats, k: int) -> NDArray[np.intp]:
    """The k best trials, best first; ties go to the one that stands first.

    Args:
        scores: (trials,) mean PCC each; minus infinity for those that may not be chosen.

    Raises:
        InputError: fewer than k trials.
    """
    eligible = int(np.isfinite(scores).sum())
    if eligible < k:
        raise InputError(
            f"--top {k}: only {eligible} eligible trials (repeated ones and those above "
            "--per-family are not counted); choose --top up to that"
        )
    return np.argsort(-scores, kind="stable")[:k]
