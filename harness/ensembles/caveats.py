"""Warnings about the scores of an ensemble, for the terminal and the report."""

from harness.ensembles.ensemble import Ensemble
from harness.ensembles.gain import is_feasible
from harness.ensembles.moments import GRAM_TRIALS

SYNTHETIC = "SYNTHETIC demo clips: no score is a result on Hume-Reaction."
# Simulations show a bias of the nested score and rough intervals below these numbers.
_FEW_CLIPS = 30
_FEW_PERSONS = 20


def caveats(ensemble: Ensemble) -> list[str]:
    """One sentence for each reason why a score may be wrong or uncertain; empty if none applies."""
    return [*_few(ensemble), *_estimate(ensemble), *_selection(ensemble)]


def _few(ensemble: Ensemble) -> list[str]:
    found = []
    split = ensemble.recipe.choose_on.capitalize()
    if ensemble.clips < _FEW_CLIPS:
        found.append(
            f"{split} has {ensemble.clips} rated clips: scores and intervals of fewer than "
            f"{_FEW_CLIPS} clips are unreliable"
        )
    estimate = ensemble.estimate
    if estimate and estimate.grouped and estimate.groups < _FEW_PERSONS:
        found.append(
            f"{split} has {estimate.groups} persons: scores and intervals of fewer than "
            f"{_FEW_PERSONS} persons are unreliable"
        )
    if ensemble.test is not None and ensemble.test_clips < _FEW_CLIPS:
        found.append(
            f"Test has {ensemble.test_clips} rated clips: scores of fewer than {_FEW_CLIPS} clips "
            "are unreliable"
        )
    return found


def _estimate(ensemble: Ensemble) -> list[str]:
    estimate = ensemble.estimate
    if estimate is None:
        return [
            f"No nested estimate and no interval: {ensemble.recipe.choose_on} has too few persons "
            "or clips"
        ]
    found = []
    if not estimate.grouped:
        why = "--no-groups" if ensemble.recipe.groups is False else "persons are not known"
        found.append(
            f"Intervals treat clips as independent ({why}), so they are probably too narrow"
        )
    if estimate.undefined and estimate.replicates:
        found.append(
            f"{estimate.undefined} of {estimate.replicates} bootstrap replicates were skipped for "
            "the intervals, because the PCC of a target was undefined"
        )
    if estimate.gain is None and not is_feasible(
        ensemble.method, ensemble.eligible - ensemble.duplicates
    ):
        found.append(
            f"The gain is not estimated: {ensemble.method} would take too long with more than "
            f"{GRAM_TRIALS} trials"
        )
    elif estimate.gain is None:
        found.append(
            "No gain: the PCC of a target is undefined in most replicates, because few clips "
            "determine it"
        )
    elif estimate.gain.undefined:
        found.append(
            f"{estimate.gain.undefined} of {estimate.gain.replicates} replicates of the selection "
            "were skipped for the gain, because the PCC of a target was undefined"
        )
    if ensemble.recipe.method == "auto":
        found.append("The interval of the gain does not include the choice of the method by auto")
    if estimate.undefined and not estimate.replicates:
        found.append(
            f"No interval of the mean: without one of {estimate.undefined} of {estimate.groups} "
            f"{'persons' if estimate.grouped else 'clips'}, the PCC of a target is undefined"
        )
    return found


def _selection(ensemble: Ensemble) -> list[str]:
    found = []
    split = ensemble.recipe.choose_on
    if ensemble.early_stopped:
        size = "by an unknown amount: trials of an earlier version have no estimate of it"
        if ensemble.optimism is not None:
            size = f"by about {ensemble.optimism:.4f}, which the corrected score subtracts"
        found.append(
            f"The clips of {split} also chose the epochs of the members, so that all scores on "
            f"{split} are optimistic {size}"
        )
    if ensemble.target_weights is not None:
        found.append(
            "Separate weights for each target raise the naive score and rarely the true one: use "
            "the nested score"
        )
    return found
