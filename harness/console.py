"""The terminal: how commands print, and how they end."""

import codecs
import errno
import io
import logging
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from harness import interrupts
from harness.collection import collect_rarely
from harness.cores import spin_briefly
from harness.errors import InputError, printable

if TYPE_CHECKING:
    from rich.console import Console

_log = logging.getLogger(__name__)
#: Exit codes: wrong usage; interrupted by Ctrl-C, as typer returns it for any KeyboardInterrupt.
USAGE, INTERRUPTED = 2, 130
# Characters that the commands print, for terminals that cannot show them.
_ASCII = "harness-ascii"
_REPLACEMENTS = {"·": "|", "×": "x", "±": "+-", "…": "...", "–": "-", "│": "|", "─": "-"}
# Of the library, in its messages.
_ARGUMENT = re.compile(r"`([a-z][a-z_]*)`")
# The console script that the installation makes.
_SCRIPT = "harness"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)  # the handler is given for output alone
    text = error.object[error.start : error.end]
    return "".join(_REPLACEMENTS.get(c, "?") for c in text), error.end


codecs.register_error(_ASCII, _replaced)


def console(quiet: bool = False, *, options: bool = True) -> "Console":
    """Standard output; colours and live tables only where a terminal is watching.

    Args:
        options: arguments in backticks are printed as the options of a command.
    """
    from rich.console import Console  # wrong usage needs none

    class Terminal(Console):
        def print(self, *objects: Any, **how: Any) -> None:
            shown = (as_options(text) if isinstance(text, str) else text for text in objects)
            super().print(*shown, **how)

    # Names from files are shown as they are: ":smile:" is no picture.
    return (Terminal if options else Console)(quiet=quiet, emoji=False)


def tell(out: "Console", *lines: str) -> None:
    """Prints lines as they are, without markup and without breaks."""
    for line in lines:
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def as_options(text: str) -> str:
    """Text in which the library names its arguments, as a command says it: `top` is --top."""
    return _ARGUMENT.sub(lambda found: "--" + found[1].replace("_", "-"), text)


def invocation(command: str) -> str:
    """How this process would start a command again: by the console script, or by python -m.

    The console script also works in a folder that holds another folder named `harness`.
    """
    by_script = Path(sys.argv[0]).name == _SCRIPT
    return f"{_SCRIPT} {command}" if by_script else f"python -m harness.{command}"


def run(app: typer.Typer, command: str | None = None) -> None:
    """Runs a command and exits: 0 done, 1 a clear error, 2 wrong usage, 128 + the number of the
    signal that ended it, such as 130 after Ctrl-C.

    Args:
        command: the command's name, where `sys.argv[0]` does not say it.
    """
    program = invocation(command) if command else None
    spin_briefly()
    collect_rarely()
    interrupts.listen()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ASCII)
    try:
        # Not standalone: typer would print usage errors in a box of several lines.
        code = app(standalone_mode=False, prog_name=program)
    except typer.TyperException as error:
        usage_error(error.format_message(), f"{program or _program()} --help")
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:
        if interrupts.received() is None:
            if (message := _message(error)) is None:
                raise
            # Plain text: a path in brackets is no markup. One line: programs read it, too.
            print(f"error: {printable(message)}", file=sys.stderr)
            sys.exit(1)
        # What breaks after a signal is its consequence: it reaches other processes as well.
        _log.info("after the signal", exc_info=error)
        code = INTERRUPTED
    if code == INTERRUPTED:
        _exit_interrupted()
    # A command returns nothing; typer returns the code of --help.
    if isinstance(code, int):
        sys.exit(code)


def _exit_interrupted() -> NoReturn:
    interrupts.ignore()
    number = interrupts.received() or signal.SIGINT
    try:
        if not interrupts.is_reported():
            name = signal.Signals(number).name
            interrupts.mark_reported()
            print(
                f"interrupted by {name}; what was finished is kept: run the same command again",
                file=sys.stderr,
            )
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        # The terminal is closed; Python's own flush at the end would change the exit status.
        for number_of_stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number_of_stream)
    sys.exit(128 + number)


def usage_error(message: str, help_command: str) -> NoReturn:
    """Prints wrong usage on one line, names the command that helps, and exits with 2."""
    # What pydantic puts before the errors of typer's own types.
    text = message.replace("Value error, ", "").rstrip(".")
    print(f"error: {printable(text)}; see {help_command}", file=sys.stderr)
    sys.exit(USAGE)


def _program() -> str:
    """`python -m harness.search` of a module that runs as the main program."""
    return invocation(Path(sys.argv[0]).stem)


def _message(error: Exception) -> str | None:
    """The line for an error that a user can fix; None for one of the program's own."""
    if isinstance(error, InputError):
        return as_options(str(error))
    if isinstance(error, MemoryError):
        return f"{error}; this machine has not enough memory for it".removeprefix("; ")
    return _surroundings(error)


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
