"""What a command takes while it works: processor time and memory, of it and all it started."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.processes import descendants

_TICK, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sample:
    """done: pieces of work. seconds: since the start. cpu: seconds of processors, summed over the
    process and its children, since noise on the machine changes them least. mib: resident memory
    of the process alone."""

    done: float
    seconds: float
    cpu: float
    mib: float


class Meter:
    """Reads what a process takes; `samples` are in order of time."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.samples = [Sample(0, 0, 0, 0)]
        self._begun = time.monotonic()

    def read(self, done: float) -> None:
        cpu = sum(_cpu_seconds(pid) for pid in family(self.pid))
        mib = _resident(self.pid)
        if mib:
            # A process that ends takes its share out of the sum for a moment.
            cpu = max(cpu, self.samples[-1].cpu)
            self.samples.append(Sample(done, time.monotonic() - self._begun, cpu, mib))

    def at(self, done: float) -> Sample:
        """The first sample by which so much was done; the last one where it never was."""
        return next((s for s in self.samples if s.done >= done), self.samples[-1])

    def peak(self, done: float) -> float:
        """MiB at most until so much was done."""
        until = self.at(done).seconds
        return max(sample.mib for sample in self.samples if sample.seconds <= until)


@contextmanager
def running(*line: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program, which is ended with the block; RuntimeError where it failed before."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([str(part) for part in line], stdout=said, stderr=said)
        try:
            yield process
            failed = process.poll()
        finally:
            process.terminate()
            process.wait()
        if failed:
            said.seek(0)
            raise RuntimeError(f"{line[2]} ended with {failed}: {said.read()[-800:].decode()}")


def metered(
    done: Callable[[], float],
    name: str,
    *arguments: object,
    each: Callable[[], None] = lambda: None,
    pause: float = 0.2,
) -> Meter:
    """Runs `python -m harness.NAME ARGUMENTS` to its end; `each` is called between readings."""
    with running(sys.executable, "-m", f"harness.{name}", *arguments) as process:
        meter = Meter(process.pid)
        while process.poll() is None:
            meter.read(done())
            each()
            time.sleep(pause)
    return meter


def family(leader: int) -> set[int]:
    """A process and all that descend from it."""
    return {leader} | {each.pid for each in descendants(leader)}


def is_alive(pid: int) -> bool:
    """Whether a process runs: one that its parent has not seen end does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    # Its own, and of the children that it has seen end.
    return sum(map(int, fields[11:15])) / _TICK


def _resident(pid: int) -> float:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / (1 << 20)
    except (OSError, IndexError):
        return 0.0
