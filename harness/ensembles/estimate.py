"""Estimates the score of an ensemble on clips that did not select it. No I/O.

This is nested cross-validation: for each fold, trials are ranked, selected and weighted on the
other folds, and the held-out clips are predicted. `auto` selects its method within each fold, too.
The result depends on how the clips fall into folds; unless there are very many clips, it is the
mean over several divisions into folds (Kim, 2009, doi:10.1016/j.csda.2009.04.009).
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
#: Divisions into folds, if there are blocks to divide. Five take a quarter off the variance of the
#: error of the score of 200 clips that is not sampling error of the clips.
DIVISIONS = 5
# What is added to the variance of the jackknife, which keeps every choice as it is: times the
# variance between divisions, or of repeated selections. A bootstrap of a few groups leaves out a
# third of them, and its selections differ too much. Chosen, and checked with other seeds, by
# `tests.benchmarks.estimates --only score`.
_DIVISIONS_COUNT, _FEW_GROUPS_COUNT = 3.0, 0.5
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
    folds: number of folds. divisions: of the clips into folds; the scores are means over them.
    grouped: the clips of a person were kept together.
    groups: number of persons, or of clips if they were not kept together.
    replicates: number of bootstrap replicates; 0: the intervals are those of a jackknife.
    undefined: replicates that were skipped, because the PCC of a target was undefined.
    fold_hash: sha256 of the folds of every clip.
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
    divisions: int = 1


def assign_folds(groups: NDArray[np.intp], seed: int, folds: int = FOLDS) -> NDArray[np.intp]:
    """(clips,) the fold of each clip.

    Whole groups are assigned, the largest first, each to the fold with the fewest clips. There are
    at most as many folds as groups.
    """
    return divided(groups, [1.0] * min(folds, int(groups.max()) + 1), seed)


def fold_hash(clip_ids: Sequence[str], folds: NDArray[np.intp]) -> str:
    """sha256 of the clip ids and their folds. folds: (divisions, clips)."""
    text = json.dumps([list(clip_ids), folds.tolist()])
    return hashlib.sha256(text.encode()).hexdigest()


def divisions(sizes: NDArray[np.intp], seed: int) -> tuple[tuple[frozenset[int], ...], ...]:
    """Divisions of blocks of clips into folds; at most `FOLDS` blocks are the folds themselves.

    Args:
        sizes: (blocks,) numbers of clips.
        seed: of the first division; the others have the next ones.
    """
    blocks = np.arange(len(sizes))
    if len(blocks) <= FOLDS:
        return (tuple(frozenset({int(block)}) for block in blocks),)
    found = []
    for number in range(DIVISIONS):
        part = divided(np.repeat(blocks, sizes), [1.0] * FOLDS, seed + number)
        own = part[np.cumsum(sizes) - 1]
        found.append(tuple(frozenset(np.flatnonzero(own == f).tolist()) for f in range(FOLDS)))
    return tuple(found)


class Chooser:
    """Selects by a recipe from all folds except some, and caches each selection.

    Args:
        moments: of blocks of clips.

    Attributes:
        divisions: of the blocks into folds; each fold is a set of blocks.
    """

    def __init__(self, moments: Moments, recipe: Recipe, families: Sequence[str]) -> None:
        self.moments = moments
        self.recipe = recipe
        self.families = families
        self.methods = tuple(METHODS) if recipe.method == "auto" else (recipe.method,)
        self.divisions = divisions(moments.sizes, recipe.seed)
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
        truth = self.moments.truth[:, rows].T
        return {
            name: float(np.mean([pcc(truth, each[:, rows].T) for each in self.pooled(name, held)]))
            for name in self.methods
        }

    def method(self, held: frozenset[int] = _NONE) -> str:
        """The method of the recipe; with auto, the first one with the best nested score."""
        if len(self.methods) == 1:
            return self.methods[0]
        scores = self.scores(held)
        return max(scores, key=lambda name: scores[name])

    def pooled(self, method: str, held: frozenset[int] = _NONE) -> Floats:
        """(divisions, targets, clips) predictions of each fold by the choice of the other folds.

        held: a fold of each division, whose clips are left out.

        Folds may choose trials whose predictions differ in mean and standard deviation. The
        predictions of each fold are therefore standardised by those of the clips that chose. This
        keeps the correlations within a fold and makes the folds comparable when they are pooled.
        """
        pooled: Floats = np.zeros((len(self.divisions), *self.moments.truth.shape))
        for division, found in zip(self.divisions, pooled, strict=True):
            for fold in division:
                if fold <= held:
                    continue
                without = held | fold
                name = self.method(without) if method == "auto" else method
                choice = self.choice(name, without)
                combined = self.combined(choice, without)
                inside = ~self.moments.outside(fold)
                found[:, inside] = standardised(combined, self.moments.outside(without))[:, inside]
        return pooled

    def combined(self, choice: Choice, held: frozenset[int]) -> Floats:
        """(targets, clips) predictions of a choice for all clips, up to scale and offset."""
        found = factors(choice, self.moments, self.moments.evidence(held))
        return self.moments.combined(choice.members, found)

    def folds(self) -> NDArray[np.intp]:
        """(divisions, clips) the fold of each clip, in the order of the clips."""
        found = np.zeros((len(self.divisions), len(self.moments.order)), np.intp)
        for division, own in zip(self.divisions, found, strict=True):
            for number, fold in enumerate(division):
                own[self.moments.order[~self.moments.outside(fold)]] = number
        return found


def estimate(
    chooser: Chooser,
    target_names: Sequence[str],
    groups: NDArray[np.intp],
    selections: Selections | None,
    *,
    grouped: bool,
    clip_ids: Sequence[str],
    count: int = REPLICATES,
) -> Estimate:
    """Computes the nested scores of the ensemble and of the best single trial, their intervals, and
    the gain.

    Args:
        groups: (clips,) group numbers from 0, in the order of the clips, not of the folds.
        selections: replicates of the selection; None if it is too slow to be repeated.
        grouped: the groups are persons.
        clip_ids: (clips,) of the clips.
        count: number of bootstrap replicates.
    """
    moments, recipe = chooser.moments, chooser.recipe
    pooled = np.stack([chooser.pooled(recipe.method), chooser.pooled(_SINGLE)])
    drawn = resample(moments.truth, pooled, groups[moments.order], recipe.seed, count)
    found = drawn.pcc

    def score(model: int, target: int | None = None) -> Interval | None:
        repeated = selections.variance(model, target) if selections else 0.0
        variance = choice_variance(moments.truth, pooled[model], groups, repeated, target)
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
        folds=len(chooser.divisions[0]),
        grouped=grouped,
        groups=int(groups.max()) + 1,
        replicates=0 if drawn.jackknife else count,
        undefined=drawn.undefined,
        fold_hash=fold_hash(clip_ids, chooser.folds()),
        methods=chooser.scores() if recipe.method == "auto" else None,
        planning=plan(moments.truth, pooled, groups[moments.order], grouped),
        divisions=len(chooser.divisions),
    )


@dataclass(frozen=True)
class Curve:
    """Mean PCC of a stepwise method after 1, 2, ... steps, naive and nested. The targets share
    their weights."""

    method: str
    naive: tuple[float, ...]
    nested: tuple[float, ...]


def choice_variance(
    truth: Floats,
    pooled: Floats,
    groups: NDArray[np.intp],
    repeated: float,
    target: int | None = None,
) -> float:
    """The variance of a nested score because other clips would make other choices.

    It is estimated by the variance between divisions into folds, whose choices are made from other
    nine tenths of the clips; with one division, from that of repeated selections.

    Args:
        truth: (targets, clips).
        pooled: (divisions, targets, clips) held-out predictions.
        groups: (clips,) group numbers from 0.
        repeated: the variance of the score between repeated selections.
        target: None for the mean over the targets.
    """
    if len(pooled) == 1:
        return repeated * (_FEW_GROUPS_COUNT if groups.max() < FOLDS else 1.0)
    scores = np.stack([pcc(truth.T, each.T) for each in pooled])
    own = scores.mean(axis=1) if target is None else scores[:, target]
    return float(_DIVISIONS_COUNT * own.var(ddof=1))


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
    truth = moments.truth.T
    nested = np.zeros((len(chooser.divisions), grown.top))
    for division, scores in zip(chooser.divisions, nested, strict=True):
        pooled = np.zeros((grown.top, *moments.truth.shape))
        for fold in division:
            path = standardised(_path(chooser, grown, fold), moments.outside(fold))
            inside = ~moments.outside(fold)
            pooled[:, :, inside] = path[:, :, inside]
        scores[:] = [pcc(truth, each.T).mean() for each in pooled]
    naive = [float(pcc(truth, each.T).mean()) for each in _path(chooser, grown, _NONE)]
    return Curve(method, tuple(naive), tuple(nested.mean(axis=0).tolist()))


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
