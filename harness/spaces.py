"""The search spaces that ship with the package, by name."""

from pathlib import Path

from harness.errors import InputError

#: Where they are: a link to the checkout's `search_spaces/`, real files once installed.
SPACES = Path(__file__).parent / "search_spaces"


def find_space(given: str) -> Path:
    """The file of a search space.

    Args:
        given: the name of one that ships, such as `paper`, or the path of a TOML file. A file of
            the same name as one that ships is given with its folder: `./paper`.

    Raises:
        InputError: neither such a name nor such a file.
    """
    names = sorted(path.stem for path in SPACES.glob("*.toml"))
    if given in names:
        return SPACES / f"{given}.toml"
    path = Path(given)
    if not path.exists():
        choices = ", ".join(names) or "none (the installation is damaged)"
        raise InputError(
            f"`space` {given}: no such search space; choose one of {choices}, or give a TOML file"
        )
    return path
