"""Why these members: what each one scores, adds and repeats. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.moments import Moments
from harness.ensembles.selection import Choice

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Member:
    """A member of an ensemble, on the split that chose it.

    trial: its id, with its study before it where there are several. study: its folder's name.
    weight: its mean over the targets. pcc: its own mean PCC. left_out: change of the ensemble's
    mean PCC when the others are kept without it; negative where it helps. correlation: with the
    other members, mean over them and the targets. Both None for a single member.
    """

    trial: str
    study: str
    family: str
    weight: float
    pcc: float
    left_out: float | None
    correlation: float | None


@dataclass(frozen=True)
class Explanation:
    """own: (m,) mean PCC of each member; left_out, with_others: (m,) what `Member` calls left_out
    and correlation; correlations: (m, m) between members' predictions, mean over the targets;
    effective: 1 / sum of squared weights, the number of equal weights as concentrated as these."""

    own: Floats
    left_out: tuple[float | None, ...]
    with_others: tuple[float | None, ...]
    correlations: Floats
    effective: float


def explain(moments: Moments, choice: Choice) -> Explanation:
    """Explains a choice from the moments of all folds."""
    evidence = moments.evidence()
    members = choice.members
    R = np.stack([evidence.column(j, members)[:, members] for j in members.tolist()], axis=1)
    c = evidence.scores[:, members]
    units = 1.0 if choice.standardised else moments.deviations[:, members]
    w = choice.weights * units
    left_out: tuple[float | None, ...] = (None,)
    with_others: tuple[float | None, ...] = (None,)
    correlations = R.mean(axis=0)
    m = len(members)
    if m > 1:
        # (m, targets, m): the weights without each member in turn.
        others = w * (1 - np.eye(m))[:, None]
        left_out = tuple((_score(others, c, R) - _score(w[None], c, R)).tolist())
        total = correlations.sum(axis=1) - np.diagonal(correlations)
        with_others = tuple((total / (m - 1)).tolist())
    return Explanation(
        own=evidence.ranking[members],
        left_out=left_out,
        with_others=with_others,
        correlations=correlations,
        effective=float(1 / (choice.weights.mean(axis=0) ** 2).sum()),
    )


def _score(w: Floats, c: Floats, correlations: Floats) -> Floats:
    """(n,) mean over targets of w'c / sqrt(w'Rw), w (n, targets, m), R the correlations.

    0 where w is 0: with weights of each target's own, its only member may be the one left out.
    """
    variance = np.einsum("ndm,dmk,ndk->nd", w, correlations, w, optimize=True)
    covariance = np.einsum("ndm,dm->nd", w, c)
    defined = variance > 0
    scores = np.where(defined, covariance / np.sqrt(np.where(defined, variance, 1.0)), 0.0)
    return np.asarray(scores.mean(axis=1))
