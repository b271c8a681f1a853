"""The method `ridge`."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness.ensembles.methods.method import ROUNDING, Floats, Mask, Method, likeliest
from harness.ensembles.moments import Evidence


@dataclass(frozen=True)
class Ridge(Method):
    """The non-negative weights that minimise the squared error of the standardised targets, summed
    over the targets, plus penalty times targets times the squared weights.

    Without the penalty these are the non-negative combination of highest PCC. A library without one
    trial of positive score gives the best trial. penalty: in units of a standardised prediction's
    variance.
    """

    reads_all: ClassVar[bool] = True
    penalty: float = 0.1

    def weights(self, evidence: Evidence, allowed: Mask) -> Floats:
        # scipy.optimize takes a third of a second to import, which the other methods need not wait.
        from scipy.optimize import nnls

        targets, trials = evidence.scores.shape
        b = evidence.scores.sum(axis=0)
        members, w, columns = np.empty(0, np.intp), np.empty(0), np.empty((0, trials))
        # Only columns of trials that lower the error are read. The rounds are bounded, because a
        # weight that differs from 0 by rounding alone could leave and enter for ever.
        for _ in range(trials):
            gradient = b - w @ columns
            gradient[members] = -np.inf
            gradient[~allowed] = -np.inf
            new = likeliest(gradient)
            new = new[gradient[new] > targets * ROUNDING]
            if not len(new):
                break
            members = np.append(members, new)
            rows = [evidence.column(j, new).sum(axis=0) for j in new.tolist()]
            columns = np.vstack([columns, *rows])
            # With L L' = G + penalty, |L'w - L^-1 b|^2 is the penalised error less a constant.
            penalty = self.penalty * targets * np.eye(len(members))
            L = np.linalg.cholesky(columns[:, members] + penalty)
            w = nnls(L.T, np.linalg.solve(L, b[members]))[0]
            members, columns, w = members[w > 0], columns[w > 0], w[w > 0]
        if not len(members):
            members, w = np.array([np.argmax(np.where(allowed, b, -np.inf))]), np.ones(1)
        weights = np.zeros(trials)
        weights[members] = w / w.sum()
        return weights
