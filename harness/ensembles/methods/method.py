"""The interface of ensemble methods."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.moments import Evidence

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: A smaller difference of scores is rounding, because columns are float32.
ROUNDING = 1e-7
# Number of trials that are requested in advance.
_LIKELY = 16


@dataclass(frozen=True)
class Method(ABC):
    """Selects and weights members by the scores and the correlations of the trials.

    The fields of a method are its parameters and have defaults. The command sets a field `top`
    from `top` and a field `seed` from `seed`. It refuses `top` if a method has no field `top`.

    standardised: the weights apply to standardised predictions; False: to predictions as they are.
    raw: the weights apply to the outputs before their calibration.
    reads_columns: the method reads correlations of trials. The estimate of the gain repeats such a
        selection less often, because it is slower.
    reads_all: it reads those of most trials, which are then computed at once.
    """

    standardised: ClassVar[bool] = True
    raw: ClassVar[bool] = False
    reads_columns: ClassVar[bool] = True
    reads_all: ClassVar[bool] = False

    @abstractmethod
    def weights(self, evidence: Evidence, allowed: Mask) -> Floats:
        """(trials,) weights >= 0 with sum 1, and 0 where `allowed` (trials,) is False.

        Raises:
            InputError: the method needs more trials than are allowed.
        """

    def limited(self, trials: int) -> Self:
        """The method with no more members than there are trials, as `auto` uses it."""
        return self


@dataclass(frozen=True)
class Stepwise(Method):
    """A method that adds one trial at each step. The report shows its score by number of steps;
    for a method that is not stepwise, it shows that of greedy.

    top: number of steps.
    """

    top: int

    @abstractmethod
    def picks(self, evidence: Evidence, allowed: Mask) -> NDArray[np.intp]:
        """(top,) the trial added at each step. The ensemble of size K averages the first K with
        equal weights."""


def likeliest(values: Floats) -> NDArray[np.intp]:
    """The trials with the highest values. Their columns will probably be needed next."""
    count = min(_LIKELY, len(values))
    return np.argpartition(-values, count - 1)[:count]
