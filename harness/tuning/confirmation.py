"""Repeats the best configurations of a search with new seeds."""

import statistics
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from harness.errors import InputError
from harness.space.search_space import Point
from harness.study.trials import (
    CORRECTED,
    ERROR,
    changed_settings,
    complete,
    configuration,
    shown_settings,
)
from harness.tuning.agenda import CONFIRMS, ConfirmAgenda


@dataclass(frozen=True)
class Confirmed:
    """A configuration under several seeds.

    number: of the trial that found it. params: what was searched, and what else differs between
        the configurations.
    first: mean PCC of that trial, by which it was selected, so that it is optimistic.
    scores: mean PCC of the trials with new seeds.
    repeats: numbers of these trials.
    stopping: their mean expected optimism of the choice of the epoch; None if it is not known.
    clip_error: standard error of their scores over the clips (or persons) of val, which no further
        seed reduces; None if it is not known.
    """

    number: int
    params: Point
    first: float
    scores: tuple[float, ...]
    repeats: tuple[int, ...]
    stopping: float | None
    clip_error: float | None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores)

    @property
    def seed_error(self) -> float:
        """Standard error of `mean` over seeds; NaN for a single one."""
        count = len(self.scores)
        return statistics.stdev(self.scores) / count**0.5 if count > 1 else float("nan")

    def corrected(self, luck: float) -> float | None:
        """`mean` without the optimism of the choice of the epoch and of the selection.

        Args:
            luck: the part of the optimism of the selection that new seeds keep.
        """
        return None if self.stopping is None else self.mean - self.stopping - luck


def choose(study: optuna.Study, count: int) -> list[FrozenTrial]:
    """The best trials of a search, of different configurations, best first.

    Raises:
        InputError: the search has no complete trial.
    """
    found = _searched(study)
    if not found:
        raise InputError(f"study {study.study_name}: no complete trial to confirm yet")
    # The lower number first where scores are equal, so that a repeated call chooses the same.
    found.sort(key=lambda trial: (-_value(trial), trial.number))
    chosen: list[FrozenTrial] = []
    for trial in found:
        if len(chosen) < count and _settings(trial) not in map(_settings, chosen):
            chosen.append(trial)
    return chosen


def agenda(study: optuna.Study, count: int, seeds: int) -> ConfirmAgenda:
    """What is left to train, to confirm the best `count` configurations under `seeds` new seeds."""
    return ConfirmAgenda(choose(study, count), seeds)


def confirmed(study: optuna.Study) -> list[Confirmed]:
    """Every configuration that was trained again, the best mean first."""
    repeats: dict[int, list[FrozenTrial]] = {}
    trials = complete(study)
    for trial in trials:
        if CONFIRMS in trial.user_attrs:
            repeats.setdefault(trial.user_attrs[CONFIRMS], []).append(trial)
    by_number = {trial.number: trial for trial in trials}
    changed = changed_settings(by_number[n] for n in repeats if n in by_number)
    rows = [
        Confirmed(
            number=n,
            params=shown_settings(by_number[n], changed),
            first=_value(by_number[n]),
            scores=tuple(map(_value, found)),
            repeats=tuple(trial.number for trial in found),
            stopping=_mean([_value(t) - t.user_attrs[CORRECTED] for t in found
                            if CORRECTED in t.user_attrs]),
            clip_error=_mean([t.user_attrs[ERROR] for t in found if ERROR in t.user_attrs]),
        )
        for n, found in repeats.items()
        if n in by_number
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row.mean, row.number))


def searched(study: optuna.Study) -> list[int]:
    """Numbers of the complete trials among which the best was selected."""
    return [trial.number for trial in _searched(study)]


def _searched(study: optuna.Study) -> list[FrozenTrial]:
    return [trial for trial in complete(study) if CONFIRMS not in trial.user_attrs]


def _settings(trial: FrozenTrial) -> Point:
    """The whole configuration: start points may differ only in what is not searched."""
    return configuration(trial) or trial.params


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None  # a complete trial has one
    return trial.value
