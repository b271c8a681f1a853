"""The method `greedy`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.methods.method import ROUNDING, Floats, Mask, Stepwise, likeliest
from harness.ensembles.moments import Evidence


@dataclass(frozen=True)
class Greedy(Stepwise):
    """Adds the trial that helps most, again and again; keeps the first best step. top: steps."""

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
    after adding trial k as (a + c_k) / sqrt(q + 2 g_k + 1), averaged over the targets: O(targets x
    trials) a step, whatever the number of clips.

    Returns:
        (steps,) the trial picked at each step, ties to the lowest; (steps,) the score after it.
    """
    c = evidence.scores
    a, q, g = np.zeros((len(c), 1)), np.zeros((len(c), 1)), np.zeros_like(c)
    picks, reached = np.empty(steps, np.intp), np.empty(steps)
    for step in range(steps):
        # Rounding must not make the variance of a sum of opposites negative.
        after = ((a + c) / np.sqrt(np.maximum(q + 2 * g + 1, ROUNDING))).mean(axis=0)
        after[~allowed] = -np.inf
        best = int(np.argmax(after))
        picks[step], reached[step] = best, after[best]
        q += 2 * g[:, [best]] + 1
        a += c[:, [best]]
        g += evidence.column(best, likeliest(after))
    return picks, reached
