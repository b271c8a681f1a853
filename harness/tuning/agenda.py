"""What a search is to try, apart from what a sampler draws: start points, a grid, confirmations."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.trial import FrozenTrial

from harness.space.search_space import Point, SearchSpace
from harness.study.trials import DRIVER

#: Attributes of a trial. The item of the agenda that it is of; the trial whose configuration it
#: trains again under another seed. How often a grid point was tried before. Of a start point, the
#: hyperparameters that it sets although they are not searched.
ITEM, CONFIRMS, REPEAT, OWN = "item", "confirms", "repeat", "own_settings"


@dataclass(frozen=True)
class Item:
    """A point to be tried once. key: names it within the study. notes: attributes of its trial."""

    key: str
    params: Point
    notes: dict[str, Any]


class Agenda(Protocol):
    """total: how many finished trials it takes. drawn: whether the sampler goes on where the items
    end. pruned: whether trials may be stopped early. keys: of the items."""

    total: int
    keys: set[str]
    drawn: bool
    pruned: bool

    def counts(self, trial: FrozenTrial) -> bool:
        """Whether a trial is of this agenda."""
        ...

    def items(self) -> Iterator[Item]:
        """The points to be tried, in order."""
        ...


class SearchAgenda:
    """The start points, or the full grid, then what the sampler draws."""

    pruned = True

    def __init__(self, space: SearchSpace, trials: int | None, grid: bool) -> None:
        """trials: finished ones in all; None: the space's budget, or the size of the grid."""
        self._space = space
        self._grid = space.grid() if grid else []
        self.drawn = not grid
        self.keys = {item.key for item in self.items()}
        size = len(self.keys)
        self.total = min(trials or size, size) if grid else trials or space.budget.trials

    def counts(self, trial: FrozenTrial) -> bool:
        if DRIVER not in trial.user_attrs:
            return False  # a notebook's own
        # What was drawn before is no point of a grid.
        of_grid = self.drawn or trial.user_attrs.get(ITEM) in self.keys
        return of_grid and CONFIRMS not in trial.user_attrs

    def items(self) -> Iterator[Item]:
        # Named by what they are: the file may have other points, or another order, next time.
        if self.drawn:
            for point in self._space.start:
                searched, own = self._space.parts(point)
                yield Item(f"start {_told(point)}", searched, {OWN: own} if own else {})
        for repeat in range(self._space.repeats):
            for point in self._grid:
                yield Item(f"grid {_told(point)} repeat {repeat}", point, {REPEAT: repeat})


def _told(point: Point) -> str:
    return json.dumps(point, sort_keys=True)


class ConfirmAgenda:
    """Some configurations again, each under several new seeds."""

    drawn = pruned = False

    def __init__(self, chosen: Sequence[FrozenTrial], seeds: int) -> None:
        self._chosen = {trial.number: trial.params for trial in chosen}
        self._seeds = seeds
        self.keys = {item.key for item in self.items()}
        self.total = len(self.keys)

    def counts(self, trial: FrozenTrial) -> bool:
        # Seeds of an earlier call for more of them are not of this one.
        return trial.user_attrs.get(ITEM) in self.keys

    def items(self) -> Iterator[Item]:
        for seed in range(self._seeds):
            for number, params in self._chosen.items():
                yield Item(self._key(number, seed), params, {CONFIRMS: number})

    @staticmethod
    def _key(number: int, seed: int) -> str:
        return f"confirm {number} seed {seed}"
