"""Ensembles of 100, 1,000 and 5,000 trials on clips as many as Hume-Reaction's val and test.

    python -m tests.benchmarks.ensemble [--quick] [--json]
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.ensembles.library import load_library
from harness.ensembles.moments import Moments
from harness.ensembles.selection import greedy_picks
from harness.metrics import mean_pcc
from harness.predictions import (
    ClipIndex,
    PredictionInfo,
    trial_name,
    write_clips,
    write_predictions,
)

CLIPS = {"val": 4657, "test": 4604}
TARGETS = ("Adoration", "Amusement", "Anxiety", "Disgust", "Empathic-Pain", "Fear", "Surprise")
LOSSES = ("ccc", "pcc", "mse")
STRIDES = (10, 15, 30)
STEPS = 50
# Steps of the reference loop that are timed: all 50 take minutes for 5,000 trials.
REFERENCE_STEPS = {100: 50, 1000: 50, 5000: 5}
QUICK_STEPS = 10


def index_of() -> ClipIndex:
    """Clips of two splits with random ratings."""
    rng = np.random.default_rng(0)
    splits = rng.permutation([split for split, count in CLIPS.items() for _ in range(count)])
    ids = tuple(f"[{number:05d}]" for number in range(len(splits)))
    targets = rng.random((len(ids), len(TARGETS))).astype(np.float32)
    return ClipIndex(ids, tuple(splits.tolist()), targets, TARGETS, synthetic=True)


def write_trials(folder: Path, first: int, last: int) -> None:
    """Prediction files of trials in nine families: the truth, an error of all, one of the family,
    one of their own; about .33 mean PCC each."""
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
            val_pcc=mean_pcc(index.targets[rows], split["val"]),
            created="2026-01-01T00:00:00+00:00",
        )
        path = folder / "predictions" / f"{trial_name(number)}.parquet"
        write_predictions(path, info, index, split)


def make_study(folder: Path, trials: int, existing: int = 0) -> None:
    """A study of so many trials, or an existing one continued."""
    write_clips(folder / "clips.parquet", index_of())
    (folder / "study.json").write_text('{"oracle": {}, "empty": []}')
    bounds = np.linspace(existing, trials, 9).astype(int).tolist()
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(write_trials, [folder] * 8, bounds[:-1], bounds[1:]))


def rescoring(
    predictions: NDArray[np.float32], truth: NDArray[np.float32], steps: int
) -> list[int]:
    """The usual loop: each step scores the average with every candidate on all rows.

    predictions: (targets, trials, clips), standardised first, which is not timed.
    """
    values = predictions.transpose(1, 0, 2).astype(np.float64)
    y = truth.astype(np.float64).T
    y = y - y.mean(axis=1, keepdims=True)
    y /= np.sqrt((y * y).sum(axis=1, keepdims=True))
    total = np.zeros_like(y)
    picks: list[int] = []
    for _ in range(steps):
        scores = []
        for candidate in values:
            combined = total + candidate
            combined -= combined.mean(axis=1, keepdims=True)
            norm = np.sqrt((combined * combined).sum(axis=1))
            scores.append(((combined * y).sum(axis=1) / norm).mean())
        picks.append(int(np.argmax(scores)))
        total += values[picks[-1]]
    return picks


def measure_greedy(folder: Path, trials: int, steps: int) -> dict[str, Any]:
    """Reading, and greedy by the loop and by moments."""
    began = time.perf_counter()
    library = load_library(folder)
    read_s = time.perf_counter() - began
    matrix = library.matrix
    folds = np.random.default_rng(0).permutation(len(matrix.truth)) % 10
    allowed = np.ones(trials, dtype=bool)
    began = time.perf_counter()
    moments = Moments(matrix.predictions, matrix.truth, folds)
    moments_s = time.perf_counter() - began
    picks, _ = greedy_picks(moments.evidence(), allowed, STEPS)
    ours_s = time.perf_counter() - began
    back = np.argsort(moments.order)
    standardised = moments.values[:, :, back]
    began = time.perf_counter()
    reference = rescoring(standardised, matrix.truth, steps)
    loop_s = (time.perf_counter() - began) * STEPS / steps
    return {
        "read_s": read_s,
        "moments_s": moments_s,
        "greedy_s": ours_s,
        "rescoring_s": loop_s,
        "rescoring_steps": steps,
        "speedup": loop_s / ours_s,
        "same_selection": reference == picks[:steps].tolist(),
    }


def measure_command(folder: Path, *arguments: str) -> tuple[float, float]:
    """Seconds and peak MiB of the command as a user runs it."""
    line = [sys.executable, "-m", "harness.ensemble", "--results", str(folder.parent)]
    began = time.perf_counter()
    subprocess.run([*line, *arguments, "--json"], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
