"""Wide features: what `project` costs, and what float16 storage changes.

    python -m tests.benchmarks.wide [--quick]

Generated clips of 12 steps. `epoch` is the processor time of a pass over train and the score on
val, with one thread, 2 layers of 128, batches of 128: at 22 columns without `project`, and at more
columns with and without it. `start` is the time until the first epoch. The least of several counts.

float16: the same trials on features as computed and as a float16 store gives them back. `disk` is
the size of each store, `PCC` the mean over seeds of the score on val, `change` the mean absolute
difference of a seed's two scores, `seeds` the standard deviation of the scores over the seeds.

Measured with --quick on 2 cores with much other work beside it: an epoch at 2,048 columns and
`project` 64 takes 1.7 times that of 22 columns, at 512 columns 1.2 times; without `project` 2,048
columns take 3.7 times. float16 took .50 of the disk (4.2 and 2.1 MB) and changed the score of a
seed by .0004, where seeds differ by .008.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from harness.dataset import Dataset, Specification
from harness.models.config import TrialConfig
from harness.sampling import EVERY
from harness.streams.store import ClipFrames, FeatureStore
from harness.trials.trial import Trial
from tests.datasets import make_dataset, make_stream

STEPS, TARGETS = 12, 7
#: Columns and `project` of each side; the first is the reference.
SIDES = ((22, 0), (512, 64), (2048, 64), (2048, 0))


def values(clips: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features, of which eight hidden directions decide the ratings; and these."""
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((clips, 8))
    noisy = np.repeat(hidden, STEPS, axis=0) + rng.standard_normal((clips * STEPS, 8))
    # As after a ReLU: at least 0, of any size.
    features = np.maximum(noisy @ rng.standard_normal((8, width)), 0) * rng.uniform(0.01, 10, width)
    ratings = 1 / (1 + np.exp(-hidden @ rng.standard_normal((8, TARGETS)) / 3))
    return features.astype(np.float32), ratings.astype(np.float32)


def dataset(features: NDArray[np.float32], ratings: NDArray[np.float32]) -> Dataset:
    clips = len(ratings)
    offsets = np.arange(clips + 1) * STEPS
    stream = make_stream(features, np.tile(np.arange(STEPS), clips), offsets)
    return make_dataset(
        stream, ratings, {"train": range(clips * 3 // 4), "val": range(clips * 3 // 4, clips)}
    )


def speed(clips: int, epochs: int) -> Table:
    """Processor time of each side."""
    table = Table("columns", "project", "start s", "epoch s", "of the first")
    first = 0.0
    for width, project in SIDES:
        data = dataset(*values(clips, width))
        config = TrialConfig.of(
            stride=1, layers=2, hidden=128, batch_size=128, project=project, epochs=epochs
        )
        begun = time.process_time()
        training = Trial(config, data).trainings[0]
        start, taken = time.process_time() - begun, []
        for _ in range(epochs):
            begun = time.process_time()
            training.epoch()
            taken.append(time.process_time() - begun)
        first = first or min(taken)
        shown = f"{start:.2f}", f"{min(taken):.2f}", f"{min(taken) / first:.2f}"
        table.add_row(str(width), str(project or "-"), *shown)
    return table


def stored(folder: Path, features: NDArray[np.float32], kind: str) -> tuple[int, NDArray]:
    """Bytes of a store of this number format, and the features that it gives back."""
    store = FeatureStore(folder, Specification("wide", {"stored": kind}, (), features.shape[1]))
    store.append([ClipFrames("a", "s", EVERY, np.arange(len(features), dtype=np.int32), features)])
    size = sum(file.stat().st_size for file in store.folder.glob("*.parquet"))
    return size, store.load([("a", "s")], EVERY).values


def precision(clips: int, seeds: int, epochs: int, width: int = 512) -> Table:
    """Disk and scores of both number formats."""
    features, ratings = values(clips, width)
    scores: dict[str, list[float]] = {}
    sizes = {}
    for kind in ("float32", "float16"):
        with tempfile.TemporaryDirectory() as folder:
            sizes[kind], back = stored(Path(folder), features, kind)
        data = dataset(back, ratings)
        scores[kind] = []
        for seed in range(seeds):
            config = TrialConfig.of(stride=1, project=32, hidden=32, layers=1, epochs=epochs,
                                    lr=0.003, seed=seed)  # fmt: skip
            training = Trial(config, data).trainings[0]
            scores[kind].append(max(training.epoch().score for _ in range(epochs)))
    change = np.abs(np.subtract(scores["float16"], scores["float32"])).mean()
    table = Table("stored", "disk MB", "PCC", "change", "seeds")
    for kind, found in scores.items():
        shown = f"{sizes[kind] / 1e6:.1f}", f"{np.mean(found):.4f}"
        moved = "" if kind == "float32" else f"{change:.5f}"
        table.add_row(kind, *shown, moved, f"{np.std(found):.4f}")
    return table


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="within a minute")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    console = Console()
    console.print(speed(512 if quick else 4096, 3))
    console.print(precision(256 if quick else 1024, 3 if quick else 8, 6 if quick else 15))


if __name__ == "__main__":
    main()
