"""The terminal: how commands print, and how they end."""

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from harness.errors import InputError, printable

if TYPE_CHECKING:
    from rich.console import Console

#: Exit codes: wrong usage, and a run that the user interrupted (128 + SIGINT).
USAGE, INTERRUPTED = 2, 130
# The console script that the installation makes.
_SCRIPT = "harness"


def console(quiet: bool = False) -> "Console":
    """Standard output; colours and live tables only where a terminal is watching."""
    from rich.console import Console  # wrong usage needs none

    # Names from files are shown as they are: ":smile:" is no picture.
    return Console(quiet=quiet, emoji=False)


def invocation(command: str) -> str:
    """How this process would start a command again: by the console script, or by python -m.

    The console script also works in a folder that holds another folder named `harness`.
    """
    by_script = Path(sys.argv[0]).name == _SCRIPT
    return f"{_SCRIPT} {command}" if by_script else f"python -m harness.{command}"


def run(app: typer.Typer, command: str | None = None) -> None:
    """Runs a command and exits: 0 done, 1 a clear error, 2 wrong usage, 130 interrupted.

    Args:
        command: the command's name, where `sys.argv[0]` does not say it.
    """
    program = invocation(command) if command else None
    try:
        # Not standalone: typer would print usage errors in a box of several lines.
        code = app(standalone_mode=False, prog_name=program)
    except typer.TyperException as error:
        usage_error(error.format_message(), f"{program or _program()} --help")
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
    # A command returns nothing; typer returns the code of an interrupt, or of --help.
    if isinstance(code, int):
        sys.exit(code)


def usage_error(message: str, help_command: str) -> NoReturn:
    """Prints wrong usage on one line, names the command that helps, and exits with 2."""
    # What pydantic puts before the errors of typer's own types.
    text = message.replace("Value error, ", "").rstrip(".")
    print(f"error: {printable(text)}; see {help_command}", file=sys.stderr)
    sys.exit(USAGE)


def _program() -> str:
    """`python -m harness.search` of a module that runs as the main program."""
    return invocation(Path(sys.argv[0]).stem)


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
