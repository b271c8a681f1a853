"""Which sequences of a batch are computed together, so that little padding is.

torch's LSTM on a CPU (oneDNN's) takes dense arrays alone. It is about twice as fast as matrix
products step by step, but computes padding too; sequences of similar length have little of it.
"""

import numpy as np
import torch
from torch import Tensor

#: What another group costs, in steps of one clip times units: 160, 90 and 50 steps were measured
#: for 64, 128 and 256 units.
_GROUP_COST = 10_000


def groups_of_similar_length(lengths: Tensor, hidden: int) -> list[Tensor]:
    """Splits a batch into groups of clips, so that their padded steps and groups cost least.

    Args:
        lengths: (clips,) at least 1, on the CPU. hidden: units of a layer.

    Returns:
        Of each group the places of its clips in the batch; the groups of short sequences first.
    """
    ordered, order = torch.sort(lengths, stable=True)
    longest, clips = np.unique(ordered.numpy(), return_counts=True)
    until = np.concatenate([[0], np.cumsum(clips)])
    # The least cost of the first j lengths, and where their last group begins.
    cost, begins = np.zeros(len(until)), np.zeros(len(until), np.int64)
    for j in range(1, len(until)):
        each = cost[:j] + longest[j - 1] * (until[j] - until[:j]) + _GROUP_COST / hidden
        begins[j] = each.argmin()
        cost[j] = each[begins[j]]
    ends, j = [], len(longest)
    while j:
        ends.append(until[j])
        j = begins[j]
    sizes = np.diff([0, *reversed(ends)])
    return list(torch.split(order, sizes.tolist()))
