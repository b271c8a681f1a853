"""Was it luck? The best configurations of a search, trained again under new seeds."""

import statistics
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial

from harness.errors import InputError
from harness.space.search_space import Point
from harness.study.trials import complete
from harness.tuning.agenda import CONFIRMS, ConfirmAgenda


@dataclass(frozen=True)
class Confirmed:
    """A configuration under several seeds. number: of the trial that found it. first: its mean PCC
    there, by which it was chosen, so that it is optimistic. scores: those under new seeds."""

    number: int
    params: Point
    first: float
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float:
        """Sample standard deviation over seeds; NaN for a single one."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else float("nan")


def choose(study: optuna.Study, count: int) -> list[FrozenTrial]:
    """The best trials of a search, of different configurations, best first.

    Raises:
        InputError: the search has no complete trial.
    """
    found = [trial for trial in complete(study) if CONFIRMS not in trial.user_attrs]
    if not found:
        raise InputError(f"study {study.study_name}: no complete trial to confirm yet")
    # The lower number first where scores are equal, so that a repeated call chooses the same.
    found.sort(key=lambda trial: (-_value(trial), trial.number))
    chosen: list[FrozenTrial] = []
    for trial in found:
        if len(chosen) < count and trial.params not in [c.params for c in chosen]:
            chosen.append(trial)
    return chosen


def agenda(study: optuna.Study, count: int, seeds: int) -> ConfirmAgenda:
    """What is left to train, to confirm the best `count` configurations under `seeds` new seeds."""
    return ConfirmAgenda(choose(study, count), seeds)


def confirmed(study: optuna.Study) -> list[Confirmed]:
    """Every configuration that was trained again, the best mean first."""
    scores: dict[int, list[float]] = {}
    trials = complete(study)
    for trial in trials:
        if CONFIRMS in trial.user_attrs:
            scores.setdefault(trial.user_attrs[CONFIRMS], []).append(_value(trial))
    by_number = {trial.number: trial for trial in trials}
    rows = [
        Confirmed(n, by_number[n].params, _value(by_number[n]), tuple(found))
        for n, found in scores.items()
        if n in by_number
    ]
    return sorted(rows, key=lambda row: (-row.mean, row.number))


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None  # a complete trial has one
    return trial.value
