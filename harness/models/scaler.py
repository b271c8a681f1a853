"""Standardisation of features, and masks of the streams that a step or a clip lacks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Scaler(nn.Module):
    """(x - mean) * scale for each column: standardised features, or as they are before `fit`."""

    mean: Tensor
    scale: Tensor

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("scale", torch.ones(columns))

    def fit(self, steps: Tensor) -> None:
        """Standardises by the mean and standard deviation of steps, shape (steps, columns)."""
        _standardise(self.mean, self.scale, steps)

    def forward(self, steps: Tensor) -> Tensor:
        return (steps - self.mean) * self.scale


class MaskedScaler(Scaler):
    """The same of several streams side by side, each standardised by the steps that have it.

    NaN marks the columns of a stream that a step lacks; they become zero, the mean of train. In
    training, whole streams of a clip are masked as well.
    """

    def __init__(self, widths: Sequence[int], dropout: float = 0.0) -> None:
        """widths: columns of each stream. dropout: probability that a stream of a clip is masked in
        training."""
        super().__init__(sum(widths))
        self.widths, self.dropout = list(widths), dropout

    def fit(self, steps: Tensor) -> None:
        parts = (torch.split(each, self.widths, -1) for each in (self.mean, self.scale, steps))
        for mean, scale, part in zip(*parts, strict=True):
            _standardise(mean, scale, part[~part[:, 0].isnan()])

    def forward(self, steps: Tensor) -> Tensor:
        """steps: (clips, time, columns)."""
        parts = torch.split(steps, self.widths, -1)
        masked = torch.stack([part[..., 0].isnan() for part in parts], dim=-1)
        if self.training and self.dropout:
            masked = masked | ~kept_streams(~masked.all(1), self.dropout)[:, None]
        columns = [each[..., None].expand(part.shape) for each, part in zip(
            masked.unbind(-1), parts, strict=True)]  # fmt: skip
        return super().forward(steps).masked_fill(torch.cat(columns, dim=-1), 0.0)


def kept_streams(present: Tensor, dropout: float) -> Tensor:
    """Draws which streams of each clip are kept: each with probability 1 - dropout, and at least
    one of those that are present. Shape (clips, streams), as `present`."""
    drawn = torch.rand(present.shape, device=present.device)
    last = torch.where(present, drawn, -1.0).argmax(dim=1, keepdim=True)
    return (drawn >= dropout).scatter(1, last, value=True)


def _standardise(mean: Tensor, scale: Tensor, steps: Tensor) -> None:
    """Sets mean and scale, (columns,) each, by steps; to zero if there is no step."""
    if not len(steps):
        mean.zero_()
        scale.zero_()
        return
    real = steps.double()
    deviation = real.std(0, unbiased=False).float()
    mean.copy_(real.mean(0).float())
    # A feature that never varies carries nothing; dividing by its zero would carry NaN.
    scale.copy_(torch.where(deviation > 1e-8, 1 / deviation.clamp_min(1e-8), 0.0))
