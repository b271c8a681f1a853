"""The error that a user can fix, and the display of text from files."""

import re

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


def printable(text: str) -> str:
    """Text on one line; control characters and characters without a glyph become escapes.

    Names of files and keys are made by others: they may hold sequences that clear a screen, or
    marks that turn the direction of writing.
    """
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
