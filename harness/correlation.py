"""Correlation losses in torch, 1 - CCC and 1 - PCC, for training networks and heads.

Variances and covariances have the divisor n. An epsilon keeps the gradients finite for constant
outputs and for batches of one clip. The scores themselves are in `harness.metrics`.
"""

import torch
from torch import Tensor

# Much smaller than the variance of ratings in [0, 1] (about 0.1), much larger than its rounding.
EPSILON = 1e-6
# A head may have outputs of any scale: 1e-6 would change the PCC of those with a standard deviation
# of .003 by .05 of itself, and take the gradient from those that are nearly constant.
PCC_EPSILON = 1e-10


def ccc_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - CCC (Lin, 1989) over the first axis: (clips, columns) -> (columns,)."""
    a, b, mean_a, mean_b = _centred(prediction, target)
    spread = (a * a).mean(0) + (b * b).mean(0) + (mean_a - mean_b).square()
    return 1 - 2 * (a * b).mean(0) / (spread + EPSILON)


def pcc_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - PCC over the first axis: (clips, columns) -> (columns,)."""
    a, b, _, _ = _centred(prediction, target)
    # The epsilon is inside the root, whose gradient at zero is infinite.
    scale = ((a * a).mean(0) + PCC_EPSILON).sqrt() * ((b * b).mean(0) + PCC_EPSILON).sqrt()
    return 1 - (a * b).mean(0) / scale


def _centred(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # At least float32, because differences of means lose too much precision in half precision.
    kind = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    prediction, target = prediction.to(kind), target.to(kind)
    mean_a, mean_b = prediction.mean(0), target.mean(0)
    return prediction - mean_a, target - mean_b, mean_a, mean_b
