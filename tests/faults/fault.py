"""A fault: a way in which the world goes wrong, and what must hold afterwards."""

import random
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

#: In an empty folder and with numbers of its own; raises AssertionError where something is lost.
Attempt = Callable[[Path, random.Random], None]

KINDS = ("crash", "surroundings", "corruption", "hostile", "exposure")


class CannotTryError(Exception):
    """This machine does not let the fault be made; says why."""


@dataclass(frozen=True)
class Fault:
    """kind: one of KINDS. name: what goes wrong. times: how often it is tried."""

    kind: str
    name: str
    attempt: Attempt
    times: int


@dataclass
class Outcome:
    """What became of a fault. lost: what did not hold, for each time. reason: why it could not be
    tried; empty if it was."""

    fault: Fault
    tried: int = 0
    survived: int = 0
    seconds: float = 0.0
    lost: list[str] = field(default_factory=list)
    reason: str = ""


FAULTS: list[Fault] = []


def fault(kind: str, name: str, times: int) -> Callable[[Attempt], Attempt]:
    """Makes a fault of a function."""
    assert kind in KINDS

    def register(attempt: Attempt) -> Attempt:
        FAULTS.append(Fault(kind, name, attempt, times))
        return attempt

    return register


def tried(fault: Fault) -> Outcome:
    """Tries a fault as often as it says."""
    outcome = Outcome(fault)
    begun = time.monotonic()
    for number in range(fault.times):
        with tempfile.TemporaryDirectory(prefix="fault-") as folder:
            outcome.tried += 1
            try:
                fault.attempt(Path(folder), random.Random(f"{fault.name} {number}"))
                outcome.survived += 1
            except CannotTryError as error:
                outcome.tried, outcome.reason = 0, str(error)
                break
            except Exception:  # whatever it is: it was not survived
                where = traceback.format_exc(limit=-3)
                outcome.lost.append(f"time {number}: {where}")
    outcome.seconds = time.monotonic() - begun
    return outcome
