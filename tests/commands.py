"""The harness's commands in processes of their own, which start at once: a server that has imported
them forks each.

What a user types, `python -m harness.NAME`, is started as such where the start itself matters.
"""

import atexit
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_COMMANDS = ("search", "ensemble", "extract", "pretrain", "predict", "report")
# What they import once they work.
_HEAVY = ("tuning.session", "tuning.engine", "reports.page", "predictor", "pretraining.training")
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [*(f"harness.{name}" for name in (*_COMMANDS, *_HEAVY)), "tests.frozen"]
)
#: Seconds until a command hangs: many times what any takes, also beside other tests.
HANGS = 600

#: Runs in the child before the command.
Prelude = Callable[..., None]


@dataclass(frozen=True)
class Done:
    """code: exit status, negative the signal."""

    code: int | None
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        """Both streams, errors last."""
        return self.stdout + self.stderr

    def __str__(self) -> str:
        return f"exit {self.code} after ...{self.said[-300:]}"


@dataclass
class Running:
    """A started command."""

    process: Any
    output: Path

    def wait(self, timeout: float = HANGS) -> Done:
        """Waits for the end; AssertionError where it hangs."""
        self.process.join(timeout)
        hangs = self.process.exitcode is None
        # What it started, such as Ray's processes, ends with it.
        kill_group(self.process.pid)
        self.process.join()
        stdout, stderr = (
            path.read_text(errors="replace") if path.exists() else ""
            for path in (self.output, _errors(self.output))
        )
        assert not hangs, f"hangs after {timeout} s: {(stdout + stderr)[-500:]}"
        return Done(self.process.exitcode, stdout, stderr)


def start(
    output: Path,
    name: str,
    *arguments: object,
    before: Prelude | None = None,
    given: tuple[Any, ...] = (),
    environment: dict[str, str] | None = None,
) -> Running:
    """Starts `python -m harness.NAME ARGUMENTS`; `before(*given)` runs in it first. `output` takes
    what it prints, a file beside it the errors.

    A search has one worker unless the arguments say otherwise: each takes three seconds of a
    processor to start.
    """
    if name == "search" and "--concurrency" not in arguments and "--help" not in arguments:
        arguments = (*arguments, "--concurrency", 1)
    line = (str(output), name, tuple(map(str, arguments)), before, given, environment or {})
    process = _SERVER.Process(target=_child, args=line)
    process.start()
    return Running(process, output)


def command(
    name: str, *arguments: object, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    with tempfile.TemporaryDirectory(prefix="said-") as folder:
        output = Path(folder, "said.txt")
        done = start(output, name, *arguments, environment=environment).wait()
    code = 1 if done.code is None else done.code
    return subprocess.CompletedProcess([name, *map(str, arguments)], code, done.stdout, done.stderr)


def kill_group(pid: int | None) -> None:
    """Ends a process and those that it started in its group, at once."""
    if pid is None:
        return
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _errors(output: Path) -> Path:
    return output.with_suffix(".errors.txt")


def _child(
    output: str,
    name: str,
    arguments: tuple[str, ...],
    before: Prelude | None,
    given: tuple[Any, ...],
    environment: dict[str, str],
) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores
    for number, path in ((1, Path(output)), (2, _errors(Path(output)))):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    os.environ.update(environment)
    # Python's objects of the streams are those of the server: they write to the same descriptors.
    sys.argv = [f"harness.{name}", *arguments]
    # Threads add in any order, and an unbroken run is to be compared bit by bit.
    torch.set_num_threads(1)
    if before:
        before(*given)
    from harness.console import run

    try:
        run(importlib.import_module(f"harness.{name}").app)
    finally:
        # As at the end of any other process: Ray ends its processes there.
        atexit._run_exitfuncs()
