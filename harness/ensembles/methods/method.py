"""What an ensemble method is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.moments import Evidence

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Scores closer than this differ by rounding alone: columns are kept in float32.
ROUNDING = 1e-7
# Columns that are made at once.
_LIKELY = 16


@dataclass(frozen=True)
class Method(ABC):
    """Chooses and weighs members by what trials score and how they correlate.

    The fields of a method are its parameters and have defaults. Of the command's options, a field
    `top` takes --top and a field `seed` --seed; --top is refused where there is no such field.

    standardised: weights apply to predictions in units of their standard deviation; False: to
        predictions as they are.
    reads_all: reads the correlations of most trials, which are then computed all at once.
    """

    standardised: ClassVar[bool] = True
    reads_all: ClassVar[bool] = False

    @abstractmethod
    def weights(self, evidence: Evidence, allowed: Mask) -> Floats:
        """(trials,) weights >= 0 with sum 1, and 0 where `allowed` (trials,) is False.

        Raises:
            InputError: fewer trials are allowed than the method needs.
        """

    def limited(self, trials: int) -> Self:
        """The method for a library of few trials, where nobody asked for a number of members."""
        return self


@dataclass(frozen=True)
class Stepwise(Method):
    """A method that adds a trial at each step. The score over the number of steps is reported: of
    this method, or of greedy where a method is not stepwise.

    top: steps.
    """

    top: int

    @abstractmethod
    def picks(self, evidence: Evidence, allowed: Mask) -> NDArray[np.intp]:
        """(top,) the trial added at each step; the first K have equal weights in the ensemble of
        size K."""


def likeliest(values: Floats) -> NDArray[np.intp]:
    """The trials of highest value, whose columns will probably be read next."""
    count = min(_LIKELY, len(values))
    return np.argpartition(-values, count - 1)[:count]
