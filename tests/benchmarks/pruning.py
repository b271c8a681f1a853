"""Which scheduler finds a good head for the fewest epochs: stored learning curves, replayed.

    python -m tests.benchmarks.pruning [--seeds 20] [--workers 2 8 64] [--patience 15] [--quick]
        [--json]
    python -m tests.benchmarks.pruning --make-curves [--clips 5000] [--configurations 100]
        [--hidden 128] [--curves FILE]

Curves: the demo's grid (`demo_grid.parquet`, 288 points of 30 epochs), and random points of
paper.toml on generated clips with mixed information (`generated_curves.parquet`, made by
`--make-curves`, which continues a file that is there: remove it after a change of defaults), each
trained to the end without early stopping.

A replay asks Optuna's pruners, as `harness.space.pruners` makes them, about stored scores. Workers
take configurations in random order, each goes an epoch in turn, and an epoch costs the same in all
of them. What counts is the best complete trial, because a pruned one leaves no predictions. regret:
the best score of all curves minus that one, by epochs spent (of all workers together); before the
first complete trial the score counts as 0. A curve ends as early stopping ends it; `--patience` may
name several, and is that of `TrialConfig` by default.

Synthetic data: no score here is a result on Hume-Reaction.
"""

import argparse
import heapq
import itertools
import json
import multiprocessing
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from numpy.typing import NDArray
from optuna.trial import TrialState

from harness.atomic import replacing
from harness.models.config import TrialConfig
from harness.space.file import read_space
from harness.space.pruners import decisions, make_pruner
from harness.space.search_space import Budget
from harness.spaces import SPACES
from harness.study.backend import quiet_optuna
from harness.trials.trial import Trial
from harness.tuning.ledger import WORST
from tests.benchmarks.generated import generated
from tests.benchmarks.samplers import TABLE as DEMO

GENERATED = Path(__file__).with_name("generated_curves.parquet")
PROCESSES = 2
EPOCHS = 30
WORKERS = (2, 8, 64)
#: Epochs spent at which the regret is read.
SPENT = (150, 300, 600, 1200, 2400, 4800)
#: Scheduler, grace and reduction.
RULES = (
    *(("asha", grace, reduction) for grace in (3, 6, 8) for reduction in (2, 3)),
    *(("hyperband", grace, 3) for grace in (3, 8)),
    *(("median", grace, 3) for grace in (3, 8)),
    ("none", 8, 3),
)

Curve = NDArray[np.float32]


@dataclass(frozen=True)
class Replay:
    """One replayed search. best: by `SPENT`, the score of the best complete trial."""

    best: tuple[float, ...]
    trials: int


def replay(
    curves: list[Curve], rule: tuple[str, int, int], workers: int, spent: tuple[int, ...], seed: int
) -> Replay:
    """Workers train curves in random order until the last of `spent` epochs."""
    scheduler, grace, reduction = rule
    budget = Budget(len(curves), EPOCHS, grace, reduction)
    study = optuna.create_study(direction="maximize", pruner=make_pruner(scheduler, budget))
    stops = decisions(scheduler, budget)
    order = iter(np.random.default_rng(seed).permutation(len(curves)).tolist())
    running: list[tuple[int, int, optuna.Trial, Curve]] = []

    def begin(now: int) -> None:
        if (chosen := next(order, None)) is not None:
            trial = study.ask()
            heapq.heappush(running, (now, trial.number, trial, curves[chosen]))

    for _ in range(workers):
        begin(0)
    best, found, epochs = 0.0, [], dict.fromkeys(range(len(curves)), 0)
    for count in range(1, spent[-1] + 1):
        if running:
            now, number, trial, curve = heapq.heappop(running)
            epochs[number] += 1
            epoch = epochs[number]
            score = float(curve[epoch - 1])
            trial.report(score if np.isfinite(score) else WORST, epoch)
            if epoch == len(curve):
                value = float(np.nanmax(curve)) if np.isfinite(curve).any() else WORST
                study.tell(trial, value)
                best = max(best, value)
                begin(now + 1)
            elif epoch in stops and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                begin(now + 1)
            else:
                heapq.heappush(running, (now + 1, number, trial, curve))
        if count in spent:
            found.append(best)
    return Replay(tuple(found), len(study.trials))


def read_curves(path: Path) -> list[Curve]:
    return [np.asarray(curve, np.float32) for curve in pd.read_parquet(path)["curve"]]


def stopped(curve: Curve, patience: int) -> Curve:
    """A curve until so many epochs in a row have not improved its best score."""
    best, at = -np.inf, 0
    for epoch, score in enumerate(curve):
        if score > best:
            best, at = float(score), epoch
        elif epoch - at >= patience:
            return curve[: epoch + 1]
    return curve


Case = tuple[str, tuple[str, int, int], int, int, int]


def _replays(given: Case, spent: tuple[int, ...]) -> Replay:
    quiet_optuna()
    path, rule, workers, patience, seed = given
    curves = [stopped(curve, patience) for curve in read_curves(Path(path))]
    return replay(curves, rule, workers, spent, seed)


def compare(
    tables: dict[str, Path],
    rules: tuple[tuple[str, int, int], ...],
    workers: tuple[int, ...],
    patiences: tuple[int, ...],
    seeds: int,
    spent: tuple[int, ...],
) -> pd.DataFrame:
    """A row for each table, number of workers, rule and patience: mean regret, standard error."""
    cases = list(itertools.product(tables, workers, rules, patiences))
    work = [(str(tables[t]), *rest, seed) for t, n, rule, patience in cases
            for rest in [(rule, n, patience)] for seed in range(seeds)]  # fmt: skip
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        found = pool.map(partial(_replays, spent=spent), work, chunksize=seeds)
    rows = []
    for place, (table, count, (scheduler, grace, reduction), patience) in enumerate(cases):
        mine = found[place * seeds : (place + 1) * seeds]
        top = max(float(np.nanmax(c)) for c in read_curves(tables[table]) if np.isfinite(c).any())
        regret = top - np.array([each.best for each in mine])
        row: dict[str, Any] = {"curves": table, "workers": count, "scheduler": scheduler}
        row |= {"grace": grace, "reduction": reduction, "patience": patience}
        for column, epochs in enumerate(spent):
            row[f"regret_{epochs}"] = round(float(regret[:, column].mean()), 5)
            row[f"se_{epochs}"] = round(float(regret[:, column].std(ddof=1) / seeds**0.5), 5)
        rows.append(row | {"trials": float(np.mean([each.trials for each in mine]))})
    return pd.DataFrame(rows)


def _curve(given: tuple[int, int, int]) -> dict[str, Any]:
    seed, clips, hidden = given
    quiet_optuna()
    torch.set_num_threads(1)
    space = read_space(SPACES / "paper.toml", EPOCHS).without("stride", 1)
    space = space.without("sequence", "full")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    point = space.suggest(study.ask())
    own = {"seed": seed, "patience": EPOCHS, "hidden": hidden}
    config = TrialConfig.from_dict(space.fixed | point | own)
    data = generated({"train": clips, "val": clips * 3 // 10}, "mixed")
    trial = Trial(config, data)
    begun, scores = time.process_time(), []
    while not trial.finished:
        scores.append(trial.step().score)
    seconds = time.process_time() - begun
    return point | {"curve": np.float32(scores), "seconds": seconds, "seed": seed}


def make_curves(path: Path, clips: int, configurations: int, hidden: int) -> None:
    """Trains random points of paper.toml to the end. What is done is kept in `path` as it grows,
    and is not trained again."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        table = pd.read_parquet(path)
        if "seed" in table and (table[["clips", "hidden"]] == [clips, hidden]).all(axis=None):
            rows = table.drop(columns=["clips", "hidden"]).to_dict("records")
    done = {row["seed"] for row in rows}
    work = [(seed, clips, hidden) for seed in range(configurations) if seed not in done]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        for row in pool.imap_unordered(_curve, work):
            rows.append(row)
            print(f"{len(rows)} of {configurations}", file=sys.stderr, flush=True)
            table = pd.DataFrame(rows).assign(clips=clips, hidden=hidden)
            with replacing(path) as temporary:
                table.to_parquet(temporary, compression="zstd")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--patience", type=int, nargs="+", default=[TrialConfig.patience])
    parser.add_argument("--quick", action="store_true", help="Four rules, few seeds and epochs.")
    parser.add_argument("--make-curves", action="store_true")
    parser.add_argument("--curves", type=Path, default=GENERATED, help="Of generated clips.")
    parser.add_argument("--clips", type=int, default=5_000, help="Training clips of the curves.")
    parser.add_argument("--configurations", type=int, default=100)
    parser.add_argument("--hidden", type=int, default=128, help="Width of an LSTM layer.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.make_curves:
        make_curves(options.curves, options.clips, options.configurations, options.hidden)
        return 0
    tables = {"demo": DEMO, "generated": options.curves}
    if options.quick:
        rules = tuple(rule for rule in RULES if rule[1:] == (8, 3))
        table = compare(tables, rules, (2, 8), tuple(options.patience), 3, SPENT[:3])
    else:
        workers, patiences = tuple(options.workers), tuple(options.patience)
        table = compare(tables, RULES, workers, patiences, options.seeds, SPENT)
    if options.json:
        print(json.dumps(table.to_dict("records")))
    else:
        print(table.to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
