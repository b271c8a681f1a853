"""search_spaces/*.toml -> SearchSpace, checked against TrialConfig."""

import dataclasses
import itertools
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from harness.choices import LEAST_INTERVAL
from harness.errors import InputError
from harness.models.config import TrialConfig, accepted
from harness.models.hyperparameters import kind
from harness.models.losses import fewest_clips
from harness.space.search_space import (
    SAMPLING,
    Budget,
    Condition,
    SearchSpace,
    contains,
    last_step,
    snapped,
)

_Scalar = str | int | float | bool


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Parameter(_Strict):
    only_if: dict[str, list[_Scalar]] = {}


class _Float(_Parameter):
    type: Literal["float"]
    low: FiniteFloat
    high: FiniteFloat
    log: bool = False
    step: FiniteFloat | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> "_Float":
        return _ordered(self)

    def distribution(self) -> BaseDistribution:
        return FloatDistribution(self.low, self.last, log=self.log, step=self.step)

    @property
    def last(self) -> float:
        """The highest value."""
        return last_step(self.low, self.high, self.step) if self.step else self.high


class _Int(_Parameter):
    type: Literal["int"]
    low: int
    high: int
    log: bool = False
    step: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> "_Int":
        return _ordered(self)

    def distribution(self) -> BaseDistribution:
        return IntDistribution(self.low, self.last, log=self.log, step=self.step)

    @property
    def last(self) -> int:
        """The highest value."""
        return self.low + (self.high - self.low) // self.step * self.step


class _Categorical(_Parameter):
    type: Literal["categorical"]
    choices: list[_Scalar] = Field(min_length=1)

    def distribution(self) -> BaseDistribution:
        return CategoricalDistribution(self.choices)


_AnyParameter = Annotated[_Float | _Int | _Categorical, Field(discriminator="type")]


class _Budget(_Strict):
    trials: int = Field(ge=1)
    epochs: int = Field(ge=1)
    grace: int = Field(default=Budget.grace, ge=1)
    reduction: int = Field(default=Budget.reduction, ge=2)


class _Grid(_Strict):
    repeats: int = Field(default=1, ge=1)
    values: dict[str, Annotated[list[_Scalar], Field(min_length=1)]] = {}


class _File(_Strict):
    budget: _Budget
    fixed: dict[str, _Scalar] = {}
    start: list[dict[str, _Scalar]] = []
    grid: _Grid = _Grid()
    parameters: dict[str, _AnyParameter]


def read_space(path: Path, epochs: int | None = None) -> SearchSpace:
    """Reads and checks a search-space file; `epochs` overrides the budget's.

    Raises:
        InputError: one line that names file and field and gives the choices.
    """
    file = _read(path)
    file = _snapped(file)
    for name, parameter in file.parameters.items():
        _check_parameter(path, name, parameter)
    for name, value in file.fixed.items():
        if name in file.parameters:
            raise InputError(f"{path}, fixed.{name}: also in [parameters]; keep one of the two")
        _check_fixed(path, f"fixed.{name}", name, value)
    distributions = {name: p.distribution() for name, p in file.parameters.items()}
    only_if = _conditions(path, file, distributions)
    for name, values in file.grid.values.items():
        for value in values:
            _check_drawn(path, f"grid.values.{name}", name, value, distributions)
            # Of choices, 1 equals true and 1.0, which a trial does not take.
            _check_value(path, f"grid.values.{name}", name, value)
    budget = Budget(**file.budget.model_dump())
    if epochs is not None:
        budget = dataclasses.replace(budget, epochs=epochs)
    space = SearchSpace(
        path,
        {name: distributions[name] for name in _ordered_names(path, file, only_if)},
        dict(file.fixed) | {"epochs": budget.epochs},
        tuple(file.start),
        budget,
        only_if,
        {name: tuple(values) for name, values in file.grid.values.items()},
        file.grid.repeats,
        tuple(
            f"{path}, parameters.{name}: high = {p.high} is not on a step; the highest value is "
            f"{p.last:.12g}"
            for name, p in file.parameters.items()
            if not isinstance(p, _Categorical) and p.last < p.high
        ),
    )
    _check_batches(space, "", {})
    _check_sampling(space)
    for number, point in enumerate(file.start):
        _check_start(space, number, point)
        _check_batches(space, f"start[{number}].", point)
    return space


def _read(path: Path) -> _File:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such search space") from error
    # Beside its own errors: bytes that are no text, numbers of thousands of digits, and nests.
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as TOML: {error}") from error
    try:
        return _File.model_validate(raw)
    except ValidationError as error:
        raise InputError(f"{path}: {_first(error)}") from error


def _snapped(file: _File) -> _File:
    """The file with start points and grid values rounded to their steps."""
    steps = {name: p.distribution() for name, p in file.parameters.items()}

    def on_step(name: str, value: _Scalar) -> Any:
        return snapped(steps[name], value) if name in steps else value

    start = [{n: on_step(n, value) for n, value in point.items()} for point in file.start]
    values = {n: [on_step(n, value) for value in each] for n, each in file.grid.values.items()}
    grid = file.grid.model_copy(update={"values": values})
    return file.model_copy(update={"start": start, "grid": grid})


def _conditions(
    path: Path, file: _File, distributions: dict[str, BaseDistribution]
) -> dict[str, Condition]:
    for name, parameter in file.parameters.items():
        for other, values in parameter.only_if.items():
            where = f"parameters.{name}.only_if.{other}"
            for value in values:
                _check_drawn(path, where, other, value, distributions)
    return {
        name: {other: tuple(values) for other, values in parameter.only_if.items()}
        for name, parameter in file.parameters.items()
        if parameter.only_if
    }


def _ordered_names(path: Path, file: _File, only_if: dict[str, Condition]) -> list[str]:
    """Searched names in the file's order, but each after those that it depends on."""
    ordered: list[str] = []
    left = list(file.parameters)
    while left:
        ready = next((n for n in left if not set(only_if.get(n, {})) & set(left)), None)
        if ready is None:
            raise InputError(f"{path}: only_if of {', '.join(left)} is circular")
        ordered.append(ready)
        left.remove(ready)
    return ordered


def _check_parameter(path: Path, name: str, parameter: _Float | _Int | _Categorical) -> None:
    _known(path, f"parameters.{name}", name)
    if isinstance(parameter, _Categorical):
        values: list[Any] = list(parameter.choices)
        if len({(type(value), value) for value in values}) < len(values):
            raise InputError(f"{path}, parameters.{name}: duplicate choice")
    else:
        values = [parameter.low, parameter.last]
        expected = kind(accepted()[name].hint)
        if (expected is int and parameter.type != "int") or expected not in (int, float):
            raise InputError(
                f'{path}, parameters.{name}: type = "{parameter.type}" does not fit {expected}'
            )
        if name in SAMPLING and (parameter.log or (parameter.step or 0) < LEAST_INTERVAL):
            raise InputError(
                f"{path}, parameters.{name}: its values must be few; give choices, or a step of at "
                f"least {LEAST_INTERVAL} without log"
            )
    for value in values:
        _check_value(path, f"parameters.{name}", name, value)


def _check_fixed(path: Path, where: str, name: str, value: Any) -> None:
    _known(path, where, name)
    _check_value(path, where, name, value)


def _check_start(space: SearchSpace, number: int, point: dict[str, _Scalar]) -> None:
    """Checks a start point. It may also set hyperparameters that are not searched."""
    where = f"start[{number}]"
    for name, value in point.items():
        if name in space.distributions:
            _check_drawn(space.path, f"{where}.{name}", name, value, space.distributions)
        else:
            _check_fixed(space.path, f"{where}.{name}", name, value)
        if not space.active(name, point):
            raise InputError(f"{space.path}, {where}.{name}: its only_if does not hold here")
    try:
        TrialConfig.from_dict(space.fixed | point)
    except (TypeError, ValueError) as error:
        raise InputError(f"{space.path}, {where}: {error}") from error


def _check_sampling(space: SearchSpace) -> None:
    """InputError if both hyperparameters that choose frames are set, or an interval may be 0."""
    given = [
        name
        for name in SAMPLING
        if name in space.distributions or set(space.values(name)) != {accepted()[name].default}
    ]
    if len(given) > 1:
        raise InputError(f"{space.path}: stride and interval are both set; keep one of the two")
    if "interval" in space.distributions and 0 in space.values("interval"):
        raise InputError(f"{space.path}, parameters.interval: 0 is no interval; remove it")


def _check_batches(space: SearchSpace, where: str, point: dict[str, _Scalar]) -> None:
    """InputError if a batch may be too small for a correlation loss."""
    names = ("loss", "reduction", "batch_size")
    for values in itertools.product(*(space.smallest(name, point) for name in names)):
        chosen = dict(zip(names, values, strict=True))
        # Combinations that a condition excludes are never tried.
        excluded = any(
            chosen[other] not in accepts
            for name in names
            if name not in point
            for other, accepts in space.only_if.get(name, {}).items()
            if other in names
        )
        loss, reduction, size = values
        if not excluded and size < (needed := fewest_clips(loss, reduction)):
            raise InputError(
                f"{space.path}, {where}batch_size: a batch of {size} is too small for the loss "
                f"{loss}, a correlation over the clips of a batch: expected at least {needed}"
            )


def _check_drawn(
    path: Path, where: str, name: str, value: Any, distributions: dict[str, BaseDistribution]
) -> None:
    if name not in distributions:
        _known(path, where, name)
        raise InputError(f"{path}, {where}: {name} is not searched; give it in [fixed]")
    if not contains(distributions[name], value):
        raise InputError(f"{path}, {where}: {value!r} is outside {distributions[name]}")


def _known(path: Path, where: str, name: str) -> None:
    if name == "seed":
        raise InputError(f"{path}, {where}: seeds follow from `seed` and the trial's number")
    if name == "epochs":
        raise InputError(f"{path}, {where}: give it as budget.epochs")
    if name not in (known := accepted()):
        raise InputError(
            f"{path}, {where}: no such hyperparameter; choose one of {', '.join(known)}"
        )


def _check_value(path: Path, where: str, name: str, value: Any) -> None:
    try:
        family = accepted()[name].family
        TrialConfig.from_dict({name: value} | ({"family": family} if family else {}))
    except ValueError as error:
        raise InputError(f"{path}, {where}: {error}") from error


_Range = TypeVar("_Range", _Float, _Int)


def _ordered(parameter: _Range) -> _Range:
    if parameter.low > parameter.high:
        raise ValueError(f"low = {parameter.low} is above high = {parameter.high}")
    if parameter.log and parameter.low <= 0:
        raise ValueError(f"log = true needs low above 0, got {parameter.low}")
    if parameter.log and parameter.step not in (None, 1):
        raise ValueError("log = true and a step do not go together; keep one of the two")
    return parameter


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    more = error.error_count() - 1
    return f"{where}: {first['msg']}" + (f" ({more} more errors)" if more else "")
