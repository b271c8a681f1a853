"""The ensemble method `raw`."""

from dataclasses import dataclass
from typing import ClassVar

from harness.ensembles.methods.mean import Mean


@dataclass(frozen=True)
class Raw(Mean):
    """The mean of the outputs of the best trials before their calibration, as in the public code of
    the authors. Trials with a larger variance of the outputs have more influence.

    top: members.
    """

    raw: ClassVar[bool] = True
