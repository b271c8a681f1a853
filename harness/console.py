"""The terminal: how commands print, and how they end."""

import sys

import typer
from rich.console import Console

from harness.errors import InputError

#: Exit code of a run that the user interrupted (128 + SIGINT).
INTERRUPTED = 130


def console(quiet: bool = False) -> Console:
    """Standard output; colours and live tables only where a terminal is watching."""
    return Console(quiet=quiet)


def run(app: typer.Typer) -> None:
    """Runs a command and exits: 0 done, 1 a clear error, 2 wrong usage, 130 interrupted."""
    try:
        app()
    except InputError as error:
        # Plain text: a path in brackets is no markup. One line: programs read it, too.
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
