from tests.faults import corruption, crash, surroundings
from tests.faults.fault import FAULTS

__all__ = ["FAULTS", "corruption", "crash", "surroundings"]
