"""The method `zscore`."""

from dataclasses import dataclass
from typing import ClassVar

from harness.ensembles.methods.mean import Mean


@dataclass(frozen=True)
class Zscore(Mean):
    """The mean of the best trials' standardised predictions. top: members."""

    standardised: ClassVar[bool] = True
