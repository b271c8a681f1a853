"""The harness's commands in processes of their own, which a trap may kill at a named point.

A server that has imported the commands forks them, so that each starts at once.
"""

import importlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

#: What a process says to the operating system between work and done.
POINTS = ("fsync", "fdatasync", "replace", "rename", "link", "symlink", "unlink", "mkdir")
# What the commands import once they work.
_HEAVY = (
    "harness.study.session", "harness.study.tuning", "harness.reports.page", "harness.predictor",
    "harness.backbone.pretraining",
)  # fmt: skip
_SPAWN = multiprocessing.get_context("forkserver")
_SPAWN.set_forkserver_preload(list(_HEAVY))

#: Runs in the child before the command.
Prelude = Callable[..., None]


@dataclass(frozen=True)
class Done:
    """code: exit status, negative the signal. said: both streams."""

    code: int | None
    said: str

    def __str__(self) -> str:
        return f"exit {self.code} after ...{self.said[-300:]}"


@dataclass
class Running:
    """A started command."""

    process: Any
    output: Path

    def wait(self, timeout: float = 300) -> Done:
        """Waits for the end; AssertionError where it hangs."""
        self.process.join(timeout)
        hangs = self.process.exitcode is None
        # What it started, such as Ray's processes, ends with it.
        kill_group(self.process.pid)
        self.process.join()
        said = self.output.read_text(errors="replace") if self.output.exists() else ""
        assert not hangs, f"hangs after {timeout} s: {said[-500:]}"
        return Done(self.process.exitcode, said)


def start(
    output: Path,
    name: str,
    *arguments: object,
    before: Prelude | None = None,
    given: tuple[Any, ...] = (),
) -> Running:
    """Starts `python -m harness.NAME ARGUMENTS`; `before(*given)` runs in it first."""
    line = (str(output), name, tuple(map(str, arguments)), before, given)
    process = _SPAWN.Process(target=_child, args=line)
    process.start()
    return Running(process, output)


def command(folder: Path, name: str, *arguments: object, **more: Any) -> Done:
    """Runs a command to its end; `folder` takes its output."""
    return start(folder / f"said-{name}.txt", name, *arguments, **more).wait()


def kill_group(pid: int | None) -> None:
    if pid is None:
        return
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def die_at(number: int, after: bool) -> None:
    """Makes this process die before, or right after, its so-manieth point (from 0)."""
    reached = iter(range(1 << 30))
    _trap(lambda: next(reached) == number, after, _die)


def count_points(file: Path) -> None:
    """Makes this process note how many points it passes."""
    passed = 0

    def note() -> bool:
        nonlocal passed
        passed += 1
        file.write_text(str(passed))
        return False

    _trap(note, False, _die)


def note_points(file: Path) -> None:
    """Makes this process write down each point: its name and what it is done to."""

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            on = [str(a) for a in args]
            if name in ("fsync", "fdatasync"):
                number = args[0] if isinstance(args[0], int) else args[0].fileno()
                on = [str(Path(f"/proc/self/fd/{number}").readlink())]
            result = real(*args, **kwargs)
            with file.open("a") as noted:
                noted.write(json.dumps([name, *on]) + "\n")
            return result

        return call

    for point in POINTS:
        setattr(os, point, wrapped(point, getattr(os, point)))


def _trap(here: Callable[[], bool], after: bool, act: Callable[[], None]) -> None:
    owner = os.getpid()

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            chosen = os.getpid() == owner and here()
            if chosen and not after:
                act()
            try:
                return real(*args, **kwargs)
            finally:
                if chosen:
                    act()

        return call

    for point in POINTS:
        setattr(os, point, wrapped(getattr(os, point)))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _child(
    output: str,
    name: str,
    arguments: tuple[str, ...],
    before: Prelude | None,
    given: tuple[Any, ...],
) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    # Python's objects of the streams are those of the server: they write to the same descriptors.
    sys.argv = [f"harness.{name}", *arguments]
    # Threads add in any order, and an unbroken run is to be compared bit by bit.
    torch.set_num_threads(1)
    if before:
        before(*given)
    from harness.console import run

    run(importlib.import_module(f"harness.{name}").app)
