"""Which sign tells first, and rightly, that a trial cannot recover.

    python -m tests.benchmarks.dying [--clips 2000] [--epochs 12] [--quick] [--json]

Heads are trained to the end in the setting of the authors' code (Adam, coupled weight decay of
.001), in which some die, and with the defaults, in which none should. Signs, each in two
consecutive epochs, of a target's predictions on val:

constant X: their deviation is below X times that of the ratings. A search takes 1e-6.
saturated X: the share X of them is below .001 or above .999.
gradient X: the norm of the last batch's gradient of the sequence model is below X (of all
    targets together).

A head is lost if it has no score of at least .1 in the last quarter of the epochs. lost: heads that
are. found: those of them that show the sign; epoch: the mean epoch in which a trial would end by
it, over the lost heads, where one that shows no sign goes to the last epoch. wrong: heads that show
the sign and are not lost, which ending them would lose.

Data: generated clips (`tests/benchmarks/generated.py`, mixed information).
Synthetic data: no score here is a result on Hume-Reaction.
"""

import argparse
import itertools
import multiprocessing
import sys
from typing import Any

import numpy as np
import torch

from harness.dataset import Dataset
from harness.models.config import TrialConfig
from harness.models.training import DEAD_EPOCHS, Training, predict
from harness.trials.trial import Trial
from tests.benchmarks.budget import AUTHORS, DEFAULT, SHAPE
from tests.benchmarks.generated import generated
from tests.benchmarks.rows import print_rows

PROCESSES = 2
GRID: dict[str, list[Any]] = {
    "loss": ["ccc", "pcc"],
    "reduction": ["per_target", "flat", "both"],
    "layers": [2, 3, 4],
    "lr": [0.0006, 0.003, 0.01],
}
QUICK = {"loss": ["ccc"], "reduction": ["both"], "layers": [2, 4], "lr": [0.003, 0.01]}
SIGNS = (
    *(("constant", bound) for bound in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 3e-2)),
    *(("saturated", bound) for bound in (0.5, 0.9, 0.99)),
    *(("gradient", bound) for bound in (1e-8, 1e-7, 1e-6, 1e-5, 1e-4)),
)
_LEAST_SCORE = 0.1

_data: list[Dataset] = []


def _begin(data: Dataset) -> None:
    torch.set_num_threads(1)
    _data.append(data)


def signs(training: Training) -> dict[str, float]:
    """After an epoch: the least relative deviation and the largest saturated share of the targets,
    and the norm of the last batch's gradient of the sequence model."""
    training.scored_head.calibration.reset()
    predicted = predict(training.scored_head, training.val).astype(np.float64)
    edges = (predicted < 1e-3) | (predicted > 1 - 1e-3)
    gradients = [p.grad.ravel() for p in training.head.sequence.parameters()
                 if p.grad is not None]  # fmt: skip
    return {
        "constant": float((predicted.std(axis=0) / training.truth.std(axis=0)).min()),
        "saturated": float(edges.mean(axis=0).max()),
        "gradient": float(torch.cat(gradients).norm()),
    }


def _curve(job: tuple[dict[str, Any], dict[str, Any], int]) -> dict[str, Any]:
    """A training to the end, whatever it predicts."""
    values, point, epochs = job
    config = TrialConfig.of(**SHAPE, epochs=epochs, patience=epochs).changed(**values, **point)
    (training,) = Trial(config, _data[0]).trainings
    rows = []
    for _ in range(epochs):
        score = float(np.nan_to_num(training.epoch().score))
        rows.append(signs(training) | {"score": score})
    return point | {"rows": rows}


def ends(rows: list[dict[str, float]], sign: str, bound: float) -> int | None:
    """The epoch in which a trial would end by a sign, from 1; None if in none."""
    shown = [row[sign] >= bound if sign == "saturated" else row[sign] < bound for row in rows]
    for epoch in range(DEAD_EPOCHS, len(shown) + 1):
        if all(shown[epoch - DEAD_EPOCHS : epoch]):
            return epoch
    return None


def lost(rows: list[dict[str, float]]) -> bool:
    """Whether a head has no score in the last quarter of its epochs."""
    return max(row["score"] for row in rows[-max(1, len(rows) // 4) :]) < _LEAST_SCORE


def table(curves: list[dict[str, Any]], epochs: int) -> list[dict[str, Any]]:
    """A row for each sign; see the module's docstring."""
    of_lost = [each["rows"] for each in curves if lost(each["rows"])]
    others = [each["rows"] for each in curves if not lost(each["rows"])]
    found = []
    for sign, bound in SIGNS:
        stops = [ends(rows, sign, bound) for rows in of_lost]
        shown = sum(stop is not None for stop in stops)
        found.append(
            {
                "sign": f"{sign} {bound:g}",
                "lost": len(of_lost),
                "found": shown,
                "epoch": round(float(np.mean([stop or epochs for stop in stops])), 2),
                "others": len(others),
                "wrong": sum(ends(rows, sign, bound) is not None for rows in others),
            }
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=2_000, help="Training clips, generated.")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="Eight heads.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    grid = QUICK if options.quick else GRID
    data = generated({"train": options.clips, "val": 600}, "mixed")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    jobs = [(each.values, point, options.epochs) for point in points for each in (AUTHORS, DEFAULT)]
    curves = []
    with multiprocessing.get_context("fork").Pool(PROCESSES, _begin, (data,)) as pool:
        for number, curve in enumerate(pool.imap(_curve, jobs), 1):
            curves.append(curve)
            print(f"{number} of {len(jobs)} heads", file=sys.stderr, flush=True)
    if not any(lost(each["rows"]) for each in curves):
        print("no head is lost, so that no sign can be judged", file=sys.stderr)
        return 1
    print_rows(table(curves, options.epochs), options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
