"""Commands that a part runs, watched line by line and interrupted in time."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.benchmarks.gpu.parts import DEADLINE

#: Seconds that a command which is interrupted may take to end by itself.
LEAVE = 8.0


@dataclass(frozen=True)
class Program:
    """A command that has run. code: its exit code. seconds: until it ended. lines: what it
    printed, each with the seconds since its start. errors: the end of its complaints. interrupted:
    whether its time was over first."""

    code: int
    seconds: float
    lines: tuple[tuple[float, str], ...]
    errors: str
    interrupted: bool


def run_program(line: Sequence[str], cwd: Path) -> Program:
    """Runs a command; shortly before the part that runs it is cut off, it is interrupted as by
    Ctrl-C."""
    allowed = float(os.environ.get(DEADLINE, "inf")) - time.time() - LEAVE - 2
    begun, interrupted = time.monotonic(), False
    process = subprocess.Popen(
        line, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    lines: list[tuple[float, str]] = []
    errors: list[str] = []
    assert process.stdout is not None
    assert process.stderr is not None

    def watch(stream: IO[str]) -> None:
        lines.extend((time.monotonic() - begun, row.rstrip()) for row in stream)

    readers = [
        threading.Thread(target=watch, args=(process.stdout,), daemon=True),
        threading.Thread(target=errors.extend, args=(process.stderr,), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        process.wait(None if allowed == float("inf") else max(allowed, 1.0))
    except subprocess.TimeoutExpired:
        interrupted = True
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LEAVE)
        process.kill()
    taken = time.monotonic() - begun
    code = process.wait()
    for reader in readers:
        reader.join(1.0)  # what the command left running may hold its pipes
    return Program(code, taken, tuple(lines), "".join(errors)[-2000:], interrupted)
