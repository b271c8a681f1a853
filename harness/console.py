"""The terminal: how commands print, and how they end."""

import errno
import os
import sys

import typer
from rich.console import Console

from harness.errors import InputError, printable

#: Exit code of a run that the user interrupted (128 + SIGINT).
INTERRUPTED = 130


def console(quiet: bool = False) -> Console:
    """Standard output; colours and live tables only where a terminal is watching."""
    # Names from files are shown as they are: ":smile:" is no picture.
    return Console(quiet=quiet, emoji=False)


def run(app: typer.Typer) -> None:
    """Runs a command and exits: 0 done, 1 a clear error, 2 wrong usage, 130 interrupted."""
    try:
        app()
    except InputError as error:
        # Plain text: a path in brackets is no markup. One line: programs read it, too.
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)
    except MemoryError as error:
        told = f"{error}; " if str(error) else ""
        print(f"error: {printable(told)}this machine has not enough memory for it", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        surroundings = _surroundings(error)
        if surroundings is None:
            raise
        print(f"error: {printable(surroundings)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _surroundings(error: BaseException) -> str | None:
    """A line on what the operating system refused, if that is behind an error."""
    while not isinstance(error, OSError) or error.errno is None:
        behind = error.__cause__ or error.__context__
        if behind is None:
            return None
        error = behind
    number = error.errno
    where = f"{error.filename}: " if error.filename else ""
    todo = {
        errno.ENOSPC: "free some space",
        errno.EDQUOT: "free some space",
        errno.EROFS: "make it writable, or choose another folder",
        errno.EACCES: "make it accessible, or choose another folder",
        errno.EPERM: "make it accessible, or choose another folder",
    }.get(number or 0, "put that right")
    return (
        f"{where}{os.strerror(number or 0)}; what was finished is kept: {todo} and run the same "
        "command again"
    )
