"""Scores of the multi-task challenge on annotated faces."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.encoders.mtl_dan.network import ACTION_UNITS, EXPRESSIONS
from harness.metrics import ccc
from harness.pretraining.annotations import Annotations

# The parts of P_MTL.
_MEASURES = ("expression F1", "action unit F1", "CCC")
# A CCC that is none.
_NO_CONCORDANCE = 0.01


@dataclass(frozen=True)
class Scores:
    """Scores by class and unit; NaN where the faces have no valid label.

    expression_f1: of the 8 classes. action_unit_f1: of the 12 units. concordance: CCC of valence
    and arousal.
    """

    expression_f1: tuple[float, ...]
    action_unit_f1: tuple[float, ...]
    concordance: tuple[float, ...]

    @property
    def p_mtl(self) -> float:
        """The official score of the challenge, at most 3: mean expression F1 + mean action-unit
        F1 + mean CCC of valence and arousal. Tasks without labels are not part of the sum."""
        return sum(self.means().values())

    @property
    def p_mtl_name(self) -> str:
        """P_MTL, with the tasks that it consists of unless these are all."""
        means = self.means()
        return "P_MTL" if len(means) == len(_MEASURES) else f"P_MTL of {', '.join(means)} alone"

    def means(self) -> dict[str, float]:
        """The parts of P_MTL that have labels."""
        parts = (self.expression_f1, self.action_unit_f1, self.concordance)
        return {
            name: float(np.nanmean(part))
            for name, part in zip(_MEASURES, parts, strict=True)
            if not np.isnan(part).all()
        }

    @property
    def collapsed(self) -> bool:
        """Whether the predictions hardly depend on the face: at most one expression is ever right,
        and valence and arousal do not follow their labels. Action units alone do not tell."""
        means = self.means()
        if not means.keys() - {"action unit F1"}:
            return False
        ever_right = sum(value > 0 for value in self.expression_f1)
        concordance = means.get("CCC", 0.0)
        return ever_right <= 1 and abs(concordance) < _NO_CONCORDANCE

    def rows(self) -> list[tuple[str, str, float]]:
        """(measure, label, value) for a table, of what is scored."""
        units = tuple(f"AU{unit}" for unit in ACTION_UNITS)
        parts = (self.expression_f1, self.action_unit_f1, self.concordance)
        labels = (EXPRESSIONS, units, ("valence", "arousal"))
        return [
            (measure, name, value)
            for measure, names, values in zip(_MEASURES, labels, parts, strict=True)
            for name, value in zip(names, values, strict=True)
            if not np.isnan(value)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, including P_MTL; None where nothing is scored."""
        parts = {name: [None if np.isnan(value) else value for value in part]
                 for name, part in asdict(self).items()}  # fmt: skip
        return {"p_mtl": self.p_mtl} | parts

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Scores":
        """The inverse of `to_dict`."""
        names = ("expression_f1", "action_unit_f1", "concordance")
        return cls(
            *(
                tuple(np.nan if value is None else value for value in content[name])
                for name in names
            )
        )


@dataclass(frozen=True)
class Details:
    """What the scores are made of.

    confusion: (8, 8) faces by expression in the labels (rows) and in the predictions (columns).
    unit_support: by unit, the faces that have it and those with a valid label.
    rated: faces with valence and arousal.
    """

    confusion: NDArray[np.int64]
    unit_support: tuple[tuple[int, int], ...]
    rated: int

    def support(self, measure: str, label: str) -> str:
        """The number of faces behind a score, such as `12 of 40`."""
        if measure == _MEASURES[0]:
            return f"{self.confusion[EXPRESSIONS.index(label)].sum()} of {self.confusion.sum()}"
        if measure == _MEASURES[1]:
            present, known = self.unit_support[ACTION_UNITS.index(int(label.removeprefix("AU")))]
            return f"{present} of {known}"
        return str(self.rated)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return {
            "expressions": list(EXPRESSIONS),
            "confusion": self.confusion.tolist(),
            "action_unit_support": [list(pair) for pair in self.unit_support],
            "rated": self.rated,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Details":
        """The inverse of `to_dict`."""
        support = tuple((int(a), int(b)) for a, b in content["action_unit_support"])
        return cls(np.array(content["confusion"], np.int64), support, int(content["rated"]))


def score(outputs: NDArray[np.float32], truth: Annotations) -> Scores:
    """Scores the network's outputs, (faces, 22), over the valid labels of each task.

    As in the challenge, the F1 of a class without true and predicted cases is 0. A task without
    labels, a unit without labels, and the CCC of fewer than two faces are NaN. A unit is present
    from 0.5.

    Raises:
        ValueError: an output is not finite.
    """
    n = len(EXPRESSIONS)
    labelled = truth.expression >= 0
    labels, guesses = truth.expression[labelled], outputs[labelled, :n].argmax(axis=1)
    rated = ~np.isnan(truth.valence_arousal).any(axis=1)
    concordance = np.full(2, np.nan)
    if rated.sum() >= 2:
        # Undefined only if truth and prediction are the same constant; it counts as 0.
        concordance = np.nan_to_num(ccc(truth.valence_arousal[rated], outputs[rated, -2:]))
    units = []
    for k in range(len(ACTION_UNITS)):
        known = ~np.isnan(truth.action_units[:, k])
        units.append(_f1(truth.action_units[known, k] > 0.5, outputs[known, n + k] > 0.5))
    return Scores(
        tuple(_f1(labels == k, guesses == k) for k in range(n)),
        tuple(units),
        tuple(map(float, concordance)),
    )


def details(outputs: NDArray[np.float32], truth: Annotations) -> Details:
    """The confusion of expressions and the numbers of faces behind each score."""
    n = len(EXPRESSIONS)
    labelled = truth.expression >= 0
    confusion = np.zeros((n, n), np.int64)
    np.add.at(confusion, (truth.expression[labelled], outputs[labelled, :n].argmax(axis=1)), 1)
    known = ~np.isnan(truth.action_units)
    present = np.nan_to_num(truth.action_units) > 0.5
    rated = ~np.isnan(truth.valence_arousal).any(axis=1)
    support = zip(present.sum(axis=0).tolist(), known.sum(axis=0).tolist(), strict=True)
    return Details(confusion, tuple(support), int(rated.sum()))


def _f1(truth: NDArray[np.bool_], guess: NDArray[np.bool_]) -> float:
    if not len(truth):
        return float("nan")
    hits = float((truth & guess).sum())
    total = float(truth.sum() + guess.sum())
    return 2 * hits / total if total else 0.0
