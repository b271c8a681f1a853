"""How many synthetic clips the tests draw."""

from harness.clips.demo import Plan

TINY = Plan(clips=(10, 6, 4), faces=(64, 24), frames=31)
#: Enough clips of val for every figure of a report.
FEW = Plan(clips=(20, 20, 4), faces=(8, 8), frames=31)
