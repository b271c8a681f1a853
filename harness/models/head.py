"""The regression head: LSTM, pooling over time, two fully connected layers, sigmoid.

Shape in: (clips, time, features) with true lengths; shape out: (clips, targets) in (0, 1).
Padding stands behind a sequence's end and changes nothing: a forward LSTM is causal, the backward
one reads each sequence reversed within its own length, and pooling looks at true steps only. So
the dense path over padded sequences and the packed one over true steps are the same function.
"""

import torch
from torch import Tensor, nn

from harness.models.config import TrialConfig
from harness.models.packed import Packing, packed_lstm


class LSTMHead(nn.Module):
    """The head of the authors' public code, with depth, direction and pooling as choices.

    `root` says that what it gives are square roots of ratings.
    """

    mean: Tensor
    scale: Tensor
    lowest: Tensor
    span: Tensor

    def __init__(self, features: int, targets: int, config: TrialConfig) -> None:
        """features, targets: how many values a step and a clip's ratings have."""
        super().__init__()
        hidden, layers = config.hidden, config.layers
        width = 2 * hidden if config.bidirectional else hidden
        # One single-layer LSTM a layer and direction, so that each direction is a causal pass.
        self.forwards = nn.ModuleList(
            nn.LSTM(width if layer else features, hidden, batch_first=True)
            for layer in range(layers)
        )
        self.backwards = nn.ModuleList(
            nn.LSTM(width if layer else features, hidden, batch_first=True)
            for layer in range(layers if config.bidirectional else 0)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.attention = nn.Linear(width, 1) if config.pooling == "attention" else None
        self.pooling = config.pooling
        self.root = config.label_transform == "sqrt"
        self.widen = nn.Linear(width, config.head_width)
        self.out = nn.Linear(config.head_width, targets)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.register_buffer("lowest", torch.zeros(targets))
        self.register_buffer("span", torch.ones(targets))

    def normalise_by(self, mean: Tensor, deviation: Tensor) -> None:
        """Makes the head standardise its input; it is stored and saved with the weights.

        mean, deviation: of each feature over the training split, shape (features,).
        """
        self.mean.copy_(mean)
        # A feature that never varies carries nothing; dividing by its zero would carry NaN.
        self.scale.copy_(torch.where(deviation > 1e-8, 1 / deviation.clamp_min(1e-8), 0.0))

    def range_by(self, lowest: Tensor, highest: Tensor) -> None:
        """Makes the head learn ratings stretched from these bounds, (targets,) each, to [0, 1]."""
        self.lowest.copy_(lowest)
        # A target that never varies is learnt as it is.
        self.span.copy_(torch.where(highest > lowest, highest - lowest, 1.0))

    def learnt(self, ratings: Tensor) -> Tensor:
        """Ratings as `forward` gives them."""
        stretched = (ratings - self.lowest) / self.span
        return stretched.clamp_min(0).sqrt() if self.root else stretched

    def ratings(self, learnt: Tensor) -> Tensor:
        """The inverse: what `forward` gives, as ratings."""
        return (learnt.square() if self.root else learnt) * self.span + self.lowest

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """features: (clips, time, features); lengths: (clips,) in 1..time -> (clips, targets).

        Dense on a GPU, whose own LSTM is the faster one, and packed on a CPU: equal but for
        rounding, and for which steps dropout between layers hits.
        """
        ways = self.dense if features.is_cuda else self.packed
        return ways(features, lengths)

    def packed(self, features: Tensor, lengths: Tensor) -> Tensor:
        """`forward` over the true steps alone."""
        packing = Packing.of(lengths)
        x = (packing.pack(features) - self.mean) * self.scale
        for layer, lstm in enumerate(self.forwards):
            if layer:
                x = self.dropout(x)
            ahead = packed_lstm(x, lstm, packing)  # type: ignore[arg-type]
            if len(self.backwards):
                behind = self.backwards[layer]
                back = packed_lstm(x[packing.reverse], behind, packing)  # type: ignore[arg-type]
                ahead = torch.cat([ahead, back[packing.reverse]], dim=-1)
            x = ahead
        return self._rated(packing.unsorted(self._pool_packed(x, packing)))

    def dense(self, features: Tensor, lengths: Tensor) -> Tensor:
        """`forward` over all steps, those behind an end included."""
        x = (features - self.mean) * self.scale
        last = (lengths - 1).clamp_min(0)
        reverse = _reversed_steps(last, x.shape[1]) if len(self.backwards) else None
        for layer, lstm in enumerate(self.forwards):
            if layer:
                x = self.dropout(x)
            ahead, _ = lstm(x)
            if reverse is not None:
                back, _ = self.backwards[layer](_take_steps(x, reverse))
                ahead = torch.cat([ahead, _take_steps(back, reverse)], dim=-1)
            x = ahead
        return self._rated(self._pool(x, last))

    def _rated(self, pooled: Tensor) -> Tensor:
        pooled = self.dropout(torch.relu(pooled))
        return torch.sigmoid(self.out(torch.relu(self.widen(pooled))))

    def _pool_packed(self, x: Tensor, packing: Packing) -> Tensor:
        if self.pooling == "last":
            if not len(self.backwards):
                return x[packing.last]
            half = x.shape[-1] // 2
            return torch.cat([x[packing.last, :half], x[: len(packing.order), half:]], dim=-1)
        clips = len(packing.order)
        if self.attention is None:
            weights = 1 / packing.lengths[packing.clip].to(x.dtype)
        else:
            score = self.attention(x).squeeze(-1)
            padded = score.new_full((clips, len(packing.sizes)), float("-inf"))
            place = (packing.clip, packing.step)
            weights = padded.index_put(place, score).softmax(dim=1)[place]
        zero = x.new_zeros(clips, x.shape[-1])
        return zero.index_add(0, packing.clip, x * weights[:, None])

    def _pool(self, x: Tensor, last: Tensor) -> Tensor:
        if self.pooling == "last":
            return self._last(x, last)
        valid = torch.arange(x.shape[1], device=x.device) <= last[:, None]
        if self.attention is None:
            weights = valid / (last[:, None] + 1)
        else:
            score = self.attention(x).squeeze(-1).masked_fill(~valid, float("-inf"))
            weights = score.softmax(dim=1)
        # Not a product alone: what stands behind the end may be anything, 0 x inf is NaN.
        kept = torch.where(valid[..., None], x, torch.zeros_like(x))
        return torch.einsum("nt,nth->nh", weights.to(x.dtype), kept)

    def _last(self, x: Tensor, last: Tensor) -> Tensor:
        rows = torch.arange(len(x), device=x.device)
        if not len(self.backwards):
            return x[rows, last]
        # The backward pass ends at the sequence's first step.
        half = x.shape[-1] // 2
        return torch.cat([x[rows, last, :half], x[:, 0, half:]], dim=-1)


def _reversed_steps(last: Tensor, time: int) -> Tensor:
    """Indices (clips, time) that reverse each sequence within its length; its own inverse."""
    steps = torch.arange(time, device=last.device)
    reverse = last[:, None] - steps
    return torch.where(reverse >= 0, reverse, steps)


def _take_steps(x: Tensor, steps: Tensor) -> Tensor:
    return x.gather(1, steps[..., None].expand(-1, -1, x.shape[-1]))
