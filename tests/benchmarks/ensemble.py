"""Ensembles of 100, 1,000 and 5,000 trials on clips as many as Hume-Reaction's val and test.

    python -m tests.benchmarks.ensemble [--quick] [--json]

Greedy, 50 picks, is timed with its moments, beside two loops that score every candidate anew at
each step: the usual one, which calls the harness's metric, and a lean one, from which everything
is taken that can be known before. Times of loops are extrapolated from `rescoring_steps_timed`
steps; `same_selection` compares the picks of those. `top5_s` and `greedy_all_s` are the whole
command as a user runs it, with all estimates and without the report page; `peak_mib` is the larger
of the two's memory.

Measured on 2 shared cores, seconds:

    trials               100    1,000    5,000
    read_s               .32     1.8      8.8
    greedy_s             .05      .40     1.8
    nested_s (10 folds)  .02      .04      .14
    bootstrap_s (10,000) .5       .5       .3
    rescoring_s          3.0    30      151       5,000: from 5 of 50 steps
    lean_rescoring_s      .3     3.1     16       5,000: from 5 of 50 steps
    speedup               63     74       82      over the usual loop
    lean_speedup         6.5      7.5      8.7
    top5_s               1.1      3.0     10.8
    greedy_all_s         1.1      3.2     11.1
    peak_mib             230      553     1596

The other methods with all estimates: ridge 3.3, bagged 4.1, auto 5.5 s at 1,000 trials; auto 10.7
s and 1879 MiB at 2,000, the most that keeps Gram matrices; ridge 11.9, bagged 12.9 s at 5,000.

These figures are from before the estimate of the gain, `gain_<method>_s`, which adds 1.5 s (mean),
1.7 s (zscore), 1.6 s (raw), 2.6 s (greedy), 9 s (bagged) and 18 s (ridge) of processor time at
1,000 trials; at a load of 20, 7.6, 8.5 and 8.1 s passed for the first three. Greedy takes up to 90
s of processor time if all 1,000 trials are equally good, because each replicate selects others.
Above 2,000 trials, only mean, zscore and raw have one.

The floor of reading is to decode the val pages, .5 ms a trial and core: .25 s for 1,000. The rest
of 1.8 s checks ids, values and the recorded score, mostly under the interpreter's lock. The floor
of greedy is one pass over the predictions (130 MB for 1,000, some .02 s): we take 20 times that, in
float64 copies that standardise them and order them by fold; the picks themselves take .004 s.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

import harness.atomic
from harness.dataset import Dataset
from harness.ensembles.estimate import Chooser, assign_folds
from harness.ensembles.gain import BLOCKS, is_feasible, resample_selection
from harness.ensembles.intervals import resample
from harness.ensembles.library import load_library
from harness.ensembles.methods.greedy import greedy_picks
from harness.ensembles.moments import Moments
from harness.ensembles.selection import Recipe
from harness.metrics import mean_pcc
from harness.predictions import (
    PredictionInfo,
    trial_name,
    write_clips,
    write_predictions,
)
from tests.studies import write_manifest

CLIPS = {"val": 4657, "test": 4604}
TARGETS = ("Adoration", "Amusement", "Anxiety", "Disgust", "Empathic-Pain", "Fear", "Surprise")
LOSSES = ("ccc", "pcc", "mse")
STRIDES = (10, 15, 30)
STEPS = 50
# Steps of the reference loop that are timed: all 50 take minutes for 5,000 trials.
REFERENCE_STEPS = {100: 50, 1000: 50, 5000: 5}
QUICK_STEPS = 5

Picks = list[int]


def index_of() -> Dataset:
    """Clips of two splits with random ratings."""
    rng = np.random.default_rng(0)
    splits = rng.permutation([split for split, count in CLIPS.items() for _ in range(count)])
    ids = tuple(f"[{number:05d}]" for number in range(len(splits)))
    targets = rng.random((len(ids), len(TARGETS))).astype(np.float32)
    return Dataset(ids, tuple(splits.tolist()), targets, TARGETS, synthetic=True)


def write_trials(folder: Path, first: int, last: int) -> None:
    """Prediction files of trials in nine families: the truth, an error of all, one of the family,
    one of their own; about .33 mean PCC each."""
    # Flushing thousands of files to the disk would measure the disk.
    harness.atomic._flush = lambda path: None
    index = index_of()
    errors = np.random.default_rng(1).standard_normal((10, *index.targets.shape), np.float32)
    for number in range(first, last):
        rng = np.random.default_rng([2, number])
        loss, stride = LOSSES[number % 3], STRIDES[number // 3 % 3]
        # Unlike losses leave outputs of unlike spread.
        spread = {"ccc": 0.25, "pcc": 0.15, "mse": 0.1}[loss] * rng.uniform(0.8, 1.2)
        own = rng.standard_normal(index.targets.shape, np.float32)
        error = 0.8 * errors[9] + 0.6 * errors[number % 9] + 0.6 * own
        signal = rng.normal(1.5, 0.15) * (index.targets - 0.5)
        values = 0.5 + spread * (signal + error)
        split = {name: values[index.rows(name)] for name in CLIPS}
        rows = index.rows("val")
        info = PredictionInfo(
            trial_id=trial_name(number),
            config={"loss": loss, "reduction": "per_target", "stride": stride, "layers": 2},
            seed=number,
            code_version="0",
            data_fingerprint="d" * 64,
            feature_fingerprint="f" * 64,
            targets=TARGETS,
            early_stop_split="val",
            best_epoch=1,
            val_pcc=mean_pcc(index.ratings[rows], split["val"]),
            created="2026-01-01T00:00:00+00:00",
        )
        path = folder / "predictions" / f"{trial_name(number)}.parquet"
        write_predictions(path, info, index, split)


def write_trials_from(folder: Path, existing: int, trials: int) -> None:
    """Brings a study from so many existing trials to so many."""
    write_clips(folder / "clips.parquet", index_of())
    write_manifest(folder)
    bounds = np.linspace(existing, trials, 9).astype(int).tolist()
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(write_trials, [folder] * 8, bounds[:-1], bounds[1:]))


def rescoring(values: list[NDArray[np.float32]], truth: NDArray[np.float32], steps: int) -> Picks:
    """The usual loop: each step scores the average with every candidate, by the harness's metric.

    Args:
        values: a (clips, targets) array for each trial, standardised. truth: (clips, targets).
    """
    total = np.zeros(truth.shape)
    picks: Picks = []
    for step in range(1, steps + 1):
        scores = [mean_pcc(truth, (total + candidate) / step) for candidate in values]
        picks.append(int(np.argmax(scores)))
        total += values[picks[-1]]
    return picks


def lean_rescoring(values: NDArray[np.float32], truth: NDArray[np.float64], steps: int) -> Picks:
    """The same with nothing computed that could be known before or left out.

    Args:
        values: (trials, targets, clips), standardised. truth: (targets, clips), standardised.
    """
    total = np.zeros_like(truth)
    picks: Picks = []
    for _ in range(steps):
        scores = []
        for candidate in values:
            combined = total + candidate
            # Already centred; the scale of the truth changes no order.
            norm = np.sqrt(np.einsum("tc,tc->t", combined, combined))
            scores.append((np.einsum("tc,tc->t", combined, truth) / norm).mean())
        picks.append(int(np.argmax(scores)))
        total += values[picks[-1]]
    return picks


def measure(folder: Path, trials: int, steps: int) -> dict[str, Any]:
    """Reading, greedy by the loop and by moments, and what estimates cost."""
    lap = Laps()
    library = load_library(folder)
    matrix = library.matrix
    lap("read_s")
    groups = matrix.group_numbers()
    moments = Moments(matrix.predictions, matrix.truth, assign_folds(groups, 0))
    picks, _ = greedy_picks(moments.evidence(), np.ones(trials, dtype=bool), STEPS)
    lap("greedy_s")
    chooser = Chooser(moments, Recipe("greedy"), [trial.family for trial in matrix.trials])
    pooled = np.stack([chooser.pooled(name)[0] for name in ("greedy", "single")])
    lap("nested_s")
    resample(moments.truth, pooled, groups, 0)
    lap("bootstrap_s")
    blocks = Moments(matrix.predictions, matrix.truth, assign_folds(groups, 0, BLOCKS))
    for method in ("mean", "zscore", "greedy"):
        if is_feasible(method, trials):
            resample_selection(blocks, Recipe(method), method, chooser.families)
            lap(f"gain_{method}_s")
    del blocks
    # Standardised and laid out as each loop likes it best, which is not timed.
    lean = np.ascontiguousarray(moments.values.transpose(1, 0, 2))
    usual = [np.asfortranarray(member.T) for member in lean]
    truth = np.asfortranarray(matrix.truth[moments.order])
    lap("")
    reference = rescoring(usual, truth, steps)
    lap("rescoring_s")
    lean_reference = lean_rescoring(lean, moments.truth, steps)
    lap("lean_rescoring_s")
    found = lap.seconds
    for name in ("rescoring", "lean_rescoring"):
        found[f"{name}_s"] *= STEPS / steps
    return found | {
        "rescoring_steps_timed": steps,
        "speedup": found["rescoring_s"] / found["greedy_s"],
        "lean_speedup": found["lean_rescoring_s"] / found["greedy_s"],
        "same_selection": reference == lean_reference == picks[:steps].tolist(),
    }


class Laps:
    """Seconds between calls, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    def __call__(self, name: str) -> None:
        now = time.perf_counter()
        if name:
            self.seconds[name] = now - self._began
        self._began = now


def measure_command(folder: Path, *arguments: str) -> tuple[float, float]:
    """Seconds and peak MiB of the command as a user runs it."""
    line = [sys.executable, "-m", "harness.ensemble", "--results", str(folder.parent)]
    began = time.perf_counter()
    process = subprocess.Popen(
        [*line, *arguments, "--json", "--no-report"], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the command ended with {process.returncode}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def main() -> None:
    """Prints the figures of every size, smallest first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 trials alone, within a minute")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    options = parser.parse_args()
    sizes = {1000: QUICK_STEPS} if options.quick else REFERENCE_STEPS
    figures: dict[str, Any] = {}
    with TemporaryDirectory() as temporary:
        study = Path(temporary) / "bench"
        existing = 0
        for trials, steps in sizes.items():
            write_trials_from(study, existing, trials)
            existing = trials
            # In a process of its own, so that each begins with empty memory.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                found = pool.submit(measure, study, trials, steps).result()
            found["top5_s"], found["top5_mib"] = measure_command(study, "--top", "5")
            found["greedy_all_s"], peak = measure_command(study, "--method", "greedy")
            found["peak_mib"] = max(peak, found.pop("top5_mib"))
            if not options.json:
                print(f"{trials} trials")
                for name, value in found.items():
                    print(f"  {name:22}{value:10.2f}" if isinstance(value, float)
                          else f"  {name:22}{value!s:>10}", flush=True)  # fmt: skip
            figures |= {f"{name}_{trials}": value for name, value in found.items()}
    figures["greedy_speedup_1000"] = figures.pop("speedup_1000")
    figures["same_selection"] = all(figures.pop(f"same_selection_{trials}") for trials in sizes)
    if options.json:
        print(json.dumps(figures))
    else:
        print(f"greedy at 1,000 trials: {figures['greedy_speedup_1000']:.0f} times faster than "
              f"the re-scoring loop; same selection: {figures['same_selection']}")  # fmt: skip


if __name__ == "__main__":
    main()
