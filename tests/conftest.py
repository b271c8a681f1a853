"""Shared fixtures: tiny synthetic clips and a study of them, made once a run; a browser.

What they need is imported where it is used: a machine with a GPU that has torch and pytest alone
runs the tests of heads.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.collection import collect_rarely
from harness.cores import spin_briefly

if TYPE_CHECKING:
    from harness.clips.demo import Demo
    from tests.browser import Browser

spin_briefly()
collect_rarely()
# A shell's background job ignores Ctrl-C and nohup the hangup, and so would the commands that the
# tests end by these signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


# Files whose tests share a fixture that takes long: under `pytest -n` they run in one process.
_TOGETHER = {
    "test_dashboard.py": "searched",
    "test_report.py": "searched",
    "test_documents.py": "demo",
    "test_predict.py": "built",
}


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Runs the whole suite in two processes, as with `-n 2`; files that are named, in one."""
    options = config.option
    if hasattr(config, "workerinput"):
        return  # one of these processes, which must not start others
    if (
        config.args_source is pytest.Config.ArgsSource.TESTPATHS
        and config.pluginmanager.has_plugin("xdist")
        and options.numprocesses is None
        and not options.usepdb
    ):
        options.numprocesses = 2


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist there is no such hook
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deals out single tests, but those of `_TOGETHER` as a whole.

    pytest-xdist's own way, `--dist loadgroup`, does nothing under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0].rpartition("/")[2]
            return _TOGETHER.get(file, nodeid)

    return Together(config, log)


@pytest.fixture(autouse=True)
def open_clusters() -> Iterator[None]:
    """A Ray that a test starts in this process closes by a token, through the environment, also the
    clusters that later tests start; their commands, processes of their own, would not know of it.
    """
    yield
    os.environ.pop("RAY_AUTH_MODE", None)


@pytest.fixture(scope="session")
def tiny_demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Twenty clips of 31 frames; do not change them."""
    from harness.clips.demo import ensure_demo
    from tests.plans import TINY

    return ensure_demo(tmp_path_factory.mktemp("demo"), TINY, processes=1)


@pytest.fixture(scope="session")
def tiny_demo_faces(tiny_demo: Demo) -> Path:
    """88 annotated faces in the s-Aff-Wild2 form."""
    return tiny_demo.annotations


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MTL-DAN of one head, for pictures of 32 pixels."""
    from harness.encoders.mtl_dan.checkpoints import save_mtl_dan
    from tests.networks import make_network

    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_mtl_dan(path, make_network(1), {"input_size": "32"})
    return path


@dataclass(frozen=True)
class Searched:
    """Two studies of one search space, each by the command: `journal`, with an ensemble, whose
    trials stand in its journal file, and `database`, whose trials stand in an SQLite file."""

    results: Path
    data: Path
    weights: Path
    database: str

    def storage(self, study: str) -> str:
        """What Optuna's dashboard is told to open."""
        return self.database if study == "database" else str(self.results / study / "study.log")


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """Real studies, small ones; do not change them."""
    from harness.clips.demo import ensure_demo
    from harness.spaces import SPACES
    from tests.commands import command
    from tests.networks import save_tiny
    from tests.plans import FEW

    results = tmp_path_factory.mktemp("searched") / "results"
    demo = ensure_demo(results / ".cache", FEW, processes=1)
    made = Searched(
        results,
        demo.root,
        save_tiny(results.parent / "net.safetensors"),
        f"sqlite:///{results.parent / 'studies.db'}",
    )
    line = ["--data", made.data, "--weights", made.weights, "--results", results]
    line += ["--space", SPACES / "smoke.toml", "--trials", 8, "--epochs", 4]
    line += ["--scheduler", "none"]  # every trial has predictions, and an ensemble enough of them
    for study, more in (("database", ["--storage", made.database]), ("journal", [])):
        done = command("search", *line, "--study", study, *more)
        assert done.returncode == 0, done.stderr
    done = command("ensemble", "--results", results, "--study", "journal", "--top", 3)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium; what it sees is kept in $TEST_ARTEFACTS, by default among pytest's own folders."""
    from tests.browser import or_skipped, started

    folder = os.environ.get("TEST_ARTEFACTS")
    artefacts = Path(folder) if folder else tmp_path_factory.mktemp("artefacts")
    yield from or_skipped(lambda: started(artefacts))
