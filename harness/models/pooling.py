"""Pooling over time: the outputs of a sequence model at each step -> one vector a clip."""

import torch
from torch import Tensor, nn


class Pooling(nn.Module):
    """The last step, the mean over the steps, or their mean weighted by learned attention.

    Only true steps count; padding has no influence, whatever its values.
    """

    def __init__(self, kind: str, width: int, two_ways: bool = False) -> None:
        """kind: `last`, `mean` or `attention`. width: values of a step. two_ways: their second half
        was computed from the sequence's end on, so that its last step is the first."""
        super().__init__()
        self.kind, self.two_ways = kind, two_ways
        self.attention = nn.Linear(width, 1) if kind == "attention" else None

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x: (clips, time, width), padded; lengths: (clips,) in 1..time -> (clips, width)."""
        if self.kind == "last":
            rows = torch.arange(len(x), device=x.device)
            return self._both(x[rows, lengths - 1], x[:, 0])
        valid = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        if self.attention is None:
            weights = valid / lengths[:, None]
        else:
            score = self.attention(x).squeeze(-1).masked_fill(~valid, float("-inf"))
            weights = score.softmax(dim=1)
        # Not a product alone: padding may hold any value, and 0 x inf is NaN.
        kept = torch.where(valid[..., None], x, torch.zeros_like(x))
        return torch.einsum("nt,nth->nh", weights.to(x.dtype), kept)

    def _both(self, last: Tensor, first: Tensor) -> Tensor:
        half = last.shape[-1] // 2
        return torch.cat([last[:, :half], first[:, half:]], dim=-1) if self.two_ways else last
