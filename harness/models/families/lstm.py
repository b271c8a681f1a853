"""Stacked LSTM layers, as in the authors' public code, with depth, width and direction as choices.

A forward LSTM is causal, and the backward one reads each sequence reversed within its own length,
so that padding behind an end changes nothing.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from torch import Tensor, nn

from harness.models.alike import groups_of_similar_length
from harness.models.families.family import Family
from harness.models.hyperparameters import Hyperparameters, Memory, Range
from harness.models.pooling import Pooling

if TYPE_CHECKING:
    from harness.models.config import TrialConfig


class LSTM(Family):
    """LSTM layers, dropout between them, and pooling over time."""

    @dataclass(frozen=True)
    class Options(Hyperparameters):
        """Of the LSTM alone."""

        layers: Annotated[int, Range(1, 64), Memory()] = 2
        """Number of LSTM layers, at least 1."""

        hidden: Annotated[int, Range(1, 16_384), Memory()] = 128
        """Width of an LSTM layer, in units per direction; at least 1."""

        bidirectional: Annotated[bool, Memory()] = False
        """Whether each LSTM layer also reads the sequence from its end."""

        initial: Literal["glorot", "uniform"] = "glorot"
        """The weights of the LSTM layers before training. `uniform`: all in +-1 / sqrt(hidden),
        torch's default and the authors', with which little of what differs between clips comes
        through several layers. `glorot`: the same, but weights between two layers as Glorot &
        Bengio (2010), and forget gates that are open, as Jozefowicz et al. (2015)."""

    def __init__(self, columns: int, config: "TrialConfig") -> None:
        super().__init__(columns, config)
        own = config.own
        assert isinstance(own, self.Options)  # TrialConfig checks it
        self.hidden = own.hidden
        self.width = 2 * own.hidden if own.bidirectional else own.hidden
        # One single-layer LSTM a layer and direction, so that each direction is a causal pass.
        self.forwards = nn.ModuleList(
            nn.LSTM(self.width if layer else columns, own.hidden, batch_first=True)
            for layer in range(own.layers)
        )
        self.backwards = nn.ModuleList(
            nn.LSTM(self.width if layer else columns, own.hidden, batch_first=True)
            for layer in range(own.layers if own.bidirectional else 0)
        )
        if own.initial == "glorot":
            for lstms in (self.forwards, self.backwards):
                for layer, lstm in enumerate(lstms):
                    _begin(lstm, above=layer > 0)
        self.dropout = nn.Dropout(config.dropout)
        self.pooling = Pooling(config.pooling, self.width, own.bidirectional)

    def forward(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """On a CPU, groups of similar length one after the other; on a GPU the batch at once."""
        groups = [] if steps.is_cuda else groups_of_similar_length(lengths, self.hidden)
        if len(groups) < 2:
            return self.together(steps, lengths)
        pooled = [
            self.together(steps[rows, : int(lengths[rows].max())], lengths[rows]) for rows in groups
        ]
        return torch.cat(pooled)[torch.argsort(torch.cat(groups))]

    def together(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """`forward` over all steps, those behind an end included."""
        x = steps
        reverse = _reversed_steps(lengths, x.shape[1]) if len(self.backwards) else None
        for layer, lstm in enumerate(self.forwards):
            if layer:
                x = self.dropout(x)
            ahead, _ = lstm(x)
            if reverse is not None:
                back, _ = self.backwards[layer](_take_steps(x, reverse))
                ahead = torch.cat([ahead, _take_steps(back, reverse)], dim=-1)
            x = ahead
        pooled: Tensor = self.pooling(x, lengths)
        return pooled


@torch.no_grad()
def _begin(lstm: nn.Module, *, above: bool) -> None:
    """The initial weights `glorot` of a layer, each of its four gates by itself.

    Args:
        above: whether it reads another layer. Larger weights on the features only fit the training
            clips sooner.
    """
    weights = dict(lstm.named_parameters())
    forget = weights["bias_ih_l0"].chunk(4)[1]  # of input, forget, cell and output
    forget.fill_(1.0)
    if above:
        for gate in weights["weight_ih_l0"].chunk(4):
            nn.init.xavier_uniform_(gate)


def _reversed_steps(lengths: Tensor, time: int) -> Tensor:
    """Indices (clips, time) that reverse each sequence within its length; its own inverse."""
    steps = torch.arange(time, device=lengths.device)
    reverse = lengths[:, None] - 1 - steps
    return torch.where(reverse >= 0, reverse, steps)


def _take_steps(x: Tensor, steps: Tensor) -> Tensor:
    return x.gather(1, steps[..., None].expand(-1, -1, x.shape[-1]))
