"""The options of a search, as `harness.search` and `harness.run_search` take them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from harness.choices import (
    DEFAULT_PRECISION,
    DEFAULT_SAMPLER,
    DEFAULT_SCHEDULER,
    DEFAULT_SOUND_STEP,
    DEFAULT_STORED,
)
from harness.errors import InputError
from harness.names import check_folder_name
from harness.spaces import find_space


@dataclass(frozen=True)
class DataOptions:
    """Which clips, and how their features are computed."""

    data: Path | None = None
    weights: Path | None = None
    weights_key: str | None = None
    layout: str | None = None
    features: Sequence[str] | None = None
    crop: str | None = None
    precision: str = DEFAULT_PRECISION
    encoder: Sequence[str] | None = None
    encoder_output: Sequence[str] | None = None
    encoder_input: Sequence[str] | None = None
    stored: str = DEFAULT_STORED
    sound: str | None = None
    sound_step: float = DEFAULT_SOUND_STEP
    strict: bool = False
    folds: int | None = None
    early_stop_fraction: float | None = None
    allow_shared_groups: bool = False


@dataclass(frozen=True)
class SearchOptions:
    """What is searched and how."""

    space: Path | None = None
    trials: int | None = None
    epochs: int | None = None
    sampler: str = DEFAULT_SAMPLER
    scheduler: str = DEFAULT_SCHEDULER
    confirm: int | None = None
    seeds: int = 5
    deterministic: bool = False
    seed: int = 0


@dataclass(frozen=True)
class RunOptions:
    """Where the search runs and where its study is kept."""

    results: Path = Path("results")
    study: str | None = None
    cache: Path | None = None
    storage: str | None = None
    concurrency: int | None = None
    cpus_per_trial: float = 1.0
    gpus_per_trial: float | None = None
    address: str | None = None
    dashboard: bool = False

    @property
    def stored(self) -> Path:
        """The folder of stored streams."""
        return self.cache or self.results / ".cache"


# The least values of numbers. A command also checks them, when it reads its options.
_LEAST = {
    "trials": 1,
    "epochs": 1,
    "confirm": 0,
    "seeds": 1,
    "concurrency": 1,
    "folds": 2,
    "seed": 0,
    "cpus_per_trial": 0,
    "gpus_per_trial": 0,
}
# What also concerns the synthetic clips, which bring their own network.
_OF_DEMO = ("data", "sound", "sound_step", "strict", "folds", "early_stop_fraction")
_Kind = TypeVar("_Kind", DataOptions, SearchOptions, RunOptions)


class Options(NamedTuple):
    """All options of a search."""

    clips: DataOptions
    plan: SearchOptions
    means: RunOptions

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Options":
        """Sorts arguments by name; None stands for the default.

        Args:
            given: names of fields and their values, and others, which are left to the caller.
                Paths may be text; `space` may be the name of one that ships.

        Raises:
            InputError: `study` is no name of a folder, `space` is not found, a number is too small,
                or an option has no effect without another one.
        """
        values = {name: value for name, value in given.items() if value is not None}
        for name in _LEAST.keys() & values:
            if values[name] < _LEAST[name]:
                raise InputError(f"{values[name]}: expected at least {_LEAST[name]}", name)
        if "study" in values:
            check_folder_name("study", values["study"])
        if "space" in values:
            values["space"] = find_space(str(values["space"]))
        for name in values.keys() & {"data", "weights", "results", "cache"}:
            values[name] = Path(values[name])
        for name in values.keys() & {"features", "encoder", "encoder_output", "encoder_input"}:
            one = isinstance(values[name], str | PathLike)
            values[name] = tuple(map(str, [values[name]] if one else values[name]))

        def read(kind: type[_Kind]) -> _Kind:
            return kind(**{f.name: values[f.name] for f in fields(kind) if f.name in values})

        options = cls(read(DataOptions), read(SearchOptions), read(RunOptions))
        options._check_effects()
        return options

    def _check_effects(self) -> None:
        for each in fields(DataOptions) if self.clips.data is None else ():
            value = getattr(self.clips, each.name)
            if each.name not in _OF_DEMO and value and value != each.default:
                raise InputError("has no effect on the synthetic clips; give `data`", each.name)
        if self.plan.confirm is None and self.plan.seeds != SearchOptions.seeds:
            raise InputError("has no effect without `confirm`", "seeds")


def study_name(clips: DataOptions, means: RunOptions) -> str:
    """The study's name: as given, or the data folder's, or `demo`."""
    return means.study or (clips.data.resolve().name if clips.data else "demo")
