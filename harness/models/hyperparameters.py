"""What a hyperparameter is: a field of a frozen record whose annotation says what it accepts.

A field's name is its name in search spaces, in Optuna and in the tables. Its annotation holds the
values that it accepts and whether memory grows with it; whatever needs these reads them here.
"""

import dataclasses
import math
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

Scalar = str | int | float | bool


@dataclass(frozen=True)
class Range:
    """The numbers that a hyperparameter accepts, all of them finite.

    least, most: bounds that are values themselves. above, below: bounds that are not.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        inside = self.least <= value <= self.most and self.above < value < self.below
        return inside and math.isfinite(value)

    def __str__(self) -> str:
        bounds = {"at least": self.least, "above": self.above}
        bounds |= {"at most": self.most, "below": self.below}
        limits = [f"{what} {bound}" for what, bound in bounds.items() if math.isfinite(bound)]
        return " and ".join(limits if len(limits) > 1 else [*limits, "finite"])


@dataclass(frozen=True)
class Memory:
    """A trial's memory depends on a hyperparameter: it grows with the number or, of choices, with
    their order; otherwise it shrinks."""

    grows: bool = True


@dataclass(frozen=True)
class OneOf:
    """The names that a hyperparameter accepts, where these are entries of a table.

    names: gives them; asked for when a value is checked, so that entries may be added.
    """

    names: Callable[[], Iterable[str]]


@dataclass(frozen=True)
class Hyperparameters:
    """Base of records of hyperparameters.

    Raises:
        ValueError: a value of another type, none of the choices, or out of range.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            hint = hints(type(self)).get(field.name)
            if hint is not None and (problem := _problem(hint, getattr(self, field.name))):
                raise ValueError(f"{field.name} {problem}")


def hints(of: type[Any]) -> dict[str, Any]:
    """The annotation of each hyperparameter of a record; other fields have none."""
    return dict(_hints(of))  # type: ignore[arg-type]  # classes are hashable


@cache
def _hints(of: Any) -> dict[str, Any]:
    found = typing.get_type_hints(of, include_extras=True)
    return {name: hint for name, hint in found.items() if not dataclasses.is_dataclass(hint)}


def kind(hint: Any) -> Any:
    """The type of a hyperparameter's values, by its annotation: a class or a Literal."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint


def hungriest(hint: Any, values: Sequence[Any]) -> Any | None:
    """The one of some values of a hyperparameter that needs the most memory; None if memory does
    not depend on it."""
    mark = _mark(hint, Memory)
    if mark is None:
        return None
    choices = typing.get_args(kind(hint))
    if not mark.grows:  # 0 means that it is not used
        values = [value for value in values if value] or values
    return (max if mark.grows else min)(values, key=choices.index if choices else None)


def _problem(hint: Any, value: Any) -> str:
    """What is wrong with the value of a hyperparameter; empty if nothing is."""
    of = kind(hint)
    entries = _mark(hint, OneOf)
    if choices := tuple(entries.names()) if entries else typing.get_args(of):
        return "" if value in choices else f"must be one of {', '.join(choices)}, got {value!r}"
    if type(value) not in ((int, float) if of is float else (of,)):
        return f"must be of type {of.__name__}, got {value!r}"
    accepted = _mark(hint, Range)
    return "" if accepted is None or value in accepted else f"must be {accepted}, got {value}"


_Mark = typing.TypeVar("_Mark", Range, Memory, OneOf)


def _mark(hint: Any, kind: type[_Mark]) -> _Mark | None:
    return next((m for m in getattr(hint, "__metadata__", ()) if isinstance(m, kind)), None)
