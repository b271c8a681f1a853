"""Dividing clips into parts such that the clips of a person stay together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def divided(groups: NDArray[np.intp], shares: Sequence[float], seed: int) -> NDArray[np.intp]:
    """(clips,) the part of each clip: whole groups, the large ones first, each into the part that
    is then the least full for its share.

    Args:
        groups: (clips,) numbers of groups, from 0 without a gap.
        shares: of each part, in any unit.
    """
    sizes = np.bincount(groups)
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    wanted, load = np.array(shares, np.float64), np.zeros(len(shares))
    part = np.empty(len(sizes), np.intp)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        part[group] = np.argmin((load + sizes[group]) / wanted)
        load[part[group]] += sizes[group]
    return part[groups]
