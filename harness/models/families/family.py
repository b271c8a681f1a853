"""What every sequence model offers."""

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from harness.models.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    from harness.models.config import TrialConfig


class Family(nn.Module):
    """A sequence model: the steps of a clip in, one vector out.

    Derive from it, declare `Options`, and set `width` in the constructor. Steps behind a sequence's
    end must change nothing.
    """

    #: The record of the family's own hyperparameters; the trial's are in `TrialConfig.own`.
    Options: ClassVar[type[Hyperparameters]]

    #: Number of values that `forward` gives for a clip.
    width: int

    def __init__(self, columns: int, config: "TrialConfig") -> None:
        """columns: of a step."""
        super().__init__()

    def forward(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """steps: (clips, time, columns), scaled; lengths: (clips,) in 1..time.

        Returns:
            (clips, width).
        """
        raise NotImplementedError
