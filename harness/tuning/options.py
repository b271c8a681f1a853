"""The options of a search, as its command takes them."""

from dataclasses import dataclass
from pathlib import Path

from harness.choices import DEFAULT_PRECISION, DEFAULT_SAMPLER, DEFAULT_SCHEDULER


@dataclass(frozen=True)
class Clips:
    """Which clips, and how features come out of them."""

    data: Path | None = None
    weights: Path | None = None
    layout: str | None = None
    features: str | None = None
    crop: str | None = None
    precision: str = DEFAULT_PRECISION
    strict: bool = False
    folds: int | None = None
    early_stop_fraction: float | None = None
    allow_shared_groups: bool = False
    weights_key: str | None = None


@dataclass(frozen=True)
class Plan:
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
class Means:
    """Where it runs and where it is kept."""

    results: Path = Path("results")
    study: str | None = None
    storage: str | None = None
    concurrency: int | None = None
    cpus_per_trial: float = 1.0
    gpus_per_trial: float | None = None
    address: str | None = None
    dashboard: bool = False


def study_name(clips: Clips, means: Means) -> str:
    """The study's name: as given, or the data folder's, or `demo`."""
    return means.study or (clips.data.resolve().name if clips.data else "demo")
