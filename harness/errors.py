"""The error that a user can mend, and how text of others is told."""


class InputError(ValueError):
    """Bad input: the message names the file, row or field, what was expected and what to do.

    argument: of the public interface, whose value is meant; `str` puts its name before the message,
    and a command the option's. Commands print the line without a traceback and exit with 1.
    """

    def __init__(self, message: str, argument: str | None = None) -> None:
        super().__init__(message, argument)
        self.message, self.argument = message, argument

    def __str__(self) -> str:
        return f"{self.argument}: {self.message}" if self.argument else self.message


def printable(text: str) -> str:
    """Text on one line; what a terminal would obey, or would not show, stands as its escape.

    Names of files and keys are made by others: they may hold sequences that clear a screen, or
    marks that turn the direction of writing.
    """
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
