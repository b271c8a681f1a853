"""How accurate a score is at the size of a split, and how many clips a comparison needs. No I/O."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.intervals import resample
from harness.metrics import jackknife_error

Floats = NDArray[np.float64]
#: A difference of mean PCC that a comparison should detect.
DIFFERENCE = 0.01
# Two-sided 95 % of the normal distribution.
_QUANTILE = 1.96


@dataclass(frozen=True)
class Planning:
    """The accuracy of nested scores. Errors are those of the jackknife over persons, or over clips
    if persons are not known, with the selection fixed.

    error: standard error of the mean PCC of the ensemble.
    difference_error: of the difference between ensemble and best single trial on the same clips.
    needed: persons or clips at which a 95 % interval of that difference is +-.01 wide.
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
    needed = int(np.ceil(count * (_QUANTILE * difference / DIFFERENCE) ** 2))
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


def sentences(found: Planning, split: str, groups: int, grouped: bool) -> list[str]:
    """The planning in plain words."""
    unit = "persons" if grouped else "clips"
    lines = [
        f"With {groups} {unit} of {split}, the standard error of the score is {found.error:.4f}, "
        f"and that of ensemble minus best single trial {found.difference_error:.4f}; to detect a "
        f"difference of {DIFFERENCE:g}, about {found.needed} {unit} are needed"
    ]
    if found.design_effect is not None:
        text = f"Design effect of persons: {found.design_effect:.2f}"
        if found.intraclass is not None:
            text += f" (intraclass correlation {found.intraclass:.2f})"
        wider = max(found.design_effect, 0.0) ** 0.5
        lines.append(f"{text}; errors are {wider:.2f} times those of independent clips")
    return lines
