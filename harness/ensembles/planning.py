"""How accurate a score is at the size of a split, and how many clips a comparison needs. No I/O."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.intervals import resample
from harness.metrics import jackknife_error

Floats = NDArray[np.float64]
#: A difference of mean PCC that a comparison should detect.
DIFFERENCE = 0.01
# Of the normal distribution: two-sided 95 %, and a power of 80 %.
_QUANTILES = 1.96 + 0.842
# A smaller error of a difference is rounding: the ensemble is the best single trial.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Planning:
    """The accuracy of nested scores. Errors are those of the jackknife over persons, or over clips
    if persons are not known, with the selection fixed.

    error: standard error of the mean PCC of the ensemble.
    difference_error: of the difference between ensemble and best single trial on the same clips.
    needed: persons or clips at which the 95 % interval of that difference excludes 0 in 80 % of the
        cases if the true difference is .01; 0 if the ensemble is the best single trial.
    design_effect: variance over persons divided by that over independent clips; None if persons are
        not known.
    intraclass: (design effect - 1) / (clips per person - 1), the correlation of the clips of a
        person (Kish, 1965); None also if each person has one clip.
    """

    error: float
    difference_error: float
    needed: int
    design_effect: float | None
    intraclass: float | None


def plan(truth: Floats, pooled: Floats, groups: NDArray[np.intp], grouped: bool) -> Planning | None:
    """The planning of a split; None if an error is undefined.

    Args:
        truth: (targets, clips).
        pooled: (2, divisions, targets, clips) held-out predictions of the ensemble and the best
            single trial.
        groups: (clips,) group numbers from 0.
        grouped: the groups are persons.
    """
    values = resample(truth, pooled, groups, 0, jackknife=True).values.mean(axis=2)
    error, difference = (jackknife_error(v) for v in (values[:, 0], values[:, 0] - values[:, 1]))
    if not np.isfinite([error, difference]).all():
        return None
    count = int(groups.max()) + 1
    needed = needed_groups(difference, count)
    effect = intraclass = None
    if grouped:
        clips = np.arange(len(groups))
        single = resample(truth, pooled[:1], clips, 0, jackknife=True).values
        alone = jackknife_error(single[:, 0].mean(axis=1))
        sizes = np.bincount(groups)
        # The mean size of the person of a clip, because large persons count more.
        size = float((sizes**2).sum() / sizes.sum())
        if alone > 0:
            effect = float((error / alone) ** 2)
            intraclass = (effect - 1) / (size - 1) if size > 1 else None
    return Planning(error, difference, needed, effect, intraclass)


def needed_groups(error: float, groups: int) -> int:
    """Persons or clips at which a 95 % interval detects a difference of `DIFFERENCE` with a power
    of 80 % (Cohen, 1988); 0 if there is nothing to compare.

    Args:
        error: standard error of the difference with this number of groups.
    """
    if error < _ROUNDING:
        return 0
    return int(np.ceil(groups * (_QUANTILES * error / DIFFERENCE) ** 2))


def sentences(found: Planning, split: str, groups: int, grouped: bool) -> list[str]:
    """The planning in plain words."""
    unit = "persons" if grouped else "clips"
    accuracy = (
        f"With {groups} {unit} of {split}, the standard error of the score is {found.error:.4f}"
    )
    # Computed again, because files of earlier versions hold half of this number.
    if needed := needed_groups(found.difference_error, groups):
        accuracy += (
            f", and that of ensemble minus best single trial {found.difference_error:.4f}; to "
            f"detect a difference of {DIFFERENCE:g} with 80 % power, about {needed} {unit} are "
            "needed"
        )
    lines = [accuracy]
    if found.design_effect is not None:
        text = f"Design effect of persons: {found.design_effect:.2f}"
        if found.intraclass is not None:
            text += f" (intraclass correlation {found.intraclass:.2f})"
        wider = max(found.design_effect, 0.0) ** 0.5
        lines.append(f"{text}; errors are {wider:.2f} times those of independent clips")
    return lines
