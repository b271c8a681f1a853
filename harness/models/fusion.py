"""Late fusion: a sequence model for each stream, their vectors side by side."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.models.families.family import Family
from harness.models.scaler import kept_streams

#: What a head reads: one tensor, or with late fusion one for each stream.
Read = Tensor | tuple[Tensor, ...]


class Parallel(nn.ModuleList):
    """A module for each stream, which is applied to that stream alone."""

    def fit(self, steps: tuple[Tensor, ...]) -> None:
        """Fits each module to the steps of its stream."""
        for module, each in zip(self, steps, strict=True):
            module.fit(each)  # type: ignore[operator]  # scalers

    def forward(self, steps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(module(each) for module, each in zip(self, steps, strict=True))


class Late(nn.ModuleList):
    """The vectors of the streams side by side; that of a stream that a clip lacks is zero."""

    def __init__(self, models: Sequence[Family], dropout: float) -> None:
        """dropout: probability that a stream of a clip is treated as missing in training."""
        super().__init__(models)
        self.width, self.dropout = sum(model.width for model in models), dropout

    def forward(self, steps: tuple[Tensor, ...], lengths: tuple[Tensor, ...]) -> Tensor:
        """steps: for each stream (clips, time, columns); lengths: for each (clips,), 0 where a clip
        lacks the stream. Returns (clips, width)."""
        present = torch.stack([length > 0 for length in lengths], dim=1)
        if self.training and self.dropout:
            present = present & kept_streams(present, self.dropout)
        vectors = [
            torch.where(here[:, None], model(x, length.clamp_min(1)), 0.0)
            for model, x, length, here in zip(self, steps, lengths, present.unbind(1), strict=True)
        ]
        return torch.cat(vectors, dim=1)
