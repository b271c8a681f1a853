"""How much each hyperparameter matters for the score, with intervals."""

import math
import warnings
from collections.abc import Collection, Sequence
from itertools import combinations

import numpy as np
import optuna
import pandas as pd
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial

from harness.ensembles.intervals import Interval, student_interval
from harness.metrics import jackknife_error

# PED-ANOVA compares the best tenth of the trials with all trials. The documentation of
# `PedAnovaImportanceEvaluator` advises at least five trials in that tenth, which 41 trials have.
_BEST_SHARE, _BEST_TRIALS = 0.1, 5
#: Complete trials from which importances are shown.
IMPORTANCE_TRIALS = 41
# Parts of the trials that the jackknife leaves out one by one.
_PARTS = 20
# Trials of a value from which its mean score has an interval.
FEW_TRIALS = 3


def study_of(trials: Sequence[FrozenTrial]) -> optuna.Study:
    """A study of these trials alone, for functions of Optuna. The real study also has invalidated
    trials, and may have thousands."""
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    return study


def importances(trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    """PED-ANOVA importance of each hyperparameter, the largest first; the shares sum to 1.

    The 95 % interval is that of a jackknife over 20 random parts of the trials.

    Returns:
        columns name, share, 95 % from, to; without rows if there are fewer than
        `IMPORTANCE_TRIALS` trials or no hyperparameter varies.
    """
    columns = ["name", "share", "95 % from", "to"]
    if len(trials) < IMPORTANCE_TRIALS or not _varied(trials):
        return pd.DataFrame(columns=columns)
    study = study_of(trials)
    order = np.random.default_rng(0).permutation(len(trials))
    without = [_shares(study, set(order[part::_PARTS].tolist())) for part in range(_PARTS)]
    rows = []
    for name, share in _shares(study).items():
        error = jackknife_error(np.array([found.get(name, 0.0) for found in without]))
        interval = student_interval(share, error, _PARTS - 1, 1.0)
        rows.append((name, share, max(interval.low, 0.0), interval.high))
    return pd.DataFrame(rows, columns=columns)


def _shares(study: optuna.Study, left_out: Collection[int] = ()) -> dict[str, float]:
    """The importances without some trials, whose undefined target excludes them."""

    def target(trial: FrozenTrial) -> float:
        return math.nan if trial.number in left_out else -float(trial.value or 0.0)

    evaluator = PedAnovaImportanceEvaluator(target_quantile=_BEST_SHARE)
    with warnings.catch_warnings():
        # It warns that it looks for low targets, and of conditions that few trials meet.
        warnings.simplefilter("ignore")
        return get_param_importances(study, evaluator=evaluator, target=target)


def no_importances(trials: Sequence[FrozenTrial]) -> str:
    """Why these complete trials have no importances."""
    if len(trials) >= IMPORTANCE_TRIALS and not _varied(trials):
        return f"no hyperparameter varies in the {len(trials)} complete trials"
    return (
        f"{len(trials)} complete trials, {IMPORTANCE_TRIALS} are needed. PED-ANOVA compares the "
        f"best tenth of the trials with all, and Optuna advises at least {_BEST_TRIALS} trials in "
        "it"
    )


def _varied(trials: Sequence[FrozenTrial]) -> bool:
    return any(trial.params != trials[0].params for trial in trials)


def differences(trials: Sequence[FrozenTrial]) -> pd.DataFrame:
    """The largest difference of the mean score between two values of each hyperparameter.

    Only values with at least three trials count. The 95 % intervals are those of Welch, widened
    (Bonferroni) for the number of pairs of values that are compared. The hyperparameters with the
    largest lower limit come first.

    Returns:
        columns hyperparameter, better, worse (values), trials (of each), difference, 95 % from, to.
    """
    rows = [row for name in _names(trials) if (row := _difference(name, trials))]
    columns = ["hyperparameter", "better", "worse", "trials", "difference", "95 % from", "to"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values("95 % from", ascending=False, kind="stable", ignore_index=True)


def _difference(name: str, trials: Sequence[FrozenTrial]) -> tuple[object, ...] | None:
    groups = {v: own for v, own in by_value(name, trials).items() if len(own) >= FEW_TRIALS}
    if len(groups) < 2:
        return None
    ordered = sorted(groups, key=lambda value: -float(np.mean(groups[value])))
    best, worst = groups[ordered[0]], groups[ordered[-1]]
    if not np.ptp(best) and not np.ptp(worst):  # without a spread there is no interval
        return None
    pairs = len(list(combinations(groups, 2)))
    difference = float(np.mean(best) - np.mean(worst))
    # Welch's; scipy.stats, which has it, takes half a second to import.
    squares = np.array([np.var(own, ddof=1) / len(own) for own in (best, worst)])
    degrees = squares.sum() ** 2 / (squares**2 / [len(best) - 1, len(worst) - 1]).sum()
    error = float(np.sqrt(squares.sum()))
    found = student_interval(difference, error, degrees, 2, 1 - 0.05 / pairs)
    counts = f"{len(best)} and {len(worst)}"
    return name, ordered[0], ordered[-1], counts, difference, found.low, found.high


def _names(trials: Sequence[FrozenTrial]) -> list[str]:
    return sorted({name for trial in trials for name in trial.params})


# Values of a hyperparameter that are shown one by one; more are shown in three ranges.
_VALUES = 8


def by_value(name: str, trials: Sequence[FrozenTrial]) -> dict[str, list[float]]:
    """The scores of the trials by the value of a hyperparameter. Empty if it has a single value; a
    hyperparameter of more than eight values is divided into three ranges."""
    part = pd.DataFrame(
        [(trial.params[name], trial.value) for trial in trials if name in trial.params],
        columns=["value", "score"],
    )
    if part["value"].nunique() < 2:
        return {}
    if part["value"].nunique() > _VALUES:
        part["value"] = _ranges(part["value"])
    scores = part.groupby(part["value"].astype(str), sort=False)["score"]
    return {str(value): own.tolist() for value, own in scores}


def _ranges(values: "pd.Series[float]") -> "pd.Series[str]":
    """Thirds of the values, named by their limits."""
    if not pd.api.types.is_numeric_dtype(values):
        return values.astype(str)
    thirds = pd.qcut(values.rank(method="first"), 3, labels=False)
    limits = values.groupby(thirds).agg(["min", "max"])
    names = {n: f"{low:.3g} to {high:.3g}" for n, (low, high) in enumerate(limits.to_numpy())}
    return thirds.map(names)


def mean_interval(scores: Sequence[float]) -> Interval | None:
    """The 95 % interval of a mean by Student's t; None for fewer than three scores."""
    if len(scores) < FEW_TRIALS:
        return None
    error = float(np.std(scores, ddof=1)) / math.sqrt(len(scores))
    return student_interval(float(np.mean(scores)), error, len(scores) - 1, 1.0)
