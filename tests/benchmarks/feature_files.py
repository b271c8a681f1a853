"""How long the files of precomputed features take to read.

    python -m tests.benchmarks.feature_files [--clips N] [--csv N] [--rounds N] [--json]

Files of 12 steps of 22 features, as many as Hume-Reaction has clips. The sides take turns; medians
of seconds, and ratios to `loaded` for .npy, to `one_thread` for csv.

loaded: a plain loop of `np.load`, one array of all steps, no value checked.
one_thread: `read_feature_file`, one file after the other.
unstored: as a search reads them without a cache.
first: with an empty cache, which is written.
second: with the cache of `first`; no file is opened.
touched: the same after the times of all files changed; contents are compared.
"""

import argparse
import json
import os
import shutil
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
from harness.streams.file_store import FileStore
from harness.streams.precomputed import read_foreign

#: Seconds after which a changed file counts as settled.
YOUNG = 3.2
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


def stored(clips: ClipTable, cache: Path, **expected: int) -> None:
    """Reads the files with a cache, and checks how many of them were opened."""
    store = FileStore(cache)
    read_foreign(clips, store=store)
    found = {name: getattr(store, name) for name in expected}
    assert found == expected, (found, expected)


def measure(clips: ClipTable, suffix: str, cache: Path, rounds: int) -> dict[str, float]:
    """Median seconds of each side."""
    paths = [path for path in clips.paths if path]
    sides: dict[str, Callable[[], object]] = {
        "one_thread": lambda: [read_feature_file(path) for path in paths],
        "unstored": lambda: read_foreign(clips),
        "first": lambda: stored(clips, cache, parsed=len(clips)),
        "second": lambda: stored(clips, cache, kept=len(clips)),
        "touched": lambda: stored(clips, cache, compared=len(clips)),
    }
    if suffix == ".npy":
        sides = {"loaded": lambda: np.concatenate([np.load(path) for path in paths])} | sides
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    # A file that changed in the last seconds is compared by its contents.
    time.sleep(YOUNG)
    for round_ in range(rounds):
        shutil.rmtree(cache, ignore_errors=True)
        for side, read in sides.items():
            if side == "touched":
                for path in paths:
                    os.utime(path, (1, round_ + 1))
                time.sleep(YOUNG)
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
            (Path(folder) / "set").mkdir()
            clips = write_files(Path(folder) / "set", count, suffix)
            seconds = measure(clips, suffix, Path(folder) / "cache", given.rounds)
            found[suffix] = {"files": count, **seconds}
    if given.json:
        print(json.dumps(found))
        return
    table = Table("", "files", "side", "seconds", "ratio")
    for suffix, row in found.items():
        for side, seconds in row.items():
            if side != "files":
                ratio = seconds / row.get("loaded", row["one_thread"])
                table.add_row(suffix, f"{row['files']:.0f}", side, f"{seconds:.2f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
