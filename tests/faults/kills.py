"""Parts of a search are killed at random moments: its driver, its workers, nodes of its cluster.

All kills of a kind hit one study, so that each resumption goes on from what the kill before left.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median

from ray.cluster_utils import Cluster

from harness.study.journal_lock import JournalLock
from tests.clusters import make_cluster
from tests.faults import models
from tests.faults.commands import Done, Running, command, start
from tests.faults.fault import fault
from tests.faults.meter import family
from tests.faults.whole import check_study, check_whole, contents
from tests.searches import slow_space

KILLS, FEW = 20, 3
# More than are done before the last kill; then the search is interrupted, and ended with less.
ENDLESS = 100_000


def searching(results: Path | None, trials: int, *more: object) -> list[object]:
    """The arguments of a search; results None: the default, a folder relative to the current."""
    line = ["--data", models.given_features(), "--space", _space(), "--trials", trials]
    line += ["--scheduler", "none"]  # so that every finished trial has files
    line += ["--concurrency", 2]
    line += [] if results is None else ["--results", results]
    return [*line, "--study", "s", *more]


@cache
def _space() -> Path:
    return slow_space(models.home())


def kept(results: Path) -> dict[str, bytes]:
    """What a search has finished: predictions and heads."""
    found = contents(results) if results.exists() else {}
    return {k: v for k, v in found.items() if "predictions/" in k or "heads/" in k}


def check_kept(before: dict[str, bytes], results: Path) -> None:
    after = kept(results)
    for name, content in before.items():
        assert after.get(name) == content, f"{name} was lost or written anew"


@dataclass
class Hunted:
    """One study and what happens to it."""

    name: str
    running: Running | None = None
    before: dict[str, bytes] = field(default_factory=dict)
    pace: float = 0.0  # seconds from a start until a trial is finished

    @property
    def folder(self) -> Path:
        path = models.home() / f"hunted-{self.name}"
        path.mkdir(exist_ok=True)
        return path

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def check(self) -> None:
        if self.results.exists():
            check_whole(self.results)
        check_kept(self.before, self.results)
        self.before = kept(self.results)

    def kill_one_of_a_running_search(
        self, victim: Callable[[Running], None], *more: object
    ) -> None:
        """Starts the search at the first kill; `interrupt` ends it after the last."""
        if self.running is None:
            self.running = start(
                self.folder / "said.txt", "search", *searching(self.results, ENDLESS, *more)
            )
        self.wait_for_trials()
        victim(self.running)
        self.wait_for_trials()
        assert self.running.process.exitcode is None, self.running.wait()
        check_kept(self.before, self.results)

    def interrupt_and_end(self, *more: object) -> None:
        """After the last kill."""
        assert self.running is not None, "nothing was killed"
        os.kill(self.running.process.pid, signal.SIGINT)
        done = self.running.wait()
        assert done.code == 130, done
        self.end(*more)

    def wait_for_trials(self) -> None:
        """Until another one was finished."""
        deadline = time.monotonic() + 600
        files = len(kept(self.results))
        while len(kept(self.results)) == files:
            assert self.running is not None
            assert self.running.process.exitcode is None, self.running.wait()
            assert time.monotonic() < deadline, "no trial is finished any more"
            time.sleep(0.1)
        self.before |= kept(self.results)

    def end(self, *more: object) -> None:
        """The same command with a budget that it can reach: the rules of a whole study hold."""
        self.check()
        budget = len(list(self.results.glob("s/predictions/[0-9]*"))) + 3
        done = command(self.folder, "search", *searching(self.results, budget, *more))
        assert done.code == 0, done.said
        self.check()
        check_study(self.results, "s", budget)
        if self.continued.exists():
            lines = self.continued.read_text().splitlines()
            until, waited = zip(*(map(float, line.split()) for line in lines), strict=True)
            print(
                f"{self.name}: {len(lines)} commands took the journal's lock, at most "
                f"{max(until):.1f} s (median {median(until):.1f}) after their start; they waited "
                f"for it at most {max(waited):.2f} s",
                file=sys.stderr,
            )

    @property
    def continued(self) -> Path:
        """When each command took the journal's lock first: `note_lock`."""
        return self.folder / "continued"


_driver, _writers = Hunted("driver"), Hunted("writers")
_workers, _nodes = Hunted("workers"), Hunted("nodes")


@fault(
    "crash", "search: its driver is killed at a random moment", KILLS, few=FEW, ending=_driver.end
)
def _(folder: Path, rng: random.Random) -> None:
    begun = time.monotonic()
    running = start(
        _driver.folder / "said.txt", "search", *searching(None, ENDLESS),
        before=note_lock, given=(_driver.folder, begun),
    )  # fmt: skip
    if not _driver.pace:
        _driver.running = running
        _driver.wait_for_trials()
        _driver.pace = time.monotonic() - begun
    else:
        time.sleep(rng.uniform(0, 1.5 * _driver.pace))
    assert running.process.exitcode is None, running.wait()
    os.kill(running.process.pid, signal.SIGKILL)
    check_not_waited(running.wait())
    _driver.check()


def note_lock(folder: Path, begun: float) -> None:
    """Makes this process note when it has the journal's lock first: seconds since `begun`, and how
    long it waited for it."""
    os.chdir(folder)
    acquire = JournalLock.acquire

    def acquire_and_note(self: JournalLock) -> bool:
        since = time.monotonic()
        found = acquire(self)
        now = time.monotonic()
        JournalLock.acquire = acquire  # type: ignore[method-assign]
        with (folder / "continued").open("a") as file:
            file.write(f"{now - begun} {now - since}\n")
        return found

    JournalLock.acquire = acquire_and_note  # type: ignore[method-assign]


def die_within_a_write(folder: Path, begun: float, number: int, half: bool) -> None:
    """Makes this process die when it holds the journal's lock for the so-manieth time (from 0).

    half: it has written half a line then.
    """
    acquire, left = JournalLock.acquire, iter(range(number, -1, -1))

    def acquire_and_die(self: JournalLock) -> bool:
        found = acquire(self)
        if next(left) == 0:
            if half:
                with Path("results/s/study.log").open("ab") as file:
                    file.write(b'{"op_code":8,"worker_id":"a')
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    JournalLock.acquire = acquire_and_die  # type: ignore[method-assign]
    note_lock(folder, begun)


@fault(
    "crash", "search: its driver is killed within a write of the journal", 50, few=2,
    ending=_writers.end,
)  # fmt: skip
def _(folder: Path, rng: random.Random) -> None:
    # The first hundreds of writes: those of a study that is opened, and of its first trials.
    number, half = rng.randrange(rng.choice([20, 200])), rng.random() < 0.5
    line = searching(None, ENDLESS)
    said = _writers.folder / "said.txt"
    given = (_writers.folder, time.monotonic(), number, half)
    running = start(said, "search", *line, before=die_within_a_write, given=given)
    done = running.wait()
    assert done.code == -signal.SIGKILL, done
    assert (_writers.results / "s" / "study.log.lock").is_symlink(), "the lock is held"
    check_not_waited(done)
    _writers.check()


def check_not_waited(done: Done) -> None:
    """What the killed one before has left was not waited for."""
    assert "study.log.lock" not in done.stderr, done


@fault(
    "crash", "search: a worker is killed at a random moment", KILLS, few=FEW,
    ending=_workers.interrupt_and_end,
)  # fmt: skip
def _(folder: Path, rng: random.Random) -> None:
    def kill(running: Running) -> None:
        time.sleep(rng.uniform(0, 0.6))
        pids = [pid for pid in family(running.process.pid) if "HeadTrainable" in _line(pid)]
        if pids:
            os.kill(rng.choice(pids), signal.SIGKILL)

    _workers.kill_one_of_a_running_search(kill)


@cache
def cluster() -> Cluster:
    """A head that runs no trials, and two nodes that do."""
    made = make_cluster(num_cpus=0)
    models.at_the_end(made.shutdown)
    for _ in range(2):
        made.add_node(num_cpus=1)
    return made


@fault(
    "crash", "search: a node of its cluster is killed at a random moment", KILLS, few=FEW,
    ending=lambda: _nodes.interrupt_and_end("--address", cluster().address),
)  # fmt: skip
def _(folder: Path, rng: random.Random) -> None:
    def kill(running: Running) -> None:
        time.sleep(rng.uniform(0, 0.6))
        node = rng.choice(sorted(cluster().worker_nodes, key=lambda node: node.node_id))
        cluster().remove_node(node, allow_graceful=False)
        cluster().add_node(num_cpus=1)

    _nodes.kill_one_of_a_running_search(kill, "--address", cluster().address)


def _line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
