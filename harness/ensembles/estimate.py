"""Estimates the score of an ensemble on clips that did not select it. No I/O.

This is nested cross-validation: for each fold, trials are ranked, selected and weighted on the
other folds, and the held-out clips are predicted. `auto` selects its method within each fold, too.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.gain import Gain, Selections
from harness.ensembles.intervals import REPLICATES, Interval, resample
from harness.ensembles.methods import METHODS, Stepwise
from harness.ensembles.moments import Evidence, Moments
from harness.ensembles.planning import Planning, plan
from harness.ensembles.selection import (
    Choice,
    Recipe,
    best_single,
    cap_families,
    choose,
    factors,
    units,
)
from harness.grouping import divided
from harness.metrics import pcc, standardised

Floats = NDArray[np.float64]
FOLDS = 10
_SINGLE = "single"
_NONE: frozenset[int] = frozenset()


@dataclass(frozen=True)
class TargetEstimate:
    """The nested estimate of one target.

    nested, interval: PCC of the ensemble.
    single, single_interval: PCC of the best single trial.
    gain: the difference; None if it is undefined in half of the replicates.

    An interval is None if the PCC is undefined without one of the groups.
    """

    target: str
    nested: float
    interval: Interval | None
    single: float
    single_interval: Interval | None
    gain: Gain | None


@dataclass(frozen=True)
class Estimate:
    """Mean PCC of an ensemble on val by nested cross-validation.

    nested, interval: of the pooled held-out predictions.
    single, single_interval: nested score of the best single trial, selected within each fold.
    gain: PCC of the ensemble minus that of the best single trial, by a bootstrap of the selection;
        None if it is undefined in half of the replicates, or not estimated because there are too
        many trials for the method.
    targets: the estimate of each target.
    folds: number of folds.
    grouped: the clips of a person were kept together.
    groups: number of persons, or of clips if they were not kept together.
    replicates: number of bootstrap replicates; 0: the intervals are those of a jackknife.
    undefined: replicates that were skipped, because the PCC of a target was undefined.
    fold_hash: sha256 of the fold of every clip.
    methods: with auto, the nested score of each method.
    planning: the accuracy at this size; None if it is undefined.
    mean_pcc_corrected: `nested` without the expected optimism of the choice of the members' epochs;
        None if that is not known.

    An interval is None if the PCC is undefined without one of the groups.
    """

    nested: float
    interval: Interval | None
    single: float
    single_interval: Interval | None
    gain: Gain | None
    targets: tuple[TargetEstimate, ...]
    folds: int
    grouped: bool
    groups: int
    replicates: int
    undefined: int
    fold_hash: str
    methods: dict[str, float] | None = None
    planning: Planning | None = None
    mean_pcc_corrected: float | None = None


def assign_folds(groups: NDArray[np.intp], seed: int, folds: int = FOLDS) -> NDArray[np.intp]:
    """(clips,) the fold of each clip.

    Whole groups are assigned, the largest first, each to the fold with the fewest clips. There are
    at most as many folds as groups.
    """
    return divided(groups, [1.0] * min(folds, int(groups.max()) + 1), seed)


def fold_hash(clip_ids: Sequence[str], folds: NDArray[np.intp]) -> str:
    """sha256 of the clip ids and their folds."""
    text = json.dumps([list(clip_ids), folds.tolist()])
    return hashlib.sha256(text.encode()).hexdigest()


class Chooser:
    """Selects by a recipe from all folds except some, and caches each selection."""

    def __init__(self, moments: Moments, recipe: Recipe, families: Sequence[str]) -> None:
        self.moments = moments
        self.recipe = recipe
        self.families = families
        self.methods = tuple(METHODS) if recipe.method == "auto" else (recipe.method,)
        self._chosen: dict[frozenset[int], dict[str, Choice]] = {}
        if any(METHODS[name].reads_all for name in self.methods):
            moments.fill()

    def choice(self, method: str, held: frozenset[int] = _NONE) -> Choice:
        """The choice of a method, or of `single`, from the clips outside the held-out folds."""
        if held not in self._chosen:
            # All methods at once, because they read the same columns.
            evidence = self.moments.evidence(held)
            self._chosen[held] = {_SINGLE: best_single(evidence)} | {
                name: choose(self.recipe, name, evidence, self.families) for name in self.methods
            }
        return self._chosen[held][method]

    def scores(self, held: frozenset[int] = _NONE) -> dict[str, float]:
        """The nested score of each method on the clips outside the held-out folds."""
        rows = self.moments.outside(held)
        return {
            name: float(
                pcc(self.moments.truth[:, rows].T, self.out_of_fold(name, held)[:, rows].T).mean()
            )
            for name in self.methods
        }

    def method(self, held: frozenset[int] = _NONE) -> str:
        """The method of the recipe; with auto, the first one with the best nested score."""
        if len(self.methods) == 1:
            return self.methods[0]
        scores = self.scores(held)
        return max(scores, key=lambda name: scores[name])

    def out_of_fold(self, method: str, held: frozenset[int] = _NONE) -> Floats:
        """(targets, clips) predictions of each fold by the choice of the other folds.

        Folds may choose trials whose predictions differ in mean and standard deviation. The
        predictions of each fold are therefore standardised by those of the clips that chose. This
        keeps the correlations within a fold and makes the folds comparable when they are pooled.
        """
        pooled: Floats = np.zeros(self.moments.truth.shape)
        for fold in set(range(self.moments.folds)) - held:
            without = held | {fold}
            name = self.method(without) if method == "auto" else method
            choice = self.choice(name, without)
            combined = self.combined(choice, without)
            places = self.moments.places(fold)
            pooled[:, places] = standardised(combined, self.moments.outside(without))[:, places]
        return pooled

    def combined(self, choice: Choice, held: frozenset[int]) -> Floats:
        """(targets, clips) predictions of a choice for all clips, up to scale and offset."""
        found = factors(choice, self.moments, self.moments.evidence(held))
        return self.moments.combined(choice.members, found)


def estimate(
    chooser: Chooser,
    target_names: Sequence[str],
    groups: NDArray[np.intp],
    selections: Selections | None,
    *,
    grouped: bool,
    hashed: str,
    count: int = REPLICATES,
) -> Estimate:
    """Computes the nested scores of the ensemble and of the best single trial, their intervals, and
    the gain.

    Args:
        groups: (clips,) group numbers from 0, in the order of the clips, not of the folds.
        selections: replicates of the selection; None if it is too slow to be repeated.
        grouped: the groups are persons.
        hashed: the `fold_hash` of the clips.
        count: number of bootstrap replicates.
    """
    moments, recipe = chooser.moments, chooser.recipe
    pooled = np.stack([chooser.out_of_fold(recipe.method), chooser.out_of_fold(_SINGLE)])
    drawn = resample(moments.truth, pooled, groups[moments.order], recipe.seed, count)
    found = np.stack([pcc(moments.truth.T, model.T) for model in pooled])

    def score(model: int, target: int | None = None) -> Interval | None:
        variance = selections.variance(model, target) if selections else 0.0
        return drawn.score(model, target, variance)

    targets = tuple(
        TargetEstimate(
            target=name,
            nested=float(found[0, d]),
            interval=score(0, d),
            single=float(found[1, d]),
            single_interval=score(1, d),
            gain=selections.gain(d) if selections else None,
        )
        for d, name in enumerate(target_names)
    )
    return Estimate(
        nested=float(found[0].mean()),
        interval=score(0),
        single=float(found[1].mean()),
        single_interval=score(1),
        gain=selections.gain() if selections else None,
        targets=targets,
        folds=moments.folds,
        grouped=grouped,
        groups=int(groups.max()) + 1,
        replicates=0 if drawn.jackknife else count,
        undefined=drawn.undefined,
        fold_hash=hashed,
        methods=chooser.scores() if recipe.method == "auto" else None,
        planning=plan(moments.truth, pooled, groups[moments.order], grouped),
    )


@dataclass(frozen=True)
class Curve:
    """Mean PCC of a stepwise method after 1, 2, ... steps, naive and nested. The targets share
    their weights."""

    method: str
    naive: tuple[float, ...]
    nested: tuple[float, ...]


def curve(chooser: Chooser, method: str, sizes: int = 50) -> Curve:
    """Computes the naive and the nested score by ensemble size. A method that is not stepwise is
    replaced by greedy."""
    if not issubclass(METHODS[method], Stepwise):
        method = "greedy"
    made = METHODS[method]
    assert issubclass(made, Stepwise)  # greedy is
    moments = chooser.moments
    # The number of allowed trials is the same in every fold.
    grown = made(top=sizes).limited(int(_allowed(chooser, moments.evidence()).sum()))
    nested = np.zeros((grown.top, *moments.truth.shape))
    for fold in range(moments.folds):
        held = frozenset({fold})
        path = standardised(_path(chooser, grown, held), moments.outside(held))
        nested[:, :, moments.places(fold)] = path[:, :, moments.places(fold)]
    naive = _path(chooser, grown, _NONE)
    truth = moments.truth.T
    means = [[float(pcc(truth, p.T).mean()) for p in path] for path in (naive, nested)]
    return Curve(method, tuple(means[0]), tuple(means[1]))


def _path(chooser: Chooser, method: Stepwise, held: frozenset[int]) -> Floats:
    """(steps, targets, clips) combined predictions of the first 1, 2, ... picks."""
    moments = chooser.moments
    evidence = moments.evidence(held)
    picks = method.picks(evidence, _allowed(chooser, evidence))
    scales = units(method, moments, evidence)
    steps: Floats = scales[:, picks, None] * moments.values[:, picks].astype(np.float64)
    return np.asarray(steps.cumsum(axis=1).transpose(1, 0, 2))


def _allowed(chooser: Chooser, evidence: Evidence) -> NDArray[np.bool_]:
    return cap_families(evidence.ranking, chooser.families, chooser.recipe.per_family)
