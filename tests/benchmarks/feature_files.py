"""How long the files of precomputed features take to read.

    python -m tests.benchmarks.feature_files [--clips N] [--csv N] [--rounds N] [--json]

Files of 12 steps of 22 features, as many as Hume-Reaction has clips. The sides take turns; medians
of seconds, and ratios to one_thread.

mapped: `np.load` with a memory map, one file after the other, no value checked.
loaded: `np.load` without one.
one_thread: `read_feature_file`, one file after the other.
threads: as a search reads them.

Processor time of a .npy file, 3,000 files, three rounds on a loaded machine: `np.load` with the
checks 103 to 113 us, the reader of plain files 29 to 46 us; with four threads and the array of all
clips 130 to 169 us and 55 to 89 us. So 25,067 files take about 1.5 s, and a search keeps no copy of
them in a store: it would have to look at each file for changes anyway.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from harness.clips.table import ClipTable
from harness.streams.feature_file import read_feature_file
from harness.streams.precomputed import read_foreign

STEPS, FEATURES = 12, 22


def write_files(folder: Path, count: int, suffix: str) -> ClipTable:
    """A table of clips with feature files."""
    rng = np.random.default_rng(0)
    names = [f"AU{number:02d}" for number in range(FEATURES)]
    paths = [folder / f"{number:05d}{suffix}" for number in range(count)]
    for path in paths:
        values = rng.random((STEPS, FEATURES), dtype=np.float32)
        if suffix == ".npy":
            np.save(path, values)
        else:
            table = pd.DataFrame(values, columns=names)
            table.insert(0, "timestamp", 250 * np.arange(STEPS))
            table.to_csv(path, index=False)
    targets = np.zeros((count, 1), np.float32)
    ids = tuple(path.stem for path in paths)
    return ClipTable(ids, ("train",) * count, targets, ("joy",), tuple(paths), "features")


def measure(clips: ClipTable, suffix: str, rounds: int) -> dict[str, float]:
    """Median seconds of each side."""
    paths = [path for path in clips.paths if path]
    sides: dict[str, Callable[[], object]] = {
        "one_thread": lambda: [read_feature_file(path) for path in paths],
        "threads": lambda: read_foreign(clips),
    }
    if suffix == ".npy":
        sides["mapped"] = lambda: [np.array(np.load(path, "r")) for path in paths]
        sides["loaded"] = lambda: [np.load(path) for path in paths]
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, read in sides.items():
            begun = time.perf_counter()
            read()
            seconds[side].append(time.perf_counter() - begun)
    return {side: statistics.median(values) for side, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=25_067, help="files of .npy")
    parser.add_argument("--csv", type=int, default=2_000, help="files of csv")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = {}
    for suffix, count in ((".npy", given.clips), (".csv", given.csv)):
        with tempfile.TemporaryDirectory(prefix="feature-files-") as folder:
            clips = write_files(Path(folder), count, suffix)
            found[suffix] = {"files": count, **measure(clips, suffix, given.rounds)}
    if given.json:
        print(json.dumps(found))
        return
    table = Table("", "files", "side", "seconds", "ratio")
    for suffix, row in found.items():
        for side, seconds in row.items():
            if side != "files":
                ratio = seconds / row["one_thread"]
                table.add_row(suffix, f"{row['files']:.0f}", side, f"{seconds:.2f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
