"""Losses of correlation in torch: 1 - CCC and 1 - PCC, which networks and heads learn by.

The variance and the covariance share the divisor n, and an epsilon keeps gradients finite for
constant outputs and batches of one clip. Scores are those of `harness.metrics`.
"""

from torch import Tensor

# Far below the variance of ratings in [0, 1] (about 0.1), far above float32 rounding of it.
EPSILON = 1e-6


def ccc_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - CCC (Lin, 1989) along the first axis, shape (clips, columns) -> (columns,)."""
    a, b, mean_a, mean_b = _centred(prediction, target)
    spread = (a * a).mean(0) + (b * b).mean(0) + (mean_a - mean_b).square()
    return 1 - 2 * (a * b).mean(0) / (spread + EPSILON)


def pcc_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - PCC along the first axis, shape (clips, columns) -> (columns,)."""
    a, b, _, _ = _centred(prediction, target)
    # The epsilon inside each root: the root's gradient at zero is infinite.
    scale = ((a * a).mean(0) + EPSILON).sqrt() * ((b * b).mean(0) + EPSILON).sqrt()
    return 1 - (a * b).mean(0) / scale


def _centred(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # Half precision never reaches a difference of means.
    prediction, target = prediction.float(), target.float()
    mean_a, mean_b = prediction.mean(0), target.mean(0)
    return prediction - mean_a, target - mean_b, mean_a, mean_b
