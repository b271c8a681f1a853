"""Which optimiser and decay leave trials dead: a grid over what the paper compares.

    python -m tests.benchmarks.budget [--quick] [--json] [--demo-cache DIR] [--clips N] [--epochs N]
        [--points N] [--only NAME=VALUE,VALUE ...] [--rows FILE]

Each setting of optimiser, weight decay, moving average and initialisation trains the same grid of
loss, reduction, layers and learning rate, each configuration for a few epochs without early
stopping. The score is the mean PCC on val after the last epoch. A configuration is dead if it ends
as `Trial.dead` says; its score counts as 0.

The whole grid takes about 2 hours on two cores. With `--rows`, each trial is kept in FILE as it
ends, and a run continues where the last one ended; `--data` and `--only` then give parts.

Data: generated clips with pooled and with ordered information (`tests/benchmarks/generated.py`),
and the demo's features. The setting `adam` with a decay of .001 is the authors'; of all settings,
the defaults alone score a moving average of the weights; the weights start as torch has them
(`initial`, uniform) unless the setting says otherwise. Scaling a loss by
a constant c is the same to Adam as dividing its coupled decay by c, so that the setting with a
decay of .00001 also shows a loss that is scaled by 100.

dead_share: by setting. mean_gain: mean score of the defaults of `TrialConfig` minus that of the
authors' setting, over the same configurations. by_choice: mean score by setting and value.

Synthetic data: no score here is a result on Hume-Reaction.
"""

import argparse
import itertools
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from harness.dataset import Dataset
from harness.models.config import TrialConfig
from harness.trials.trial import Trial
from tests.benchmarks.generated import generated
from tests.benchmarks.samplers import prepared

WORKERS = 2
GRID: dict[str, list[Any]] = {
    "loss": ["ccc", "pcc"],
    "reduction": ["per_target", "flat", "both"],
    "layers": [1, 2, 3, 4],
    "lr": [0.0006, 0.003, 0.01],
}
QUICK = {"loss": ["ccc", "pcc"], "reduction": ["both"], "layers": [1, 4], "lr": [0.003]}
#: Of the generated clips, and of the demo, whose clips are few.
SHAPE = {"stride": 1, "sequence": "fixed-12", "hidden": 128, "batch_size": 128}
DEMO_SHAPE = {"stride": 10, "sequence": "full", "hidden": 64, "head_width": 64, "batch_size": 32}


@dataclass(frozen=True)
class Setting:
    """What is compared: values of hyperparameters."""

    name: str
    values: dict[str, Any]


def _plain(name: str, optimiser: str, decay: float, initial: str = "uniform") -> Setting:
    """A setting that scores the weights themselves, not their moving average."""
    values = {"optimiser": optimiser, "weight_decay": decay, "ema": 0.0, "initial": initial}
    return Setting(name, values)


AUTHORS = _plain("adam, decay .001", "adam", 0.001)
DEFAULT = Setting("defaults", {})
SETTINGS = (
    DEFAULT,
    AUTHORS,
    _plain("adamw, decay .001", "adamw", 0.001),
    _plain("adamw, decay .05", "adamw", 0.05),
    _plain("adam, decay .00001", "adam", 0.00001),
    _plain("adam, no decay", "adam", 0.0),
    _plain("adam, decay .001, glorot", "adam", 0.001, "glorot"),
    _plain("adamw, decay .001, glorot", "adamw", 0.001, "glorot"),
)
_QUICK_SETTINGS = (DEFAULT, AUTHORS)


def scored(data: Dataset, config: TrialConfig) -> tuple[float, str]:
    """Mean PCC on val after the last epoch, 0 for a dead trial; why it is dead, if it is."""
    trial = Trial(config, data)
    while not trial.finished:
        trial.step()
    score = trial.curve[-1].score
    return (0.0 if np.isnan(score) else score), trial.dead


_data: dict[str, Dataset] = {}


def _begin(data: dict[str, Dataset]) -> None:
    torch.set_num_threads(1)
    _data.update(data)


def _row(job: tuple[str, Setting, dict[str, Any], int]) -> dict[str, Any]:
    name, setting, point, epochs = job
    begun = time.process_time()
    shape = DEMO_SHAPE if name == "demo" else SHAPE
    # So many epochs, whatever the score: the settings are compared at equal cost.
    config = TrialConfig.of(**shape, epochs=epochs, patience=epochs).changed(
        **setting.values, **point
    )
    score, dead = scored(_data[name], config)
    found = {"score": score, "dead": dead, "seconds": round(time.process_time() - begun, 1)}
    return {"data": name, "setting": setting.name, **point} | found


def measure(
    data: dict[str, Dataset],
    settings: tuple[Setting, ...],
    points: list[dict[str, Any]],
    epochs: int,
    show: Callable[[str], None],
    kept: Path | None = None,
) -> pd.DataFrame:
    """A row for each configuration of each setting on each data set.

    Args:
        kept: a file of rows, one a line; its trials are not trained again.
    """
    # The settings are the inner loop, so that an interrupted run has compared all of them.
    jobs = [(name, s, point, epochs) for point in points for name in data for s in settings]
    clips = {name: len(each.rows("train")) for name, each in data.items()}

    def key(row: dict[str, Any]) -> str:
        return json.dumps([row["data"], row["setting"], *(row[name] for name in GRID),
                           row["epochs"], row["clips"]])  # fmt: skip

    def of_job(job: tuple[str, Setting, dict[str, Any], int]) -> dict[str, Any]:
        cost = {"epochs": epochs, "clips": clips[job[0]]}
        return {"data": job[0], "setting": job[1].name, **job[2], **cost}

    lines = kept.read_text().splitlines() if kept and kept.exists() else []
    done = {key(row): row for row in map(json.loads, lines)}
    rows = [done[key(of_job(job))] for job in jobs if key(of_job(job)) in done]
    left = [job for job in jobs if key(of_job(job)) not in done]
    show(f"{len(rows)} of {len(jobs)} trials are in {kept}" if kept else f"{len(jobs)} trials")
    context = multiprocessing.get_context("fork")
    with context.Pool(WORKERS, _begin, (data,)) as pool:
        for row in pool.imap_unordered(_row, left):
            row |= {"epochs": epochs, "clips": clips[row["data"]]}
            rows.append(row)
            show(json.dumps(row))
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                with kept.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    return pd.DataFrame(rows)


def figures(table: pd.DataFrame, grid: dict[str, list[Any]]) -> dict[str, Any]:
    """See the module's docstring."""
    table = table.assign(is_dead=table["dead"] != "")
    found: dict[str, Any] = {}
    for name, part in table.groupby("data", sort=False):
        by_setting = part.groupby("setting", sort=False)
        means = by_setting["score"].mean()
        found[str(name)] = {
            "dead_share": by_setting["is_dead"].mean().round(4).to_dict(),
            "mean": means.round(4).to_dict(),
            "mean_gain": round(float(means[DEFAULT.name] - means[AUTHORS.name]), 4),
            "by_choice": {
                choice: {
                    str(setting): {str(k): round(float(v), 4) for k, v in row.items()}
                    for setting, row in part.pivot_table(
                        values="score", index="setting", columns=choice, sort=False
                    ).iterrows()
                }
                for choice in grid
            },
        }
    shares = table.groupby("setting", sort=False)["is_dead"].mean()
    gains = [each["mean_gain"] for each in found.values()]
    return {
        "dead_share": float(shares[DEFAULT.name]),
        "dead_share_authors": float(shares[AUTHORS.name]),
        "mean_gain": float(np.mean(gains)),
        "data": found,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="Eight trials on few clips.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--clips", type=int, default=5_000, help="Training clips, generated.")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--points", type=int, help="Points of the grid, at random. Default: all.")
    parser.add_argument("--data", nargs="+", choices=("pooled", "ordered", "mixed", "demo"),
                        default=["pooled", "ordered", "demo"])  # fmt: skip
    parser.add_argument("--demo-cache", type=Path, default=Path("results/.cache"))
    parser.add_argument("--rows", type=Path, metavar="FILE", help="Keeps each trial, to continue.")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME=VALUE,VALUE",
                        help="A part of the grid, such as loss=ccc layers=2,4.")  # fmt: skip
    options = parser.parse_args()
    grid, settings = (QUICK, _QUICK_SETTINGS) if options.quick else (GRID, SETTINGS)
    clips, epochs = (1_000, 4) if options.quick else (options.clips, options.epochs)
    kinds = ["mixed"] if options.quick else options.data
    sizes = {"train": clips, "val": clips * 3 // 10}
    data = {
        kind: prepared(options.demo_cache).data if kind == "demo" else generated(sizes, kind)
        for kind in kinds
    }
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    for name, _, values in (part.partition("=") for part in options.only):
        points = [point for point in points if str(point[name]) in values.split(",")]
    random.Random(0).shuffle(points)

    def show(row: str) -> None:
        print(row, file=sys.stderr, flush=True)

    table = measure(data, settings, points[: options.points], epochs, show, options.rows)
    result = figures(table, grid)
    if options.json:
        print(json.dumps(result))
        return 0
    for name, part in result["data"].items():
        print(f"\n{name}: {len(table) // len(result['data']) // len(settings)} trials a setting")
        shown = pd.DataFrame({"dead": part["dead_share"], "mean PCC": part["mean"]})
        print(shown.to_string())
        for choice, rows in part["by_choice"].items():
            print(f"\nmean PCC by {choice}")
            print(pd.DataFrame(rows).T.to_string())
    print(f"\nmean gain of the defaults over the authors' setting: {result['mean_gain']:+.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
