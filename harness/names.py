"""Names that users give: folders, and environment variables."""

from pathlib import Path

from harness.errors import InputError

#: The variable that holds a database's URL, which then stays off the command line.
STORAGE_VARIABLE = "HARNESS_STORAGE"
#: The variable that holds the folder of stored streams.
CACHE_VARIABLE = "HARNESS_CACHE"


def check_folder_name(argument: str, name: str) -> None:
    """InputError where a name is not that of one visible folder, without controlling characters."""
    if not name or name.startswith(".") or Path(name).name != name or not name.isprintable():
        raise InputError(f"{name!r}: expected a plain folder name", argument)


def is_secret(storage: str) -> bool:
    """Whether the URL of a storage may hold a password."""
    return "://" in storage and ("@" in storage or "?" in storage)
