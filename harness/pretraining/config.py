"""The settings of a pretraining."""

from dataclasses import asdict, dataclass, field

from harness.choices import Precision, Schedule
from harness.encoders.mtl_dan.network import WIDTH
from harness.pretraining.augmentation import Augmentation
from harness.pretraining.multitask import LossWeights


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that determines a pretraining, except data and initial weights.

    Learning rate, gamma and loss weights are published (the method's paper); the batch size is
    DAN's. After ten epochs gamma leaves less than a hundredth of the rate.
    """

    #: Attention heads of each branch.
    heads: int = 9
    #: Channels of the trunk; 512 as published.
    width: int = WIDTH
    #: Pixels a side.
    input_size: int = 224
    epochs: int = 10
    #: Faces a step, over all processes together.
    batch_size: int = 256
    #: Of Adam, at the beginning (exponential) or at its maximum (one-cycle).
    learning_rate: float = 1e-4
    #: "exponential" multiplies the rate by gamma after every epoch. "one-cycle" rises to the rate
    #: and falls to zero, which suits few epochs from random weights.
    schedule: Schedule = "exponential"
    gamma: float = 0.55
    precision: Precision = "float32"
    seed: int = 0
    #: Exponents of the class weights, 0 (none) to 1 (inverse frequency).
    balance_expressions: float = 0.0
    balance_units: float = 0.0
    loss: LossWeights = field(default_factory=LossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def flat(self) -> dict[str, str]:
        """All settings by name; nested ones as `part.name`."""
        found: dict[str, str] = {}
        for name, value in asdict(self).items():
            parts = value.items() if isinstance(value, dict) else ()
            found |= {f"{name}.{part}": str(item) for part, item in parts} or {name: str(value)}
        return found
