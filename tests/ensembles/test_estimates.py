"""Bias and coverage of the estimates, on libraries of known true scores."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import stats

from harness.ensembles.estimate import (
    DIVISIONS,
    Chooser,
    assign_folds,
    choice_variance,
    curve,
    divisions,
    estimate,
)
from harness.ensembles.gain import resample_selection
from harness.ensembles.intervals import (
    FEW_GROUPS,
    Resamples,
    degrees_of_freedom,
    resample,
)
from harness.ensembles.library import PredictionMatrix, Trial
from harness.ensembles.luck import luck_of_best
from harness.ensembles.methods import METHODS
from harness.ensembles.methods.bagged import Bagged
from harness.ensembles.methods.greedy import Greedy
from harness.ensembles.moments import Moments
from harness.ensembles.planning import DIFFERENCE, needed_groups, plan, sentences
from harness.ensembles.selection import Recipe, choose, factors
from harness.metrics import pcc
from harness.models.stopping import Stopping
from tests.benchmarks.estimates import outcome, summary
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


def matrix_of(predictions: np.ndarray, truth: np.ndarray) -> PredictionMatrix:
    """The matrix of trials 0, 1, ..."""
    count = predictions.shape[1]
    trials = tuple(Trial(str(number), None, None, "") for number in range(count))  # type: ignore[arg-type]
    ids = tuple(map(str, range(len(truth))))
    return PredictionMatrix(trials, predictions, truth, ids, tuple("abcd"))


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
            pooled.append(chooser.pooled(method)[0])
        nested = [pcc(moments.truth.T, model.T).mean() for model in pooled]
        drawn = resample(moments.truth, np.stack(pooled), groups[moments.order], seed, 400)
        found = [drawn.score(model) for model in range(len(pooled))]
        low, high = np.array([(each.low, each.high) for each in found if each is not None]).T
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


@pytest.mark.parametrize("method", ["mean", "zscore", "raw", "greedy"])
def test_a_replicate_scores_its_selection_on_the_clips_not_drawn(method: str) -> None:
    population = families()
    predictions, truth = population.draw(60, np.random.default_rng(0))
    slopes = np.random.default_rng(1).uniform(1, 100, predictions.shape[:2])
    moments = Moments(predictions, truth, assign_folds(np.arange(60), 0, 20), slopes)
    recipe, names = Recipe(method), [str(family) for family in population.family]
    found = resample_selection(moments, recipe, method, names)
    for number, drawn in enumerate(found.counts[:3]):
        evidence = moments.weighted(drawn)
        choice = choose(recipe, method, evidence, names)
        average = moments.combined(choice.members, factors(choice, moments, evidence))
        rest = np.repeat(drawn == 0, np.diff(moments.bounds))
        held_out = pcc(moments.truth[:, rest].T, average[:, rest].T)
        np.testing.assert_allclose(found.held_out[number, 0], held_out, atol=1e-12)
        whole = pcc(moments.truth.T, average.T)
        np.testing.assert_allclose(found.whole[number, 0], whole, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("persons_or_clips", [(4, 80), (10, 200), (None, 30)])
def test_the_jackknife_covers_with_few_groups(persons_or_clips: tuple[int | None, int]) -> None:
    found = [outcome("score", "families", *persons_or_clips, seed) for seed in range(100)]
    # .95 minus three standard errors of 100 repetitions.
    assert summary(found)["selection"]["coverage"] >= 0.885


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["families", "near-equal"])
def test_the_interval_of_the_gain_covers(scenario: str) -> None:
    found = summary([outcome("gain", scenario, None, 200, seed) for seed in range(60)])
    assert found["selection"]["coverage"] >= 0.9
    assert found["fixed"]["coverage"] < found["selection"]["coverage"]
    assert found["selection"]["deviation"] < found["fixed"]["deviation"]


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
    found = resample(truth.T.astype(np.float64), models, groups, 3, 5, jackknife=False)
    drawn = np.random.default_rng(3).integers(0, 10, (5, 10))
    for row, numbers in zip(found.values, drawn, strict=True):
        clips = np.concatenate([np.flatnonzero(groups == number) for number in numbers])
        for model, scores in zip(models, row, strict=True):
            np.testing.assert_allclose(scores, pcc(truth[clips], model[:, clips].T), atol=1e-9)


def test_replicates_depend_on_the_seed() -> None:
    rng = np.random.default_rng(0)
    truth, models = rng.random((2, 30)), rng.random((1, 2, 30))

    def values(seed: int) -> np.ndarray:
        return resample(truth, models, np.arange(30), seed, 300, jackknife=False).values

    np.testing.assert_array_equal(values(0), values(0))
    assert (values(0) != values(1)).any()


def test_a_jackknife_resample_is_the_pcc_without_one_group() -> None:
    population = persons()
    predictions, truth = population.draw(40, np.random.default_rng(0))
    groups = population.groups(40)
    models = predictions[:, :2].transpose(1, 0, 2).astype(np.float64)
    found = resample(truth.T.astype(np.float64), models, groups, seed=0)
    assert found.jackknife
    for group, row in enumerate(found.values):
        rest = groups != group
        for model, scores in zip(models, row, strict=True):
            np.testing.assert_allclose(scores, pcc(truth[rest], model[:, rest].T), atol=1e-9)


def test_the_jackknife_interval_of_a_mean_is_that_of_student_in_fishers_z() -> None:
    """The jackknife of a mean without outliers is exact: t(n - 1) x standard error (scipy.stats),
    which in z is 1 / (1 - mean^2) times as large."""
    x = np.random.default_rng(0).uniform(0.2, 0.4, 12)
    without = (x.sum() - x) / 11
    found = Resamples(np.array([[x.mean()]]), without[:, None, None], jackknife=True).score(0)
    assert found is not None
    mean = x.mean()
    expected = stats.t.interval(0.95, 11, np.arctanh(mean), stats.sem(x) / (1 - mean**2))
    np.testing.assert_allclose((found.low, found.high), np.tanh(expected))


def test_outliers_leave_fewer_degrees_of_freedom() -> None:
    x = np.random.default_rng(0).normal(size=30)
    x[0] = 8
    spread = stats.kurtosis(x, fisher=False) - 27 / 29
    assert degrees_of_freedom(x) == pytest.approx(60 / spread)
    assert degrees_of_freedom(x) < degrees_of_freedom(x[1:]) <= 28
    assert degrees_of_freedom(np.ones(5)) == 4


def test_the_jackknife_is_used_for_few_groups() -> None:
    rng = np.random.default_rng(0)
    clips = FEW_GROUPS + 5
    truth, models = rng.random((2, clips)), rng.random((1, 2, clips))
    for groups, jackknife in ((FEW_GROUPS, True), (FEW_GROUPS + 1, False)):
        found = resample(truth, models, np.arange(clips) % groups, 0, 5)
        assert found.jackknife == jackknife


def test_undefined_replicates_are_skipped_and_counted() -> None:
    """Of 40 clips, one has a rating other than 0: about 36 % of the replicates lack it."""
    truth = np.zeros((1, 40))
    truth[0, 7] = 1.0
    models = np.random.default_rng(0).random((1, 1, 40))
    found = resample(truth, models, np.arange(40), 0, 1000, jackknife=False)
    undefined = np.isnan(found.values[:, 0, 0])
    assert found.undefined == undefined.sum()
    assert 300 < found.undefined < 430
    interval = found.score(0)
    assert interval is not None
    assert interval.low == pytest.approx(np.quantile(found.values[~undefined, 0, 0], 0.025))
    assert resample(truth, models, np.arange(40), 0).score(0) is None, "undefined without clip 7"


def test_three_groups_have_no_interval() -> None:
    rng = np.random.default_rng(0)
    truth, models = rng.random((2, 30)), rng.random((2, 2, 30))
    for groups in (3, 4):
        found = resample(truth, models, np.arange(30) % groups, 0)
        assert (found.score(0) is None) == (found.difference() is None) == (groups < 4)


def test_an_interval_of_a_score_is_within_one() -> None:
    resamples = Resamples(np.array([[0.5]]), np.array([[[0.9]], [[0.1]], [[0.4]], [[0.6]]]), True)
    found = resamples.score(0)
    assert found is not None
    assert -1 <= found.low < 0.5 < found.high <= 1


def test_folds_keep_persons_together_and_balance_clips() -> None:
    persons_of = np.random.default_rng(0).integers(0, 60, 500)
    groups = np.unique(persons_of, return_inverse=True)[1]
    folds = assign_folds(groups, seed=1)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    assert np.ptp(np.bincount(folds)) <= np.bincount(groups).max()
    np.testing.assert_array_equal(assign_folds(groups, seed=1), folds)
    assert (assign_folds(groups, seed=2) != folds).any()
    assert sorted(set(assign_folds(np.arange(6), 0))) == list(range(6)), "one clip per fold"


def test_few_clips_are_divided_into_folds_several_times() -> None:
    sizes = np.bincount(assign_folds(np.arange(203), 0, 50))
    found = divisions(sizes, seed=3)
    assert len(set(found)) == len(found) == DIVISIONS
    for folds in found:
        assert sorted(block for fold in folds for block in fold) == list(range(50))
        clips = [sum(sizes[list(fold)]) for fold in folds]
        assert max(clips) - min(clips) <= max(sizes)
    assert divisions(sizes, seed=3) == found
    assert divisions(np.array([3, 4, 3]), 0) == (({0}, {1}, {2}),), "the folds themselves"


def test_the_nested_score_is_the_mean_over_the_divisions() -> None:
    population = families(12)
    predictions, truth = population.draw(100, np.random.default_rng(0))
    moments = Moments(predictions, truth, assign_folds(np.arange(100), 0, 20))
    chooser = Chooser(moments, Recipe("mean"), [""] * 12)
    pooled = chooser.pooled("mean")
    scores = [pcc(moments.truth.T, each.T).mean() for each in pooled]
    assert np.ptp(scores) > 0
    assert chooser.scores()["mean"] == pytest.approx(np.mean(scores))
    found = resample(moments.truth, pooled[None], np.arange(100), 0)
    assert found.pcc.mean() == pytest.approx(np.mean(scores))
    alone = [resample(moments.truth, each[None], np.arange(100), 0).values for each in pooled]
    np.testing.assert_allclose(found.values, np.mean(alone, axis=0))
    assert chooser.folds().shape == (DIVISIONS, 100)
    held = chooser.divisions[2][7]
    np.testing.assert_array_equal(chooser.folds()[2][moments.order] == 7, ~moments.outside(held))


def test_choices_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    truth, clips = rng.normal(size=(2, 50)), np.arange(50)
    same = np.stack([truth + 1.0] * 3)
    other = same + rng.normal(size=same.shape)
    assert choice_variance(truth, same, clips, 9.0) == pytest.approx(0)
    scores = np.array([pcc(truth.T, each.T) for each in other])
    expected = 3 * scores.mean(axis=1).var(ddof=1)
    assert choice_variance(truth, other, clips, 9.0) == pytest.approx(expected)
    expected = 3 * scores[:, 1].var(ddof=1)
    assert choice_variance(truth, other, clips, 9.0, 1) == pytest.approx(expected)
    # One division says nothing, and a bootstrap of few persons too much.
    assert choice_variance(truth, other[:1], clips, 9.0) == 9.0
    assert choice_variance(truth, other[:1], clips // 5, 9.0) == 4.5


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
    selections = resample_selection(chooser.moments, chooser.recipe, "mean", chooser.families)
    found = estimate(
        chooser, names, groups, selections, grouped=False, clip_ids=list("x" * 200), count=500
    )
    assert found.nested == pytest.approx(found.single)
    for gain in (found.gain, *(target.gain for target in found.targets)):
        assert gain is not None
        assert gain.value == pytest.approx(0, abs=1e-9)
        assert gain.interval.low == pytest.approx(0, abs=1e-9)
        assert gain.interval.high == pytest.approx(0, abs=1e-9)
    assert found.interval is not None
    assert found.interval.low < found.nested < found.interval.high


def test_a_replicate_is_the_gain_of_what_its_blocks_select() -> None:
    population, blocks = families(6), 10
    predictions, truth = population.draw(100, np.random.default_rng(0))
    block_of = np.arange(100) % blocks
    moments = Moments(predictions, truth, block_of)
    found = resample_selection(moments, Recipe("mean", top=2), "mean", [""] * 6)
    for drawn, scores in list(zip(found.counts, found.held_out, strict=True))[:5]:
        rows = np.concatenate(
            [np.flatnonzero(block_of == b) for b in np.repeat(np.arange(blocks), drawn.astype(int))]
        )
        ranking = [
            pcc(truth[rows], trial[:, rows].T).mean() for trial in predictions.swapaxes(0, 1)
        ]
        best, second = np.argsort(ranking)[::-1][:2]
        held = drawn[block_of] == 0
        ensemble = (predictions[:, best] + predictions[:, second])[:, held].T
        single = predictions[:, best][:, held].T
        expected = [pcc(truth[held], model) for model in (ensemble, single)]
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_undefined_replicates_of_the_gain_are_skipped_and_counted() -> None:
    """The ratings of a target differ on one or four of 40 clips."""
    predictions, _ = families(6).draw(40, np.random.default_rng(0))
    for rated, defined in ((1, False), (4, True)):
        truth = np.zeros((40, 4), np.float32)
        truth[:rated] = 1.0
        moments = Moments(predictions, truth, np.arange(40))
        found = resample_selection(moments, Recipe("mean", top=2), "mean", [""] * 6)
        undefined = int(np.isnan(found.held_out).any(axis=(1, 2)).sum())
        assert undefined > 0
        gain = found.gain()
        assert (gain is not None) == defined
        if gain is not None:
            assert (gain.undefined, gain.replicates) == (undefined, 500)


@pytest.mark.parametrize("method", ["mean", "zscore", "greedy"])
def test_the_curve_contains_the_score_of_the_ensemble(method: str) -> None:
    chooser, _ = chooser_of(families(10), 200, 0, Recipe(method, top=4))
    found = curve(chooser, method)
    assert len(found.naive) == len(found.nested) == (50 if method == "greedy" else 10)
    if method != "greedy":
        assert found.nested[3] == pytest.approx(chooser.scores()[method], abs=1e-6)
    assert found.naive[0] == pytest.approx(chooser.moments.evidence().ranking.max(), abs=1e-6)


def test_the_luck_of_the_best_trial_is_estimated_and_new_seeds_keep_a_part() -> None:
    """Twelve configurations of equal quality with four seeds each; the first seed selects."""
    configurations, seeds, clips = 12, 4, 150
    family = np.repeat(np.arange(configurations), seeds)
    signal = np.full(len(family), 0.5)
    population = Population(signal, family, shared=0.5, of_family=0.6, own=0.4)
    true = population.pcc(np.eye(len(family))[[0] * 4]).mean()
    ids = [str(number) for number in range(len(family))]
    rows = []
    for seed in range(30):
        predictions, truth = population.draw(clips, np.random.default_rng(seed))
        matrix = matrix_of(predictions, truth)
        scores = Moments(predictions, truth, np.arange(clips) % 5).evidence().ranking
        luck = scores.mean() - true
        best = int(np.argmax(scores[::seeds])) * seeds
        repeats = list(range(best + 1, best + seeds))
        found = luck_of_best(matrix, ids[::seeds], {ids[best]: [ids[r] for r in repeats]})
        first, mean = scores[best] - true - luck, scores[repeats].mean() - true - luck
        rows.append((first - found.first, mean - found.kept, first, mean))
    left_first, left_mean, first, mean = np.mean(rows, axis=0)
    assert first > mean > 0.01, "new seeds keep a part of the luck"
    # The bootstrap underestimates the luck most if all configurations are equally good.
    assert 0 < left_first < 0.5 * first
    assert abs(left_mean) < 0.5 * mean


def test_planning_finds_the_design_effect_of_persons() -> None:
    """Truth and errors of a person's clips have a correlation of .5, their products of .25."""
    found = []
    for seed in range(8):
        population = replace(near_equal(), group=10)
        predictions, truth = population.draw(800, np.random.default_rng(seed))
        pooled = predictions[:, :2].transpose(1, 0, 2).astype(np.float64)
        planned = plan(truth.T.astype(np.float64), pooled, population.groups(800), grouped=True)
        assert planned is not None
        assert planned.needed == needed_groups(planned.difference_error, 80)
        alone = plan(truth.T.astype(np.float64), pooled, np.arange(800), grouped=False)
        assert alone is not None
        assert alone.design_effect is None
        assert planned.design_effect == pytest.approx((planned.error / alone.error) ** 2)
        found.append(planned.intraclass)
    assert np.mean(found) == pytest.approx(0.25, abs=0.07)


def test_the_needed_clips_detect_the_difference_in_four_of_five_cases() -> None:
    needed = needed_groups(error=0.03, groups=100)
    error = 0.03 * np.sqrt(100 / needed)
    found = np.random.default_rng(0).normal(DIFFERENCE, error, 100_000)
    assert (np.abs(found) > 1.96 * error).mean() == pytest.approx(0.8, abs=0.01)


def test_an_ensemble_that_is_the_best_trial_needs_no_clips_to_differ_from_it() -> None:
    population = near_equal()
    predictions, truth = population.draw(100, np.random.default_rng(0))
    same = predictions[:, [0, 0]].transpose(1, 0, 2).astype(np.float64)
    planned = plan(truth.T.astype(np.float64), same, np.arange(100), grouped=False)
    assert planned is not None
    (line,) = sentences(planned, "val", 100, grouped=False)
    assert line == f"With 100 clips of val, the standard error of the score is {planned.error:.4f}"


def test_planning_of_an_undefined_score_is_none() -> None:
    rng = np.random.default_rng(0)
    truth = np.eye(6)[:1]
    assert plan(truth, rng.random((2, 1, 6)), np.arange(6), grouped=False) is None


@pytest.mark.parametrize("epochs", [1, 20])
def test_the_stopping_optimism_of_a_trial_is_estimated(epochs: int) -> None:
    """Epochs that are equally good: choosing one of several is luck, one alone is none."""
    population = Population(np.full(epochs, 0.5), np.zeros(epochs, np.intp), own=0.3)
    rows = []
    for seed in range(20):
        predictions, truth = population.draw(100, np.random.default_rng(seed))
        stopping = Stopping(truth, np.arange(100))
        for epoch in range(epochs):
            stopping.add(predictions[:, epoch].T)
        scores = [pcc(truth, predictions[:, epoch].T).mean() for epoch in range(epochs)]
        rows.append((stopping.optimism(seed), max(scores) - np.mean(scores)))
    estimated, real = np.mean(rows, axis=0)
    if epochs == 1:
        assert estimated == 0
    else:
        assert 0.5 * real < estimated < 1.5 * real
