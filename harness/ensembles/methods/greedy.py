"""The ensemble method `greedy`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.methods.method import ROUNDING, Floats, Mask, Stepwise, likeliest
from harness.ensembles.moments import Evidence


@dataclass(frozen=True)
class Greedy(Stepwise):
    """Greedy selection with replacement: adds the trial that improves the score most, and keeps
    the first step with the best score.

    top: selection steps.
    """

    top: int = 50

    def weights(self, evidence: Evidence, allowed: Mask) -> Floats:
        picks, reached = greedy_picks(evidence, allowed, self.top)
        end = int(np.argmax(reached >= reached.max() - ROUNDING)) + 1
        return np.bincount(picks[:end], minlength=len(allowed)) / end

    def picks(self, evidence: Evidence, allowed: Mask) -> NDArray[np.intp]:
        return greedy_picks(evidence, allowed, self.top)[0]


def greedy_picks(evidence: Evidence, allowed: Mask, steps: int) -> tuple[NDArray[np.intp], Floats]:
    """Greedy selection with replacement (Caruana et al., 2004), on moments.

    With standardised predictions, the running sums a = sum c_j, q = s'Gs and g = Gs give the PCC
    after adding trial k as (a + c_k) / sqrt(q + 2 g_k + 1). The score is its mean over the
    targets. A step costs O(targets x trials), independent of the number of clips.

    Returns:
        (steps,) the trial picked at each step, the lowest of equal ones, and (steps,) the score
        after each step.
    """
    c = evidence.scores
    a, q, g = np.zeros((len(c), 1)), np.zeros((len(c), 1)), np.zeros_like(c)
    picks, reached = np.empty(steps, np.intp), np.empty(steps)
    for step in range(steps):
        # The variance of opposite predictions may be negative by rounding.
        after = ((a + c) / np.sqrt(np.maximum(q + 2 * g + 1, ROUNDING))).mean(axis=0)
        after[~allowed] = -np.inf
        best = int(np.argmax(after))
        picks[step], reached[step] = best, after[best]
        q += 2 * g[:, [best]] + 1
        a += c[:, [best]]
        g += evidence.column(best, likeliest(after))
    return picks, reached
