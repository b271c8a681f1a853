"""The ensemble: members, weights, scores and what they are worth."""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.bootstrap import Interval
from harness.ensembles.estimate import Estimate, TargetEstimate
from harness.ensembles.explanation import Member
from harness.ensembles.selection import Recipe

# Weights are stored as decimal text; their sum may be off by rounding alone.
_SIMPLEX = 1e-9
# Bytes of a folder's name that every file system takes, with something to spare.
_LONGEST = 200
Floats = NDArray[np.float64]
Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Standardisation:
    """Mean and standard deviation of each member's predictions on the labelled clips of val,
    (targets x members). They are applied to every split."""

    means: Rows
    deviations: Rows


@dataclass(frozen=True)
class Ensemble:
    """A weighted average of trials.

    method: what chose it; recipe: what was asked for, which may be auto. studies: their folders'
    names. members: ids of trials, those of largest weight first; weights: one each, >= 0, sum 1.
    target_weights: (targets x members) where each target has its own; weights are their mean.
    standardisation: None where predictions are averaged as they are.
    member_reports: what each member scores and adds; effective_members: 1 / sum of squared weights.

    naive: mean PCC on val, the split that chose the members, and therefore optimistic; pcc: the
    same per target. estimate: the nested one, None where val is too small. early_stopped: members
    stopped training by their score on val, which no estimate here undoes. test: mean PCC on test,
    None if unlabelled.

    eligible, refused, duplicates: prediction files. filled: test clips without features, which
    every trial predicts by the mean rating of train. versions: of the software.
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
    naive: float
    pcc: tuple[float, ...]
    best_single: str
    best_single_naive: float
    estimate: Estimate | None
    early_stopped: bool
    test: float | None
    member_reports: tuple[Member, ...]
    effective_members: float
    eligible: int
    refused: int
    duplicates: int
    filled: int
    versions: dict[str, str]

    def __post_init__(self) -> None:
        check_weights(self.members, self.weights, *(self.target_weights or ()))

    def combine(self, predictions: NDArray[np.float32]) -> Floats:
        """Members' predictions (targets, members, clips) -> the ensemble's (clips, targets)."""
        rows = self.target_weights or (self.weights,) * len(self.targets)
        return combine(predictions, rows, self.standardisation)

    def command(self, results: Path) -> str:
        """The command line that makes it again, of studies in this folder."""
        told = ["python", "-m", "harness.ensemble"]
        told += [part for study in self.studies for part in ("--study", study)]
        told += ["--results", str(results), *self.recipe.options]
        if self.name != default_name(self.recipe, self.studies):
            told += ["--name", self.name]
        return shlex.join(told)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON, whose floats are exact."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> "Ensemble":
        """The inverse of `to_dict`, also after a way through JSON."""
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
        if values["estimate"] is not None:
            values["estimate"] = _estimate(values["estimate"])
        return cls(**values)


def default_name(recipe: Recipe, studies: Sequence[str]) -> str:
    """What an ensemble is called where nobody names it. It lies with the first of its studies, so
    the others are named, or it would take the place of the first one's own."""
    name = "-with-".join([recipe.label, *studies[1:]])
    if len(name.encode()) <= _LONGEST:
        return name
    digest = hashlib.sha256(repr(studies).encode()).hexdigest()[:8]
    return f"{recipe.label}-with-{len(studies) - 1}-studies-{digest}"


def check_weights(members: tuple[str, ...], *rows: tuple[float, ...]) -> None:
    """ValueError unless each row has a weight for every member, >= 0 and with sum 1."""
    for row in rows:
        if not members or len(members) != len(row):
            raise ValueError(f"{len(members)} members but {len(row)} weights")
        if min(row) < 0 or abs(sum(row) - 1) > _SIMPLEX:
            raise ValueError(f"weights must be >= 0 and sum to 1, got {row}")


def combine(
    predictions: NDArray[np.float32], weights: Rows, standardisation: Standardisation | None = None
) -> Floats:
    """The weighted average over members, in float64.

    Args:
        predictions: (targets, members, clips). weights: (targets x members).
        standardisation: predictions are standardised by it, averaged, and brought back to the
            members' average mean and deviation. This makes them ratings again (they may leave
            [0, 1] by a little) and changes no correlation.

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
    intervals = {name: Interval(**values[name]) for name in ("interval", "gain")}
    targets = tuple(
        TargetEstimate(**(target | {"gain": Interval(**target["gain"])}))
        for target in values["targets"]
    )
    return Estimate(**(values | intervals | {"targets": targets}))
