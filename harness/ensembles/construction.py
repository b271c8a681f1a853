"""Builds an ensemble from a library of predictions and a recipe, with its estimates."""

import platform
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import harness
from harness.ensembles.ensemble import (
    Ensemble,
    HoldOut,
    Standardisation,
    combine,
    default_name,
)
from harness.ensembles.estimate import (
    FOLDS,
    Chooser,
    Curve,
    Estimate,
    assign_folds,
    curve,
    estimate,
)
from harness.ensembles.explanation import Explanation, Member, explain
from harness.ensembles.gain import BLOCKS, is_feasible, resample_selection
from harness.ensembles.intervals import MIN_GROUPS, resample
from harness.ensembles.library import (
    Library,
    PredictionMatrix,
    Trial,
    load_library,
    load_members,
)
from harness.ensembles.methods import METHODS
from harness.ensembles.moments import Moments
from harness.ensembles.selection import Choice, Recipe, best_single
from harness.errors import InputError
from harness.metrics import pcc

Progress = Callable[[str, int, int], None]
_VAL = "val"
# A smaller difference of weights is rounding: they follow from correlations in float32.
_ROUNDING = 1e-6
# Above this number of clips, several divisions into folds are not worth their time.
_FEW_CLIPS = 10_000
# For each split that can choose an ensemble: the recorded early-stop split of trials that chose
# their epochs on it.
_STOPPED_BY = {_VAL: _VAL, "train": "folds"}


def _silent(step: str, done: int, total: int) -> None:
    """Shows no progress."""


@dataclass(frozen=True, eq=False)
class Construction:
    """An ensemble with the data that explains it.

    library: the predictions of all trials.
    correlations: (members, members) correlations of the members' predictions, mean over the
        targets, in the order of the ensemble's members.
    predicted: (clips, targets) predictions of the ensemble on val.
    val: the val predictions of the members, or of all trials if val chose.
    chooser: the selection, which can be repeated without some of the clips.
    groups: (rated clips,) group numbers of val.
    """

    library: Library
    ensemble: Ensemble
    correlations: NDArray[np.float64]
    predicted: NDArray[np.float64]
    val: PredictionMatrix
    chooser: Chooser
    groups: NDArray[np.intp]

    @cached_property
    def curve(self) -> Curve | None:
        """Naive and nested score by ensemble size; None without a nested estimate."""
        estimated = self.ensemble.estimate is not None
        return curve(self.chooser, self.ensemble.method) if estimated else None

    def to_dict(self, explain: bool) -> dict[str, Any]:
        """Plain values for JSON: the ensemble, refused and duplicate files, ceilings and, with
        `explain`, the curve and the correlations."""
        values = self.ensemble.to_dict() | {
            "refusals": [refusal.reason for refusal in self.library.refused],
            "repeats": dict(self.library.duplicates),
            "ceilings": self.library.ceilings,
        }
        if explain:
            values["curve"] = asdict(self.curve) if self.curve else None
            values["correlations"] = self.correlations.tolist()
        return values


def construct(
    library: Library, recipe: Recipe, name: str | None = None, progress: Progress = _silent
) -> Construction:
    """Selects members on val, estimates the score on new clips, and scores test once.

    Args:
        progress: called with (step, done, total).

    Raises:
        InputError: too few eligible trials, too few rated clips in val, or groups are requested
            but the data has none.
    """
    chooser, groups = _chooser(library, recipe)
    matrix, moments = library.matrix, chooser.moments
    method = chooser.method()
    choice = chooser.choice(method)
    estimated = None
    if groups.max() + 1 >= MIN_GROUPS:
        estimated = _estimate(library, chooser, groups, method, progress)
    explained = explain(moments, choice)
    evidence = moments.evidence()
    best = int(best_single(evidence).members[0])
    weights = tuple(tuple(row) for row in choice.weights.tolist())
    standardisation = _standardisation(matrix, moments, choice)
    trials = [matrix.trials[i] for i in choice.members]
    chosen = combine(matrix.predictions[:, choice.members], weights, standardisation)
    pcc = matrix.pcc_of(chosen)
    val, predicted, hold_out = matrix, chosen, None
    if library.split != _VAL:
        val = load_members(library, trials, _VAL)
        predicted = combine(val.predictions, weights, standardisation)
        hold_out = _hold_out(val, predicted, recipe)
    test, test_clips = None, len(library.index.rated(library.index.rows("test")))
    # A correlation needs two clips.
    if test_clips >= 2:
        tested = load_members(library, trials, "test")
        test = _score(tested, combine(tested.predictions, weights, standardisation))
    optimism = _optimism(trials, explained, library.split)
    if estimated is not None and optimism is not None:
        estimated = replace(estimated, mean_pcc_corrected=estimated.nested - optimism)
    studies = tuple(study.folder.name for study in library.studies)
    ensemble = Ensemble(
        name=name or default_name(recipe, studies),
        method=method,
        recipe=recipe,
        studies=studies,
        members=tuple(trial.id for trial in trials),
        weights=tuple(choice.weights.mean(axis=0).tolist()),
        target_weights=weights if recipe.per_target else None,
        standardisation=standardisation,
        targets=matrix.target_names,
        synthetic=library.index.synthetic,
        clips=len(groups),
        naive=float(pcc.mean()),
        pcc=tuple(pcc.tolist()),
        best_single=matrix.trials[best].id,
        best_single_naive=float(evidence.ranking[best]),
        estimate=estimated,
        early_stopped=any(
            _STOPPED_BY[library.split] == trial.info.early_stop_split for trial in matrix.trials
        ),
        optimism=optimism,
        hold_out=hold_out,
        test=test,
        test_clips=test_clips,
        member_reports=_members(library, choice, explained),
        effective_members=explained.effective,
        independent_members=explained.independent,
        eligible=library.eligible,
        refused=len(library.refused),
        duplicates=len(library.duplicates),
        filled=library.filled("test", trials),
        versions={
            "harness": harness.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pyarrow": pa.__version__,
        },
    )
    return Construction(library, ensemble, explained.correlations, predicted, val, chooser, groups)


def nested_score(matrix: PredictionMatrix, slots: Sequence[int], recipe: Recipe) -> float:
    """The nested mean PCC of an ensemble of some trials alone, without interval; NaN if it is
    undefined, or if val has too few persons or clips to hold out."""
    groups = matrix.group_numbers(grouped=recipe.groups is not False)
    if groups.max(initial=-1) + 1 < MIN_GROUPS:
        return float("nan")
    chooser = chooser_of(matrix.of(slots), recipe, groups)
    truth = chooser.moments.truth.T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return float(np.mean([pcc(truth, each.T) for each in chooser.pooled(recipe.method)]))


def rebuild(home: Path, ensemble: Ensemble) -> Construction:
    """Builds a stored ensemble again, to get the data that its file does not contain.

    Args:
        home: folder of its first study, which may have been renamed; the others are next to it.

    Raises:
        InputError: the prediction files have changed, so that the result is another ensemble.
    """
    others = (home.parent / study for study in ensemble.studies[1:])
    return rebuilt(load_library(home, *others, split=ensemble.recipe.choose_on), ensemble)


def rebuilt(library: Library, ensemble: Ensemble) -> Construction:
    """The same from the predictions of its studies on the split that chose it."""
    built = construct(library, ensemble.recipe, ensemble.name)
    if not _same_weights(built.ensemble, ensemble):
        raise InputError(
            f"the study has changed since ensemble {ensemble.name} was built; to build it again, "
            f"run {ensemble.command(library.home)}"
        )
    return built


def _same_weights(ensemble: Ensemble, other: Ensemble) -> bool:
    """Whether two ensembles have the same members and weights, apart from rounding, which differs
    between machines, and apart from the name of the first study."""

    def by_member(each: Ensemble) -> dict[str, NDArray[np.float64]]:
        first = f"{each.studies[0]}/"
        weights = np.array(each.target_weights or [each.weights]).T
        return {m.removeprefix(first): w for m, w in zip(each.members, weights, strict=True)}

    a, b = by_member(ensemble), by_member(other)
    return all(np.allclose(a.get(m, 0), b.get(m, 0), atol=_ROUNDING) for m in a.keys() | b)


def _optimism(trials: list[Trial], explained: Explanation, split: str) -> float | None:
    """The expected optimism of an average, because the split chose its members' epochs: their mean
    by influence. None if a member has no estimate of it."""
    found = [trial.info.optimism.get(split) for trial in trials]
    known = [each for each in found if each is not None]
    return float(explained.influence @ known) if len(known) == len(found) else None


def _hold_out(
    val: PredictionMatrix, predicted: NDArray[np.float64], recipe: Recipe
) -> HoldOut | None:
    """The score on val, which chose nothing; None if it is undefined."""
    rated = val.labelled
    score = _score(val, predicted) if rated.sum() > 1 else None
    if score is None:
        return None
    truth = val.truth[rated].T.astype(np.float64)
    groups = val.group_numbers(grouped=recipe.groups is not False)
    drawn = resample(truth, predicted[rated].T[None], groups, recipe.seed)
    return HoldOut(score, drawn.score(0), int(rated.sum()))


def _score(matrix: PredictionMatrix, predicted: NDArray[np.float64]) -> float | None:
    """Mean PCC; None if the PCC of a target is undefined, for example without any clip file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        pcc = matrix.pcc_of(predicted)
    return float(pcc.mean()) if np.isfinite(pcc).all() else None


def _chooser(library: Library, recipe: Recipe) -> tuple[Chooser, NDArray[np.intp]]:
    """The chooser, and the group of each rated clip of val."""
    matrix = library.matrix
    rows = matrix.labelled
    file = library.home / "clips.parquet"
    if recipe.choose_on != library.split:
        raise InputError(
            f"`choose_on` {recipe.choose_on}: the predictions that were read are of {library.split}"
        )
    if rows.sum() < 2:
        raise InputError(
            f"{file}: {library.split} has {rows.sum()} rated clips; an ensemble needs at least 2"
        )
    if recipe.groups and matrix.groups is None:
        raise InputError(
            f"{file}: has no groups; `groups` needs a column group in the data's clips.csv when "
            "the search starts"
        )
    groups = matrix.group_numbers(grouped=recipe.groups is not False)
    if recipe.method == "auto" and groups.max() + 1 < MIN_GROUPS:
        raise InputError(
            f"{file}: {library.split} has {groups.max() + 1} persons or clips to hold out; "
            f"`method` auto needs at least {MIN_GROUPS}; choose another `method`"
        )
    return chooser_of(matrix, recipe, groups), groups


def chooser_of(matrix: PredictionMatrix, recipe: Recipe, groups: NDArray[np.intp]) -> Chooser:
    """The chooser among the trials of a matrix. groups: of its rated clips."""
    moments = _moments(matrix, assign_folds(groups, recipe.seed, _blocks(recipe, len(groups))))
    return Chooser(moments, recipe, [trial.family for trial in matrix.trials])


def _blocks(recipe: Recipe, clips: int) -> int:
    """Blocks of clips, of which several divisions into folds are made; otherwise the folds.

    With many clips, one division is as good as several. Methods that read all correlations would
    need several times the memory, and auto the time.
    """
    many = clips > _FEW_CLIPS or recipe.method == "auto" or METHODS[recipe.method].reads_all
    return FOLDS if many else BLOCKS


def _moments(matrix: PredictionMatrix, folds: NDArray[np.intp]) -> Moments:
    rows = matrix.labelled
    # This is the largest array, so it is copied only if some clips are unrated.
    predictions = matrix.predictions if rows.all() else matrix.predictions[:, :, rows]
    return Moments(predictions, matrix.truth[rows], folds, matrix.calibration[0])


def _estimate(
    library: Library, chooser: Chooser, groups: NDArray[np.intp], method: str, progress: Progress
) -> Estimate:
    matrix, recipe = library.matrix, chooser.recipe
    selections = None
    if is_feasible(method, len(matrix)):
        blocks = chooser.moments
        if len(chooser.divisions) == 1:  # its blocks are the folds
            blocks = _moments(matrix, assign_folds(groups, recipe.seed, BLOCKS))
        selections = resample_selection(blocks, recipe, method, chooser.families, progress)
    ids = [matrix.clip_ids[row] for row in np.flatnonzero(matrix.labelled)]
    return estimate(
        chooser,
        matrix.target_names,
        groups,
        selections,
        grouped=matrix.groups is not None and recipe.groups is not False,
        clip_ids=ids,
    )


def _standardisation(
    matrix: PredictionMatrix, moments: Moments, choice: Choice
) -> Standardisation | None:
    members = choice.members
    if choice.standardised:
        parts = (moments.means[:, members], moments.deviations[:, members])
    elif choice.raw:
        # This undoes the calibration.
        parts = (matrix.calibration[1][:, members], matrix.calibration[0][:, members])
    else:
        return None
    means, deviations = (tuple(tuple(row) for row in part.tolist()) for part in parts)
    return Standardisation(means, deviations)


def _members(library: Library, choice: Choice, explained: Explanation) -> tuple[Member, ...]:
    return tuple(
        Member(
            trial=trial.id,
            study=trial.study.folder.name,
            family=trial.family,
            weight=float(weight),
            influence=float(influence),
            pcc=float(own),
            left_out=left_out,
            correlation=correlation,
        )
        for trial, weight, influence, own, left_out, correlation in zip(
            [library.matrix.trials[i] for i in choice.members],
            choice.weights.mean(axis=0),
            explained.influence,
            explained.own,
            explained.left_out,
            explained.with_others,
            strict=True,
        )
    )
