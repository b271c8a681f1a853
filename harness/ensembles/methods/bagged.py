"""The ensemble method `bagged`."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness.ensembles.methods.greedy import Greedy
from harness.ensembles.methods.method import Floats, Mask, Method
from harness.ensembles.moments import Evidence


@dataclass(frozen=True)
class Bagged(Method):
    """Greedy selection on random halves of the library, averaged (Caruana et al., 2006).

    top: selection steps on each half.
    bags: number of halves.
    seed: of the random halves.
    """

    reads_all: ClassVar[bool] = True
    top: int = 50
    bags: int = 10
    seed: int = 0

    def weights(self, evidence: Evidence, allowed: Mask) -> Floats:
        rng = np.random.default_rng(self.seed)
        candidates = np.flatnonzero(allowed)
        total = np.zeros(len(allowed))
        for _ in range(self.bags):
            half = np.zeros(len(allowed), dtype=bool)
            half[rng.choice(candidates, (len(candidates) + 1) // 2, replace=False)] = True
            total += Greedy(self.top).weights(evidence, half) / self.bags
        return np.asarray(total / total.sum())
