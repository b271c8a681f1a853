"""Scores of the multi-task challenge on annotated faces."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.encoders.mtl_dan.network import ACTION_UNITS, EXPRESSIONS
from harness.metrics import ccc
from harness.pretraining.annotations import Annotations


@dataclass(frozen=True)
class Scores:
    """Scores by class and unit.

    expression_f1: of the 8 classes. action_unit_f1: of the 12 units. concordance: CCC of valence
    and arousal.
    """

    expression_f1: tuple[float, ...]
    action_unit_f1: tuple[float, ...]
    concordance: tuple[float, ...]

    @property
    def p_mtl(self) -> float:
        """The official score of the challenge, at most 3: mean expression F1 + mean action-unit
        F1 + mean CCC of valence and arousal."""
        return sum(self.means().values())

    def means(self) -> dict[str, float]:
        """The three parts of P_MTL."""
        return {
            "expression F1": float(np.mean(self.expression_f1)),
            "action unit F1": float(np.mean(self.action_unit_f1)),
            "CCC": float(np.mean(self.concordance)),
        }

    def rows(self) -> list[tuple[str, str, float]]:
        """(measure, label, value) for a table."""
        units = tuple(f"AU{unit}" for unit in ACTION_UNITS)
        parts = (
            ("expression F1", EXPRESSIONS, self.expression_f1),
            ("action unit F1", units, self.action_unit_f1),
            ("CCC", ("valence", "arousal"), self.concordance),
        )
        return [
            (measure, name, value)
            for measure, names, values in parts
            for name, value in zip(names, values, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, including P_MTL."""
        return {"p_mtl": self.p_mtl} | {name: list(part) for name, part in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Scores":
        """The inverse of `to_dict`."""
        names = ("expression_f1", "action_unit_f1", "concordance")
        return cls(*(tuple(content[name]) for name in names))


def score(outputs: NDArray[np.float32], truth: Annotations) -> Scores:
    """Scores the network's outputs, (faces, 22), over the valid labels of each task.

    An F1 without true and predicted cases is 0. A unit is present from 0.5.

    Raises:
        ValueError: an output is not finite.
    """
    n = len(EXPRESSIONS)
    labelled = truth.expression >= 0
    labels, guesses = truth.expression[labelled], outputs[labelled, :n].argmax(axis=1)
    rated = ~np.isnan(truth.valence_arousal).any(axis=1)
    concordance = ccc(truth.valence_arousal[rated], outputs[rated, -2:])
    units = []
    for k in range(len(ACTION_UNITS)):
        known = ~np.isnan(truth.action_units[:, k])
        units.append(_f1(truth.action_units[known, k] > 0.5, outputs[known, n + k] > 0.5))
    return Scores(
        tuple(_f1(labels == k, guesses == k) for k in range(n)),
        tuple(units),
        # Undefined only if truth and prediction are the same constant; it counts as 0.
        tuple(float(value) for value in np.nan_to_num(concordance)),
    )


def _f1(truth: NDArray[np.bool_], guess: NDArray[np.bool_]) -> float:
    hits = float((truth & guess).sum())
    total = float(truth.sum() + guess.sum())
    return 2 * hits / total if total else 0.0
