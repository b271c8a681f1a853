"""Where the harness runs is unlike a developer's machine: signals, other users, clusters, file
systems, variables of a site."""

import itertools
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from harness.interrupts import ENDING
from tests import file_systems
from tests.commands import HANGS
from tests.faults import models
from tests.faults.commands import Done, Running, command, start
from tests.faults.crash import ensembling
from tests.faults.fault import CannotTryError, fault, turn
from tests.faults.kills import ENDLESS, kept, searching
from tests.faults.meter import family, is_alive
from tests.faults.surroundings import check_said, fill, small_disk
from tests.faults.whole import check_study, contents

# Seconds that Ray's processes have to end after a signal.
_ENDING = 10


def typed(folder: Path, *line: object, before: list[str] = [], **variables: str) -> Done:  # noqa: B006
    """Runs `python -m harness.LINE` in a folder, as a user of another environment does."""
    given = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | variables
    name, *arguments = map(str, line)
    done = subprocess.run(
        [*before, sys.executable, "-m", f"harness.{name}", *arguments],
        cwd=folder, env=given, capture_output=True, text=True, check=False, timeout=HANGS,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def wait_for_trials(running: Running, results: Path, number: int) -> None:
    """Until so many trials have files."""
    deadline = time.monotonic() + HANGS
    while len(list(results.glob("s/predictions/[0-9]*"))) < number:
        assert running.process.exitcode is None, running.wait()
        assert time.monotonic() < deadline, "no trial is finished"
        time.sleep(0.05)


def no_core_file(folder: Path) -> None:
    """Lets the kernel write a core file into the folder if the process aborts."""
    os.chdir(folder)
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


@fault("surroundings", "a search is ended by each signal, of its process or its group", 10, few=0)
def _(folder: Path, rng: random.Random) -> None:
    names = [f"{number:02d} {to}" for number in ENDING for to in ("group", "process")]
    number, _, to = turn(names, "signals").partition(" ")
    line = searching(folder, ENDLESS)
    running = start(folder / "said.txt", "search", *line, before=no_core_file, given=(folder,))
    wait_for_trials(running, folder, 2)
    processes = family(running.process.pid)
    before = kept(folder)
    (os.killpg if to == "group" else os.kill)(running.process.pid, int(number))
    running.process.join(HANGS)
    deadline = time.monotonic() + _ENDING
    while left := [pid for pid in processes if is_alive(pid)]:
        names = [Path(f"/proc/{pid}/cmdline").read_text().strip("\0") for pid in left]
        assert time.monotonic() < deadline, names
        time.sleep(0.1)
    done = running.wait()
    assert done.code == 128 + int(number), done
    assert "trials of the search are kept. Continue: python -m harness.search" in done.stdout
    assert "error" not in done.stderr, done.stderr
    assert not list(folder.glob("core*"))
    after = kept(folder)
    assert before.items() <= after.items()
    budget = len(list(folder.glob("s/predictions/[0-9]*"))) + 1
    assert command(folder, "search", *searching(folder, budget)).code == 0
    check_study(folder, "s", budget)


@fault("surroundings", "Ray's memory monitor kills the workers", 2, few=0)
def _(folder: Path, rng: random.Random) -> None:
    line = [*models.searching(folder), "--concurrency", 2]
    full = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "200"}
    done = command(folder, "search", *line, environment=full)
    check_said(done, "trials in a row were lost to the machine", "ran out of memory: ")
    if len(os.sched_getaffinity(0)) > 1:
        assert "from now on, trials at the same time: 1" in done.stdout
    done = command(folder, "search", *line)
    assert done.code == 0, done
    check_study(folder, "s", models.TRIALS)


def long(folder: Path) -> dict[str, str]:
    path = folder / ("x" * 100)
    path.mkdir()
    return {"TMPDIR": str(path)}


def relative(folder: Path) -> dict[str, str]:
    (folder / "scratch").mkdir()
    return {"TMPDIR": "scratch"}


HOMES: dict[str, Callable[[Path], dict[str, str]]] = {
    "a home that is not writable": lambda folder: {"HOME": "/proc"},
    "a home that does not exist": lambda folder: {"HOME": str(folder / "no-home")},
    "a long TMPDIR": long,
    "a relative TMPDIR": relative,
}


@fault("surroundings", "a home or a temporary folder that Ray cannot use", 4, few=1)
def _(folder: Path, rng: random.Random) -> None:
    variables = HOMES[turn(HOMES, "homes")](folder)
    done = typed(folder, "search", *models.searching(folder), **variables)
    assert done.code == 0, done.said
    check_study(folder, "s", models.TRIALS)


@fault("surroundings", "a temporary folder of 4 kB", 1, few=0)
def _(folder: Path, rng: random.Random) -> None:
    with small_disk(folder / "tmp", 4):
        line = models.searching(folder / "results")
        check_said(typed(folder, "search", *line, TMPDIR=str(folder / "tmp")), "TMPDIR")
    done = typed(folder, "search", *line)
    assert done.code == 0, done.said
    check_study(folder / "results", "s", models.TRIALS)


# What sites set for Ray and Tune.
SITE = {
    "TUNE_RESULT_DIR": "/proc/nowhere", "RAY_AIR_LOCAL_CACHE_DIR": "/proc/nowhere",
    "RAY_AIR_NEW_OUTPUT": "1", "TUNE_GLOBAL_CHECKPOINT_S": "1", "TUNE_MAX_PENDING_TRIALS_PG": "1",
    "RAY_ADDRESS": "127.0.0.1:1",
}  # fmt: skip


@fault("surroundings", "variables of a site for Ray and Tune", 1, few=0)
def _(folder: Path, rng: random.Random) -> None:
    done = typed(folder, "search", *models.searching(folder), **SITE)
    assert done.code == 0, done.said
    assert "Traceback" not in done.said
    check_study(folder, "s", models.TRIALS)


NOT_UTF8 = os.fsdecode(b"caf\xe9")
REFUSED: dict[str, tuple[list[object], str]] = {
    "no part of a CPU": (["--cpus-per-trial", 0], "--cpus-per-trial"),
    "more CPUs than there are": (["--cpus-per-trial", 10_000], "lower --cpus-per-trial"),
    "a host without a port": (["--address", "localhost"], "--address localhost"),
    "a name that is not UTF-8": (["--results", NOT_UTF8], "UTF-8"),
}


@fault("surroundings", "options that Ray refuses", 4, few=0)
def _(folder: Path, rng: random.Random) -> None:
    more, word = REFUSED[turn(REFUSED, "refused")]
    check_said(typed(folder, "search", *models.searching(folder), *more), word)


# As a user without rights; groups are cleared, because the root group may write. It may read
# everything, because the interpreter is often in root's home folder.
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
NOBODY += ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]


@fault("surroundings", "a study of another user", 2, few=0)
def _(folder: Path, rng: random.Random) -> None:
    if os.getuid():
        raise CannotTryError("only root can play another user")
    python = subprocess.run([*NOBODY, sys.executable, "-c", "0"], capture_output=True, check=False)
    if python.returncode:
        raise CannotTryError(f"other users cannot run {sys.executable}, as Ray's workers do")
    results = models.copied(models.searched(), folder)
    for path in (folder, models.given_features(), models.given_features().parent):
        path.chmod(0o755)
    before = contents(results)
    for line in (["search", *models.searching(results, 5)], ["ensemble", *ensembling(results)]):
        done = typed(Path("/"), *line, before=NOBODY, HOME="/nonexistent")
        check_said(done, "Permission denied", str(results))
    assert contents(results) == before
    # Both may write, as in the folder of a project.
    for path in (results, *results.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    done = typed(
        Path("/"), "search", *models.searching(results, 5), before=NOBODY, HOME="/nonexistent"
    )
    assert done.code == 0, done.said
    check_study(results, "s", 5)


def one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


@fault("surroundings", "one core by affinity", 1, few=0)
def _(folder: Path, rng: random.Random) -> None:
    done = command(folder, "search", *searching(folder, 4), before=one_core)
    assert done.code == 0, done
    trials = sorted(check_study(folder, "s", 4), key=lambda trial: trial.number)
    for first, second in itertools.pairwise(trials):
        assert first.datetime_complete
        assert second.datetime_start
        assert first.datetime_complete <= second.datetime_start, "two trials on one core"


def copied(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)


def copied_without_hidden(source: Path, target: Path) -> None:
    """As `cp -r source/* target/` does."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(".*"))


def renamed(source: Path, target: Path) -> None:
    source.rename(target)


MOVES = {move.__name__: move for move in (copied, copied_without_hidden, renamed)}


@fault("surroundings", "a study is copied or renamed and continued", 3, few=0)
def _(folder: Path, rng: random.Random) -> None:
    results = models.copied(models.searched(), folder)
    MOVES[turn(MOVES, "moves")](results / "s", results / "moved")
    line = [*models.searching(results, 5), "--study", "moved"]
    done = command(folder, "search", *line)
    assert done.code == 0, done
    check_study(results, "moved", 5)
    done = command(folder, "ensemble", "--results", results, "--study", "moved", "--top", 3)
    assert done.code == 0, done


@cache
def shim() -> Path:
    library = file_systems.compiled(models.home())
    if library is None:
        raise CannotTryError("there is no C compiler")
    return library


@fault("surroundings", "a file system without locks, links or flushes", 4, few=0)
def _(folder: Path, rng: random.Random) -> None:
    lacks = turn(file_systems.LACKS, "file systems")
    line = ["search", *models.searching(folder)]
    done = typed(folder, *line, LD_PRELOAD=str(shim()), **{lacks: "1"})
    if lacks == "NO_FLOCK":
        check_said(done, "does not lock files", "choose a folder on another one")
    elif lacks == "NO_FSYNC":
        check_said(done, "Input/output error", str(folder))
    else:
        assert done.code == 0, done.said
    done = typed(folder, *line)
    assert done.code == 0, done.said
    check_study(folder, "s", models.TRIALS)


@fault("surroundings", "a journal's lock points to nothing, as another writer left it", 1, few=0)
def _(folder: Path, rng: random.Random) -> None:
    results = models.copied(models.searched(), folder)
    (results / "s" / "study.log.lock").symlink_to("results/s/study.log")
    done = command(folder, "search", *models.searching(results, 5))
    assert done.code == 0, done
    assert "waiting for" in done.stderr
    assert "study.log.lock, which another process holds" in done.stderr
    check_study(results, "s", 5)


@fault("surroundings", "the disk becomes full in the middle of a search", 3, few=0)
def _(folder: Path, rng: random.Random) -> None:
    disk = folder / "disk"
    with small_disk(disk, 1 << 16):
        results = disk / "results"
        running = start(folder / "said.txt", "search", *searching(results, ENDLESS))
        wait_for_trials(running, results, 2)
        fill(disk, rng.choice([0, 100, 1 << 12]))
        check_said(running.wait(), "No space left")
        (disk / ".filling").unlink()
        budget = len(list(results.glob("s/predictions/[0-9]*"))) + 2
        done = command(folder, "search", *searching(results, budget))
        assert done.code == 0, done.said
        check_study(results, "s", budget)


@fault("surroundings", "a results folder with blanks and brackets in its path", 1, few=0)
def _(folder: Path, rng: random.Random) -> None:
    results = folder / "my results [1]"
    done = command(folder, "search", *models.searching(results))
    assert done.code == 0, done
    assert f"--results '{results}'" in done.stdout
    check_study(results, "s", models.TRIALS)
    (line,) = [each for each in done.stdout.splitlines() if each.startswith("Next: ")]
    built = subprocess.run(
        ["sh", "-c", line.removeprefix("Next: ").replace("python", sys.executable, 1)],
        capture_output=True, text=True, check=False, timeout=HANGS, cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
