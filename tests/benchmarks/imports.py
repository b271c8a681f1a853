"""What a process of a search pays for its imports, until it has ended, in seconds of a processor.

    python -m tests.benchmarks.imports [--json] [--rounds 5]

`default_s`: as Python collects garbage by default. `ours_s`: as commands and workers have it
(`harness.collection.collect_rarely`). Each line is a process of its own, and both sides run in
turn; medians. `default_over_ours`: above 1 where ours is cheaper. The lines of what is *not*
imported for stored features show what that saves, beyond `torch alone`.
"""

import argparse
import resource
import statistics
import subprocess
import sys
from typing import Any

from tests.benchmarks.rows import print_rows

MODULES = {
    "the search": "harness.tuning.session, harness.tuning.engine, harness.reports.page",
    "its worker": "ray, harness.tuning.worker",
    "torch alone": "torch",
    "not imported: torchvision": "torch, torchvision",
    "not imported: torch's compiler": "torch, torch._dynamo",
    "not imported: scipy.stats": "torch, scipy.stats",
    "not imported: optuna.visualization": "torch, optuna.visualization",
}
_OURS = "from harness.collection import collect_rarely; collect_rarely()"
# Some of the modules ask for it themselves.
_DEFAULT = "import harness.collection; harness.collection.collect_rarely = lambda: None"


def cost(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(rounds: int) -> list[dict[str, Any]]:
    rows = []
    for name, modules in MODULES.items():
        sides: dict[str, list[float]] = {"default_s": [], "ours_s": []}
        for number in range(rounds + 1):
            for side, first in (("default_s", _DEFAULT), ("ours_s", _OURS)):
                seconds = cost(f"{first}\nimport {modules}")
                if number:  # the first round reads the files from disk
                    sides[side].append(seconds)
        row = {side: round(statistics.median(each), 2) for side, each in sides.items()}
        ratio = round(row["default_s"] / row["ours_s"], 2)
        rows.append({"imported": name, **row, "default_over_ours": ratio})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rows = compare(arguments.rounds)
    print_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
