"""The error that a user can mend."""


class InputError(ValueError):
    """Bad input: the message names the file, row or field, what was expected and what to do.

    Commands print the message on one line, without a traceback, and exit with 1.
    """
