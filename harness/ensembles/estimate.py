"""What an ensemble's score is worth on clips that did not choose it. Pure.

Nested cross-validation: in each fold, trials are ranked, chosen and weighted on the other folds,
and the clips held out are predicted. `auto` chooses its method inside of each fold, too.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.bootstrap import (
    REPLICATES,
    Interval,
    holm,
    interval,
    replicates,
    two_sided,
)
from harness.ensembles.methods import METHODS, Stepwise
from harness.ensembles.moments import Evidence, Moments
from harness.ensembles.selection import Choice, Recipe, best_single, cap_families, choose
from harness.grouping import divided
from harness.metrics import pcc

Floats = NDArray[np.float64]
FOLDS = 10
#: Fewer persons, or clips where none are known, cannot be held out in turn.
MIN_GROUPS = 4
_SINGLE = "single"
_NONE: frozenset[int] = frozenset()


@dataclass(frozen=True)
class TargetEstimate:
    """One target's nested PCC, of the ensemble and of the best single trial; the gain's interval
    and p value, the latter with Holm's correction over the targets."""

    target: str
    nested: float
    single: float
    gain: Interval
    p: float


@dataclass(frozen=True)
class Estimate:
    """Mean PCC of an ensemble on val by nested cross-validation.

    nested: of the pooled held-out predictions; interval: its bootstrap. single: the same for the
    best single trial, chosen in each fold. gain: nested less single, paired; p: two-sided, of no
    gain. methods: auto's nested score of each method. grouped: whether persons were kept together.
    fold_hash: sha256 of every clip's fold.
    """

    nested: float
    interval: Interval
    single: float
    gain: Interval
    p: float
    targets: tuple[TargetEstimate, ...]
    folds: int
    grouped: bool
    replicates: int
    fold_hash: str
    methods: dict[str, float] | None = None


def group_numbers(groups: Sequence[str] | None, clips: int) -> NDArray[np.intp]:
    """(clips,) numbers from 0 of what is kept together: persons, or clips where none are known."""
    if groups is None:
        return np.arange(clips)
    return np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.intp)


def assign_folds(groups: NDArray[np.intp], seed: int, folds: int = FOLDS) -> NDArray[np.intp]:
    """(clips,) the fold of each clip: whole groups, the large ones first, each into the fold that
    has the fewest clips. Fewer folds where there are fewer groups."""
    return divided(groups, [1.0] * min(folds, int(groups.max()) + 1), seed)


def fold_hash(clip_ids: Sequence[str], folds: NDArray[np.intp]) -> str:
    """sha256 of the clips and their folds."""
    text = json.dumps([list(clip_ids), folds.tolist()])
    return hashlib.sha256(text.encode()).hexdigest()


class Chooser:
    """Chooses by a recipe from all folds but some, and remembers what it chose."""

    def __init__(self, moments: Moments, recipe: Recipe, families: Sequence[str]) -> None:
        self.moments = moments
        self.recipe = recipe
        self.families = families
        self.methods = tuple(METHODS) if recipe.method == "auto" else (recipe.method,)
        self._chosen: dict[frozenset[int], dict[str, Choice]] = {}
        if any(METHODS[name].reads_all for name in self.methods):
            moments.fill()

    def choice(self, method: str, held: frozenset[int] = _NONE) -> Choice:
        """What a method, or `single`, chooses from the clips outside the held-out folds."""
        if held not in self._chosen:
            # All methods at once, since they read the same columns.
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
        """The recipe's method; of auto, the one of highest nested score, ties to the simplest."""
        if len(self.methods) == 1:
            return self.methods[0]
        scores = self.scores(held)
        return max(scores, key=lambda name: scores[name])

    def out_of_fold(self, method: str, held: frozenset[int] = _NONE) -> Floats:
        """(targets, clips) predictions of each fold by what the other folds chose.

        Folds may choose trials of other spread and level. Each fold's predictions are therefore
        standardised by the clips that chose, which changes no correlation within the fold and
        makes the pooled one comparable.
        """
        pooled: Floats = np.zeros(self.moments.truth.shape)
        for fold in set(range(self.moments.folds)) - held:
            without = held | {fold}
            name = self.method(without) if method == "auto" else method
            choice = self.choice(name, without)
            combined = self.combined(choice, without)
            pooled[:, self.moments.places(fold)] = _standardised(
                combined, self.moments.outside(without)
            )[:, self.moments.places(fold)]
        return pooled

    def combined(self, choice: Choice, held: frozenset[int]) -> Floats:
        """(targets, clips) a choice's predictions for all clips, up to scale and level."""
        units = self.moments.deviations
        if choice.standardised:
            units = 1 / self.moments.evidence(held).scales
        factors = choice.weights * units[:, choice.members]
        return self.moments.combined(choice.members, factors)


def estimate(
    chooser: Chooser,
    target_names: Sequence[str],
    groups: NDArray[np.intp],
    *,
    grouped: bool,
    hashed: str,
    count: int = REPLICATES,
) -> Estimate:
    """The nested estimate, its interval, and the ensemble beside the best single trial.

    Args:
        groups: (clips,) numbers from 0, in the order of the clips, not of the folds.
    """
    moments, recipe = chooser.moments, chooser.recipe
    pooled = np.stack([chooser.out_of_fold(recipe.method), chooser.out_of_fold(_SINGLE)])
    found = np.stack([pcc(moments.truth.T, model.T) for model in pooled])
    drawn = replicates(moments.truth, pooled, groups[moments.order], count, recipe.seed)
    differences = drawn[:, 0] - drawn[:, 1]
    adjusted = holm(np.array([two_sided(column) for column in differences.T]))
    targets = tuple(
        TargetEstimate(name, float(ours), float(other), interval(difference), float(p))
        for name, ours, other, difference, p in zip(
            target_names, found[0], found[1], differences.T, adjusted, strict=True
        )
    )
    return Estimate(
        nested=float(found[0].mean()),
        interval=interval(drawn[:, 0].mean(axis=1)),
        single=float(found[1].mean()),
        gain=interval(differences.mean(axis=1)),
        p=two_sided(differences.mean(axis=1)),
        targets=targets,
        folds=moments.folds,
        grouped=grouped,
        replicates=count,
        fold_hash=hashed,
        methods=chooser.scores() if recipe.method == "auto" else None,
    )


@dataclass(frozen=True)
class Curve:
    """Mean PCC of a stepwise method over its steps, from 1 on: naive, and nested. Weights are
    shared over the targets."""

    method: str
    naive: tuple[float, ...]
    nested: tuple[float, ...]


def curve(chooser: Chooser, method: str, sizes: int = 50) -> Curve:
    """How naive and nested score grow apart with the size; of greedy if the method is not
    stepwise."""
    if not issubclass(METHODS[method], Stepwise):
        method = "greedy"
    made = METHODS[method]
    assert issubclass(made, Stepwise)  # greedy is
    moments = chooser.moments
    # The same number in every fold: caps count trials, whichever they are.
    grown = made(top=sizes).limited(int(_allowed(chooser, moments.evidence()).sum()))
    nested = np.zeros((grown.top, *moments.truth.shape))
    for fold in range(moments.folds):
        held = frozenset({fold})
        path = _standardised(_path(chooser, grown, held), moments.outside(held))
        nested[:, :, moments.places(fold)] = path[:, :, moments.places(fold)]
    naive = _path(chooser, grown, _NONE)
    truth = moments.truth.T
    means = [[float(pcc(truth, p.T).mean()) for p in path] for path in (naive, nested)]
    return Curve(method, tuple(means[0]), tuple(means[1]))


def _path(chooser: Chooser, method: Stepwise, held: frozenset[int]) -> Floats:
    """(steps, targets, clips) the combined predictions of the first 1, 2, ... picks."""
    moments = chooser.moments
    evidence = moments.evidence(held)
    picks = method.picks(evidence, _allowed(chooser, evidence))
    units = 1 / evidence.scales if method.standardised else moments.deviations
    steps: Floats = units[:, picks, None] * moments.values[:, picks].astype(np.float64)
    return np.asarray(steps.cumsum(axis=1).transpose(1, 0, 2))


def _allowed(chooser: Chooser, evidence: Evidence) -> NDArray[np.bool_]:
    return cap_families(evidence.ranking, chooser.families, chooser.recipe.per_family)


def _standardised(values: Floats, rows: NDArray[np.bool_]) -> Floats:
    """Values (..., clips) less the mean of some clips, over their deviation."""
    some = values[..., rows]
    deviation = some.std(axis=-1, keepdims=True)
    centred = values - some.mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.where(deviation > 0, deviation, 1.0))
