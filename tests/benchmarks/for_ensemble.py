"""Whether a search should look for what adds most to the ensemble of its trials.

    python -m tests.benchmarks.for_ensemble [--seeds 10] [--trials 40] [--only simulated|trained]
        [--table FILE] [--json]

TPE is told another value of each trial, and all of them anew before each suggestion. Objectives:

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
trained: 96 small heads on generated clips (`tests/benchmarks/generated.py`, mixed information,
    800, 600 and 2,000 clips of train, val and test). They are trained at the first use and kept in
    `--table` as they are made, about 1 s each.

What counts is the final ensemble of each search: `nested`, its nested score on val, and `true`, the
exact score or that on test; with the methods `mean` (five best) and `greedy`. minus_score: the
difference to the objective `score` with the same seeds, and its standard error.

Synthetic data: no score here is a result on Hume-Reaction.
"""

import argparse
import itertools
import json
import multiprocessing
import sys
from collections.abc import Callable
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

from harness.atomic import replacing
from harness.dataset import Dataset
from harness.ensembles.moments import Evidence, Moments
from harness.ensembles.selection import Recipe, choose, factors
from harness.grouping import divided
from harness.metrics import mean_pcc
from harness.models.config import TrialConfig
from harness.space.samplers import make_sampler
from harness.study.backend import quiet_optuna
from harness.trials.trial import Trial
from tests.benchmarks.generated import generated

PROCESSES = 2
OBJECTIVES = ("score", "gain", "both", "random")
METHODS = ("mean", "greedy")
PARTS, NESTED = 5, 10
# Suggestions of tried points in a row, after which the next one is random.
_REFUSALS = 3
CLIPS = {"train": 800, "val": 600, "test": 2_000}
GRID: dict[str, list[Any]] = {
    "loss": ["ccc", "pcc"],
    "reduction": ["per_target", "both"],
    "pooling": ["last", "mean", "attention"],
    "layers": [1, 2],
    "lr": [0.003, 0.01],
    "label_transform": ["none", "sqrt"],
}
TABLE = Path("results/.cache/benchmarks/for_ensemble.npz")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Library:
    """The trials of one search: predictions (targets, trials, clips) and truth (clips, targets) of
    val, and the true score of an average with weights (targets, trials) of their outputs."""

    predictions: NDArray[np.float32]
    truth: NDArray[np.float32]
    true: Callable[[Floats], float]


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

    def try_point(self, point: dict[str, Any]) -> bool:
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
        return True

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

    distributions: ClassVar[dict[str, BaseDistribution]] = {
        name: CategoricalDistribution(values) for name, values in GRID.items()
    }

    def __init__(self, seed: int, path: Path) -> None:
        self._stored, self._tried = _table(path), dict[int, None]()

    def try_point(self, point: dict[str, Any]) -> bool:
        """Adds a trial; False if it was tried before."""
        place = 0
        for name, values in GRID.items():
            place = place * len(values) + values.index(point[name])
        if place in self._tried:
            return False
        self._tried[place] = None
        return True

    def library(self) -> Library:
        chosen = list(self._tried)
        val, test = (self._stored[name][chosen] for name in ("val", "test"))

        def true(weights: Floats) -> float:
            average = np.einsum("tk,kct->ct", weights, test)
            return mean_pcc(self._stored["test_truth"], average)

        predictions = np.ascontiguousarray(val.transpose(2, 0, 1))
        return Library(predictions, self._stored["val_truth"], true)


def search(given: tuple[str, int], trials: int, table: Path | None) -> dict[str, Any]:
    """One search and its final ensembles."""
    quiet_optuna()
    objective, seed = given
    tried: Simulated | Trained = Trained(seed, table) if table else Simulated(seed)
    points: list[dict[str, Any]] = []
    values = np.zeros(0)
    refused = again = 0
    while len(points) < trials:
        study = optuna.create_study(direction="maximize")
        study.add_trials(
            optuna.trial.create_trial(
                params=point, distributions=tried.distributions, value=float(value)
            )
            for point, value in zip(points, values, strict=True)
        )
        # TPE would suggest the same few points over and over.
        name = "random" if objective == "random" or again >= _REFUSALS else "tpe"
        study.sampler = make_sampler(name, seed, len(points) + 1_000 * refused, False)
        point = study.ask(tried.distributions).params
        if not tried.try_point(point):
            refused, again = refused + 1, again + 1
            continue
        again = 0
        points.append(point)
        library = tried.library()
        score = Moments(
            library.predictions, library.truth, np.zeros(len(library.truth), np.intp)
        ).evidence()
        values = score.ranking
        if objective in ("gain", "both") and len(points) > 1:
            added = gains(library)
            values = added if objective == "gain" else _scaled(values) + _scaled(added)
    return {"objective": objective, "seed": seed, "single": float(score.ranking.max()),
            **final(tried.library())}  # fmt: skip


def _scaled(values: Floats) -> Floats:
    return np.asarray(values / max(values.std(), 1e-12))


@cache
def _clips() -> Dataset:
    return generated(CLIPS, "mixed")


def _head(point: tuple[Any, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    torch.set_num_threads(1)
    data = _clips()
    config = TrialConfig.of(
        stride=1,
        hidden=32,
        head_width=32,
        batch_size=64,
        epochs=8,
        **dict(zip(GRID, point, strict=True)),
    )
    trial = Trial(config, data)
    while not trial.finished:
        trial.step()
    found = trial.result().predictions
    return found["val"], found["test"]


def make_table(path: Path) -> None:
    """Trains the heads that are missing in the table. What is done is kept as it grows."""
    points = list(itertools.product(*GRID.values()))
    done = _table(path) if path.exists() else {}
    val, test = list(done.get("val", [])), list(done.get("test", []))
    if len(val) == len(points):
        return
    data = _clips()
    truth = {f"{split}_truth": data.ratings[data.rows(split)] for split in ("val", "test")}
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        for number, (on_val, on_test) in enumerate(pool.imap(_head, points[len(val) :]), len(val)):
            val.append(on_val)
            test.append(on_test)
            if number % 16 == 15 or number + 1 == len(points):
                with replacing(path) as temporary:
                    np.savez(temporary, val=np.stack(val), test=np.stack(test), **truth)
                print(f"{number + 1} of {len(points)} heads", file=sys.stderr, flush=True)
    _table.cache_clear()


def compare(seeds: int, trials: int, table: Path | None) -> pd.DataFrame:
    """A row for each objective."""
    work = list(itertools.product(OBJECTIVES, range(seeds)))
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        rows = pd.DataFrame(pool.map(partial(search, trials=trials, table=table), work, 1))
    columns = [name for name in rows if name not in ("objective", "seed")]
    by_seed = rows.set_index(["objective", "seed"])[columns]
    found = []
    for objective in OBJECTIVES:
        mine, usual = by_seed.loc[objective], by_seed.loc["score"]
        row: dict[str, Any] = {"objective": objective}
        for name in columns:
            difference = mine[name] - usual[name]
            row[name] = round(float(mine[name].mean()), 5)
            if name != "single":
                row[f"{name}_minus_score"] = round(float(difference.mean()), 5)
                row[f"{name}_se"] = round(float(difference.std(ddof=1) / seeds**0.5), 5)
        found.append(row)
    return pd.DataFrame(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--only", choices=("simulated", "trained"))
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    tables = {}
    if options.only != "trained":
        tables["simulated"] = compare(options.seeds, options.trials, None)
    if options.only != "simulated":
        make_table(options.table)
        tables["trained"] = compare(options.seeds, options.trials, options.table)
    if options.json:
        print(json.dumps({name: table.to_dict("records") for name, table in tables.items()}))
        return 0
    for name, table in tables.items():
        print(f"\n{name}: {options.seeds} seeds, {options.trials} trials")
        print(table.T.to_string(header=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
