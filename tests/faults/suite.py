"""All faults there are; importing a module of them lists its own."""

from tests.faults import corruption, crash, exposure, hostile, kills, surroundings
from tests.faults.fault import FAULTS

__all__ = ["FAULTS", "corruption", "crash", "exposure", "hostile", "kills", "surroundings"]
