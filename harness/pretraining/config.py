"""Every setting of a pretraining."""

from dataclasses import asdict, dataclass, field
from typing import Literal

from harness.encoders.mtl_dan.network import WIDTH
from harness.pretraining.augmentation import Augmentation
from harness.pretraining.multitask import LossWeights

Precision = Literal["float32", "bf16", "fp16"]
Schedule = Literal["exponential", "one-cycle"]


@dataclass(frozen=True)
class PretrainConfig:
    """All that decides a pretraining, beside data and initial weights.

    heads: of each branch. width: channels of the trunk, 512 as published. input_size: pixels a
    side. batch_size: faces a step, over all processes together. learning_rate: of Adam. schedule:
    exponential begins with that rate and multiplies it by gamma after every epoch; one-cycle rises
    to it and falls to nothing, which suits few epochs from random weights.
    balance_expressions, balance_units: exponents of the class weights, 0: none, 1: in full.
    The rate, gamma and the loss are published; after ten epochs gamma leaves less than a hundredth
    of the rate, and the batch is DAN's.
    """

    heads: int = 9
    width: int = WIDTH
    input_size: int = 224
    epochs: int = 10
    batch_size: int = 256
    learning_rate: float = 1e-4
    schedule: Schedule = "exponential"
    gamma: float = 0.55
    precision: Precision = "float32"
    seed: int = 0
    balance_expressions: float = 0.0
    balance_units: float = 0.0
    loss: LossWeights = field(default_factory=LossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def flat(self) -> dict[str, str]:
        """All settings by name, those of a part as `part.name`."""
        found: dict[str, str] = {}
        for name, value in asdict(self).items():
            parts = value.items() if isinstance(value, dict) else ()
            found |= {f"{name}.{part}": str(item) for part, item in parts} or {name: str(value)}
        return found
