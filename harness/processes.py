"""Processes that descend from others."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_ALL = Path("/proc")


@dataclass(frozen=True)
class Process:
    """started: in ticks of the clock since the machine began. A later process may get the same
    number, but not the same start."""

    pid: int
    started: int


def descendants(*leaders: int) -> set[Process]:
    """Processes that the leaders started, and those that they started, while all of these live."""
    parents = {}
    for file in _ALL.glob("[0-9]*/stat"):
        if (read := _read(int(file.parent.name))) is not None:
            parents[read[0]] = read[1]
    pids, found = set(leaders), set[Process]()
    while more := {each for each, parent in parents.items() if parent in pids} - found:
        found |= more
        pids |= {each.pid for each in more}
    return found


def kill(processes: Iterable[Process]) -> None:
    """Ends those that still run, at once."""
    for each in processes:
        if (read := _read(each.pid)) is not None and read[0] == each:
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)


def _read(pid: int) -> tuple[Process, int] | None:
    """A process and its parent; None: it has ended."""
    try:
        # The name, in parentheses, may hold anything.
        fields = (_ALL / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return Process(pid, int(fields[19])), int(fields[1])
