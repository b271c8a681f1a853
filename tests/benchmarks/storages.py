"""What each storage costs a trial: the reason for the default.

    python -m tests.benchmarks.storages [--trials 60] [--json]

A search without Ray: each trial is asked for, reports 10 epochs one at a time, is kept and told, as
the ledger does it; predictions and heads are written as well, and cost each storage the same. The
rounds of the storages alternate. `plain journal` is Optuna's own file, which waits for the disk
after every line. PostgreSQL is left out where it is not installed.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from harness.study.backend import quiet_optuna
from harness.study.journal import Journal
from harness.tuning.agenda import SearchAgenda
from tests.databases import postgresql
from tests.searches import make_result, make_space, opened

ROUNDS = 3


def cost(folder: Path, trials: int, storage: str | None) -> float:
    """Milliseconds a trial."""
    space = make_space(folder)
    with opened(folder, SearchAgenda(space, trials, False), space=space, storage=storage) as ledger:
        begun = time.perf_counter()
        while asked := ledger.ask():
            number, config = asked
            for epoch in range(1, 11):
                ledger.report(number, [(epoch, 0.1)])
            ledger.complete(number, make_result(config))
        return (time.perf_counter() - begun) / trials * 1e3


def plain(folder: Path, trials: int) -> float:
    real = Journal.read
    Journal.read = lambda self: JournalStorage(JournalFileBackend(str(self.path)))  # type: ignore[method-assign]
    try:
        return cost(folder, trials, None)
    finally:
        Journal.read = real  # type: ignore[method-assign]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    quiet_optuna()
    with ExitStack() as stack:
        ways: dict[str, Callable[[Path], float]] = {
            "journal": lambda folder: cost(folder, options.trials, None),
            "plain journal": lambda folder: plain(folder, options.trials),
            "sqlite": lambda folder: cost(folder, options.trials, f"sqlite:///{folder}/s.db"),
        }
        try:
            url = stack.enter_context(postgresql())
        except (pytest.skip.Exception, pytest.fail.Exception) as error:
            print(error, file=sys.stderr)
        else:
            ways["postgresql"] = lambda folder: _on_server(folder, options.trials, url)
        best: dict[str, float] = {}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                with tempfile.TemporaryDirectory(prefix="storages-") as folder:
                    best[name] = min(best.get(name, 1e9), way(Path(folder)))
    show(best, options.json)
    return 0


def _on_server(folder: Path, trials: int, url: str) -> float:
    import sqlalchemy

    name = f"r{time.time_ns()}"
    driver = url.replace("postgresql://", "postgresql+psycopg://")
    engine = sqlalchemy.create_engine(driver, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return cost(folder, trials, url.replace("/postgres", f"/{name}"))


def show(best: dict[str, float], as_json: bool) -> None:
    if as_json:
        figures: dict[str, Any] = {f"ms_a_trial_{k.replace(' ', '_')}": v for k, v in best.items()}
        print(json.dumps(figures))
        return
    for name, milliseconds in best.items():
        ratio = milliseconds / best["journal"]
        print(f"{name:<14} {milliseconds:7.1f} ms a trial   {ratio:5.2f} times the default")


if __name__ == "__main__":
    sys.exit(main())
