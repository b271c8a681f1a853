"""Commands whose output lies in a folder, and which a trap may kill at a named point."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.commands import Done, Running, kill_group, start

__all__ = ["Done", "Running", "command", "count_points", "die_at", "kill_group", "note_points",
           "start"]  # fmt: skip
#: What a process says to the operating system between work and done.
POINTS = ("fsync", "fdatasync", "replace", "rename", "link", "symlink", "unlink", "mkdir")


def command(folder: Path, name: str, *arguments: object, **more: Any) -> Done:
    """Runs a command to its end; `folder` takes its output."""
    return start(folder / f"said-{name}.txt", name, *arguments, **more).wait()


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
