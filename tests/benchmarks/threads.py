"""What it costs that threads of torch wait busily: one training, and several on the same cores.

    python -m tests.benchmarks.threads [--json] [--steps 10]

Each process trains MTL-DAN (two heads, 64 pixels, batches of 16) with as many threads as there are
cores: as OpenMP has them wait by default, and as the commands have them
(`harness.cores.spin_briefly`). Seconds until the last of them is done; three rounds in turn, the
median. `default_over_ours`: above 1 where ours is faster.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import torch

from harness.cores import spin_briefly
from harness.encoders.mtl_dan.network import MTLDAN
from tests.benchmarks.rows import print_rows

ROUNDS, TOGETHER = 3, (1, 3)


def train(steps: int) -> None:
    torch.manual_seed(0)
    network = MTLDAN(num_heads=2)
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    images = torch.randn(16, 3, 64, 64)
    for step in range(steps + 1):
        if step == 1:  # the first one prepares
            print("ready", flush=True)
            sys.stdin.readline()
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()


def seconds(steps: int, processes: int, environment: dict[str, str]) -> float:
    line = [sys.executable, "-m", "tests.benchmarks.threads", "--train", "--steps", str(steps)]
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen(line, env=environment, stdin=pipe, stdout=pipe, text=True)
        for _ in range(processes)
    ]
    for each in started:
        assert each.stdout
        each.stdout.readline()
    begun = time.monotonic()
    for each in started:
        assert each.stdin
        each.stdin.write("\n")
        each.stdin.flush()
    if any(each.wait() for each in started):
        raise SystemExit("a training failed")
    return time.monotonic() - begun


def compare(steps: int) -> list[dict[str, Any]]:
    bare = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    rows = []
    for processes in TOGETHER:
        sides: dict[str, list[float]] = {"default_s": [], "ours_s": []}
        for _ in range(ROUNDS):
            sides["default_s"].append(seconds(steps, processes, bare))
            sides["ours_s"].append(seconds(steps, processes, dict(os.environ)))
        row = {name: round(statistics.median(each), 2) for name, each in sides.items()}
        ratio = round(row["default_s"] / row["ours_s"], 2)
        rows.append({"processes": processes, **row, "default_over_ours": ratio})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--train", action="store_true", help="internal: one of the processes")
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.steps)
        return
    spin_briefly()
    rows = compare(arguments.steps)
    print_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
