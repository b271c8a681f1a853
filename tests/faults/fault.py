"""A fault: a way in which the world goes wrong, and what must hold afterwards."""

import random
import tempfile
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

#: In an empty folder and with numbers of its own; raises AssertionError where something is lost.
Attempt = Callable[[Path, random.Random], None]

#: Looks, after the last try of a fault, at what all tries have left.
Ending = Callable[[], None]

KINDS = ("crash", "surroundings", "corruption", "hostile", "exposure")


class CannotTryError(Exception):
    """This machine does not let the fault be made; says why."""


@dataclass(frozen=True)
class Fault:
    """kind: one of KINDS. name: what goes wrong. times: how often the program tries it. few: how
    often pytest does; 0: another test tries a short form. ending: what must hold after the last
    try; raises AssertionError."""

    kind: str
    name: str
    attempt: Attempt
    times: int
    few: int
    ending: Ending | None = None


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
_turns: dict[str, int] = {}


def turn(choices: Collection[str], of: str) -> str:
    """One choice after the other, in their order by name, so that a few tries meet all."""
    _turns[of] = _turns.get(of, -1) + 1
    return sorted(choices)[_turns[of] % len(choices)]


def fault(
    kind: str, name: str, times: int, *, few: int | None = None, ending: Ending | None = None
) -> Callable[[Attempt], Attempt]:
    """Makes a fault of a function. few: by default all times, as where each is its own case."""
    assert kind in KINDS
    assert few is None or few <= times

    def register(attempt: Attempt) -> Attempt:
        FAULTS.append(Fault(kind, name, attempt, times, times if few is None else few, ending))
        return attempt

    return register


def tried(fault: Fault, times: int) -> Outcome:
    """Tries a fault so often."""
    outcome = Outcome(fault)
    begun = time.monotonic()
    for number in range(times):
        # A command that a failed try leaves behind may still write there.
        with tempfile.TemporaryDirectory(prefix="fault-", ignore_cleanup_errors=True) as folder:
            outcome.tried += 1
            try:
                fault.attempt(Path(folder), random.Random(f"{fault.name} {number}"))
                outcome.survived += 1
            except CannotTryError as error:
                outcome.tried, outcome.reason = 0, str(error)
                break
            except Exception:  # whatever it is: it was not survived
                outcome.lost.append(f"time {number}: {traceback.format_exc(limit=-3)}")
    if fault.ending and not outcome.reason:
        try:
            fault.ending()
        except Exception:
            # What the tries have left together is not whole: none of them counts as survived.
            outcome.survived = 0
            outcome.lost.append(f"after the last: {traceback.format_exc(limit=-3)}")
    outcome.seconds = time.monotonic() - begun
    return outcome
