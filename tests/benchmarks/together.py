"""Do several searches of one study keep one budget? Rounds of it, and what was violated.

    python -m tests.benchmarks.together [--rounds 200] [--minutes M] [--storage sqlite]
        [--searches 2] [--no-lock]

Every round is a new study. `share`: the searches work on it until its 8 trials are done; `kill` and
`stop`: one of them is killed, or stopped and taken for dead, at a random moment. `end`: a search
completes a trial at the moment in which another one closes it as dead. With --no-lock the lock is
left out, which shows that the rounds find what they look for.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.study.backend import Backend, quiet_optuna
from harness.study.lock import NoLock
from tests import rivals
from tests.databases import mysql, postgresql

KINDS = ("share", "kill", "stop", "end")


@contextmanager
def sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="together-") as folder:
        yield f"sqlite:///{folder}/studies.db"


STORAGES = {"sqlite": sqlite, "postgresql": postgresql, "mysql": mysql}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200, help="of each kind")
    parser.add_argument("--minutes", type=float, help="to stop after; default: all rounds")
    parser.add_argument("--storage", choices=STORAGES, default="sqlite")
    parser.add_argument("--searches", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-lock", action="store_true")
    options = parser.parse_args()
    quiet_optuna()
    if options.no_lock:
        Backend.exclusive = lambda self: NoLock().held()  # type: ignore[method-assign]
    violated: Counter[str] = Counter()
    rounds, begun = 0, time.monotonic()
    with STORAGES[options.storage]() as url:
        for n in range(options.rounds):
            if options.minutes and time.monotonic() - begun > 60 * options.minutes:
                break
            rounds += 1
            for kind in options.kinds:
                rng = random.Random(f"{options.seed} {n} {kind}")
                with tempfile.TemporaryDirectory(prefix="together-") as folder:
                    bad = _round(kind, Path(folder), url, f"{kind}{n}", rng, options.searches)
                violated[kind] += bool(bad)
                for line in bad:
                    print(f"{kind}, round {n}: {line}", flush=True)
    for kind in options.kinds:
        print(f"{options.storage} {kind}: {violated[kind]} of {rounds} rounds violated")
    print(f"{time.monotonic() - begun:.0f} s")
    return int(any(violated.values()))


def _round(
    kind: str, folder: Path, url: str, name: str, rng: random.Random, searches: int
) -> list[str]:
    if kind == "end":
        return rivals.end(folder, url, name, rng)
    fault = "nothing" if kind == "share" else kind
    return rivals.share(folder, url, name, rng, searches=searches, fault=fault)


if __name__ == "__main__":
    sys.exit(main())
