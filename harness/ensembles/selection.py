"""Scores of trials -> members and weights. Pure."""

import numpy as np
from numpy.typing import NDArray

from harness.errors import InputError


def top_k(scores: NDArray[np.float64], k: int) -> NDArray[np.intp]:
    """The k best trials, best first; ties go to the one that stands first.

    Args:
        scores: (trials,) mean PCC each, finite.

    Raises:
        InputError: fewer than k trials, or k below 1.
    """
    if k < 1:
        raise InputError(f"--top {k}: an ensemble has at least 1 member")
    if len(scores) < k:
        raise InputError(f"--top {k}: only {len(scores)} eligible trials; choose --top up to that")
    return np.argsort(-scores, kind="stable")[:k]


def uniform(k: int) -> NDArray[np.float64]:
    """Equal weights of k members, which sum to 1: the paper's average."""
    return np.full(k, 1.0 / k)
