"""Names that users give and that become folders."""

from pathlib import Path

from harness.errors import InputError


def check_folder_name(option: str, name: str) -> None:
    """InputError where a name is not that of one visible folder, without controlling characters."""
    if not name or name.startswith(".") or Path(name).name != name or not name.isprintable():
        raise InputError(f"{option} {name!r}: expected a plain folder name")
