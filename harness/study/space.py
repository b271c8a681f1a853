"""search_spaces/*.toml -> Optuna distributions, checked against TrialConfig."""

import dataclasses
import tomllib
import typing
from dataclasses import dataclass, replace
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

import harness
from harness.errors import InputError
from harness.study.config import TrialConfig

#: The spaces that come with the project.
SPACES = Path(harness.__file__).parent.parent / "search_spaces"
FIELDS = {field.name: field for field in dataclasses.fields(TrialConfig)}
_TYPES = typing.get_type_hints(TrialConfig)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Float(_Strict):
    type: Literal["float"]
    low: FiniteFloat
    high: FiniteFloat
    log: bool = False
    step: FiniteFloat | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> "_Float":
        return _ordered(self)

    def distribution(self) -> BaseDistribution:
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)


class _Int(_Strict):
    type: Literal["int"]
    low: int
    high: int
    log: bool = False
    step: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> "_Int":
        return _ordered(self)

    def distribution(self) -> BaseDistribution:
        return IntDistribution(self.low, self.high, log=self.log, step=self.step)


class _Categorical(_Strict):
    type: Literal["categorical"]
    choices: list[str | int | float | bool] = Field(min_length=1)

    def distribution(self) -> BaseDistribution:
        return CategoricalDistribution(self.choices)


_Parameter = Annotated[_Float | _Int | _Categorical, Field(discriminator="type")]


class Budget(_Strict):
    """trials: finished ones in all. epochs: of a trial at most. grace: epochs before a trial may
    be pruned. reduction: one trial in so many survives a rung of ASHA."""

    trials: int = Field(ge=1)
    epochs: int = Field(ge=1)
    grace: int = Field(default=5, ge=1)
    reduction: int = Field(default=3, ge=2)


class _File(_Strict):
    budget: Budget
    fixed: dict[str, str | int | float | bool] = {}
    start: list[dict[str, str | int | float | bool]] = []
    parameters: dict[str, _Parameter]


@dataclass(frozen=True)
class SearchSpace:
    """What a study searches.

    distributions: of the searched hyperparameters, by name. fixed: values of others; the rest
    keep TrialConfig's defaults. start: points that are tried first.
    """

    path: Path
    distributions: dict[str, BaseDistribution]
    fixed: dict[str, Any]
    start: tuple[dict[str, Any], ...]
    budget: Budget

    def without(self, name: str, value: Any) -> "SearchSpace":
        """The same space with one hyperparameter fixed."""
        distributions = {n: d for n, d in self.distributions.items() if n != name}
        start = tuple({n: v for n, v in point.items() if n != name} for point in self.start)
        fixed = self.fixed | {name: value}
        return replace(self, distributions=distributions, fixed=fixed, start=start)

    def features(self) -> tuple[str, ...]:
        """Every kind of features that a trial may ask for."""
        distribution = self.distributions.get("features")
        if distribution is None:
            return (str(self.fixed.get("features", TrialConfig.features)),)
        assert isinstance(distribution, CategoricalDistribution)  # read_space lets no other pass
        return tuple(str(choice) for choice in distribution.choices)

    def strides(self) -> tuple[int, ...]:
        """Every stride that a trial may ask for, ascending."""
        distribution = self.distributions.get("stride")
        if distribution is None:
            return (int(self.fixed.get("stride", TrialConfig.stride)),)
        if isinstance(distribution, CategoricalDistribution):
            return tuple(sorted({int(choice) for choice in distribution.choices}))  # type: ignore[arg-type]
        assert isinstance(distribution, IntDistribution)  # read_space lets no other pass
        return tuple(range(distribution.low, distribution.high + 1, distribution.step))


def read_space(path: Path, epochs: int | None = None) -> SearchSpace:
    """Reads and checks a search-space file; `epochs` overrides the budget's.

    Raises:
        InputError: one line that names file and field and gives the choices.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        others = ", ".join(sorted(str(p) for p in SPACES.glob("*.toml"))) or "none"
        raise InputError(f"{path}: no such search space; here are: {others}") from error
    # Beside its own errors: bytes that are no text, numbers of thousands of digits, and nests.
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as TOML: {error}") from error
    try:
        file = _File.model_validate(raw)
    except ValidationError as error:
        raise InputError(f"{path}: {_first(error)}") from error
    for name, parameter in file.parameters.items():
        _check_parameter(path, name, parameter)
    budget = file.budget if epochs is None else file.budget.model_copy(update={"epochs": epochs})
    fixed = dict(file.fixed) | {"epochs": budget.epochs}
    for name, value in file.fixed.items():
        _check_fixed(path, name, value, file.parameters)
    distributions = {name: p.distribution() for name, p in file.parameters.items()}
    for number, point in enumerate(file.start):
        _check_start(path, number, point, distributions)
    return SearchSpace(path, distributions, fixed, tuple(file.start), budget)


def _check_parameter(path: Path, name: str, parameter: _Float | _Int | _Categorical) -> None:
    _known(path, f"parameters.{name}", name)
    if isinstance(parameter, _Categorical):
        values: list[Any] = list(parameter.choices)
        if len({(type(value), value) for value in values}) < len(values):
            raise InputError(f"{path}, parameters.{name}: a choice stands there twice")
    else:
        values = [parameter.low, parameter.high]
        expected = _TYPES[name]
        if (expected is int and parameter.type != "int") or expected not in (int, float):
            raise InputError(
                f'{path}, parameters.{name}: type = "{parameter.type}" does not fit {expected}'
            )
    for value in values:
        _check_value(path, f"parameters.{name}", name, value)


def _check_fixed(path: Path, name: str, value: Any, searched: dict[str, Any]) -> None:
    _known(path, f"fixed.{name}", name)
    if name in searched:
        raise InputError(f"{path}, fixed.{name}: stands in [parameters] too; keep one of the two")
    if name == "epochs":
        raise InputError(f"{path}, fixed.epochs: give it as budget.epochs")
    _check_value(path, f"fixed.{name}", name, value)


def _check_start(
    path: Path, number: int, point: dict[str, Any], distributions: dict[str, BaseDistribution]
) -> None:
    for name, value in point.items():
        where = f"start[{number}].{name}"
        if name not in distributions:
            _known(path, where, name)
            raise InputError(f"{path}, {where}: {name} is not searched; give it in [fixed]")
        if not _contains(distributions[name], value):
            raise InputError(f"{path}, {where}: {value!r} is outside {distributions[name]}")


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # there are no others
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and distribution.low <= value <= distribution.high


def _known(path: Path, where: str, name: str) -> None:
    if name == "seed":
        raise InputError(f"{path}, {where}: seeds follow from --seed and the trial's number")
    if name not in FIELDS:
        raise InputError(f"{path}, {where}: no such hyperparameter; choose of {', '.join(FIELDS)}")


def _check_value(path: Path, where: str, name: str, value: Any) -> None:
    expected = _TYPES[name]
    choices = typing.get_args(expected)
    if choices:
        if value not in choices:
            raise InputError(f"{path}, {where}: {value!r} is none of {', '.join(choices)}")
        return
    accepted: tuple[type, ...] = (int, float) if expected is float else (expected,)
    if type(value) not in accepted:
        raise InputError(f"{path}, {where}: expected {expected.__name__}, got {value!r}")
    try:
        TrialConfig(**{name: value})
    except ValueError as error:
        raise InputError(f"{path}, {where}: {error}") from error


_Range = TypeVar("_Range", _Float, _Int)


def _ordered(parameter: _Range) -> _Range:
    if parameter.low > parameter.high:
        raise ValueError(f"low = {parameter.low} is above high = {parameter.high}")
    if parameter.log and parameter.low <= 0:
        raise ValueError(f"log = true needs low above 0, got {parameter.low}")
    if parameter.log and parameter.step not in (None, 1):
        raise ValueError("log = true allows no step")
    return parameter


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    more = error.error_count() - 1
    return f"{where}: {first['msg']}" + (f" ({more} more errors)" if more else "")
