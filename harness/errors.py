"""The error that a user can fix, and the display of text from files."""

import errno
import re

# Of a network's file system, or of a machine at its limits: the same file may be readable later.
_PASSING = (
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
)
_ARGUMENT = re.compile(r"`(\w+)`")


class InputError(ValueError):
    """Bad input: the message names the file, row or field, what was expected and what to do.

    Arguments of the public interface are in backticks, as in "choose another `study`"; commands
    print the options instead (`harness.console.as_options`), on one line without a traceback, and
    exit with 1. argument: the one whose value is refused, if the message begins with it.
    """

    def __init__(self, message: str, argument: str | None = None) -> None:
        super().__init__(f"`{argument}`: {message}" if argument else message)

    @property
    def argument(self) -> str | None:
        found = _ARGUMENT.match(str(self))
        return found[1] if found else None


def may_pass(error: BaseException) -> bool:
    """Whether an error, or a cause of it, is of the machine at that time instead of the file."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or getattr(cause, "errno", None) in _PASSING:
            return True
        cause = cause.__cause__
    return False


def printable(text: str) -> str:
    """Text on one line; control characters and characters without a glyph become escapes.

    Names of files and keys are made by others: they may hold sequences that clear a screen, or
    marks that turn the direction of writing.
    """
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
