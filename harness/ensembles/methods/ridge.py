"""The ensemble method `ridge`."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness.ensembles.methods.method import ROUNDING, Floats, Mask, Method, likeliest
from harness.ensembles.moments import Evidence


@dataclass(frozen=True)
class Ridge(Method):
    """Non-negative ridge regression of the standardised targets on the predictions.

    The weights minimise the squared error, summed over the targets, plus penalty x targets x the
    sum of squared weights. Without a penalty they give the highest PCC of all non-negative
    weights. If no trial has a positive score, the best trial is the only member.

    penalty: in units of the variance of a standardised prediction.
    """

    reads_all: ClassVar[bool] = True
    penalty: float = 0.1

    def weights(self, evidence: Evidence, allowed: Mask) -> Floats:
        # Imported here, because scipy.optimize takes .3 s and the other methods do not need it.
        from scipy.optimize import nnls

        targets, trials = evidence.scores.shape
        b = evidence.scores.sum(axis=0)
        members, w, columns = np.empty(0, np.intp), np.empty(0), np.empty((0, trials))
        # Only the columns of trials that lower the error are read. The number of rounds is limited,
        # because a weight of rounding size could be removed and added without end.
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
            # With L L' = G + penalty, |L'w - L^-1 b|^2 is the penalised error minus a constant.
            penalty = self.penalty * targets * np.eye(len(members))
            L = np.linalg.cholesky(columns[:, members] + penalty)
            w = nnls(L.T, np.linalg.solve(L, b[members]))[0]
            members, columns, w = members[w > 0], columns[w > 0], w[w > 0]
        if not len(members):
            members, w = np.array([np.argmax(np.where(allowed, b, -np.inf))]), np.ones(1)
        weights = np.zeros(trials)
        weights[members] = w / w.sum()
        return weights
