"""Whether a search should look for what adds most to the ensemble of its trials.

    python -m tests.benchmarks.for_ensemble [--seeds 10] [--trials 40]
        [--only simulated|generated|demo] [--scheduler none|asha] [--tables DIR]
        [--demo-cache DIR] [--json]

TPE is told another value of each complete trial, and all of them anew before each suggestion.
Objectives:

score: the trial's mean PCC on val, as a search does.
gain: what the trial adds to the ensemble of the other trials. On four fifths of the clips, greedy
    selection (Caruana et al., 2004) weights all trials. On the last fifth, the gain is the mean
    PCC of this ensemble with the trial as a further member minus that without it. The value is
    the mean over the five parts, all from the moments of the predictions.
both: score plus gain, each divided by its standard deviation over the trials.
random: suggestions are random (the value does not matter).

simulated: trials of four families with known true scores. A configuration chooses the family, two
    values that determine its quality, and one that turns the error of its family, which makes
    trials of a family diverse at little cost of quality. True scores are exact.
generated: 96 small heads on generated clips (`tests/benchmarks/generated.py`, mixed information,
    800, 600 and 2,000 clips of train, val and test), each trained for 8 epochs.
demo: 192 heads on the demo's features, each trained for 24 epochs.

Heads are trained at the first use and kept in `--tables` as they are made, about 1 s and 3 s each.
With `--scheduler asha`, a search prunes by their stored curves, with the rungs of paper.toml. A
pruned trial counts as a trial, is no member of an ensemble, and is told to TPE as pruned, whatever
the objective.

What counts is the final ensemble of each search: `nested`, its nested score on val, and `true`, the
exact score or that on test; with the methods `mean` (five best) and `greedy`. minus_score: the
difference to the objective `score` with the same seeds, and its standard error. epochs: what the
search trained.

Synthetic data: no score here is a result on Hume-Reaction.
"""

import argparse
import itertools
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna
import pandas as pd
import torch
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from harness.atomic import replacing
from harness.dataset import Dataset
from harness.ensembles.moments import Evidence, Moments
from harness.ensembles.selection import Recipe, choose, factors
from harness.grouping import divided
from harness.metrics import mean_pcc
from harness.models.config import TrialConfig
from harness.space.pruners import decisions, make_pruner
from harness.space.samplers import make_sampler
from harness.space.search_space import Budget
from harness.study.backend import quiet_optuna
from harness.trials.trial import Trial
from harness.tuning.ledger import WORST
from tests.benchmarks.generated import generated
from tests.benchmarks.samplers import prepared

PROCESSES = 2
OBJECTIVES = ("score", "gain", "both", "random")
METHODS = ("mean", "greedy")
PARTS, NESTED = 5, 10
# Suggestions of tried points in a row, after which the next one is random.
_REFUSALS = 3
CLIPS = {"train": 800, "val": 600, "test": 2_000}
DATA = ("generated", "demo")
GRIDS: dict[str, dict[str, list[Any]]] = {
    "generated": {
        "loss": ["ccc", "pcc"],
        "reduction": ["per_target", "both"],
        "pooling": ["last", "mean", "attention"],
        "layers": [1, 2],
        "lr": [0.003, 0.01],
        "label_transform": ["none", "sqrt"],
    },
    "demo": {
        "loss": ["ccc", "pcc"],
        "reduction": ["per_target", "both"],
        "stride": [5, 10, 30],
        "pooling": ["last", "mean"],
        "layers": [1, 2],
        "hidden": [16, 64],
        "lr": [0.003, 0.01],
    },
}
SHAPES: dict[str, dict[str, Any]] = {
    "generated": {"stride": 1, "hidden": 32, "head_width": 32, "batch_size": 64, "epochs": 8},
    "demo": {"head_width": 64, "batch_size": 32, "epochs": 24},
}
#: Of paper.toml.
GRACE, REDUCTION = 6, 2
TABLES = Path("results/.cache/benchmarks/for_ensemble")
DEMO_CACHE = Path("results/.cache")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Library:
    """The trials of one search: predictions (targets, trials, clips) and truth (clips, targets) of
    val, and the true score of an average with weights (targets, trials) of their outputs."""

    predictions: NDArray[np.float32]
    truth: NDArray[np.float32]
    true: Callable[[Floats], float]


@dataclass(frozen=True)
class Tried:
    """A tried point: the scores of its epochs, if it has some, and whether it was pruned."""

    curve: tuple[float, ...]
    pruned: bool


def folds_of(clips: int, parts: int) -> NDArray[np.intp]:
    return divided(np.arange(clips), [1.0] * parts, seed=0)


def gains(library: Library) -> Floats:
    """(trials,) what each trial adds to the greedy ensemble of the others."""
    folds = folds_of(len(library.truth), PARTS)
    moments = Moments(library.predictions, library.truth, folds)
    moments.fill()
    found = np.zeros(library.predictions.shape[1])
    for fold in range(PARTS):
        choice = choose(
            Recipe("greedy"), "greedy", moments.evidence(frozenset([fold])), [""] * len(found)
        )
        own = np.zeros(len(found))
        own[choice.members] = choice.weights[0]
        inside = moments.weighted(np.eye(PARTS)[fold])
        found += _added(own, len(choice.members), inside)
    return found / PARTS


def _added(own: Floats, members: int, evidence: Evidence) -> Floats:
    """Of each trial, the score of the ensemble with it as a further member minus that without it.

    Args:
        own: (trials,) the weights of the ensemble of standardised predictions.
    """
    trials = len(own)
    added = np.zeros(trials)
    for trial in range(trials):
        base = own.copy()
        base[trial] = 0.0
        if base.sum() > 0:
            base /= base.sum()
        count = max(members - (own[trial] > 0), 1)
        joined = base * count / (count + 1)
        joined[trial] += 1 / (count + 1)
        added[trial] = _score(joined, evidence) - (_score(base, evidence) if base.any() else 0.0)
    return added


def _score(weights: Floats, evidence: Evidence) -> float:
    """Mean PCC of an average of standardised predictions, from moments."""
    used = np.flatnonzero(weights)
    w = weights[used]
    above = evidence.scores[:, used] @ w
    gram = np.stack([evidence.column(int(j), used)[:, used] for j in used], axis=2)
    return float((above / np.sqrt(np.maximum(np.einsum("i,tij,j->t", w, gram, w), 1e-12))).mean())


def final(library: Library) -> dict[str, float]:
    """Nested and true scores of the ensembles of all trials."""
    targets, trials, clips = library.predictions.shape
    moments = Moments(library.predictions, library.truth, folds_of(clips, NESTED))
    moments.fill()
    truth = library.truth[moments.order]
    found = {}
    for method in METHODS:
        recipe = Recipe(method, top=min(5, trials) if method == "mean" else None)
        held = np.empty((clips, targets))
        for fold in (*range(NESTED), None):
            evidence = moments.evidence(frozenset() if fold is None else frozenset([fold]))
            choice = choose(recipe, method, evidence, [""] * trials)
            parts = factors(choice, moments, evidence)
            if fold is None:
                weights = np.zeros((targets, trials))
                # Of raw outputs: `values` are standardised over all clips.
                weights[:, choice.members] = parts / moments.deviations[:, choice.members]
                found[f"true_{method}"] = library.true(weights)
            else:
                rows = moments.places(fold)
                held[rows] = moments.combined(choice.members, parts)[:, rows].T
        found[f"nested_{method}"] = mean_pcc(truth, held)
    return found


class Simulated:
    """Configurations of known quality, whose predictions are drawn when they are tried."""

    distributions: ClassVar[dict[str, BaseDistribution]] = {
        "family": CategoricalDistribution([0, 1, 2, 3]),
        "x": FloatDistribution(0, 1),
        "y": FloatDistribution(0, 1),
        "turn": FloatDistribution(0, 1),
    }
    _TARGETS, _CLIPS = 4, 600
    _SHARED, _FAMILY, _OWN = 0.8, 0.7, 0.4

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 3])
        shape = (self._TARGETS, self._CLIPS)
        self._y = self._rng.standard_normal(shape)
        self._shared = self._rng.standard_normal(shape)
        self._family = self._rng.standard_normal((4, 2, *shape))
        self._best = self._rng.uniform(0.2, 0.8, (4, 2))
        self._signals: list[float] = []
        self._errors: list[Floats] = []
        self._predictions: list[Floats] = []

    def try_point(self, point: dict[str, Any]) -> Tried:
        """Adds a trial."""
        family, angle = int(point["family"]), np.pi * point["turn"]
        distance = np.hypot(*(self._best[family] - [point["x"], point["y"]]))
        signal = [0.5, 0.47, 0.44, 0.38][family] - 0.35 * distance**2
        signal -= 0.1 * (point["turn"] - 0.5) ** 2
        error = np.zeros((4, 2))
        error[family] = self._FAMILY * np.array([np.cos(angle), np.sin(angle)])
        predictions = signal * self._y + self._SHARED * self._shared
        predictions += np.einsum("fk,fktc->tc", error, self._family)
        predictions += self._OWN * self._rng.standard_normal(predictions.shape)
        self._signals.append(signal)
        self._errors.append(error.ravel())
        self._predictions.append(predictions)
        return Tried((), False)

    def library(self) -> Library:
        predictions = np.stack(self._predictions, axis=1).astype(np.float32)
        signal, errors = np.array(self._signals), np.array(self._errors)

        def true(weights: Floats) -> float:
            covariance = weights @ signal
            error = (self._SHARED * weights.sum(axis=1)) ** 2
            error += ((weights @ errors) ** 2).sum(axis=1)
            error += self._OWN**2 * (weights**2).sum(axis=1)
            return float((covariance / np.sqrt(covariance**2 + error)).mean())

        return Library(predictions, self._y.T.astype(np.float32), true)


@cache
def _table(path: Path) -> dict[str, NDArray[np.float32]]:
    with np.load(path) as content:
        return {name: content[name] for name in content.files}


class Trained:
    """Stored heads; a point that was tried is refused."""

    def __init__(self, data: str, path: Path, scheduler: str, trials: int) -> None:
        self._stored, self._tried = _table(path), dict[int, bool]()
        self._grid = GRIDS[data]
        self.distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(values) for name, values in self._grid.items()
        }
        budget = Budget(trials, SHAPES[data]["epochs"], GRACE, REDUCTION)
        self._stops = decisions(scheduler, budget)
        # Pruning compares scores, whatever the sampler is told.
        self._scores = optuna.create_study(
            direction="maximize", pruner=make_pruner(scheduler, budget)
        )

    def try_point(self, point: dict[str, Any]) -> Tried | None:
        """Adds a trial; None if its point was tried before."""
        place = 0
        for name, values in self._grid.items():
            place = place * len(values) + values.index(point[name])
        if place in self._tried:
            return None
        found = self._replayed(self._stored["curves"][place])
        self._tried[place] = found.pruned
        return found

    def _replayed(self, curve: NDArray[np.float32]) -> Tried:
        trial, seen = self._scores.ask(), list[float]()
        for epoch, score in enumerate(map(float, curve), 1):
            seen.append(score if np.isfinite(score) else WORST)
            trial.report(seen[-1], epoch)
            if epoch < len(curve) and epoch in self._stops and trial.should_prune():
                self._scores.tell(trial, state=TrialState.PRUNED)
                return Tried(tuple(seen), True)
        self._scores.tell(trial, max(seen))
        return Tried(tuple(seen), False)

    def library(self) -> Library:
        chosen = [place for place, pruned in self._tried.items() if not pruned]
        val, test = (self._stored[name][chosen] for name in ("val", "test"))

        def true(weights: Floats) -> float:
            average = np.einsum("tk,kct->ct", weights, test)
            return mean_pcc(self._stored["test_truth"], average)

        predictions = np.ascontiguousarray(val.transpose(2, 0, 1))
        return Library(predictions, self._stored["val_truth"], true)


def search(
    given: tuple[str, int], trials: int, data: str | None, tables: Path, scheduler: str
) -> dict[str, Any]:
    """One search and its final ensembles. data: None for simulated trials."""
    quiet_optuna()
    objective, seed = given
    source: Simulated | Trained = Simulated(seed)
    if data:
        source = Trained(data, tables / f"{data}.npz", scheduler, trials)
    points: list[tuple[dict[str, Any], Tried]] = []
    values = np.zeros(0)
    refused = again = 0
    while len(points) < trials:
        study = optuna.create_study(direction="maximize")
        study.add_trials(_told(points, values, source.distributions))
        # TPE would suggest the same few points over and over.
        name = "random" if objective == "random" or again >= _REFUSALS else "tpe"
        study.sampler = make_sampler(name, seed, len(points) + 1_000 * refused, False)
        point = study.ask(source.distributions).params
        tried = source.try_point(point)
        if tried is None:
            refused, again = refused + 1, again + 1
            continue
        again = 0
        points.append((point, tried))
        if tried.pruned:
            continue
        library = source.library()
        score = Moments(
            library.predictions, library.truth, np.zeros(len(library.truth), np.intp)
        ).evidence()
        values = score.ranking
        if objective in ("gain", "both") and len(values) > 1:
            added = gains(library)
            values = added if objective == "gain" else _scaled(values) + _scaled(added)
    return {"objective": objective, "seed": seed, "single": float(score.ranking.max()),
            "epochs": sum(len(tried.curve) for _, tried in points),
            **final(source.library())}  # fmt: skip


def _told(
    points: list[tuple[dict[str, Any], Tried]],
    values: Floats,
    distributions: dict[str, BaseDistribution],
) -> Iterator[optuna.trial.FrozenTrial]:
    """What the sampler knows. values: of the complete trials, in their order."""
    left = iter(values.tolist())
    for point, tried in points:
        if tried.pruned:
            yield optuna.trial.create_trial(
                params=point,
                distributions=distributions,
                state=TrialState.PRUNED,
                intermediate_values=dict(enumerate(tried.curve, 1)),
            )
        else:
            yield optuna.trial.create_trial(
                params=point, distributions=distributions, value=next(left)
            )


def _scaled(values: Floats) -> Floats:
    return np.asarray(values / max(values.std(), 1e-12))


@cache
def _clips(data: str, demo_cache: Path) -> Dataset:
    return prepared(demo_cache).data if data == "demo" else generated(CLIPS, "mixed")


def _head(given: tuple[Any, ...], data: str, demo_cache: Path) -> dict[str, NDArray[np.float32]]:
    """A stored head: its predictions on val and test, and its curve."""
    torch.set_num_threads(1)
    clips = _clips(data, demo_cache)
    shape, point = SHAPES[data], dict(zip(GRIDS[data], given, strict=True))
    trial = Trial(TrialConfig.of(**(shape | point), patience=shape["epochs"]), clips)
    scores = []
    while not trial.finished:
        scores.append(trial.step().score)
    found = trial.result().predictions
    return {"val": found["val"], "test": found["test"], "curves": np.float32(scores)}


def make_table(data: str, folder: Path, demo_cache: Path) -> None:
    """Trains the heads that are missing in the table. What is done is kept as it grows."""
    path, points = folder / f"{data}.npz", list(itertools.product(*GRIDS[data].values()))
    done = _table(path) if path.exists() else {}
    columns = {name: list(done.get(name, [])) for name in ("val", "test", "curves")}
    if len(columns["val"]) == len(points):
        return
    clips = _clips(data, demo_cache)
    truth = {f"{split}_truth": clips.ratings[clips.rows(split)] for split in ("val", "test")}
    train = partial(_head, data=data, demo_cache=demo_cache)
    left = points[len(columns["val"]) :]
    folder.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        for number, head in enumerate(pool.imap(train, left), len(points) - len(left) + 1):
            for name, column in columns.items():
                column.append(head[name])
            if number % 16 == 0 or number == len(points):
                with replacing(path) as temporary:
                    stacked = {name: np.stack(column) for name, column in columns.items()}
                    np.savez(temporary, **stacked, **truth)
                print(f"{data}: {number} of {len(points)} heads", file=sys.stderr, flush=True)
    _table.cache_clear()


def compare(
    seeds: int, trials: int, data: str | None, tables: Path, scheduler: str
) -> pd.DataFrame:
    """A row for each objective."""
    work = list(itertools.product(OBJECTIVES, range(seeds)))
    run = partial(search, trials=trials, data=data, tables=tables, scheduler=scheduler)
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        rows = pd.DataFrame(pool.map(run, work, 1))
    columns = [name for name in rows if name not in ("objective", "seed")]
    by_seed = rows.set_index(["objective", "seed"])[columns]
    found = []
    for objective in OBJECTIVES:
        mine, usual = by_seed.loc[objective], by_seed.loc["score"]
        row: dict[str, Any] = {"objective": objective}
        for name in columns:
            difference = mine[name] - usual[name]
            row[name] = round(float(mine[name].mean()), 5)
            if name not in ("single", "epochs"):
                row[f"{name}_minus_score"] = round(float(difference.mean()), 5)
                row[f"{name}_se"] = round(float(difference.std(ddof=1) / seeds**0.5), 5)
        found.append(row)
    return pd.DataFrame(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--only", choices=("simulated", *DATA))
    parser.add_argument("--scheduler", choices=("none", "asha"), default="none")
    parser.add_argument("--tables", type=Path, default=TABLES, metavar="DIR")
    parser.add_argument("--demo-cache", type=Path, default=DEMO_CACHE, metavar="DIR")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tables = {}
    for name in ("simulated", *DATA):
        if options.only not in (None, name):
            continue
        data = name if name in DATA else None
        if data:
            make_table(data, options.tables, options.demo_cache)
        tables[name] = compare(
            options.seeds, options.trials, data, options.tables, options.scheduler
        )
    if options.json:
        print(json.dumps({name: table.to_dict("records") for name, table in tables.items()}))
        return 0
    for name, table in tables.items():
        print(f"\n{name}: {options.seeds} seeds, {options.trials} trials, {options.scheduler}")
        print(table.T.to_string(header=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
