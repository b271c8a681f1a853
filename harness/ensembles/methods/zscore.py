"""The ensemble method `zscore`."""

from dataclasses import dataclass
from typing import ClassVar

from harness.ensembles.methods.mean import Mean


@dataclass(frozen=True)
class Zscore(Mean):
    """The mean of the standardised predictions of the best trials.

    top: members.
    """

    standardised: ClassVar[bool] = True
