"""A search space: which hyperparameters a study searches, where, and under which conditions."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from harness.errors import InputError
from harness.models.config import accepted
from harness.sampling import Sampling
from harness.study.trials import CONFIG

# Tolerances in steps: Optuna's own for a value between two steps, and that of decimal fractions in
# a file, such as 0.3333333, which are rounded to the step.
_TOLERANCE, _ROUNDING = 1e-8, 1e-6
#: The hyperparameters that choose frames, one of which is set.
SAMPLING = ("stride", "interval")
#: Hyperparameters by name.
Point = dict[str, Any]
#: Of a hyperparameter: the values of others under which it is searched.
Condition = dict[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Budget:
    """trials: finished ones in all. epochs: of a trial at most. grace: epochs before a trial may
    be pruned. reduction: one trial in so many survives a rung."""

    trials: int
    epochs: int
    grace: int = 5
    reduction: int = 3


@dataclass(frozen=True)
class SearchSpace:
    """What a study searches.

    distributions: of the searched hyperparameters, by name, each after those it depends on.
    fixed: values of others; the rest keep TrialConfig's defaults.
    start: points that are tried first; they may also set hyperparameters that are not searched.
    only_if: of hyperparameters that are searched under a condition alone.
    grid_values: of hyperparameters, for a full grid; those with a step need none.
    repeats: of each grid point, each with a seed of its own.
    notes: what may be meant otherwise, a line each.
    """

    path: Path
    distributions: dict[str, BaseDistribution]
    fixed: Point
    start: tuple[Point, ...]
    budget: Budget
    only_if: dict[str, Condition] = field(default_factory=dict)
    grid_values: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    repeats: int = 1
    notes: tuple[str, ...] = ()

    def suggest(self, trial: optuna.Trial) -> Point:
        """Draws the hyperparameters of a trial: those whose conditions hold."""
        point: Point = {}
        for name, distribution in self.distributions.items():
            if self.active(name, point):
                point[name] = suggest(trial, name, distribution)
        return point

    def misfit(self, point: Point) -> str:
        """Why an enqueued point cannot be tried; empty if it can."""
        for name, value in point.items():
            if name not in self.distributions:
                return f"{name} is not searched by {self.path.name}"
            if not contains(self.distributions[name], value):
                return f"{name}: {value!r} is outside {self.distributions[name]}"
        return ""

    def parts(self, point: Point) -> tuple[Point, Point]:
        """A start point's searched hyperparameters, and those that it sets in place of `fixed`."""
        searched = {n: value for n, value in point.items() if n in self.distributions}
        return searched, {n: value for n, value in point.items() if n not in searched}

    def active(self, name: str, point: Point) -> bool:
        """Whether a hyperparameter is searched, given those that it depends on."""
        conditions = self.only_if.get(name, {})
        return all(point.get(other) in values for other, values in conditions.items())

    def grid(self) -> list[Point]:
        """Every point of the full grid, once, in the order of the file.

        Raises:
            InputError: a hyperparameter has infinitely many values.
        """
        return list(self._grid(list(self.distributions), {}))

    def _grid(self, names: list[str], point: Point) -> Iterator[Point]:
        if not names:
            yield dict(point)
        elif not self.active(names[0], point):
            yield from self._grid(names[1:], point)
        else:
            for value in self._values(names[0]):
                yield from self._grid(names[1:], point | {names[0]: value})

    def _values(self, name: str) -> tuple[Any, ...]:
        if name in self.grid_values:
            return self.grid_values[name]
        found = steps(self.distributions[name])
        if found is None:
            raise InputError(
                f"{self.path}, parameters.{name}: a grid needs its values; give them as "
                f"grid.values.{name} = [...], or give it a step"
            )
        return found

    def without(self, name: str, value: Any) -> "SearchSpace":
        """The same space with one hyperparameter fixed.

        A hyperparameter that depends on it is searched if the value fulfils the condition, and
        keeps its default if not.
        """
        barred = {n for n, c in self.only_if.items() if name in c and value not in c[name]}
        gone = barred | {name}
        kept = {n: d for n, d in self.distributions.items() if n not in gone}
        start = tuple({n: v for n, v in point.items() if n not in gone} for point in self.start)
        only_if = {
            n: rest
            for n, condition in self.only_if.items()
            if n not in gone and (rest := {o: v for o, v in condition.items() if o != name})
        }
        grid = {n: v for n, v in self.grid_values.items() if n not in gone}
        return replace(
            self,
            distributions=kept,
            start=start,
            only_if=only_if,
            grid_values=grid,
            fixed=self.fixed | {name: value},
        )

    def agree(self, study: optuna.Study) -> list[str]:
        """Checks that a study may go on in this space: other bounds are no obstacle, other choices
        and kinds of numbers are.

        Returns:
            hyperparameters whose bounds are others than in some trial.

        Raises:
            InputError: a hyperparameter is another one in the study's trials, or the sampling of
                one is none of this space's, so that what repeats it would miss its frames.
        """
        moved: set[str] = set()
        for trial in study.get_trials(deepcopy=False):
            used = _sampling(trial.user_attrs.get(CONFIG, trial.params))
            if used and not any(s.serves(used) and used.serves(s) for s in self.samplings()):
                raise InputError(
                    f"{self.path}: trial {trial.number} of study {study.study_name} was trained at "
                    f"{used}, this space has {', '.join(map(str, self.samplings()))}; choose "
                    "another `study`"
                )
            for name, known in trial.distributions.items():
                mine = self.distributions.get(name)
                if mine is not None and _kind(mine) != _kind(known):
                    raise InputError(
                        f"{self.path}, parameters.{name}: trial {trial.number} of study "
                        f"{study.study_name} drew it from {_told(known)}, here are {_told(mine)}; "
                        "choose another `study`"
                    )
                if mine is not None and mine != known:
                    moved.add(name)
        return sorted(moved)

    def features(self) -> tuple[str, ...]:
        """Every kind of features that a trial may ask for."""
        return tuple(map(str, self.values("features")))

    def samplings(self) -> tuple[Sampling, ...]:
        """Every sampling of frames that a trial may ask for, ascending."""
        values = {name: set(self.values(name)) for name in SAMPLING}
        for name in set(SAMPLING) & set(self.only_if):
            values[name].add(accepted()[name].default)
        pairs = itertools.product(*(values[name] for name in SAMPLING))
        return tuple(sorted({Sampling.of(*pair) for pair in pairs}))

    def streams(self) -> tuple[str, ...]:
        """Every value of `streams` that a trial may ask for; "" stands for all streams."""
        found = self.values("streams")
        return tuple(map(str, (*found, "") if "streams" in self.only_if else found))

    def smallest(self, name: str, point: Point) -> tuple[Any, ...]:
        """What a hyperparameter may be in a trial that begins with a point; of numbers, the
        lowest."""
        distribution = self.distributions.get(name)
        if name in point or distribution is None:
            return (point.get(name, self.fixed.get(name, accepted()[name].default)),)
        if isinstance(distribution, CategoricalDistribution):
            return tuple(distribution.choices)
        return (distribution.low,)  # type: ignore[attr-defined]

    def values(self, name: str) -> tuple[Any, ...]:
        """Every value of a hyperparameter with few of them, except for what a condition leaves."""
        distribution = self.distributions.get(name)
        if distribution is None:
            others = [point[name] for point in self.start if name in point]
            return (self.fixed.get(name, accepted()[name].default), *others)
        found = steps(distribution)
        assert found is not None  # read_space lets no other pass
        return found


def _sampling(settings: Point) -> Sampling | None:
    """The sampling of a trial, by its hyperparameters; None if they name none."""
    if not set(SAMPLING) & set(settings):
        return None
    return Sampling.of(*(settings.get(name, accepted()[name].default) for name in SAMPLING))


def steps(distribution: BaseDistribution) -> tuple[Any, ...] | None:
    """The values of a distribution, or None where there are too many to name."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    if isinstance(distribution, IntDistribution) and not distribution.log:
        return tuple(range(distribution.low, distribution.high + 1, distribution.step))
    if isinstance(distribution, FloatDistribution) and distribution.step:
        count = round((distribution.high - distribution.low) / distribution.step) + 1
        return tuple(distribution.low + i * distribution.step for i in range(count))
    return (distribution.low,) if distribution.single() else None  # type: ignore[attr-defined]


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value may be drawn."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # there are no others
    kinds = (int,) if isinstance(distribution, IntDistribution) else (int, float)
    if type(value) not in kinds or not distribution.low <= value <= distribution.high:
        return False
    # Between two steps it would be rounded, and frames at another stride may not be stored.
    steps_up = (value - distribution.low) / (distribution.step or 1.0)
    return distribution.step is None or abs(steps_up - round(steps_up)) < _TOLERANCE


def snapped(distribution: BaseDistribution, value: Any) -> Any:
    """A value that is nearly on a step, on that step; any other as it is."""
    if not isinstance(distribution, FloatDistribution) or distribution.step is None:
        return value
    if type(value) not in (int, float):
        return value
    steps_up = (value - distribution.low) / distribution.step
    is_near = abs(steps_up - round(steps_up)) < _ROUNDING
    return distribution.low + round(steps_up) * distribution.step if is_near else value


def last_step(low: float, high: float, step: float) -> float:
    """The highest value on a step, up to `high`; or `high` rounded to the step that it is nearly
    on."""
    # Decimal fractions, with which Optuna checks that the bounds are a number of steps apart.
    first, last, each = (Decimal(str(value)) for value in (low, high, step))
    return float(first + int((last - first) / each + Decimal(_ROUNDING)) * each)


def _kind(distribution: BaseDistribution) -> tuple[Any, ...]:
    """What Optuna wants to be the same in all trials of a study."""
    if isinstance(distribution, CategoricalDistribution):
        return ("choices", *distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # there are no others
    kind = "whole numbers" if isinstance(distribution, IntDistribution) else "numbers"
    return (kind, "by logarithms") if distribution.log else (kind,)


def _told(distribution: BaseDistribution) -> str:
    what, *rest = map(str, _kind(distribution))
    return f"{what} {', '.join(rest)}".strip()


def suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    """Draws one hyperparameter of a trial."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    assert isinstance(distribution, FloatDistribution)  # there are no others
    return trial.suggest_float(
        name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
    )
