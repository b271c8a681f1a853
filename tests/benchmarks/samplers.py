"""Which sampler and scheduler find the best head at an equal budget, over seeds.

    python -m tests.benchmarks.samplers [--seeds 10] [--budget 300] [--demo] [--pairs NAME ...]
        [--table FILE] [--json]

The budget is in epochs of training, so that what a scheduler saves goes into further trials. Two
trials run at once: each goes an epoch in turn, and what is drawn knows of the other only that it
runs. What counts is the best complete trial's mean PCC on val, as a search would choose it; its
mean PCC on test, which chose nothing, stands beside it.

table: the full grid of the demo (288 points of loss, reduction, stride, layers, hidden size and
learning rate, each trained for 30 epochs under one seed), so that a search costs milliseconds and
all pairs are compared. It is made by `--make-table`, in about ten minutes on two cores.
demo: heads are trained as drawn, over the continuous space of demo.toml.

Synthetic clips: no score here is a result on Hume-Reaction.
"""

import argparse
import heapq
import itertools
import json
import multiprocessing
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from optuna.trial import TrialState
from rich.console import Console

from harness.choices import SAMPLERS, SCHEDULERS
from harness.metrics import mean_pcc
from harness.models.config import TrialConfig
from harness.progress import Steps
from harness.space.file import read_space
from harness.space.pruners import decisions, make_pruner
from harness.space.samplers import make_sampler
from harness.space.search_space import SearchSpace
from harness.spaces import SPACES
from harness.streams.features import Machines
from harness.streams.sources import demo_sources
from harness.study.backend import quiet_optuna
from harness.trials.trial import Trial
from harness.tuning.ledger import WORST, trial_seed
from harness.tuning.preparation import Prepared, prepare

WORKERS = 2
TABLE = Path(__file__).with_name("demo_grid.parquet")
EPOCHS = 30
GRID: dict[str, list[Any]] = {
    "loss": ["ccc", "pcc"],
    "reduction": ["per_target", "flat", "both"],
    "stride": [5, 10, 15, 30],
    "layers": [1, 2],
    "hidden": [32, 64],
    "lr": [0.002, 0.006, 0.018],
}
DRAWN = [name for name in SAMPLERS if name != "grid"]

#: Of a configuration: the scores of its epochs, one at a time, and at the end (val, test).
Curve = Iterator[float | tuple[float, float]]


@dataclass
class Found:
    """What one search found: the chosen trial's mean PCC on val and test, and how many trials."""

    val: float
    test: float
    trials: int


def search(
    space: SearchSpace,
    train: Callable[[dict[str, Any]], Curve],
    sampler: str,
    scheduler: str,
    seed: int,
    budget: int,
) -> Found:
    """A search of two workers that costs `budget` epochs."""
    study = optuna.create_study(direction="maximize", pruner=make_pruner(scheduler, space.budget))
    stops = decisions(scheduler, space.budget)
    tests: dict[int, float] = {}
    waiting: list[tuple[int, int, optuna.Trial, Curve]] = []

    def begin(now: int) -> None:
        count = len(study.trials)
        study.sampler = make_sampler(sampler, seed, count, bool(space.only_if))
        trial = study.ask()
        point = space.suggest(trial)
        config = space.fixed | point | {"seed": trial_seed(seed, trial.number)}
        heapq.heappush(waiting, (now, trial.number, trial, train(config)))

    for _ in range(WORKERS):
        begin(0)
    spent = 0
    while waiting and spent < budget:
        now, number, trial, curve = heapq.heappop(waiting)
        told = next(curve)
        if isinstance(told, tuple):
            study.tell(trial, told[0])
            tests[number] = told[1]
            begin(now)
            continue
        spent += 1
        epoch = len(study.trials[number].intermediate_values) + 1
        trial.report(told if np.isfinite(told) else WORST, epoch)
        if epoch in stops and trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            begin(now + 1)
        else:
            heapq.heappush(waiting, (now + 1, number, trial, curve))
    best = study.best_trial
    return Found(float(best.value or WORST), tests[best.number], len(study.trials))


@cache
def prepared(folder: Path) -> Prepared:
    """The demo's clips and features."""
    torch.set_num_threads(1)
    space = read_space(SPACES / "demo.toml")
    with Steps(Console(quiet=True)) as steps:
        given = demo_sources(folder, "outputs", steps)
        return prepare(given, folder, space, Machines(torch.device("cpu")), steps)


def train_on(demo: Prepared, config: dict[str, Any]) -> Curve:
    """Trains a head as it is asked for epochs."""
    trial = Trial(TrialConfig.from_dict(config), demo.data)
    while not trial.finished:
        yield trial.step().score
    result = trial.result()
    data = demo.data
    yield result.score, mean_pcc(data.ratings[data.rows("test")], result.predictions["test"])


def table_space() -> SearchSpace:
    """The grid's points as a space; its budget is that of demo.toml."""
    space = read_space(SPACES / "demo.toml", EPOCHS)
    parameters = {
        name: optuna.distributions.IntDistribution(min(values), max(values))
        if name == "layers"
        else optuna.distributions.CategoricalDistribution(values)
        for name, values in GRID.items()
    }
    return replace(space, distributions=parameters, fixed={}, start=(), only_if={})


def from_table(table: dict[tuple[Any, ...], Any], config: dict[str, Any]) -> Curve:
    row = table[tuple(config[name] for name in GRID)]
    yield from row.curve
    yield row.val, row.test


def read_table(path: Path) -> dict[tuple[Any, ...], Any]:
    rows = pd.read_parquet(path).itertuples(index=False)
    return {tuple(getattr(row, name) for name in GRID): row for row in rows}


def _row(given: tuple[Path, tuple[Any, ...]]) -> dict[str, Any]:
    folder, values = given
    demo = prepared(folder)
    point = dict(zip(GRID, values, strict=True))
    fixed = demo.space.fixed | {"epochs": EPOCHS}
    *curve, last = train_on(demo, fixed | point | {"seed": 0})
    assert isinstance(last, tuple)  # a curve ends with its scores
    return point | {"curve": np.float32(curve), "val": last[0], "test": last[1]}


def make_table(folder: Path, path: Path) -> None:
    prepared(folder)  # once, and not in every process
    work = [(folder, values) for values in itertools.product(*GRID.values())]
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        rows = list(pool.imap(_row, work, chunksize=4))
    pd.DataFrame(rows).to_parquet(path, compression="zstd")


def _one(given: tuple[str, Path, str, str, int, int]) -> Found:
    what, path, sampler, scheduler, seed, budget = given
    quiet_optuna()
    if what == "table":
        table = read_table(path)
        return search(
            table_space(), lambda c: from_table(table, c), sampler, scheduler, seed, budget
        )
    demo = prepared(path)
    # The start points would give every sampler the same beginning.
    space = replace(demo.space, start=())
    return search(space, lambda c: train_on(demo, c), sampler, scheduler, seed, budget)


def compare(
    what: str, path: Path, pairs: list[tuple[str, str]], seeds: int, budget: int
) -> pd.DataFrame:
    """A row a pair: mean and standard error over seeds, and the difference to the first pair.
    Each search is told on stderr as it ends: on the demo all of them take half an hour."""
    work = [(what, path, *pair, seed, budget) for pair in pairs for seed in range(seeds)]
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        found = []
        for given, each in zip(work, pool.imap(_one, work), strict=True):
            found.append(each)
            name = f"{what}, {given[2]} {given[3]}, seed {given[4]}"
            print(f"{name}: {each.val:.5f}, test {each.test:.5f}", file=sys.stderr, flush=True)
    rows = []
    first = found[:seeds]
    for number, (sampler, scheduler) in enumerate(pairs):
        mine = found[number * seeds : (number + 1) * seeds]
        vals = [f.val for f in mine]
        differences = [f.val - o.val for f, o in zip(mine, first, strict=True)]
        rows.append(
            {
                "sampler": sampler,
                "scheduler": scheduler,
                "val": statistics.fmean(vals),
                "se": statistics.stdev(vals) / seeds**0.5,
                "minus_first": statistics.fmean(differences),
                "se_of_difference": statistics.stdev(differences) / seeds**0.5,
                "test": statistics.fmean(f.test for f in mine),
                "trials": statistics.fmean(f.trials for f in mine),
            }
        )
    return pd.DataFrame(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--budget", type=int, default=300, help="Epochs of training.")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--make-table", action="store_true")
    parser.add_argument("--demo", action="store_true", help="Train, beside the table.")
    parser.add_argument(
        "--pairs", nargs="+", help="Such as tpe/median; with tpe/asha. Default: all."
    )
    parser.add_argument("--cache", type=Path, default=Path("results/.cache"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.make_table:
        make_table(options.cache, options.table)
        return 0
    # The default first: what the others are compared with.
    pairs = sorted(itertools.product(DRAWN, SCHEDULERS), key=lambda pair: pair != ("tpe", "asha"))
    if options.pairs:
        pairs = pairs[:1] + [pair for pair in pairs[1:] if "/".join(pair) in options.pairs]
    tables = {"table": compare("table", options.table, pairs, options.seeds, options.budget)}
    if options.demo:
        prepared(options.cache)
        some = [pair for pair in pairs if "asha" in pair or pair[0] == "tpe"]
        tables["demo"] = compare("demo", options.cache, some, options.seeds, options.budget)
    if options.json:
        print(json.dumps({name: table.to_dict("records") for name, table in tables.items()}))
        return 0
    for name, table in tables.items():
        print(f"\n{name}: {options.seeds} seeds, {options.budget} epochs each")
        if name == "table":
            best = max(row.val for row in read_table(options.table).values())
            print(f"best of the full grid on val: {best:.4f}")
        print(table.to_string(index=False, float_format="%.4f"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
