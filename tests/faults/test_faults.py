"""Every fault of the suite is survived, each time. Here each is tried a few times, except those of
which another test tries a short form. `python -m tests.faults` tries each as often as
docs/faults.md says.
"""

import os

import pytest

from tests.faults.fault import Fault, tried
from tests.faults.suite import FAULTS


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [f for f in FAULTS if f.few], ids=lambda fault: f"{fault.kind}: {fault.name}"
)
def test_nothing_is_lost(fault: Fault) -> None:
    outcome = tried(fault, fault.few)
    if outcome.reason and not os.environ.get("CI"):
        pytest.skip(outcome.reason)
    assert not outcome.lost, "\n".join(outcome.lost)
    assert outcome.survived == outcome.tried == fault.few
