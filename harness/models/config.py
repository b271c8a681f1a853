"""The hyperparameters of a trial: one frozen record that models and training read.

A field's name is its name in search spaces, in Optuna and in the tables. Its annotation holds the
values that it accepts and whether memory grows with it; whatever needs these reads them here.
"""

import dataclasses
import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

Scalar = str | int | float | bool

#: Hyperparameters of earlier versions, each with the value that means what this version does.
_REMOVED = {"precision": "float32"}


@dataclass(frozen=True)
class Range:
    """The numbers that a hyperparameter accepts, all of them finite.

    least, most: bounds that are values themselves. above, below: bounds that are not.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        inside = self.least <= value <= self.most and self.above < value < self.below
        return inside and math.isfinite(value)

    def __str__(self) -> str:
        bounds = {"at least": self.least, "above": self.above}
        bounds |= {"at most": self.most, "below": self.below}
        told = [f"{what} {bound}" for what, bound in bounds.items() if math.isfinite(bound)]
        return " and ".join(told if len(told) > 1 else [*told, "finite"])


@dataclass(frozen=True)
class Memory:
    """A trial's memory depends on a hyperparameter: it grows with the number or, of choices, with
    their order; otherwise it shrinks."""

    grows: bool = True


# The upper bounds are far above what anyone trains: a wrong digit, or a file from elsewhere, must
# not ask for all memory.
@dataclass(frozen=True)
class TrialConfig:
    """The hyperparameters of one trial; the defaults are those of the authors' public code.

    Raises:
        ValueError: a value of another type, none of the choices, or out of range.
    """

    loss: Literal["ccc", "pcc", "mse"] = "ccc"
    """What is minimised: 1 - CCC, 1 - PCC, or the mean squared error."""

    reduction: Literal["per_target", "flat", "both"] = "per_target"
    """Over what the loss is computed: each target alone and then the mean, the flattened
    (batch x targets) matrix, or the mean of these two."""

    features: Annotated[Literal["outputs", "shared", "both"], Memory()] = "outputs"
    """Features of a frame: the network's 22 outputs, the 512 values of its shared representation,
    or both."""

    stride: Annotated[int, Range(1, 100_000), Memory(grows=False)] = 30
    """Distance between two frames that are used, in decoded frames; at least 1."""

    sequence: Literal["full", "fixed-12"] = "full"
    """Steps of a clip: all of them, or exactly 12 as in the authors' code (the centre of a longer
    clip; the last step of a shorter one repeated)."""

    layers: Annotated[int, Range(1, 64), Memory()] = 2
    """Number of LSTM layers, at least 1."""

    hidden: Annotated[int, Range(1, 16_384), Memory()] = 128
    """Width of an LSTM layer, in units per direction; at least 1."""

    bidirectional: Annotated[bool, Memory()] = False
    """Whether each LSTM layer also reads the sequence from its end."""

    dropout: Annotated[float, Range(least=0, below=1)] = 0.0
    """Probability in [0, 1) that a unit is dropped between LSTM layers and before the regressor."""

    pooling: Literal["last", "mean", "attention"] = "last"
    """How the LSTM's outputs become one vector: the last step, the mean over the steps, or their
    mean weighted by learned attention."""

    head_width: Annotated[int, Range(1, 16_384), Memory()] = 128
    """Width of the fully connected layer between LSTM and intensities, in units; at least 1."""

    label_transform: Literal["none", "sqrt", "range"] = "none"
    """What is learned in place of the ratings: nothing else, their square root, which spreads the
    many small ones, or their range in train stretched to [0, 1]. Predictions are ratings again."""

    optimiser: Literal["adam", "adamw"] = "adam"
    """Adam, or AdamW, which decays weights apart from the gradient (Loshchilov & Hutter, 2019)."""

    lr: Annotated[float, Range(above=0)] = 0.01
    """Learning rate at the start, above 0."""

    weight_decay: Annotated[float, Range(least=0)] = 0.001
    """Weight decay of the optimiser, at least 0."""

    schedule: Literal["constant", "cosine", "plateau"] = "plateau"
    """Learning rate over the epochs: constant, half a cosine down to 0, or divided by ten whenever
    more than five epochs have not improved the score."""

    clip_norm: Annotated[float, Range(least=0)] = 1.0
    """Largest norm of the gradient, at least 0; 0 does not clip it."""

    ema: Annotated[float, Range(least=0, below=1)] = 0.0
    """Decay per step, in [0, 1), of an exponential moving average of the weights, which is then
    what is scored and kept; 0 scores and keeps the weights themselves."""

    batch_size: Annotated[int, Range(1, 1_000_000), Memory()] = 128
    """Clips per step of the optimiser, at least 1."""

    epochs: Annotated[int, Range(1, 1_000_000)] = 50
    """Largest number of passes over the training clips, at least 1."""

    patience: Annotated[int, Range(1, 1_000_000)] = 15
    """Epochs without a better score after which training stops, at least 1."""

    normalise: bool = True
    """Whether each feature is scaled to mean 0 and standard deviation 1 over the training clips."""

    seed: Annotated[int, Range(least=0)] = 0
    """Seed of initial weights, shuffling and dropout; at least 0. A search derives it from its own
    seed and the trial's number."""

    def __post_init__(self) -> None:
        for name, hint in hints(type(self)).items():  # type: ignore[arg-type]  # classes are hashable
            if problem := _problem(hint, getattr(self, name)):
                raise ValueError(f"{name} {problem}")

    def to_dict(self) -> dict[str, Scalar]:
        """Plain values by name, fit for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrialConfig":
        """The inverse of `to_dict`. Hyperparameters that earlier versions had are ignored where
        their value means what this version does.

        Raises:
            TypeError: an unknown name, or no dict (of a file from elsewhere, say).
            ValueError: a value that is not accepted, or of a removed hyperparameter another one.
        """
        if not isinstance(values, dict):
            raise TypeError(f"expected hyperparameters by name, got {values!r}")
        for name, only in _REMOVED.items():
            if values.get(name, only) != only:
                raise ValueError(
                    f"{name} = {values[name]!r} is no longer supported, only {only!r}; train it "
                    "again, or use the version of the harness that trained it"
                )
        return cls(**{name: value for name, value in values.items() if name not in _REMOVED})


@cache
def hints(of: type[Any] = TrialConfig) -> dict[str, Any]:
    """The annotation of each hyperparameter."""
    return typing.get_type_hints(of, include_extras=True)


def memory(name: str, values: Sequence[Any]) -> Any | None:
    """The one of some values of a hyperparameter that needs the most memory; None if memory does
    not depend on it."""
    hint = hints()[name]
    mark = _mark(hint, Memory)
    if mark is None:
        return None
    choices = typing.get_args(_plain(hint))
    return (max if mark.grows else min)(values, key=choices.index if choices else None)


def _problem(hint: Any, value: Any) -> str:
    """What is wrong with the value of a hyperparameter; empty if nothing is."""
    kind = _plain(hint)
    if choices := typing.get_args(kind):
        return "" if value in choices else f"must be one of {', '.join(choices)}, got {value!r}"
    if type(value) not in ((int, float) if kind is float else (kind,)):
        return f"must be of type {kind.__name__}, got {value!r}"
    accepted = _mark(hint, Range)
    return "" if accepted is None or value in accepted else f"must be {accepted}, got {value}"


def _plain(hint: Any) -> Any:
    """An annotation without what it is marked with."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


_Mark = typing.TypeVar("_Mark", Range, Memory)


def _mark(hint: Any, kind: type[_Mark]) -> _Mark | None:
    return next((m for m in getattr(hint, "__metadata__", ()) if isinstance(m, kind)), None)
