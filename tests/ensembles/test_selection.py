"""Selection of members from moments: laws, and equality with selection from predictions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import nnls

import harness.ensembles.gain
import harness.ensembles.moments
from harness.ensembles.caveats import caveats
from harness.ensembles.construction import construct
from harness.ensembles.estimate import Chooser, curve
from harness.ensembles.library import load_library
from harness.ensembles.methods import METHODS, Method
from harness.ensembles.methods.bagged import Bagged
from harness.ensembles.methods.greedy import Greedy, greedy_picks
from harness.ensembles.methods.mean import top_k
from harness.ensembles.methods.ridge import Ridge
from harness.ensembles.moments import Evidence, Moments
from harness.ensembles.selection import Recipe, cap_families, choose, factors
from harness.errors import InputError
from harness.metrics import mean_pcc, standardised
from tests.simulations import families
from tests.studies import make_index, make_study

POPULATION = families(24)
ALL = np.ones(24, dtype=bool)


def moments_of(seed: int = 0, clips: int = 300) -> tuple[Moments, np.ndarray, np.ndarray]:
    predictions, truth = POPULATION.draw(clips, np.random.default_rng(seed))
    # Different means and standard deviations, as with different losses.
    spread = np.random.default_rng(9).uniform(0.1, 3, (len(predictions), 24, 1))
    predictions = (predictions * spread + spread).astype(np.float32)
    return Moments(predictions, truth, np.arange(clips) % 5), predictions, truth


def rescored_picks(predictions: np.ndarray, truth: np.ndarray, steps: int) -> list[int]:
    """The usual greedy loop: the average with every candidate is scored on all clips."""
    z = predictions - predictions.mean(axis=2, keepdims=True)
    z = z / predictions.std(axis=2, keepdims=True)
    total = np.zeros_like(truth)
    picks: list[int] = []
    for _ in range(steps):
        scores = [mean_pcc(truth, total + z[:, k].T) for k in range(z.shape[1])]
        picks.append(int(np.argmax(scores)))
        total = total + z[:, picks[-1]].T
    return picks


def evidence_of(scores: list[float], correlation: float = 0.5) -> Evidence:
    """One target; every pair of trials has the same correlation."""
    columns = np.full((len(scores), len(scores)), correlation)
    np.fill_diagonal(columns, 1.0)
    c = np.array([scores])
    return Evidence(c, np.ones_like(c), lambda j, _: columns[[j]])


@pytest.mark.parametrize("held", [frozenset(), frozenset({1}), frozenset({0, 3})])
def test_moments_equal_those_of_the_clips_outside_the_held_out_folds(held: frozenset[int]) -> None:
    moments, predictions, truth = moments_of()
    rows = ~np.isin(np.arange(300) % 5, list(held))
    evidence = moments.evidence(held)
    for target in range(len(predictions)):
        stacked = np.vstack([predictions[target][:, rows], truth[rows, target]])
        expected = np.corrcoef(stacked.astype(np.float64))
        np.testing.assert_allclose(evidence.scores[target], expected[-1, :-1], atol=1e-6)
        for trial in (0, 7):
            column = evidence.column(trial, np.arange(24))[target]
            np.testing.assert_allclose(column, expected[trial, :-1], atol=1e-6)
        raw = predictions[target][:, rows].std(axis=1)
        scales = evidence.scales[target] * moments.deviations[target]
        np.testing.assert_allclose(scales, raw, rtol=1e-5)


def test_a_trial_that_is_constant_on_some_clips_has_score_zero_there() -> None:
    predictions, truth = POPULATION.draw(60, np.random.default_rng(0))
    predictions[:, 3, :48] = 0.5
    evidence = Moments(predictions, truth, np.arange(60) // 12).evidence(frozenset({4}))
    assert (evidence.scores[:, 3] == 0).all()
    assert (evidence.column(3, np.arange(24)) == 0).all()
    assert np.isfinite(evidence.column(0, np.arange(24))).all()


@pytest.mark.parametrize("seed", range(5))
def test_greedy_picks_equal_those_of_rescoring(seed: int) -> None:
    moments, predictions, truth = moments_of(seed)
    picks, reached = greedy_picks(moments.evidence(), ALL, 15)
    assert picks.tolist() == rescored_picks(predictions, truth, 15)
    z = moments.values[:, picks].sum(axis=1).T
    assert reached[-1] == pytest.approx(mean_pcc(moments.truth.T, z), abs=1e-6)


def test_columns_on_demand_equal_the_gram_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    # Memory for few columns, so that some are dropped and computed again.
    monkeypatch.setattr(harness.ensembles.moments, "_COLUMN_BYTES", 0)
    monkeypatch.setattr(harness.ensembles.moments, "_BATCH", 3)
    lazy, whole = moments_of()[0], moments_of()[0]
    whole.fill()
    others = np.arange(24)
    for trial in (*range(24), 0, 5):
        np.testing.assert_allclose(
            lazy.evidence().column(trial, others), whole.evidence().column(trial, others), atol=1e-6
        )


def test_many_trials_never_fill_the_gram_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.ensembles.moments, "GRAM_TRIALS", 23)
    moments = moments_of()[0]
    before = Ridge().weights(moments.evidence(), ALL)
    moments.fill()
    assert moments._gram is None
    np.testing.assert_array_equal(Ridge().weights(moments.evidence(), ALL), before)


def test_the_lowest_of_equal_trials_comes_first() -> None:
    assert top_k(np.array([0.1, 0.3, 0.3, 0.2]), 3).tolist() == [1, 2, 3]
    picks, _ = greedy_picks(evidence_of([0.2, 0.4, 0.4, 0.4]), np.ones(4, dtype=bool), 3)
    assert picks.tolist() == [1, 2, 3]


def test_greedy_keeps_its_first_best_step() -> None:
    # One good trial and noise: no second pick helps, and the first of equal steps is kept.
    weights = Greedy(20).weights(evidence_of([0.5, -0.1], 0.9), np.ones(2, dtype=bool))
    assert weights.tolist() == [1.0, 0.0]


def test_greedy_scores_no_lower_than_the_best_trial() -> None:
    for seed in range(5):
        evidence = moments_of(seed)[0].evidence()
        _, reached = greedy_picks(evidence, ALL, 15)
        assert reached.max() >= evidence.ranking.max()


def test_ridge_is_the_penalised_least_squares_solution() -> None:
    moments, _, _ = moments_of()
    evidence = moments.evidence()
    for penalty in (0.0, 0.1, 1.0):
        # The same problem as one regression: the rows of all targets, then those of the penalty.
        design = moments.values.transpose(0, 2, 1).reshape(-1, 24).astype(np.float64) / 300**0.5
        rows = np.vstack([design, np.sqrt(penalty * len(moments.truth)) * np.eye(24)])
        expected, _ = nnls(rows, np.append(moments.truth.ravel() / 300**0.5, np.zeros(24)))
        np.testing.assert_allclose(
            Ridge(penalty).weights(evidence, ALL), expected / expected.sum(), atol=1e-4
        )


def test_without_penalty_no_weights_have_a_higher_correlation() -> None:
    evidence = moments_of()[0].evidence().only(0)
    columns = np.stack([evidence.column(j, np.arange(24))[0] for j in range(24)])

    def score(w: np.ndarray) -> float:
        return float(w @ evidence.scores[0] / np.sqrt(w @ columns @ w))

    best = score(Ridge(0.0).weights(evidence, ALL))
    assert best >= score(Greedy(50).weights(evidence, ALL)) - 1e-6
    for w in np.random.default_rng(0).dirichlet(np.full(24, 0.2), 200):
        assert score(w) <= best + 1e-6


def test_without_positive_scores_the_best_trial_is_the_only_member() -> None:
    weights = Ridge().weights(evidence_of([-0.3, -0.1, -0.2]), np.ones(3, dtype=bool))
    assert weights.tolist() == [0.0, 1.0, 0.0]


def test_bags_depend_on_the_seed_only() -> None:
    evidence = moments_of()[0].evidence()
    first = Bagged(15, seed=0).weights(evidence, ALL)
    np.testing.assert_array_equal(Bagged(15, seed=0).weights(evidence, ALL), first)
    assert (Bagged(15, seed=1).weights(evidence, ALL) != first).any()
    assert first.sum() == pytest.approx(1)


@pytest.mark.parametrize("method", METHODS)
def test_only_allowed_trials_have_weights(method: str) -> None:
    evidence = moments_of()[0].evidence()
    names = [f"family {number}" for number in POPULATION.family]
    choice = choose(Recipe(method, top=5, per_family=2) if method != "ridge"
                    else Recipe(method, per_family=2), method, evidence, names)  # fmt: skip
    allowed = cap_families(evidence.ranking, names, 2)
    assert allowed.sum() == 8
    assert allowed[choice.members].all()
    for family in range(4):
        best = np.flatnonzero(POPULATION.family == family)
        best = best[np.argsort(-evidence.ranking[best])][:2]
        assert set(choice.members[POPULATION.family[choice.members] == family]) <= set(best)
    np.testing.assert_allclose(choice.weights.sum(axis=1), 1)
    assert (choice.weights == choice.weights[0]).all(), "shared over the targets"


@pytest.mark.parametrize("method", ["zscore", "greedy", "bagged", "ridge"])
def test_standardised_methods_are_invariant_to_scale_and_shift(method: str) -> None:
    moments, predictions, truth = moments_of()
    moved = (predictions * 3 - 1).astype(np.float32)
    other = Moments(moved, truth, np.arange(300) % 5)
    names = [""] * 24
    here = choose(Recipe(method), method, moments.evidence(), names)
    there = choose(Recipe(method), method, other.evidence(), names)
    assert here.members.tolist() == there.members.tolist()
    np.testing.assert_allclose(here.weights, there.weights, atol=1e-5)


def test_raw_is_the_mean_of_the_outputs_before_their_calibration() -> None:
    moments, predictions, truth = moments_of()
    rng = np.random.default_rng(0)
    slopes = rng.uniform(0.2, 5, predictions.shape[:2])
    calibrated = (predictions * slopes[..., None] + rng.random()).astype(np.float32)
    other = Moments(calibrated, truth, np.arange(300) % 5, slopes)
    names, found = [""] * 24, []
    for method, each in (("mean", moments), ("raw", other), ("mean", other)):
        choice = choose(Recipe(method), method, each.evidence(), names)
        weights = factors(choice, each, each.evidence())
        found.append(standardised(each.combined(choice.members, weights)))
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)
    assert np.abs(found[2] - found[0]).max() > 0.01


def test_per_target_selection_is_independent_for_each_target() -> None:
    evidence = moments_of()[0].evidence()
    choice = choose(Recipe("mean", top=2, per_target=True), "mean", evidence, [""] * 24)
    for scores, weights in zip(evidence.scores, choice.weights, strict=True):
        assert set(choice.members[weights > 0]) == set(top_k(scores, 2))


@dataclass(frozen=True)
class Drawn(Method):
    """A random trial."""

    seed: int = 0

    def weights(self, evidence: Evidence, allowed: np.ndarray) -> np.ndarray:
        drawn = np.random.default_rng(self.seed).choice(np.flatnonzero(allowed))
        return np.eye(len(allowed))[drawn]


@pytest.mark.parametrize("method", ["mean", "greedy"])
def test_slow_methods_estimate_no_gain_of_many_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(harness.ensembles.gain, "GRAM_TRIALS", 5)
    make_study(tmp_path / "s", 6, make_index(val=40, test=0))
    ensemble = construct(load_library(tmp_path / "s"), Recipe(method)).ensemble
    assert ensemble.estimate is not None
    assert (ensemble.estimate.gain is None) == (method == "greedy")
    warned = any("The gain is not estimated" in each for each in caveats(ensemble))
    assert warned == (method == "greedy")


def test_a_new_method_is_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "drawn", Drawn)
    moments, names = moments_of()[0], [""] * 24
    members = {
        seed: choose(Recipe("drawn", seed=seed), "drawn", moments.evidence(), names).members[0]
        for seed in range(9)
    }
    assert len(set(members.values())) > 1, "the seed of the recipe is used"
    assert Recipe("drawn", seed=2).label == "drawn-seed2"
    with pytest.raises(InputError, match="remove `top`"):
        Recipe("drawn", top=3)
    chooser = Chooser(moments, Recipe("drawn"), names)
    assert np.isfinite(chooser.pooled("drawn")).all()
    assert curve(chooser, "drawn").method == "greedy", "the method is not stepwise"
    assert "drawn" in Chooser(moments, Recipe("auto"), names).scores()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "median"}, "choose mean, zscore, raw, greedy, bagged, ridge or auto"),
        ({"top": 0}, "must be at least 1"),
        ({"per_family": 0}, "`per_family`: 0: must be at least 1"),
        ({"method": "ridge", "top": 3}, "remove `top`"),
        ({"method": "auto", "top": 3}, "remove `top`"),
    ],
)
def test_invalid_recipes_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe(**arguments)
