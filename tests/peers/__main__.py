"""Optuna's own contract tests, on the storages that the harness makes.

    python -m tests.peers [--storage journal sqlite postgresql mysql]

Fetches Optuna's source distribution at the installed version, and fakeredis, which its tests
import, by pip. PostgreSQL and MySQL are left out where no server is installed.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.databases import mysql, postgresql

#: Tests of Optuna that take storages from its `StorageSupplier`, and those with a server.
FILES = (
    "storages_tests/test_storages.py",
    "storages_tests/test_callbacks.py",
    "storages_tests/test_heartbeat.py",
    "storages_tests/test_with_server.py",
    "storages_tests/journal_tests/test_journal.py",
    "study_tests",
    "trial_tests",
)
_ROOT, _HERE = Path(__file__).parents[2], Path(__file__).parent
_COUNTS = ("tests", "failures", "errors", "skipped")


def pip(*arguments: object) -> None:
    line = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(list(map(str, line)), check=True)


def fetch(folder: Path) -> Path:
    """Optuna's tests, apart from its source, so that the installed Optuna is imported."""
    wanted = f"optuna=={version('optuna')}"
    pip("download", "--no-deps", "--no-binary", ":all:", "--dest", folder, wanted)
    pip("install", "--target", folder / "libraries", "--no-deps", "fakeredis", "redis",
        "sortedcontainers")  # fmt: skip
    (archive,) = folder.glob("optuna-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    (folder / "run").mkdir()
    return (source / "tests").rename(folder / "run" / "tests")


@contextmanager
def no_server() -> Iterator[str]:
    yield ""


SERVERS = {"journal": no_server, "sqlite": no_server, "postgresql": postgresql, "mysql": mysql}


def contract(kind: str, tests: Path, server: str) -> dict[str, int]:
    """How many tests there were, failed, broke and were skipped."""
    report = tests.parent / f"{kind}.xml"
    path = os.pathsep.join(map(str, (_HERE, tests.parent.parent / "libraries", _ROOT)))
    environment = os.environ | {
        "PYTHONPATH": path, "PEERS_STORAGE": kind, "PEERS_SERVER": server,
        # Optuna's tests were written before this version of Alembic warned.
        "PYTHONWARNINGS": "default",
    }  # fmt: skip
    line = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-c", os.devnull]
    line += ["--rootdir", tests.parent, "-p", "no:cacheprovider", "-p", "optuna_storages"]
    line += ["--disable-warnings", f"--junitxml={report}", *(tests / file for file in FILES)]
    subprocess.run(list(map(str, line)), cwd=tests.parent, env=environment, check=False)
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    return {name: sum(int(suite.get(name, 0)) for suite in suites) for name in _COUNTS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", nargs="+", choices=SERVERS, default=list(SERVERS))
    options = parser.parse_args()
    lines, bad = [], 0
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        tests = fetch(Path(folder))
        for kind in options.storage:
            begun = time.monotonic()
            try:
                with SERVERS[kind]() as server:
                    counts = contract(kind, tests, server)
            except pytest.skip.Exception as error:
                lines.append(f"{kind}: not tried, {error}")
                continue
            failed = counts["failures"] + counts["errors"]
            passed = counts["tests"] - failed - counts["skipped"]
            bad += failed or not passed
            lines.append(
                f"{kind}: {passed} passed, {failed} failed, {counts['skipped']} skipped, "
                f"{time.monotonic() - begun:.0f} s"
            )
    print(f"Optuna {version('optuna')}:", *lines, sep="\n")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
