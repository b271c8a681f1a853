"""The ensemble: members, weights and scores; its files."""

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import harness
from harness.atomic import write_text
from harness.ensembles.library import Library, PredictionMatrix, load_members
from harness.ensembles.selection import top_k, uniform
from harness.predictions import PredictionInfo, write_predictions

# Weights are stored as decimal text; their sum may be off by rounding alone.
_SIMPLEX = 1e-9


@dataclass(frozen=True)
class Ensemble:
    """A weighted average of trials.

    weights: one a member, >= 0, sum 1. naive: mean PCC on val, the split that chose the members,
    and therefore optimistic. pcc: per target on val. test: mean PCC on test, None if unlabelled.
    """

    name: str
    method: str
    study: str
    members: tuple[str, ...]
    weights: tuple[float, ...]
    targets: tuple[str, ...]
    synthetic: bool
    naive: float
    pcc: tuple[float, ...]
    best_single: str
    best_single_naive: float
    test: float | None = None
    code_version: str = harness.__version__

    def __post_init__(self) -> None:
        if len(self.members) != len(self.weights) or not self.members:
            raise ValueError(f"{len(self.members)} members but {len(self.weights)} weights")
        if min(self.weights) < 0 or abs(sum(self.weights) - 1) > _SIMPLEX:
            raise ValueError(f"weights must be >= 0 and sum to 1, got {self.weights}")

    def to_json(self) -> str:
        """JSON text; floats are exact."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Ensemble":
        """The inverse of `to_json`."""
        values: dict[str, Any] = json.loads(text)
        sequences = ("members", "weights", "targets", "pcc")
        return cls(**(values | {name: tuple(values[name]) for name in sequences}))


def combine(
    predictions: NDArray[np.float32], weights: NDArray[np.float64] | tuple[float, ...]
) -> NDArray[np.float64]:
    """The weighted average of (member, clip, target) predictions: (clip, target), in float64."""
    average: NDArray[np.float64] = np.einsum(
        "m,mct->ct", np.asarray(weights, np.float64), predictions.astype(np.float64)
    )
    return average


def average_top(library: Library, k: int, study: Path, name: str) -> Ensemble:
    """The mean of the k best trials by their mean PCC on val; test is scored, never chosen by.

    Raises:
        InputError: fewer than k eligible trials.
    """
    matrix = library.matrix
    scores = matrix.member_pcc().mean(axis=1)
    chosen, weights = top_k(scores, k), uniform(k)
    per_target = matrix.pcc_of(combine(matrix.predictions[chosen], weights))
    infos = tuple(matrix.infos[i] for i in chosen)
    return Ensemble(
        name=name,
        method="mean",
        study=study.name,
        members=tuple(info.trial_id for info in infos),
        weights=tuple(weights.tolist()),
        targets=matrix.target_names,
        synthetic=library.index.synthetic,
        naive=float(per_target.mean()),
        pcc=tuple(per_target.tolist()),
        best_single=infos[0].trial_id,
        best_single_naive=float(scores[chosen[0]]),
        test=_test_score(study, library, infos, weights),
    )


def write_ensemble(study: Path, ensemble: Ensemble, library: Library) -> list[Path]:
    """Writes `ensembles/<name>/`: predictions as Parquet, `predictions.csv` where there is a test
    split, and `ensemble.json` last, so that a folder that has it is whole. Returns the paths."""
    folder = study / "ensembles" / ensemble.name
    chosen = {info.trial_id: info for info in library.matrix.infos}
    infos = tuple(chosen[member] for member in ensemble.members)
    combined = {}
    written = [folder / "predictions.parquet"]
    for split in ("val", "test"):
        if len(library.index.rows(split)):
            matrix = load_members(study, library.index, infos, split)
            combined[split] = combine(matrix.predictions, ensemble.weights).astype(np.float32)
            if split == "test":
                written.append(folder / "predictions.csv")
                write_text(written[-1], _submission(matrix, combined[split]))
    write_predictions(
        written[0], _info(ensemble, infos, library, combined), library.index, combined
    )
    written.append(folder / "ensemble.json")
    write_text(written[-1], ensemble.to_json())
    return written


def _test_score(
    study: Path,
    library: Library,
    infos: tuple[PredictionInfo, ...],
    weights: NDArray[np.float64],
) -> float | None:
    rows = library.index.rows("test")
    # A correlation needs two clips.
    if (~np.isnan(library.index.targets[rows]).any(axis=1)).sum() < 2:
        return None
    matrix = load_members(study, library.index, infos, "test")
    return float(matrix.pcc_of(combine(matrix.predictions, weights)).mean())


def _info(
    ensemble: Ensemble,
    infos: tuple[PredictionInfo, ...],
    library: Library,
    combined: dict[str, NDArray[np.float32]],
) -> PredictionInfo:
    # Of the stored float32 values, since readers recompute it from them.
    stored = library.matrix.pcc_of(combined["val"].astype(np.float64))
    return PredictionInfo(
        trial_id=ensemble.name,
        config={"method": ensemble.method, "members": list(ensemble.members)},
        seed=0,
        code_version=ensemble.code_version,
        data_fingerprint=infos[0].data_fingerprint,
        feature_fingerprint=infos[0].feature_fingerprint,
        targets=ensemble.targets,
        early_stop_split=infos[0].early_stop_split,
        best_epoch=0,
        val_pcc=float(stored.mean()),
        # Not the time of day: equal inputs give equal files.
        created=max(info.created for info in infos),
    )


def _submission(matrix: PredictionMatrix, values: NDArray[np.float32]) -> str:
    """`File_ID` and the targets, a row a test clip, sorted by id."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["File_ID", *matrix.target_names])
    for row in sorted(range(len(values)), key=lambda row: matrix.clip_ids[row]):
        writer.writerow([matrix.clip_ids[row], *(f"{value:.6f}" for value in values[row])])
    return text.getvalue()
