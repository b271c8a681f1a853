"""A library and a recipe -> an ensemble, its estimates and its explanation."""

import platform
import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import harness
from harness.ensembles.ensemble import Ensemble, Standardisation, combine, default_name
from harness.ensembles.estimate import (
    MIN_GROUPS,
    Chooser,
    Curve,
    Estimate,
    assign_folds,
    curve,
    estimate,
    fold_hash,
    group_numbers,
)
from harness.ensembles.explanation import Explanation, Member, explain
from harness.ensembles.library import Library, PredictionMatrix, load_members
from harness.ensembles.moments import Moments
from harness.ensembles.selection import Choice, Recipe, best_single
from harness.errors import InputError

_VAL = "val"


@dataclass(frozen=True)
class Construction:
    """An ensemble and what explains it. correlations: (members, members), mean over the targets,
    in the order of the ensemble's members."""

    ensemble: Ensemble
    correlations: NDArray[np.float64]
    chooser: Chooser

    @cached_property
    def curve(self) -> Curve | None:
        """Naive and nested score over the size, None where there is no nested estimate."""
        estimated = self.ensemble.estimate is not None
        return curve(self.chooser, self.ensemble.method) if estimated else None


def construct(library: Library, recipe: Recipe, name: str | None = None) -> Construction:
    """Chooses members on val, estimates what the choice is worth, and scores test once.

    Raises:
        InputError: too few eligible trials, too few clips with ratings in val, or groups that are
            asked for and not known.
    """
    chooser, groups = _chooser(library, recipe)
    matrix, moments = library.matrix, chooser.moments
    method = chooser.method()
    choice = chooser.choice(method)
    estimated = _estimate(library, chooser, groups) if groups.max() + 1 >= MIN_GROUPS else None
    explained = explain(moments, choice)
    evidence = moments.evidence()
    best = int(best_single(evidence).members[0])
    weights = tuple(tuple(row) for row in choice.weights.tolist())
    standardisation = _standardisation(moments, choice) if choice.standardised else None
    trials = [matrix.trials[i] for i in choice.members]
    pcc = matrix.pcc_of(combine(matrix.predictions[:, choice.members], weights, standardisation))
    test = None
    # A correlation needs two clips.
    if (~np.isnan(library.index.ratings[library.index.rows("test")]).any(axis=1)).sum() >= 2:
        tested = load_members(library, trials, "test")
        test = _score(tested, combine(tested.predictions, weights, standardisation))
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
        naive=float(pcc.mean()),
        pcc=tuple(pcc.tolist()),
        best_single=matrix.trials[best].id,
        best_single_naive=float(evidence.ranking[best]),
        estimate=estimated,
        early_stopped=any(trial.info.early_stop_split == _VAL for trial in matrix.trials),
        test=test,
        member_reports=_members(library, choice, explained),
        effective_members=explained.effective,
        eligible=library.eligible,
        refused=len(library.refused),
        duplicates=len(library.duplicates),
        filled=library.filled("test"),
        versions={
            "harness": harness.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pyarrow": pa.__version__,
        },
    )
    return Construction(ensemble, explained.correlations, chooser)


def _score(matrix: PredictionMatrix, predicted: NDArray[np.float64]) -> float | None:
    """Mean PCC; None where a target has none, as where no clip has a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        pcc = matrix.pcc_of(predicted)
    return float(pcc.mean()) if np.isfinite(pcc).all() else None


def _chooser(library: Library, recipe: Recipe) -> tuple[Chooser, NDArray[np.intp]]:
    """What chooses, and the group of each labelled clip of val."""
    matrix = library.matrix
    rows = matrix.labelled
    file = library.home / "clips.parquet"
    if rows.sum() < 2:
        raise InputError(f"{file}: val has {rows.sum()} clips with ratings; choosing needs 2")
    known = _groups(library, recipe)
    persons = None if known is None else np.array(known)[rows].tolist()
    groups = group_numbers(persons, int(rows.sum()))
    if recipe.method == "auto" and groups.max() + 1 < MIN_GROUPS:
        raise InputError(
            f"{file}: val has {groups.max() + 1} persons or clips to hold out, --method auto needs "
            f"{MIN_GROUPS}; name a method"
        )
    # A copy only where it must be: this is the largest array there is.
    predictions = matrix.predictions if rows.all() else matrix.predictions[:, :, rows]
    moments = Moments(predictions, matrix.truth[rows], assign_folds(groups, recipe.seed))
    return Chooser(moments, recipe, [trial.family for trial in matrix.trials]), groups


def _groups(library: Library, recipe: Recipe) -> tuple[str, ...] | None:
    """The person of each clip of val; None where clips are to count each for itself."""
    groups = library.matrix.groups
    if recipe.groups and groups is None:
        raise InputError(
            f"{library.home / 'clips.parquet'}: does not say whose clips they are; --groups needs "
            "a column group in the data's clips.csv when the search begins"
        )
    return None if recipe.groups is False else groups


def _estimate(library: Library, chooser: Chooser, groups: NDArray[np.intp]) -> Estimate:
    matrix = library.matrix
    ids = [
        clip for clip, labelled in zip(matrix.clip_ids, matrix.labelled, strict=True) if labelled
    ]
    return estimate(
        chooser,
        matrix.target_names,
        groups,
        grouped=_groups(library, chooser.recipe) is not None,
        hashed=fold_hash(ids, assign_folds(groups, chooser.recipe.seed)),
    )


def _standardisation(moments: Moments, choice: Choice) -> Standardisation:
    parts = (moments.means[:, choice.members], moments.deviations[:, choice.members])
    means, deviations = (tuple(tuple(row) for row in part.tolist()) for part in parts)
    return Standardisation(means, deviations)


def _members(library: Library, choice: Choice, explained: Explanation) -> tuple[Member, ...]:
    return tuple(
        Member(
            trial=trial.id,
            study=trial.study.folder.name,
            family=trial.family,
            weight=float(weight),
            pcc=float(own),
            left_out=left_out,
            correlation=correlation,
        )
        for trial, weight, own, left_out, correlation in zip(
            [library.matrix.trials[i] for i in choice.members],
            choice.weights.mean(axis=0),
            explained.own,
            explained.left_out,
            explained.with_others,
            strict=True,
        )
    )
