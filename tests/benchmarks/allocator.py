"""What it saves to keep the memory of a batch for the next one (`harness.allocator`).

    python -m tests.benchmarks.allocator [--json] [--clips 5000]

An epoch of a head at each batch size (2 layers of 128, sequences of 12 steps, generated clips, one
thread): with glibc's own thresholds, and as the workers of a search have them. Processor time and
page faults; three rounds in turn, the median. `default_over_ours`: above 1 where ours is faster.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch

from harness.allocator import keep_memory
from harness.models.config import TrialConfig
from harness.trials.trial import Trial
from tests.benchmarks.generated import generated
from tests.benchmarks.rows import print_rows

ROUNDS, EPOCHS = 3, 3
BATCHES = (32, 128, 256, 512)


def one(clips: int) -> dict[str, dict[str, float]]:
    """Of each batch size, seconds of the processor and page faults of an epoch."""
    torch.set_num_threads(1)
    data = generated({"train": clips, "val": clips * 3 // 10}, "pooled")
    found = {}
    for size in BATCHES:
        config = TrialConfig.of(
            stride=1, sequence="fixed-12", hidden=128, batch_size=size, epochs=EPOCHS + 1
        )
        trial = Trial(config, data)
        trial.step()  # the first one prepares
        before, begun = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
        for _ in range(EPOCHS):
            trial.step()
        seconds = (time.process_time() - begun) / EPOCHS
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before.ru_minflt
        found[str(size)] = {"seconds": seconds, "faults": faults // EPOCHS}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--clips", type=int, default=5_000)
    parser.add_argument("--one", choices=("default", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        if options.one == "ours" and not keep_memory():
            raise SystemExit("this machine has another allocator, or settings of its own")
        print(json.dumps(one(options.clips)))
        return
    program = [sys.executable, "-m", "tests.benchmarks.allocator", "--clips", str(options.clips)]
    sides: dict[str, list[dict[str, dict[str, float]]]] = {"default": [], "ours": []}
    for _ in range(ROUNDS):
        for side, rounds in sides.items():
            line = [*program, "--one", side]
            done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
            rounds.append(json.loads(done.stdout))
    rows = []
    for size in map(str, BATCHES):
        row: dict[str, float] = {"batch": int(size)}
        for side, rounds in sides.items():
            row[f"{side}_s"] = round(statistics.median(r[size]["seconds"] for r in rounds), 3)
            row[f"{side}_faults"] = statistics.median(r[size]["faults"] for r in rounds)
        rows.append(row | {"default_over_ours": round(row["default_s"] / row["ours_s"], 2)})
    print_rows(rows, options.json)


if __name__ == "__main__":
    main()
