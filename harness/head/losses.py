"""Losses over (clips, targets): 1 - CCC, 1 - PCC and the squared error, in float32 or wider.

The variance and the covariance share the divisor n, and an epsilon keeps gradients finite for
constant outputs and batches of one clip.
"""

from collections.abc import Callable

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


def mse_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error along the first axis, shape (clips, columns) -> (columns,)."""
    return (prediction.float() - target.float()).square().mean(0)


_COLUMN_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ccc": ccc_loss,
    "pcc": pcc_loss,
    "mse": mse_loss,
}


def reduced_loss(loss: str, reduction: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The scalar loss of (clips, targets) predictions and ratings.

    Args:
        loss: `ccc`, `pcc` or `mse`.
        reduction: `per_target` (mean of the targets' losses), `flat` (one loss of the flattened
            matrix), or `both` (the mean of the two).
    """
    columns = _COLUMN_LOSSES[loss]

    def per_target(prediction: Tensor, target: Tensor) -> Tensor:
        return columns(prediction, target).mean()

    def flat(prediction: Tensor, target: Tensor) -> Tensor:
        return columns(prediction.reshape(-1, 1), target.reshape(-1, 1)).mean()

    def both(prediction: Tensor, target: Tensor) -> Tensor:
        return (per_target(prediction, target) + flat(prediction, target)) / 2

    return {"per_target": per_target, "flat": flat, "both": both}[reduction]


def _centred(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # Half precision never reaches a difference of means.
    prediction, target = prediction.float(), target.float()
    mean_a, mean_b = prediction.mean(0), target.mean(0)
    return prediction - mean_a, target - mean_b, mean_a, mean_b
