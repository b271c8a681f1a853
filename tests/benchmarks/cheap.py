"""Whether a search should prefer cheap configurations at equal score.

    python -m tests.benchmarks.cheap [--seeds 20] [--only demo|generated] [--json]

Stored learning curves are replayed with two workers and ASHA (as `tests/benchmarks/pruning.py`),
but an epoch costs what it costs: seconds, in units of the mean cost of a whole training. Rules:

default: as a search does.
penalty W: sampler and scheduler see the score minus W times the binary logarithm of the cost of a
configuration over the mean. W = .01: a configuration of half the mean cost may score .01 less.
cheapest of K: the cheapest of K suggestions is tried.

demo: `demo_grid.parquet`, drawn by TPE. The cost of an epoch is measured for each combination of
stride, layers and hidden size, with as many steps as the demo's clips have at that stride.
generated: `generated_curves.parquet`, which stores seconds. Its points are random, so that they
come in random order, and only the rules without a sampler are compared.

regret: the best score of all curves minus that of the best complete trial, by cost. minus_default:
the difference of the regret to that of the default with the same seeds, and its standard error;
below 0 the rule is better. Best trials are chosen by their true scores.

Synthetic data: no score here is a result on Hume-Reaction.
"""

import argparse
import heapq
import itertools
import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from optuna.trial import TrialState

from harness.models.config import TrialConfig
from harness.space.pruners import decisions, make_pruner
from harness.space.samplers import make_sampler
from harness.space.search_space import Budget
from harness.study.backend import quiet_optuna
from harness.trials.trial import Trial
from harness.tuning.ledger import WORST
from tests.benchmarks.generated import generated
from tests.benchmarks.pruning import GENERATED, Curve
from tests.benchmarks.samplers import GRID, TABLE, table_space

WORKERS = 2
#: Whole trainings of mean cost at which the regret is read.
SPENT = (10, 20, 40)
#: Frames of a clip of the demo, and clips of train and val.
_FRAMES, _CLIPS = 120, {"train": 800, "val": 200}
_COSTLY = ("stride", "layers", "hidden")


@dataclass(frozen=True)
class Rule:
    """How cheap configurations are preferred. penalty: W; draws: K of the docstring."""

    name: str
    penalty: float = 0.0
    draws: int = 1


DEFAULT = Rule("default")
RULES = (
    DEFAULT,
    *(Rule(f"penalty {weight:g}", penalty=weight) for weight in (0.001, 0.003, 0.01)),
    *(Rule(f"cheapest of {draws}", draws=draws) for draws in (2, 4)),
)


@dataclass(frozen=True)
class Candidate:
    """A stored training. cost: of an epoch, in mean costs of a whole training."""

    curve: Curve
    cost: float


Draw = Callable[[optuna.Study, int], tuple[optuna.Trial, Candidate] | None]


def epoch_seconds(stride: int, layers: int, hidden: int) -> float:
    """Processor time of an epoch with as many clips and steps as the demo has."""
    torch.set_num_threads(1)
    data = generated(_CLIPS, steps=_FRAMES // stride)
    config = TrialConfig.of(
        stride=1, layers=layers, hidden=hidden, head_width=64, batch_size=32, epochs=4
    )
    trial, seconds = Trial(config, data), []
    while not trial.finished:
        begun = time.process_time()
        trial.step()
        seconds.append(time.process_time() - begun)
    return min(seconds)


def demo_candidates() -> dict[tuple[Any, ...], Candidate]:
    """By the values of `GRID`."""
    combinations = list(itertools.product(*(GRID[name] for name in _COSTLY)))
    seconds = dict(zip(combinations, itertools.starmap(epoch_seconds, combinations), strict=True))
    rows = list(pd.read_parquet(TABLE).itertuples(index=False))
    costs = [seconds[tuple(getattr(row, name) for name in _COSTLY)] for row in rows]
    whole = np.mean([cost * len(row.curve) for cost, row in zip(costs, rows, strict=True)])
    return {
        tuple(getattr(row, name) for name in GRID): Candidate(np.asarray(row.curve), cost / whole)
        for row, cost in zip(rows, costs, strict=True)
    }


def generated_candidates() -> list[Candidate]:
    table = pd.read_parquet(GENERATED)
    mean = table["seconds"].mean()
    return [
        Candidate(np.asarray(curve), seconds / mean / len(curve))
        for curve, seconds in zip(table["curve"], table["seconds"], strict=True)
    ]


def replay(draw: Draw, rule: Rule, budget: Budget, mean_cost: float) -> list[float]:
    """The best score of a complete trial by `SPENT`; 0 before the first."""
    study = optuna.create_study(direction="maximize", pruner=make_pruner("asha", budget))
    stops = decisions("asha", budget)
    running: list[tuple[float, int, optuna.Trial, Candidate, int]] = []
    ended: list[tuple[float, float]] = []

    def begin(now: float) -> None:
        drawn = [found for _ in range(rule.draws) if (found := draw(study, len(study.trials)))]
        if not drawn:
            return
        chosen = min(range(len(drawn)), key=lambda place: drawn[place][1].cost)
        for place, (trial, _) in enumerate(drawn):
            if place != chosen:  # the sampler ignores failed trials
                study.tell(trial, state=TrialState.FAIL)
        trial, candidate = drawn[chosen]
        heapq.heappush(running, (now + candidate.cost, trial.number, trial, candidate, 1))

    for _ in range(WORKERS):
        begin(0.0)
    # Two workers spend twice the time that passes.
    while running and (now := running[0][0]) * WORKERS <= SPENT[-1]:
        _, number, trial, candidate, epoch = heapq.heappop(running)
        less = rule.penalty * np.log2(candidate.cost / mean_cost)
        score = float(candidate.curve[epoch - 1])
        trial.report(score - less if np.isfinite(score) else WORST, epoch)
        if epoch == len(candidate.curve):
            dead = not np.isfinite(candidate.curve).any()
            value = WORST if dead else float(np.nanmax(candidate.curve))
            ended.append((now * WORKERS, value))
            study.tell(trial, value - less)
            begin(now)
        elif epoch in stops and trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            begin(now)
        else:
            heapq.heappush(running, (now + candidate.cost, number, trial, candidate, epoch + 1))
    return [max((v for at, v in ended if at <= spent), default=0.0) for spent in SPENT]


def on_demo(given: tuple[Rule, int], known: dict[tuple[Any, ...], Candidate]) -> list[float]:
    rule, seed = given
    quiet_optuna()
    space = table_space()

    def draw(study: optuna.Study, count: int) -> tuple[optuna.Trial, Candidate]:
        study.sampler = make_sampler("tpe", seed, count, bool(space.only_if))
        trial = study.ask()
        point = space.suggest(trial)
        return trial, known[tuple(point[name] for name in GRID)]

    mean = float(np.mean([each.cost for each in known.values()]))
    return replay(draw, rule, space.budget, mean)


def on_generated(given: tuple[Rule, int], known: list[Candidate]) -> list[float]:
    rule, seed = given
    quiet_optuna()
    rng = np.random.default_rng(seed)

    def draw(study: optuna.Study, count: int) -> tuple[optuna.Trial, Candidate]:
        # With replacement: what was not chosen may be suggested again.
        return study.ask(), known[int(rng.integers(len(known)))]

    budget = Budget(len(known), max(len(each.curve) for each in known), 6, 2)
    return replay(draw, rule, budget, float(np.mean([each.cost for each in known])))


def compare(run: Callable[..., list[float]], known: Any, rules: tuple[Rule, ...], seeds: int,
            top: float) -> pd.DataFrame:  # fmt: skip
    """A row for each rule."""
    work = list(itertools.product(rules, range(seeds)))
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        found = pool.map(partial(run, known=known), work, chunksize=seeds)
    regret = top - np.array(found).reshape(len(rules), seeds, len(SPENT))
    rows = []
    for rule, mine in zip(rules, regret, strict=True):
        row: dict[str, Any] = {"rule": rule.name}
        for place, spent in enumerate(SPENT):
            difference = mine[:, place] - regret[0, :, place]
            row[f"regret_{spent}"] = round(float(mine[:, place].mean()), 5)
            row[f"minus_default_{spent}"] = round(float(difference.mean()), 5)
            row[f"se_{spent}"] = round(float(difference.std(ddof=1) / seeds**0.5), 5)
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", choices=("demo", "generated"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tables: dict[str, pd.DataFrame] = {}
    if options.only != "generated":
        known = demo_candidates()
        costs = [each.cost * len(each.curve) for each in known.values()]
        print(f"demo: costs of a whole training {min(costs):.2f} to {max(costs):.2f} of the mean",
              file=sys.stderr)  # fmt: skip
        top = max(float(np.nanmax(each.curve)) for each in known.values())
        tables["demo"] = compare(on_demo, known, RULES, options.seeds, top)
    if options.only != "demo":
        curves = generated_candidates()
        top = max(float(np.nanmax(each.curve)) for each in curves)
        tables["generated"] = compare(on_generated, curves, RULES, options.seeds, top)
    if options.json:
        print(json.dumps({name: table.to_dict("records") for name, table in tables.items()}))
        return 0
    for name, table in tables.items():
        print(f"\n{name}: {options.seeds} seeds")
        print(table.to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
