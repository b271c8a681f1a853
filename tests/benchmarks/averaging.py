"""What a moving average of the weights is worth: scores by epoch, with it and without.

    python -m tests.benchmarks.averaging [--quick] [--json] [--epochs 30] [--loss pcc ccc]

Generated clips of Hume-Reaction's number, heads of 2 layers of 128 in the setting of paper.toml, at
three learning rates, without early stopping: the weights themselves (`ema` 0) and their average
(the default of `TrialConfig`), with the same seed and so the same batches. A row gives the best
mean PCC on val until some epochs. gain: the best of the average minus that of the weights, over all
rows.

A full run takes about 6 minutes a loss on two cores.

Synthetic data: no score here is a result on Hume-Reaction.
"""

import argparse
import json
import multiprocessing
from typing import Any

import numpy as np
import pandas as pd
import torch

from harness.models.config import TrialConfig
from harness.trials.trial import Trial
from tests.benchmarks.generated import HUME, generated

WORKERS = 2
RATES = (0.0006, 0.002, 0.006)
SHOWN = (2, 4, 8, 16, 30)
QUICK = {"train": 2_000, "val": 600}


def row(given: tuple[dict[str, int], int, str, float, float]) -> dict[str, Any]:
    """The best score until each of `SHOWN`, of one head."""
    torch.set_num_threads(1)
    clips, epochs, loss, rate, ema = given
    config = TrialConfig.of(
        stride=1, layers=2, hidden=128, loss=loss, lr=rate, ema=ema, epochs=epochs, patience=epochs
    )
    trial, scores = Trial(config, generated(clips)), []
    while not trial.finished:
        scores.append(trial.step().score)
    best = np.fmax.accumulate(scores)
    until = {f"until_{n}": float(best[n - 1]) for n in SHOWN if n <= len(best)}
    return {"loss": loss, "lr": rate, "ema": ema, **until, "best": float(best[-1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="Few clips, eight epochs.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--loss", nargs="+", default=["pcc", "ccc"])
    options = parser.parse_args()
    clips, epochs = (QUICK, 8) if options.quick else (HUME, options.epochs)
    work = [(clips, epochs, loss, rate, ema) for loss in options.loss for rate in RATES
            for ema in (0.0, TrialConfig.ema)]  # fmt: skip
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        table = pd.DataFrame(pool.map(row, work, chunksize=1))
    best = table.pivot_table(index=["loss", "lr"], columns="ema", values="best")
    gain = float((best[TrialConfig.ema] - best[0.0]).mean())
    if options.json:
        print(json.dumps({"gain": gain, "table": table.to_dict("records")}))
        return
    print(table.round(4).to_string(index=False))
    print(f"gain: {gain:+.4f}")


if __name__ == "__main__":
    main()
