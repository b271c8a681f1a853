"""Bias and coverage of the estimates, on libraries of known true scores."""

from dataclasses import dataclass

import numpy as np
import pytest

from harness.ensembles.bootstrap import holm, interval, replicates, two_sided
from harness.ensembles.estimate import Chooser, assign_folds, curve, estimate, group_numbers
from harness.ensembles.methods import METHODS
from harness.ensembles.methods.bagged import Bagged
from harness.ensembles.methods.greedy import Greedy
from harness.ensembles.moments import Moments
from harness.ensembles.selection import Recipe
from harness.metrics import pcc
from tests.simulations import Population, families, near_equal, persons

SCENARIOS = {"families": families, "near-equal": near_equal, "persons": persons}
# With persons, fewer clips are independent.
CLIPS = {"families": 600, "near-equal": 600, "persons": 1200}
# Largest accepted bias of the nested estimate.
BIAS = 0.003


@dataclass(frozen=True)
class Outcome:
    """The results of a simulation, (repetitions, methods) each.

    naive, nested: score minus true score.
    covered: the interval contains the true score.
    width: of the interval.
    """

    naive: np.ndarray
    nested: np.ndarray
    covered: np.ndarray
    width: np.ndarray


@dataclass(frozen=True)
class ShortGreedy(Greedy):
    top: int = 15


@dataclass(frozen=True)
class ShortBagged(Bagged):
    top: int = 15
    bags: int = 4


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer picks and bags, to save time."""
    monkeypatch.setitem(METHODS, "greedy", ShortGreedy)
    monkeypatch.setitem(METHODS, "bagged", ShortBagged)


def chooser_of(
    population: Population, clips: int, seed: int, recipe: Recipe, *, grouped: bool = True
) -> tuple[Chooser, np.ndarray]:
    predictions, truth = population.draw(clips, np.random.default_rng(seed))
    groups = population.groups(clips) if grouped else np.arange(clips)
    moments = Moments(predictions, truth, assign_folds(groups, seed))
    return Chooser(moments, recipe, [str(family) for family in population.family]), groups


def simulate(
    population: Population,
    clips: int,
    repetitions: int,
    methods: tuple[str, ...],
    *,
    per_target: bool = False,
    grouped: bool = True,
) -> Outcome:
    """Draws libraries, and compares the scores of the selected ensembles with their true scores.

    The mean over all trials of sample score minus true score is subtracted from both errors. It is
    0 on average and has most of the sampling noise, so that fewer repetitions show a bias.
    """
    trials = len(population.signal)
    ones = np.repeat(np.eye(trials)[:, None], population.targets, axis=1)
    single = np.array([population.pcc(one).mean() for one in ones])
    rows = []
    for seed in range(repetitions):
        recipe = Recipe("auto", per_target=per_target)
        chooser, groups = chooser_of(population, clips, seed, recipe, grouped=grouped)
        moments = chooser.moments
        luck = (moments.evidence().ranking - single).mean()
        naive, true, pooled = [], [], []
        for method in methods:
            name = chooser.method() if method == "auto" else method
            choice = chooser.choice(name)
            factors = np.zeros((population.targets, trials))
            units = moments.deviations[:, choice.members] if choice.standardised else 1.0
            factors[:, choice.members] = choice.weights / units
            true.append(population.pcc(factors).mean())
            combined = chooser.combined(choice, frozenset())
            naive.append(pcc(moments.truth.T, combined.T).mean())
            pooled.append(chooser.out_of_fold(method))
        nested = [pcc(moments.truth.T, model.T).mean() for model in pooled]
        drawn = replicates(moments.truth, np.stack(pooled), groups[moments.order], 400, seed)
        low, high = np.quantile(drawn.mean(axis=2), [0.025, 0.975], axis=0)
        covered = (low <= np.array(true)) & (np.array(true) <= high)
        errors = [np.array(score) - true - luck for score in (naive, nested)]
        rows.append((*errors, covered, high - low))
    return Outcome(*(np.array(column) for column in zip(*rows, strict=True)))


@pytest.mark.usefixtures("short")
def test_nested_is_unbiased_and_naive_is_not() -> None:
    found = simulate(near_equal(), 600, 50, tuple(METHODS))
    assert (np.abs(found.nested.mean(axis=0)) < BIAS).all()
    assert (found.naive.mean(axis=0) > BIAS).all()


@pytest.mark.slow
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_intervals_cover_and_nested_is_unbiased(scenario: str) -> None:
    found = simulate(SCENARIOS[scenario](), CLIPS[scenario], 200, tuple(METHODS))
    assert (np.abs(found.nested.mean(axis=0)) < BIAS).all()
    assert (found.naive.mean(axis=0) > BIAS).all()
    coverage = found.covered.mean(axis=0)
    assert (coverage >= 0.9).all(), coverage
    assert (coverage <= 0.99).all(), coverage


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_auto_is_nested_in_itself() -> None:
    covered = []
    for scenario, make in SCENARIOS.items():
        found = simulate(make(), CLIPS[scenario], 40, ("auto",))
        assert abs(found.nested.mean()) < BIAS, scenario
        assert (found.naive - found.nested).mean() > BIAS, scenario
        covered.append(found.covered)
    # All scenarios together, because an interval of auto takes ten times as long.
    assert 0.9 <= np.mean(covered) <= 0.99


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_weights_per_target_raise_only_the_naive_score() -> None:
    shared = simulate(near_equal(), 600, 40, tuple(METHODS))
    own = simulate(near_equal(), 600, 40, tuple(METHODS), per_target=True)
    assert (np.abs(own.nested.mean(axis=0)) < BIAS).all()
    assert (own.naive.mean(axis=0) > shared.naive.mean(axis=0)).all()


def test_without_persons_intervals_are_too_narrow() -> None:
    grouped = simulate(persons(), 600, 10, ("mean",))
    alone = simulate(persons(), 600, 10, ("mean",), grouped=False)
    # Half of all variance is between persons, so four clips of a person carry less information.
    assert grouped.width.mean() > 1.15 * alone.width.mean()


def test_a_replicate_is_the_pcc_of_the_drawn_clips() -> None:
    population = persons()
    predictions, truth = population.draw(40, np.random.default_rng(0))
    models = predictions[:, :2].transpose(1, 0, 2).astype(np.float64)
    groups = population.groups(40)
    found = replicates(truth.T.astype(np.float64), models, groups, 5, seed=3)
    drawn = np.random.default_rng(3).integers(0, 10, (5, 10))
    for row, numbers in zip(found, drawn, strict=True):
        clips = np.concatenate([np.flatnonzero(groups == number) for number in numbers])
        for model, scores in zip(models, row, strict=True):
            np.testing.assert_allclose(scores, pcc(truth[clips], model[:, clips].T), atol=1e-9)


def test_replicates_depend_on_the_seed() -> None:
    rng = np.random.default_rng(0)
    truth, models = rng.random((2, 30)), rng.random((1, 2, 30))
    first = replicates(truth, models, np.arange(30), 300, 0)
    np.testing.assert_array_equal(replicates(truth, models, np.arange(30), 300, 0), first)
    assert (replicates(truth, models, np.arange(30), 300, 1) != first).any()


def test_holm_equals_a_calculation_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.5, 0.9])), [1.0, 1.0])


def test_p_values_are_two_sided_and_never_zero() -> None:
    assert two_sided(np.full(999, 0.1)) == pytest.approx(2 / 1000)
    assert two_sided(np.linspace(-1, 1, 999)) == 1.0
    assert interval(np.linspace(0, 1, 1001)).low == pytest.approx(0.025)


def test_folds_keep_persons_together_and_balance_clips() -> None:
    persons_of = np.random.default_rng(0).integers(0, 60, 500)
    groups = group_numbers([f"person {number}" for number in persons_of], 500)
    folds = assign_folds(groups, seed=1)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    assert np.ptp(np.bincount(folds)) <= np.bincount(groups).max()
    np.testing.assert_array_equal(assign_folds(groups, seed=1), folds)
    assert (assign_folds(groups, seed=2) != folds).any()
    assert sorted(set(assign_folds(np.arange(6), 0))) == list(range(6)), "one clip per fold"


def test_a_choice_does_not_depend_on_held_out_clips() -> None:
    population = families(12)
    predictions, truth = population.draw(100, np.random.default_rng(0))
    folds = np.arange(100) % 5
    names = [""] * 12
    before = Chooser(Moments(predictions, truth, folds), Recipe("greedy"), names)
    truth[folds == 2] = np.random.default_rng(1).random((20, 4))
    after = Chooser(Moments(predictions, truth, folds), Recipe("greedy"), names)
    here, there = (each.choice("greedy", frozenset({2})) for each in (before, after))
    assert here.members.tolist() == there.members.tolist()
    np.testing.assert_allclose(here.weights, there.weights, atol=1e-6)


def test_an_ensemble_of_the_best_trial_has_no_gain() -> None:
    chooser, groups = chooser_of(families(), 200, 0, Recipe("mean", top=1))
    names = ("a", "b", "c", "d")
    found = estimate(chooser, names, groups, grouped=False, hashed="", count=500)
    assert found.nested == pytest.approx(found.single)
    assert found.gain.low == found.gain.high == 0
    assert found.p == 1
    assert all(target.p == 1 for target in found.targets)
    assert found.interval.low < found.nested < found.interval.high


@pytest.mark.parametrize("method", ["mean", "zscore", "greedy"])
def test_the_curve_contains_the_score_of_the_ensemble(method: str) -> None:
    chooser, _ = chooser_of(families(10), 200, 0, Recipe(method, top=4))
    found = curve(chooser, method)
    assert len(found.naive) == len(found.nested) == (50 if method == "greedy" else 10)
    if method != "greedy":
        assert found.nested[3] == pytest.approx(chooser.scores()[method], abs=1e-6)
    assert found.naive[0] == pytest.approx(chooser.moments.evidence().ranking.max(), abs=1e-6)
