"""The methods that select and weight members, one file per method."""

from importlib import import_module

from harness import choices
from harness.ensembles.methods.method import Method, Stepwise

__all__ = ["METHODS", "Method", "Stepwise"]


def _method(name: str) -> type[Method]:
    """The class of a method: `<Name>` in `<name>.py`."""
    found: type[Method] = getattr(import_module(f"{__name__}.{name}"), name.capitalize())
    return found


#: By name, in the order of `harness.choices.METHODS`, which lists the methods.
METHODS: dict[str, type[Method]] = {name: _method(name) for name in choices.METHODS}
