"""What is around the harness gives way: disk, permissions, folders, clock, other runs, old
files."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults import models
from tests.faults.commands import Done, command, start
from tests.faults.crash import check_stored, ensembling, pretraining
from tests.faults.fault import CannotTryError, fault, turn
from tests.faults.whole import check_study, check_whole, contents


def check_said(done: Done, *words: str) -> None:
    """Ended with one clear line: an error that names what is wrong."""
    assert done.code == 1, done
    assert "Traceback" not in done.said, done.said
    last = done.said.strip().splitlines()[-1]
    assert last.startswith("error: "), done
    for word in words:
        assert word in last, f"{word!r} is not in {last!r}"


def mount(folder: Path, options: str) -> None:
    line = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotTryError(f"a file system cannot be mounted here: {done.stderr.strip()}")


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Callable[[str], None]]:
    """A file system of its own in `folder`; what is yielded mounts it anew with options."""
    folder.mkdir()
    mount(folder, f"size={kib}k")
    try:
        yield lambda options: mount(folder, f"remount,{options}")
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, left: int) -> None:
    """Leaves so many bytes of a file system."""
    file = folder / ".filling"
    file.touch()
    stat = os.statvfs(folder)
    try:
        file.write_bytes(b"\0" * max(0, stat.f_bavail * stat.f_frsize - left))
    except OSError as error:
        if error.errno != errno.ENOSPC:  # a command that runs has written there as well
            raise


@fault("surroundings", "disk full while features are written", 4, few=2)
def _(folder: Path, rng: random.Random) -> None:
    disk = folder / "disk"
    with small_disk(disk, 1024):
        # About 7 kB are announced; folders and files take more.
        left = int(turn(("0", "16384"), "space left for features"))
        fill(disk, left)
        line = models.extraction(disk / "results")
        words = ("No space left", "run the same command") if left else ("free some space",)
        check_said(command(folder, "extract", *line), *words)
        check_whole(disk)
        (disk / ".filling").unlink()
        assert command(folder, "extract", *line).code == 0
        check_stored(disk / "results")


@fault("surroundings", "disk full while an ensemble is written", 6)
def _(folder: Path, rng: random.Random) -> None:
    disk = folder / "disk"
    with small_disk(disk, 4096):
        results = models.copied(models.library(), disk)
        fill(disk, rng.choice([0, 4096, 8192, 12288]))
        check_said(command(folder, "ensemble", *ensembling(results)), "No space left")
        check_whole(results)
        (disk / ".filling").unlink()
        assert command(folder, "ensemble", *ensembling(results)).code == 0


@fault("surroundings", "disk full while a network is trained", 3, few=1)
def _(folder: Path, rng: random.Random) -> None:
    disk = folder / "disk"
    with small_disk(disk, 1 << 20):
        fill(disk, rng.choice([0, 1 << 16, 1 << 22]))
        check_said(command(folder, "pretrain", *pretraining(disk)), "No space left")
        check_whole(disk)
        (disk / ".filling").unlink()
        assert command(folder, "pretrain", *pretraining(disk)).code == 0


@fault("surroundings", "disk full while trials are written", 3, few=2)
def _(folder: Path, rng: random.Random) -> None:
    disk = folder / "disk"
    with small_disk(disk, 1 << 15):
        line = models.searching(disk / "results")
        fill(disk, rng.choice([0, 1 << 14, 1 << 15]))
        check_said(command(folder, "search", *line), "No space left")
        check_whole(disk)
        (disk / ".filling").unlink()
        done = command(folder, "search", *line)
        assert done.code == 0, done.said
        check_study(disk / "results", "s", models.TRIALS)


@fault("surroundings", "a file system that became read-only", 2, few=1)
def _(folder: Path, rng: random.Random) -> None:
    disk = folder / "disk"
    with small_disk(disk, 1 << 16) as remount:
        results = models.copied(models.searched(), disk)
        before = contents(results)
        remount("ro")
        for name, line in (
            ("ensemble", ensembling(results)),
            ("extract", models.extraction(results)),
            ("search", models.searching(results, 5)),
        ):
            check_said(command(folder, name, *line), "Read-only file system")
        assert contents(results) == before


# Root may write anywhere, but for this.
BOUND = ["setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override"]


@fault("surroundings", "a folder without write permission", 1)
def _(folder: Path, rng: random.Random) -> None:
    results = models.copied(models.searched(), folder)
    before = contents(results)
    for path in (results, *results.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for name, arguments in (
        ("ensemble", ensembling(results)),
        ("extract", models.extraction(results)),
        ("search", models.searching(results, 5)),
    ):
        line = [sys.executable, "-m", f"harness.{name}", *map(str, arguments)]
        line = line if os.getuid() else [*BOUND, *line]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=600)
        check_said(Done(done.returncode, "", done.stderr), "Permission denied", str(results))
    assert contents(results) == before


@fault("surroundings", "the results folder disappears during a search", 3, few=2)
def _(folder: Path, rng: random.Random) -> None:
    results = folder / "results"
    running = start(folder / "said.txt", "search", *models.searching(results, 200))
    while not list(results.glob("s/predictions/0*")):
        assert running.process.exitcode is None, running.wait()
        time.sleep(0.05)
    results.rename(folder / "elsewhere")
    time.sleep(rng.uniform(0, 0.5))
    shutil.rmtree(results, ignore_errors=True)
    check_said(running.wait())
    check_whole(folder / "elsewhere")


def jumping_clock(seed: int) -> None:
    """The time of day leaps by up to a day, back and forth."""
    real, rng = time.time, random.Random(seed)
    jump = [0.0]

    def leap() -> None:
        while True:
            time.sleep(0.2)
            jump[0] = rng.uniform(-86400, 86400)

    threading.Thread(target=leap, daemon=True).start()
    time.time = lambda: real() + jump[0]


@fault("surroundings", "the clock jumps while a search runs", 2, few=1)
def _(folder: Path, rng: random.Random) -> None:
    given = (rng.randrange(1 << 30),)
    line = models.searching(folder, 6)
    done = command(folder, "search", *line, before=jumping_clock, given=given)
    assert done.code == 0, done.said
    check_study(folder, "s", 6)


@fault("surroundings", "two searches at once on one study", 3, few=2)
def _(folder: Path, rng: random.Random) -> None:
    line = models.searching(folder, 6)
    first = start(folder / "first.txt", "search", *line)
    time.sleep(rng.uniform(0, 3))
    second = start(folder / "second.txt", "search", *line)
    ended = [first.wait(), second.wait()]
    assert 0 in [done.code for done in ended], ended
    for done in ended:
        if done.code:
            check_said(done, "another search works on this study")
    check_study(folder, "s", 6)


@fault("surroundings", "two extractions at once into one store", 4, few=2)
def _(folder: Path, rng: random.Random) -> None:
    line = models.extraction(folder / "results")
    first = start(folder / "first.txt", "extract", *line)
    time.sleep(rng.uniform(0, 0.5))
    second = start(folder / "second.txt", "extract", *line)
    for done in (first.wait(), second.wait()):
        assert done.code == 0, done.said
    check_stored(folder / "results")


OLDER = {
    "without what it was made of": lambda manifest: manifest.pop("data"),
    "of another schema": lambda manifest: manifest.update(schema="study 0"),
    "that is a list": None,
    "that is cut": None,
}


@fault("surroundings", "a study written by another version", 4)
def _(folder: Path, rng: random.Random) -> None:
    results = models.copied(models.searched(), folder)
    file = results / "s" / "study.json"
    manifest = json.loads(file.read_text())
    what = turn(OLDER, "older studies")
    if what == "that is a list":
        file.write_text("[]")
    elif what == "that is cut":
        file.write_text(file.read_text()[: rng.randrange(200)])
    else:
        OLDER[what](manifest)
        file.write_text(json.dumps(manifest))
    before = {k: v for k, v in contents(results).items() if "/log/" not in k}
    for name, line in (
        ("search", models.searching(results, 5)),
        ("ensemble", ensembling(results)),
    ):
        check_said(command(folder, name, *line), "study.json")
    after = contents(results)
    # That it was tried is written down; nothing else is.
    assert {path: after[path] for path in after if "/log/" not in path} == before
