"""The loss of a head over (clips, targets), at least in float32."""

from collections.abc import Callable

import torch
from torch import Tensor

from harness.correlation import ccc_loss, pcc_loss

Loss = Callable[[Tensor, Tensor], Tensor]
#: Fewest clips of a batch for a correlation: that of two clips is always -1 or 1.
FEWEST = 3


def mse_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error along the first axis, shape (clips, columns) -> (columns,)."""
    kind = torch.promote_types(prediction.dtype, torch.float32)
    return (prediction.to(kind) - target.to(kind)).square().mean(0)


_COLUMN_LOSSES: dict[str, Loss] = {"ccc": ccc_loss, "pcc": pcc_loss, "mse": mse_loss}


def fewest_clips(loss: str, reduction: str, targets: int = FEWEST) -> int:
    """How many clips a batch needs at least; with `flat`, the targets of one clip may do."""
    if loss == "mse":
        return 1
    return -(-FEWEST // targets) if reduction == "flat" else FEWEST


def reduced_loss(loss: str, reduction: str) -> Loss:
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
        return per_target(prediction.reshape(-1, 1), target.reshape(-1, 1))

    def both(prediction: Tensor, target: Tensor) -> Tensor:
        return (per_target(prediction, target) + flat(prediction, target)) / 2

    return {"per_target": per_target, "flat": flat, "both": both}[reduction]
