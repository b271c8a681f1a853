"""The configuration of a trial: what models and training read.

`TrialConfig` has what all models share; a sequence model has hyperparameters of its own, declared
in its file (`harness/models/families/`). To users, spaces and files all of them are one flat
mapping, in which those of a family have its name before them (`tcn.kernel`), except those of the
default family (`layers`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from harness.models.families import DEFAULT, FAMILIES
from harness.models.hyperparameters import (
    Hyperparameters,
    Memory,
    OneOf,
    Range,
    Scalar,
    hints,
    hungriest,
)
from harness.sampling import Sampling


# The upper bounds are far above what anyone trains: a wrong digit, or a file from elsewhere, must
# not ask for all memory.
@dataclass(frozen=True)
class TrialConfig(Hyperparameters):
    """The hyperparameters of one trial.

    Where training or features of the authors' public code differ from these defaults, the second
    start point of `search_spaces/paper.toml` has their value.

    Raises:
        ValueError: a value of another type, none of the choices, or out of range.
    """

    loss: Literal["ccc", "pcc", "mse"] = "ccc"
    """What is minimised: 1 - CCC, 1 - PCC, or the mean squared error."""

    reduction: Literal["per_target", "flat", "both"] = "per_target"
    """Over what the loss is computed: each target alone and then the mean, the flattened
    (batch x targets) matrix, or the mean of these two."""

    streams: str = ""
    """The streams that are read: one name, or several joined by "+", such as "mtl-dan+sound"; their
    order does not matter. Empty: all streams of the data."""

    fusion: Annotated[Literal["early", "late"], Memory()] = "early"
    """How several streams are combined: at each step of one of them, the clock (`early`), or after
    a sequence model for each (`late`). No effect with one stream."""

    clock: str = ""
    """With early fusion, the stream that has the steps; the others are averaged between two of its
    steps. Empty: the first stream of frames."""

    stream_dropout: Annotated[float, Range(least=0, below=1)] = 0.0
    """Probability in [0, 1) that training masks a whole stream of a clip, but never all of them. No
    effect with one stream."""

    features: Annotated[Literal["outputs", "shared", "both"], Memory()] = "outputs"
    """Features of a frame: the network's 22 outputs, the 512 values of its shared representation,
    or both."""

    stride: Annotated[int, Range(1, 100_000), Memory(grows=False)] = 30
    """Distance between two frames that are used, in decoded frames; at least 1."""

    interval: Annotated[float, Range(0, 3600), Memory(grows=False)] = 0.0
    """Distance between two frames that are used, in seconds: the first frame at or after each
    multiple of it; at least 0.01, or 0: `stride` counts. Not beside another `stride` than the
    default."""

    sequence: Literal["full", "fixed-12"] = "full"
    """Steps of a clip: all of them, or exactly 12 as in the authors' code (the centre of a longer
    clip; the last step of a shorter one repeated)."""

    project: Annotated[int, Range(0, 16_384), Memory()] = 0
    """Columns to which a learnt linear map reduces the features of a step before the sequence
    model reads them; 0: no map. It makes trials on wide features faster."""

    family: Annotated[str, OneOf(lambda: FAMILIES)] = DEFAULT
    """The sequence model, by its name in `harness/models/families/`."""

    dropout: Annotated[float, Range(least=0, below=1)] = 0.0
    """Probability in [0, 1) that a unit is dropped between the layers of the sequence model and
    before the regressor."""

    pooling: Literal["last", "mean", "attention"] = "last"
    """How the outputs of the sequence model become one vector: the last step, the mean over the
    steps, or their mean weighted by learned attention."""

    head_width: Annotated[int, Range(1, 16_384), Memory()] = 128
    """Width of the fully connected layer between sequence model and intensities, in units; at
    least 1."""

    label_transform: Literal["none", "sqrt", "range"] = "none"
    """What is learned in place of the ratings: nothing else, their square root, which spreads the
    many small ones, or their range in train stretched to [0, 1]. Predictions are ratings again."""

    optimiser: Literal["adamw", "adam"] = "adamw"
    """AdamW, which decays weights apart from the gradient (Loshchilov & Hutter, 2019), or Adam, the
    authors', which adds the decay to the gradient: that of a correlation loss is so small that
    the decay can pull deep models to constant predictions."""

    lr: Annotated[float, Range(above=0)] = 0.01
    """Learning rate at the start, above 0."""

    weight_decay: Annotated[float, Range(least=0)] = 0.001
    """Weight decay of the optimiser, at least 0."""

    schedule: Literal["constant", "cosine", "plateau", "plateau-loss"] = "plateau"
    """Learning rate over the epochs: constant, half a cosine down to 0, or divided by ten whenever
    more than five epochs have not improved the score on val (`plateau`) or the loss on val
    (`plateau-loss`, as in the authors' code)."""

    clip_norm: Annotated[float, Range(least=0)] = 1.0
    """Largest norm of the gradient, at least 0; 0 does not clip it."""

    ema: Annotated[float, Range(least=0, below=1)] = 0.99
    """Decay per step, in [0, 1), of an exponential moving average of the weights, which is then
    what is scored and kept; 0 scores and keeps the weights themselves, as the authors' code
    does."""

    batch_size: Annotated[int, Range(1, 1_000_000), Memory()] = 128
    """Clips per step of the optimiser, at least 1."""

    last_batch: Literal["merge", "drop"] = "merge"
    """What happens to the clips that are left when the batch size does not divide their number. A
    remainder of less than half a batch joins the batch before it (`merge`), because a correlation
    over a few clips is noise; or every remainder is left out of the epoch (`drop`, as in the
    authors' code). Clips that are fewer than one batch are always one batch."""

    shuffle: bool = True
    """Whether each epoch has the training clips in a new random order. The authors' code keeps
    their order."""

    epochs: Annotated[int, Range(1, 1_000_000)] = 50
    """Largest number of passes over the training clips, at least 1."""

    patience: Annotated[int, Range(1, 1_000_000)] = 8
    """Epochs without a better score after which training stops, at least 1. The plateau schedules
    lower the learning rate after six, so that fewer than eight leave it no time to help."""

    normalise: bool = True
    """Whether each feature is scaled to mean 0 and standard deviation 1 over the training clips."""

    seed: Annotated[int, Range(least=0)] = 0
    """Seed of initial weights, shuffling and dropout; at least 0. A search derives it from its own
    seed and the trial's number."""

    own: Hyperparameters = field(default_factory=lambda: FAMILIES[DEFAULT].Options())
    """The sequence model's own hyperparameters."""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self.streams.split("+") if self.streams else []
        if len({name for name in names if name.strip() == name != ""}) < len(names):
            raise ValueError(
                f"streams must be different names joined by + without spaces, got {self.streams!r}"
            )
        object.__setattr__(self, "streams", "+".join(sorted(names)))
        if self.interval and self.stride != type(self).stride:
            raise ValueError(
                f"stride {self.stride} and interval {self.interval:g} are both set; keep one of "
                "the two"
            )
        _ = self.sampling  # refuses an interval that is too short
        expected = FAMILIES[self.family].Options
        if type(self.own) is not expected:
            raise ValueError(f"own must be {expected.__qualname__}, got {self.own!r}")

    @property
    def sampling(self) -> Sampling:
        """The frames that are used."""
        return Sampling.of(self.stride, self.interval)

    @classmethod
    def of(cls, **values: Any) -> "TrialConfig":
        """A configuration from hyperparameters by their flat names.

        Raises:
            TypeError: an unknown name, or one of another family.
            ValueError: a value that is not accepted.
        """
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Scalar]:
        """Every hyperparameter by its flat name, fit for JSON."""
        shared = {name: getattr(self, name) for name in hints(type(self))}
        own = dataclasses.asdict(self.own)
        return shared | {flat(self.family, name): value for name, value in own.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrialConfig":
        """The inverse of `to_dict`; what is missing keeps its default.

        Raises:
            TypeError: an unknown name, one of another family, or no mapping.
            ValueError: a value that is not accepted.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"expected hyperparameters by name, got {values!r}")
        family = values.get("family", DEFAULT)
        if family not in FAMILIES:
            raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {family!r}")
        names = {flat(family, name): name for name in hints(FAMILIES[family].Options)}
        own = {names[name]: value for name, value in values.items() if name in names}
        shared = {name: value for name, value in values.items() if name not in names}
        if unknown := sorted(set(shared) - set(hints(cls))):
            elsewhere = " of this family" if unknown[0] in accepted() else ""
            raise TypeError(f"{unknown[0]} is no hyperparameter{elsewhere}")
        return cls(**shared, own=FAMILIES[family].Options(**own))

    def changed(self, **values: Any) -> "TrialConfig":
        """The same with other values, by their flat names; another family gets its defaults."""
        known = self.to_dict()
        if values.get("family", self.family) != self.family:
            known = {name: known[name] for name in hints(type(self))}
        return type(self).from_dict(known | values)


@dataclass(frozen=True)
class Accepted:
    """A hyperparameter that a search space may name. family: whose it is; empty: shared by all."""

    hint: Any
    default: Any
    family: str = ""


def flat(family: str, name: str) -> str:
    """The name of a family's own hyperparameter in spaces, files and tables."""
    return name if family == DEFAULT else f"{family}.{name}"


def accepted() -> dict[str, Accepted]:
    """Every hyperparameter of every family, by its flat name."""
    found = {
        name: Accepted(hint, getattr(TrialConfig, name))
        for name, hint in hints(TrialConfig).items()
    }
    for family, model in FAMILIES.items():
        defaults = model.Options()
        for name, hint in hints(model.Options).items():
            found[flat(family, name)] = Accepted(hint, getattr(defaults, name), family)
    return found


def defaults(family: str | None = None) -> dict[str, Scalar]:
    """The default of every hyperparameter of a family, the default one if None, but the seed."""
    own = ("", family or DEFAULT)
    each = accepted().items()
    return {name: it.default for name, it in each if it.family in own and name != "seed"}


def memory(name: str, values: Sequence[Any]) -> Any | None:
    """The one of some values of a hyperparameter that needs the most memory; None if memory does
    not depend on it."""
    return hungriest(accepted()[name].hint, values)
