from tests.faults import crash, surroundings
from tests.faults.fault import FAULTS

__all__ = ["FAULTS", "crash", "surroundings"]
