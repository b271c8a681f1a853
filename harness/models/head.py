"""The regression head: scaler, projection, sequence model, regressor, transform, calibration.

Shape in: (clips, time, columns) with true lengths, with late fusion for each stream; shape out:
(clips, targets). Padding has no influence.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.models.config import TrialConfig
from harness.models.families import FAMILIES
from harness.models.families.family import Family
from harness.models.fusion import Late, Parallel, Read
from harness.models.scaler import MaskedScaler, Scaler

# A smaller relative deviation of raw outputs is rounding of float32.
_ROUNDING = 1e-6


class Regressor(nn.Module):
    """Two fully connected layers and a sigmoid: (clips, width) -> (clips, targets) in (0, 1)."""

    def __init__(self, width: int, targets: int, config: TrialConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.widen = nn.Linear(width, config.head_width)
        self.out = nn.Linear(config.head_width, targets)

    def forward(self, pooled: Tensor) -> Tensor:
        pooled = self.dropout(torch.relu(pooled))
        return torch.sigmoid(self.out(torch.relu(self.widen(pooled))))


class TargetTransform(nn.Module):
    """Ratings <-> what is learnt in their place: stretched from a range to [0, 1], or its root."""

    lowest: Tensor
    span: Tensor

    def __init__(self, targets: int, kind: str) -> None:
        """kind: `none`, `sqrt` or `range`."""
        super().__init__()
        self.kind = kind
        self.register_buffer("lowest", torch.zeros(targets))
        self.register_buffer("span", torch.ones(targets))

    def fit(self, ratings: Tensor) -> None:
        """Takes the range of ratings (clips, targets), if the transform has one."""
        if self.kind == "range":
            lowest, highest = ratings.amin(0), ratings.amax(0)
            self.lowest.copy_(lowest)
            # A target that never varies is learnt as it is.
            self.span.copy_(torch.where(highest > lowest, highest - lowest, 1.0))

    def forward(self, ratings: Tensor) -> Tensor:
        stretched = (ratings - self.lowest) / self.span
        return stretched.clamp_min(0).sqrt() if self.kind == "sqrt" else stretched

    def inverse(self, learnt: Tensor) -> Tensor:
        """What a head gives, as ratings."""
        return (learnt.square() if self.kind == "sqrt" else learnt) * self.span + self.lowest


class Calibration(nn.Module):
    """(raw - centre) * slope + level for each target, with slope > 0: raw outputs -> intensities.

    A head that is trained by a correlation learns neither the level nor the scale of the ratings.
    The map gives its outputs the mean and the standard deviation of the ratings. It changes no PCC.
    """

    centre: Tensor
    slope: Tensor
    level: Tensor

    def __init__(self, targets: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(targets))
        self.register_buffer("slope", torch.ones(targets))
        self.register_buffer("level", torch.zeros(targets))

    def fit(self, raw: Tensor, ratings: Tensor) -> None:
        """Fits the map to raw outputs and ratings, (clips, targets) each."""
        raw, ratings = raw.double(), ratings.double()
        scale, wanted = (values.std(0, unbiased=False) for values in (raw, ratings))
        centre = raw.mean(0)
        # A constant column has no scale.
        varies = (scale > _ROUNDING * centre.abs()) & (wanted > 0)
        self.slope.copy_(torch.where(varies, wanted / torch.where(varies, scale, 1.0), 1.0))
        self.centre.copy_(centre)
        self.level.copy_(ratings.mean(0))

    def reset(self) -> None:
        """Returns to the identity."""
        self.centre.zero_()
        self.slope.fill_(1.0)
        self.level.zero_()

    def forward(self, raw: Tensor) -> Tensor:
        return (raw - self.centre) * self.slope + self.level


class Head(nn.Module):
    """The modules that a configuration asks for, one after the other."""

    def __init__(self, columns: Sequence[int], targets: int, config: TrialConfig) -> None:
        """columns: how many values a step of each stream has, in alphabetical order of the streams'
        names. targets: how many a clip's ratings have."""
        super().__init__()
        self.scaler: Scaler | Parallel
        self.sequence: Family | Late
        if len(columns) > 1 and config.fusion == "late":
            self.scaler = Parallel(MaskedScaler([width]) for width in columns)
            self.project: nn.Module = Parallel(_projection(width, config) for width in columns)
            models = [_sequence_model(width, config) for width in columns]
            self.sequence = Late(models, config.stream_dropout)
        else:
            several = len(columns) > 1
            self.scaler = (
                MaskedScaler(columns, config.stream_dropout) if several else Scaler(*columns)
            )
            self.project = _projection(sum(columns), config)
            self.sequence = _sequence_model(sum(columns), config)
        self.regressor = Regressor(self.sequence.width, targets, config)
        self.transform = TargetTransform(targets, config.label_transform)
        self.calibration = Calibration(targets)
        self._normalise = config.normalise

    def fit(self, steps: Read, ratings: Tensor) -> None:
        """Sets what is not learnt by gradients from training data: steps (steps, columns), with
        late fusion of each stream, and ratings (clips, targets)."""
        if self._normalise:
            self.scaler.fit(steps)  # type: ignore[arg-type]  # as `forward` gives it
        self.transform.fit(ratings)

    def forward(self, features: Read, lengths: Read) -> Tensor:
        """features: (clips, time, columns); lengths: (clips,) in 1..time. With late fusion one of
        both for each stream, and the length 0 where a clip lacks the stream.

        Returns:
            (clips, targets), transformed as `transform` says.
        """
        pooled = self.sequence(self.project(self.scaler(features)), lengths)
        learnt: Tensor = self.regressor(pooled)
        return learnt

    def ratings(self, features: Read, lengths: Read) -> Tensor:
        """`forward` with the transform undone and calibrated: intensities."""
        calibrated: Tensor = self.calibration(self.transform.inverse(self(features, lengths)))
        return calibrated


def _projection(columns: int, config: TrialConfig) -> nn.Module:
    return nn.Linear(columns, config.project) if config.project else nn.Identity()


def _sequence_model(columns: int, config: TrialConfig) -> Family:
    return FAMILIES[config.family](config.project or columns, config)
