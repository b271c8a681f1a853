"""Every hyperparameter of a trial, flat and frozen.

The field names are the names in the search space, in Optuna and in the tables.
"""

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, Literal

Scalar = str | int | float | bool
# Far above what anyone trains; a wrong digit, or a file of others, must not ask for all memory.
_MOST = {
    "stride": 100_000,
    "layers": 64,
    "hidden": 16_384,
    "head_width": 16_384,
    "batch_size": 1_000_000,
    "epochs": 1_000_000,
    "patience": 1_000_000,
}


@dataclass(frozen=True)
class TrialConfig:
    """The hyperparameters of one trial; the defaults are those of the authors' public code.

    loss: what is minimised: 1 - CCC, 1 - PCC, or the mean squared error.
    reduction: correlation over the mean of the targets' own (`per_target`), over the flattened
        (batch x targets) matrix (`flat`), or the mean of the two (`both`).
    features: of each frame: the network's 22 `outputs`, the 512 numbers of its `shared`
        representation, or `both`.
    stride: every how many decoded frames one is kept.
    sequence: `full` length with padding, or the authors' `fixed-12` (centre-trim, repeat last).
    layers, hidden, bidirectional, dropout: of the LSTM; dropout is a probability, applied
        between its layers and before the head.
    pooling: of the LSTM's outputs over time: at the `last` step, their `mean`, or `attention`.
    head_width: units of the fully connected layer between LSTM and intensities.
    label_transform: what the head learns: the ratings (`none`), their square `sqrt` root, which
        spreads the many small ones, or their `range` in train stretched to [0, 1]; predictions are
        ratings again.
    optimiser: `adam`, or `adamw` with its weight decay apart from the gradient (Loshchilov &
        Hutter, 2019). lr, weight_decay: of it. schedule: of the learning rate over the epochs.
    clip_norm: largest norm of the gradient; 0 leaves it as it is.
    ema: decay a step of the exponential moving average of the weights, which is then what is
        scored and kept; 0: the weights themselves.
    batch_size: clips. epochs: at most. patience: epochs without a better score before stopping.
    normalise: features to zero mean and unit deviation of the training split.
    precision: of the LSTM's large matrix products, `float32` or `bf16`, on a GPU TF32; never of the
        loss, weights or sums. bf16 is faster on processors that have it, much slower on others.
    seed: of initial weights, shuffling and dropout.
    """

    loss: Literal["ccc", "pcc", "mse"] = "ccc"
    reduction: Literal["per_target", "flat", "both"] = "per_target"
    features: Literal["outputs", "shared", "both"] = "outputs"
    stride: int = 30
    sequence: Literal["full", "fixed-12"] = "full"
    layers: int = 2
    hidden: int = 128
    bidirectional: bool = False
    dropout: float = 0.0
    pooling: Literal["last", "mean", "attention"] = "last"
    head_width: int = 128
    label_transform: Literal["none", "sqrt", "range"] = "none"
    optimiser: Literal["adam", "adamw"] = "adam"
    lr: float = 0.01
    weight_decay: float = 0.001
    schedule: Literal["constant", "cosine", "plateau"] = "plateau"
    clip_norm: float = 1.0
    ema: float = 0.0
    batch_size: int = 128
    epochs: int = 50
    patience: int = 15
    normalise: bool = True
    precision: Literal["float32", "bf16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
            if getattr(self, name) > most:
                raise ValueError(f"{name} must be at most {most}, got {getattr(self, name)}")
        for name in ("weight_decay", "clip_norm", "lr"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} must be finite, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be in [0, 1), got {self.ema}")
        for name in ("weight_decay", "clip_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.lr <= 0:
            raise ValueError(f"lr must be above 0, got {self.lr}")

    def to_dict(self) -> dict[str, Scalar]:
        """Plain values by name, fit for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrialConfig":
        """The inverse of `to_dict`. An unknown name raises TypeError."""
        return cls(**values)

    def digest(self) -> str:
        """sha256 of the configuration, seed included."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
