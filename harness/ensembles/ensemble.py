"""The record of an ensemble: members, weights, scores and estimates."""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.estimate import Estimate, TargetEstimate
from harness.ensembles.explanation import Member
from harness.ensembles.gain import Gain
from harness.ensembles.intervals import Interval
from harness.ensembles.planning import Planning
from harness.ensembles.selection import Recipe

# The sum of the weights may differ from 1 by rounding.
_SIMPLEX = 1e-9
#: Bytes of the name of a folder or a file: file systems allow 255.
LONGEST = 200
Floats = NDArray[np.float64]
Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Standardisation:
    """What the predictions of each member are shifted and divided by before they are averaged,
    (targets x members): their mean and standard deviation on the rated clips that chose, or, of the
    method raw, offset and slope of their calibration. It is applied to every split."""

    means: Rows
    deviations: Rows


@dataclass(frozen=True)
class HoldOut:
    """Mean PCC on val if train chose the ensemble, so that val chose nothing.

    score: mean PCC.
    interval: its 95 % interval; None if it is undefined.
    clips: number of rated clips.
    """

    score: float
    interval: Interval | None
    clips: int


@dataclass(frozen=True)
class Ensemble:
    """A weighted average of trials.

    name: of the ensemble and of its folder.
    method: the method that selected the members.
    recipe: the requested selection; its method may be auto.
    studies: names of the studies' folders.
    members: ids of the trials, by falling weight.
    weights: one per member, >= 0, with sum 1.
    target_weights: (targets x members) if each target has its own weights, of which `weights` is
        the mean; otherwise None.
    standardisation: None if the predictions are averaged without standardisation.
    targets: names of the targets.
    synthetic: the clips are synthetic.
    clips: number of rated clips of the split that chose (`Recipe.choose_on`), on which the scores
        are computed.
    naive: mean PCC on that split. It is optimistic, because it selected the members.
    pcc: the same for each target.
    best_single: id of the trial with the best score on that split.
    best_single_naive: mean PCC of that trial there; optimistic as well.
    estimate: the nested estimate; None if the split is too small.
    early_stopped: that split also chose the epochs of some trials.
    optimism: by how much the nested score is expected to be optimistic, because the split chose the
        members' epochs; None if it was not estimated for a member.
    hold_out: the score on val if train chose; otherwise None.
    test: mean PCC on test; None if it is unrated or a PCC is undefined.
    test_clips: number of rated clips of test.
    member_reports: score and contribution of each member.
    effective_members: by influence, `Explanation.effective`.
    independent_members: by influence and correlation, `Explanation.independent`.
    eligible, refused, duplicates: numbers of prediction files.
    filled: test clips without features, which every member predicts as the mean rating of train.
    versions: of the software.
    """

    name: str
    method: str
    recipe: Recipe
    studies: tuple[str, ...]
    members: tuple[str, ...]
    weights: tuple[float, ...]
    target_weights: Rows | None
    standardisation: Standardisation | None
    targets: tuple[str, ...]
    synthetic: bool
    clips: int
    naive: float
    pcc: tuple[float, ...]
    best_single: str
    best_single_naive: float
    estimate: Estimate | None
    early_stopped: bool
    optimism: float | None
    hold_out: HoldOut | None
    test: float | None
    test_clips: int
    member_reports: tuple[Member, ...]
    effective_members: float
    independent_members: float
    eligible: int
    refused: int
    duplicates: int
    filled: int
    versions: dict[str, str]

    def __post_init__(self) -> None:
        check_weights(self.members, self.weights, *(self.target_weights or ()))

    def combine(self, predictions: NDArray[np.float32]) -> Floats:
        """Combines predictions of the members (targets, members, clips) into (clips, targets)."""
        rows = self.target_weights or (self.weights,) * len(self.targets)
        return combine(predictions, rows, self.standardisation)

    def command(self, home: Path) -> str:
        """The command line that builds the ensemble again. home: folder of its first study, which
        may have been renamed or copied; the others are next to it."""
        studies = (home.name, *self.studies[1:])
        line = ["python", "-m", "harness.ensemble"]
        line += [part for study in studies for part in ("--study", study)]
        line += ["--results", str(home.parent), *self.recipe.options]
        if self.name != default_name(self.recipe, studies):
            line += ["--name", self.name]
        return shlex.join(line)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; floats survive the round trip exactly."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> "Ensemble":
        """The inverse of `to_dict`, also after a JSON round trip."""
        values = dict(given)
        for name in ("studies", "members", "weights", "targets", "pcc"):
            values[name] = tuple(values[name])
        values["recipe"] = Recipe(**values["recipe"])
        values["member_reports"] = tuple(Member(**member) for member in values["member_reports"])
        if values["target_weights"] is not None:
            values["target_weights"] = _rows(values["target_weights"])
        if values["standardisation"] is not None:
            rows = {name: _rows(part) for name, part in values["standardisation"].items()}
            values["standardisation"] = Standardisation(**rows)
        if (held := values["hold_out"]) is not None:
            interval = None if held["interval"] is None else Interval(**held["interval"])
            values["hold_out"] = HoldOut(**(held | {"interval": interval}))
        if values["estimate"] is not None:
            values["estimate"] = _estimate(values["estimate"])
        return cls(**values)


def default_name(recipe: Recipe, studies: Sequence[str]) -> str:
    """The name of an ensemble without `name`. The ensemble is stored with its first study. The
    name contains the other studies, so that it does not replace an ensemble of the first alone."""
    name = "-with-".join([recipe.label, *studies[1:]])
    if len(name.encode()) <= LONGEST:
        return name
    digest = hashlib.sha256(repr(studies).encode()).hexdigest()[:8]
    return f"{recipe.label}-with-{len(studies) - 1}-studies-{digest}"


def check_weights(members: tuple[str, ...], *rows: tuple[float, ...]) -> None:
    """Raises ValueError unless each row has one weight per member, >= 0, with sum 1."""
    for row in rows:
        if not members or len(members) != len(row):
            raise ValueError(f"{len(members)} members but {len(row)} weights")
        if min(row) < 0 or abs(sum(row) - 1) > _SIMPLEX:
            raise ValueError(f"weights must be >= 0 and sum to 1, got {row}")


def combine(
    predictions: NDArray[np.float32], weights: Rows, standardisation: Standardisation | None = None
) -> Floats:
    """Computes the weighted average over the members in float64.

    Args:
        predictions: (targets, members, clips).
        weights: (targets x members).
        standardisation: if given, the predictions are standardised, averaged, and scaled to the
            weighted mean and standard deviation of the members. The result is on the scale of the
            ratings (values may be slightly outside [0, 1]); its correlations do not change.

    Returns:
        (clips, targets).
    """
    w = np.array(weights)
    level = np.zeros(len(w))
    if standardisation is not None:
        means, deviations = np.array(standardisation.means), np.array(standardisation.deviations)
        factors = w / deviations * (w * deviations).sum(axis=1, keepdims=True)
        level = ((w - factors) * means).sum(axis=1)
        w = factors
    average = np.einsum("tm,tmc->ct", w, predictions.astype(np.float64))
    return np.asarray(average + level)


def _rows(values: list[list[float]]) -> Rows:
    return tuple(tuple(row) for row in values)


def _estimate(values: dict[str, Any]) -> Estimate:
    targets = tuple(TargetEstimate(**_with_intervals(target)) for target in values["targets"])
    planned = None if values["planning"] is None else Planning(**values["planning"])
    return Estimate(**(_with_intervals(values) | {"targets": targets, "planning": planned}))


def _with_intervals(values: dict[str, Any]) -> dict[str, Any]:
    names = ("interval", "single_interval")
    found: dict[str, Any] = {
        name: None if values[name] is None else Interval(**values[name]) for name in names
    }
    if (gain := values["gain"]) is not None:
        found["gain"] = Gain(**(gain | {"interval": Interval(**gain["interval"])}))
    return values | found
