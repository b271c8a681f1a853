"""All faults there are; importing a module of them lists its own."""

from tests.faults import (
    bombs,
    corruption,
    crash,
    environments,
    exposure,
    hostile,
    kills,
    surroundings,
    together,
    versions,
    words,
)
from tests.faults.fault import FAULTS

__all__ = [
    "FAULTS",
    "bombs",
    "corruption",
    "crash",
    "environments",
    "exposure",
    "hostile",
    "kills",
    "surroundings",
    "together",
    "versions",
    "words",
]
