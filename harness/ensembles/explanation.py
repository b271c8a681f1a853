"""Score, contribution and correlation of each member of an ensemble. No I/O."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.moments import Moments
from harness.ensembles.selection import Choice, factors

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Member:
    """A member of an ensemble, measured on val, which selected it.

    trial: id of the trial, with the study as prefix if there are several studies.
    study: name of the study's folder.
    family: of the trial.
    weight: mean over the targets.
    influence: share in the average: weight times standard deviation of what is averaged, with sum
        1; mean over the targets.
    pcc: mean PCC of the member alone.
    left_out: leave-one-out change: the change of the ensemble's mean PCC without the member,
        negative if the member helps; None for a single member.
    correlation: with the other members, mean over members and targets; None for a single member.
    """

    trial: str
    study: str
    family: str
    weight: float
    influence: float
    pcc: float
    left_out: float | None
    correlation: float | None


@dataclass(frozen=True)
class Explanation:
    """The explanation of an ensemble of m members.

    own: (m,) mean PCC of each member.
    left_out, with_others: (m,) `Member.left_out` and `Member.correlation`.
    correlations: (m, m) correlations of the members' predictions, mean over the targets.
    influence: (m,) `Member.influence`.
    effective: effective number of members by influence: 1 / sum of squared influences.
    independent: by influence v and correlations R: 1 / v'Rv. It is the number of uncorrelated
        members that have an equal average of the same variance.
    """

    own: Floats
    left_out: tuple[float | None, ...]
    with_others: tuple[float | None, ...]
    correlations: Floats
    influence: Floats
    effective: float
    independent: float


def explain(moments: Moments, choice: Choice) -> Explanation:
    """Computes the explanation of a choice from the moments of all folds."""
    evidence = moments.evidence()
    members = choice.members
    R = np.stack([evidence.column(j, members)[:, members] for j in members.tolist()], axis=1)
    c = evidence.scores[:, members]
    # Of standardised values, so that a factor is weight times standard deviation.
    w = factors(choice, moments, evidence) * evidence.scales[:, members]
    influence = (w / w.sum(axis=1, keepdims=True)).mean(axis=0)
    left_out: tuple[float | None, ...] = (None,)
    with_others: tuple[float | None, ...] = (None,)
    correlations = R.mean(axis=0)
    m = len(members)
    if m > 1:
        # (m, targets, m): row i has the weights without member i.
        others = w * (1 - np.eye(m))[:, None]
        left_out = tuple((_score(others, c, R) - _score(w[None], c, R)).tolist())
        total = correlations.sum(axis=1) - np.diagonal(correlations)
        with_others = tuple((total / (m - 1)).tolist())
    return Explanation(
        own=evidence.ranking[members],
        left_out=left_out,
        with_others=with_others,
        correlations=correlations,
        influence=influence,
        effective=float(1 / (influence**2).sum()),
        independent=float(1 / (influence @ correlations @ influence)),
    )


def _score(w: Floats, c: Floats, correlations: Floats) -> Floats:
    """(n,) mean over the targets of w'c / sqrt(w'Rw), with w (n, targets, m), R the correlations.

    The score of a target without any weight is 0. This happens with separate weights for each
    target, if a target has a single member.
    """
    variance = np.einsum("ndm,dmk,ndk->nd", w, correlations, w, optimize=True)
    covariance = np.einsum("ndm,dm->nd", w, c)
    defined = variance > 0
    scores = np.where(defined, covariance / np.sqrt(np.where(defined, variance, 1.0)), 0.0)
    return np.asarray(scores.mean(axis=1))
