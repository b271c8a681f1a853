"""What the synthetic demo teaches: its oracles, what hyperparameters change, what a search gets.

    python -m tests.benchmarks.demo [--only oracle draws nested] [--quick] [--json]

oracle: PCC of the best predictions from the picture, the sound and both, over eight seeds of the
demo; no clip is drawn for it. `default_z` is how many standard deviations the default seed lies
from the mean over all.
draws: 60 random configurations of demo.toml, each trained at every stride, for each of three
seeds. `variance_share` is the share of the variance of the test score that the values of a
hyperparameter explain alone (numbers in four groups of equal size, corrected for the number of
groups). `best_over_median`: at the best stride, the mean PCC on test of the best of 20 draws,
chosen by val, minus that of the median draw; mean over subsets of 20.
nested: for each of five seeds, the commands `harness.search` and `harness.ensemble --top 5` as the
README has them; over the oracle of the picture the ensemble's nested score, and the score of the
best single trial (which val chose).

All is made anew in a temporary folder: some 25 minutes on two cores, `--quick` 4.
Synthetic clips: no score here is a result on Hume-Reaction.
"""

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from optuna.samplers import RandomSampler

import harness
from harness.clips.demo import Demo, Plan, ensure_demo, oracles_of
from harness.clips.layouts import read_clips
from harness.clips.stories import STREAMS
from harness.dataset import Dataset
from harness.ensembles.files import read_ensemble
from harness.metrics import mean_pcc
from harness.models.config import TrialConfig
from harness.pretraining.demo_network import demo_weights
from harness.progress import silent
from harness.space.file import read_space
from harness.spaces import SPACES
from harness.streams.features import Machines
from harness.streams.sources import Source, real_sources
from harness.study.backend import quiet_optuna
from harness.trials.trial import UndefinedScoreError, run_trial
from harness.tuning.preparation import prepare

SPACE = SPACES / "demo.toml"
PARTS = ("oracle", "draws", "nested")
_SUBSET, _SUBSETS = 20, 500


def oracle(seeds: int) -> dict[str, Any]:
    """Mean PCC of each stream on val and test, over seeds, and where the default one lies."""
    found = [oracles_of(Plan(seed=seed)) for seed in range(seeds)]
    result: dict[str, Any] = {}
    for stream in STREAMS:
        for split in ("val", "test"):
            values = [_mean(of_seed[stream][split]) for of_seed in found]
            spread = statistics.stdev(values)
            result[f"{stream}_{split}"] = {
                "mean": statistics.mean(values),
                "sd": spread,
                "default": values[Plan().seed],
                "default_z": (values[Plan().seed] - statistics.mean(values)) / spread,
            }
    gains = [
        _mean(of_seed["both"]["test"])
        - max(_mean(of_seed[stream]["test"]) for stream in ("picture", "sound"))
        for of_seed in found
    ]
    result["both_over_best_test"] = {"mean": statistics.mean(gains), "min": min(gains)}
    result["by_target_test"] = {stream: found[Plan().seed][stream]["test"] for stream in STREAMS}
    return result


def draws(cache: Path, seeds: int, count: int) -> dict[str, Any]:
    """What hyperparameters explain, and what choosing among random draws gains."""
    space = read_space(SPACE)
    strides = space.values("stride")
    shares, gains, best = [], [], []
    for seed in range(seeds):
        data = _data(cache, seed)
        points = _random_points(seed, count)
        jobs = [space.fixed | point | {"stride": s} for point in points for s in strides]
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, context, _begin, (data,)) as pool:
            scores = list(pool.map(_scored, jobs))
        table = pd.DataFrame([{k: job[k] for k in (*points[0], "stride")} for job in jobs])
        table["val"], table["test"] = zip(*scores, strict=True)
        table = table.dropna()
        shares.append(variance_shares(table))
        at_best = table[table.stride == table.groupby("stride").test.mean().idxmax()]
        best.append(int(at_best.stride.iloc[0]))
        gains.append(_best_over_median(at_best, seed))
    return {
        "variance_share": {
            name: statistics.mean(share[name] for share in shares) for name in shares[0]
        },
        "best_stride": best,
        "best_over_median": {"mean": statistics.mean(gains), "seeds": gains},
    }


def variance_shares(table: pd.DataFrame) -> dict[str, float]:
    """For each hyperparameter, the share (omega squared) of the variance of `test` between the
    groups of its values."""
    score = table.test.to_numpy()
    total = ((score - score.mean()) ** 2).sum()
    shares = {}
    for name in table.columns.drop(["val", "test"]):
        groups = table[name]
        if groups.dtype.kind == "f" and groups.nunique() > 4:
            groups = pd.qcut(groups, 4, labels=False)
        parts = [score[groups == value] for value in groups.unique()]
        between = sum(len(part) * (part.mean() - score.mean()) ** 2 for part in parts)
        noise = (total - between) / (len(score) - len(parts))
        shares[str(name)] = float((between - (len(parts) - 1) * noise) / (total + noise))
    return shares


def nested(cache: Path, seeds: int, trials: int | None) -> dict[str, Any]:
    """The nested score of the README's ensemble over the oracle, for demos of several seeds."""
    ratios, best = [], []
    for seed in range(seeds):
        demo, weights = _demo(cache, seed)
        results = cache / f"results-{seed}"
        place = ["--results", results, "--study", "s"]
        line = ["search", "--data", demo.root, "--weights", weights, "--space", SPACE, *place]
        _run(*line, *(["--trials", trials] if trials else []))
        _run("ensemble", "--top", 5, *place)
        (file,) = (results / "s" / "ensembles").glob("*/ensemble.json")
        estimate = read_ensemble(file.parent).estimate
        assert estimate is not None  # val is large enough
        oracle = _mean(read_clips(demo.root).oracles["picture"]["val"])
        ratios.append(estimate.nested / oracle)
        study = harness.load_study(results / "s")
        best.append(float(study.trials()["mean_pcc"].max()) / oracle)
    return {
        "nested_over_oracle": {"min": min(ratios), "seeds": ratios},
        "best_over_oracle": {"min": min(best), "seeds": best},
    }


def _mean(values: dict[str, float]) -> float:
    return statistics.mean(values.values())


def _demo(cache: Path, seed: int) -> tuple[Demo, Path]:
    demo = ensure_demo(cache, Plan(seed=seed))
    return demo, demo_weights(demo.annotations)


def _data(cache: Path, seed: int) -> Dataset:
    demo, weights = _demo(cache, seed)
    machines = Machines(torch.device("cpu"))
    [(clips, encoder)] = real_sources(demo.root, weights)
    return prepare([Source(clips, encoder)], cache, read_space(SPACE), machines, silent).data


def _random_points(seed: int, count: int) -> list[dict[str, Any]]:
    quiet_optuna()
    space = read_space(SPACE).without("stride", 1)
    study = optuna.create_study(sampler=RandomSampler(seed=seed))
    return [study.ask(space.distributions).params for _ in range(count)]


_given: Dataset


def _begin(data: Dataset) -> None:
    global _given  # what a process reads once
    torch.set_num_threads(1)
    _given = data


def _scored(values: dict[str, Any]) -> tuple[float, float]:
    """Mean PCC on val and test; NaN where a trial has none."""
    try:
        result = run_trial(TrialConfig.from_dict(values), _given)
    except UndefinedScoreError:
        return float("nan"), float("nan")
    test = _given.ratings[_given.rows("test")]
    return result.score, mean_pcc(test, result.predictions["test"])


def _best_over_median(table: pd.DataFrame, seed: int) -> float:
    rng = np.random.default_rng(seed)
    chosen = []
    for _ in range(_SUBSETS):
        drawn = table.iloc[rng.choice(len(table), min(_SUBSET, len(table)), replace=False)]
        chosen.append(float(drawn.test.loc[drawn.val.idxmax()]))
    return statistics.mean(chosen) - float(table.test.median())


def _run(command: str, *arguments: object) -> None:
    line = [sys.executable, "-m", f"harness.{command}", *map(str, arguments)]
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        for part in options.only:
            if part == "oracle":
                found["oracle"] = oracle(8)
            elif part == "draws":
                found |= draws(cache, *((1, 20) if options.quick else (3, 60)))
            else:
                found |= nested(cache, *((1, 8) if options.quick else (5, None)))
            if not options.json:
                print(json.dumps({part: found.get(part, found)}, indent=2), flush=True)
    if options.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
