"""What mattered: importances and differences of hyperparameters, with intervals."""

from collections.abc import Sequence

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, create_trial
from scipy.stats import ttest_ind

from harness.reports.effects import (
    IMPORTANCE_TRIALS,
    by_value,
    differences,
    importances,
    mean_interval,
    no_importances,
    study_of,
)

LOSSES = CategoricalDistribution(("ccc", "pcc", "mse"))
RATES = FloatDistribution(0.0, 1.0)


def made(losses: Sequence[str], scores: Sequence[float], seed: int = 0) -> list[FrozenTrial]:
    """Trials of two hyperparameters: the loss, and a random rate."""
    distributions: dict[str, BaseDistribution] = {"loss": LOSSES, "rate": RATES}
    rates = np.random.default_rng(seed).random(len(losses))
    return [
        create_trial(
            params={"loss": loss, "rate": rate}, distributions=distributions, value=float(score)
        )
        for loss, rate, score in zip(losses, rates, scores, strict=True)
    ]


def of_rate(count: int) -> list[FrozenTrial]:
    """Trials whose score is their rate, whatever the loss."""
    rates = np.random.default_rng(0).random(count)
    return made([("ccc", "pcc")[n % 2] for n in range(count)], rates)


def test_importances_are_those_of_optuna_with_intervals_around_them() -> None:
    trials = of_rate(60)
    table = importances(trials)
    expected = get_param_importances(study_of(trials), evaluator=PedAnovaImportanceEvaluator())
    assert dict(zip(table["name"], table["share"], strict=True)) == pytest.approx(expected)
    assert list(table["name"]) == ["rate", "loss"]
    assert table["share"].sum() == pytest.approx(1)
    assert ((table["95 % from"] <= table["share"]) & (table["share"] <= table["to"])).all()
    assert ((table["95 % from"] >= 0) & (table["to"] <= 1)).all()
    assert table["95 % from"][0] > table["to"][1], "the rate alone makes the score"


@pytest.mark.parametrize(("count", "shown"), [(18, False), (40, False), (41, True)])
def test_few_trials_have_no_importances(count: int, shown: bool) -> None:
    assert (len(importances(of_rate(count))) > 0) == shown
    # The best tenth of the trials has five from then on.
    assert (int(np.ceil(0.1 * count)) >= 5) == (count >= IMPORTANCE_TRIALS) == shown


def test_equal_trials_have_no_importances() -> None:
    trials = of_rate(1) * 50
    assert importances(trials).empty
    assert no_importances(trials) == "no hyperparameter varies in the 50 complete trials"


def test_the_difference_of_two_values_is_that_of_welch() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal([0.5] * 6 + [0.6] * 9, 0.05)
    trials = made(["ccc"] * 6 + ["pcc"] * 9, scores)
    row = differences(trials).set_index("hyperparameter").loc["loss"]
    assert (row["better"], row["worse"], row["trials"]) == ("pcc", "ccc", "9 and 6")
    assert row["difference"] == pytest.approx(scores[6:].mean() - scores[:6].mean())
    found = ttest_ind(scores[6:], scores[:6], equal_var=False).confidence_interval(0.95)
    assert (row["95 % from"], row["to"]) == pytest.approx((found.low, found.high))


def test_values_with_few_trials_are_not_compared() -> None:
    scores = np.random.default_rng(0).random(8)
    table = differences(made(["ccc"] * 6 + ["pcc"] * 2, scores))
    assert "loss" not in list(table["hyperparameter"])
    assert mean_interval(scores[:2].tolist()) is None


@pytest.mark.filterwarnings("error")
def test_equal_scores_have_no_interval() -> None:
    assert differences(made(["ccc", "pcc"] * 4, [0.5] * 8)).empty


def test_differences_by_chance_have_intervals_around_zero() -> None:
    """Of three values, the best and the worst are compared: an interval for a single pair would
    exclude zero in about 12 % of such studies."""
    rng = np.random.default_rng(0)
    excluded = 0
    for _ in range(100):
        scores = rng.normal(0.5, 0.1, 18)
        trials = [
            create_trial(params={"loss": loss}, distributions={"loss": LOSSES}, value=float(score))
            for loss, score in zip(["ccc", "pcc", "mse"] * 6, scores, strict=True)
        ]
        excluded += differences(trials)["95 % from"][0] > 0
    assert excluded <= 0.05 * 100 + 2 * np.sqrt(100 * 0.05 * 0.95)


def test_many_numbers_are_three_ranges() -> None:
    groups = by_value("rate", of_rate(30))
    assert [len(scores) for scores in groups.values()] == [10, 10, 10]
    assert all(" to " in name for name in groups)
