"""`python -m tests.faults.load [--quick] [--only PART] [--json]`: the real commands under load.

Two things are asked of each burden. Is the second half of it dearer, a piece, than the quarter
before it? `growth` is the ratio of the two in processor time: 1 where a piece costs what it always
did, 2 where the cost grows as the square. Does memory grow? `memory` is the highest of the whole
by the highest of its first half. What a command keeps is bounded by what it was given, so that
both have a bound; a burden beyond it is lost, and the program exits with 1.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import pandas as pd
from rich.console import Console
from rich.table import Table

from harness.clips.video import write_video
from harness.study.folder import StudyFolder
from tests.benchmarks.ensemble import write_trials_from
from tests.faults import models
from tests.faults.meter import Meter, metered, running
from tests.photographs import film
from tests.ports import free_port
from tests.videos import make_video

#: The square of a cost would give 2.
MOST_GROWTH, MOST_MEMORY = 1.5, 1.25
#: A poll is answered by Optuna's own program, which looks through all trials: twice as many of them
#: make it twice as dear, and the square would give 4.
MOST_GROWTH_OF_POLLS = 2.5


@dataclass(frozen=True)
class Size:
    """How much of everything: as it may come, or what a test can wait for."""

    trials: int
    members: int
    minutes: int
    clips: int
    #: That the dashboard's page is open.
    hours: int


FULL = Size(trials=2000, members=5000, minutes=180, clips=30_000, hours=8)
QUICK = Size(trials=60, members=400, minutes=4, clips=1200, hours=1)


@dataclass(frozen=True)
class Row:
    """A burden that was borne.

    pieces: that it has. seconds: in all. before, after: milliseconds of processors a piece, in the
    second quarter and in the second half. half_mib, mib: the most memory in the first half, and in
    all.
    """

    burden: str
    pieces: float
    seconds: float
    before: float
    after: float
    half_mib: float
    mib: float
    most_growth: float = MOST_GROWTH

    @property
    def growth(self) -> float:
        """A second in all is no slowness, whatever it grew from."""
        slow = self.after * self.pieces / 2 > 1000
        return self.after / self.before if slow else 1.0

    @property
    def memory(self) -> float:
        return self.mib / self.half_mib

    @property
    def lost(self) -> str:
        """What did not hold; empty where all did."""
        if self.growth > self.most_growth:
            return f"a piece costs {self.growth:.2f} times what it did"
        return f"memory grew {self.memory:.2f} times" if self.memory > MOST_MEMORY else ""


def along(burden: str, meter: Meter, pieces: int, most_growth: float = MOST_GROWTH) -> Row:
    """Of one process, read while it worked."""
    quarter, half, end = (meter.at(pieces * part) for part in (0.25, 0.5, 1))
    if quarter.done == half.done:  # of a small load, done between two readings
        quarter = meter.samples[0]
    return Row(
        burden,
        pieces,
        end.seconds,
        1000 * (half.cpu - quarter.cpu) / (half.done - quarter.done),
        1000 * (end.cpu - half.cpu) / max(end.done - half.done, 1),
        meter.peak(pieces / 2),
        meter.peak(pieces),
        most_growth,
    )


def across(burden: str, meters: list[Meter], pieces: float, given_mib: float = 0.0) -> Row:
    """Of three runs: of a quarter, of half, and of all. given_mib: what the numbers take that the
    whole was given, which is no growth."""
    quarter, half, whole = (meter.samples[-1] for meter in meters)
    return Row(
        burden,
        pieces,
        whole.seconds,
        1000 * (half.cpu - quarter.cpu) / (pieces / 4),
        1000 * (whole.cpu - half.cpu) / (pieces / 2),
        meters[1].peak(1) - given_mib / 2,
        meters[2].peak(1) - given_mib,
    )


def trials(folder: Path, size: Size) -> Iterator[Row]:
    """Short trials in one study, while the page of a dashboard is open for hours."""
    results = folder / "results"
    written = results / "s" / "predictions"

    def done() -> int:
        return len(list(written.glob("[0-9]*.parquet")))

    page = Page(StudyFolder(results, "s").path / "study.log", size, done)
    line = models.searching(results, size.trials)
    with closing(page):
        meter = metered(done, "search", *line, each=page.poll_what_is_due)
    yield along(f"{size.trials:,} short trials in one study", meter, size.trials)
    polls = f"{page.polls:,} polls of a dashboard while they run: {size.hours} hours"
    yield along(polls, page.meter, page.polls, MOST_GROWTH_OF_POLLS)


class Page:
    """A page of a real dashboard, open while a search that would take hours is run in less: it is
    polled when its clock, which the trials drive, says so."""

    def __init__(self, log: Path, size: Size, done: Callable[[], int]) -> None:
        self.log, self.size, self.done = log, size, done
        self.polls = 0
        self._due = 0.0
        self._states: list[str] = []

    def poll_what_is_due(self) -> None:
        if not self.log.exists():
            return
        if not self._states and not self.polls:
            self._open()
        done = self.done()
        now = self.size.hours * 3600 * done / self.size.trials
        while self._due <= now:
            self._poll()
            # As its page does: seconds between polls, by the number of trials.
            self._due += 2 if done < 100 else 5 if done < 500 else 10

    def _open(self) -> None:
        port = free_port()
        program = Path(sys.executable).with_name("optuna-dashboard")
        self._running = running(program, "--host", "127.0.0.1", "--port", port, self.log)
        self.meter = Meter(self._running.__enter__().pid)
        self._url = f"http://127.0.0.1:{port}/api/studies"
        wait_for(self._url)

    def _poll(self) -> None:
        ended = next(
            (n for n, s in enumerate(self._states) if s in ("Running", "Waiting")),
            len(self._states),
        )
        with urllib.request.urlopen(f"{self._url}/0?after={ended}", timeout=60) as answer:
            found = json.load(answer)["trials"]
        self._states[ended:] = [trial["state"] for trial in found]
        self.polls += 1
        self.meter.read(self.polls)

    def close(self) -> None:
        if self.polls:
            self._running.__exit__(None, None, None)


def wait_for(url: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(url, timeout=60).close()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"{url} does not answer")


def members(folder: Path, size: Size) -> Iterator[Row]:
    """An ensemble chosen out of many trials, with 4,657 + 4,604 clips in each file."""
    meters, existing = [], 0
    for count in (size.members // 4, size.members // 2, size.members):
        write_trials_from(folder / "bench", existing, count)
        existing = count
        line = ("--results", folder, "--study", "bench", "--method", "greedy", "--no-report")
        meters.append(metered(lambda: 0, "ensemble", *line, pause=0.02))
    # The matrix of all predictions on val, and the same in the order that products of trials want.
    given = 2 * size.members * 4657 * 7 * 4 / (1 << 20)
    yield across(f"{size.members:,} trials in an ensemble", meters, size.members, given)


def long_clip(folder: Path, size: Size) -> Iterator[Row]:
    """A clip of hours among short ones."""
    meters = []
    minute = folder / "minute.mp4"
    write_video(minute, film(1800, height=240))
    for minutes in (size.minutes // 4, size.minutes // 2, size.minutes):
        data = folder / f"data-{minutes}"
        shutil.copytree(models.clips(), data)
        repeated(minute, data / "clips" / "c0.mp4", minutes)
        results = folder / f"results-{minutes}"
        line = ("--data", data, "--weights", models.weights(), "--crop", "none", "--stride", 30)
        meters.append(metered(lambda: 0, "extract", *line, "--results", results))
    hours = f"{size.minutes / 60:g} hours ({1800 * size.minutes:,} frames)"
    # In thousands of frames.
    yield across(f"a clip of {hours}, a thousand frames", meters, 1.8 * size.minutes)


def repeated(minute: Path, path: Path, times: int) -> None:
    """A film that shows another so many times."""
    with av.open(str(minute)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.dts is not None]
        assert stream.duration is not None
        length = stream.duration
        for number in range(times):
            for packet in packets:
                packet.pts += length if number else 0
                packet.dts += length if number else 0
                packet.stream = copied
                target.mux(packet)


def many_clips(folder: Path, size: Size) -> Iterator[Row]:
    """A folder of many clips: read, extracted, and read again when all are stored."""
    first, again = [], []
    film_of = make_video(folder / "film.mp4", 6)
    table = pd.read_csv(models.clips() / "clips.csv")
    for count in (size.clips // 4, size.clips // 2, size.clips):
        data = folder / f"data-{count}"
        (data / "clips").mkdir(parents=True)
        rows = table.iloc[[n % len(table) for n in range(count)]].copy()
        rows["clip_id"] = [f"clip{n}" for n in range(count)]
        rows.to_csv(data / "clips.csv", index=False)
        for number in range(count):
            os.link(film_of, data / "clips" / f"clip{number}.mp4")
        line = ("--data", data, "--weights", models.weights(), "--crop", "none", "--stride", 6)
        line = (*line, "--results", folder / f"results-{count}")
        first.append(metered(lambda: 0, "extract", *line))
        if size is FULL:  # of fewer the start would be all that is seen
            again.append(metered(lambda: 0, "extract", *line, pause=0.02))
    yield across(f"a folder of {size.clips:,} clips", first, size.clips)
    if again:
        yield across(f"{size.clips:,} clips that are stored already", again, size.clips)


PARTS = {part.__name__: part for part in (trials, members, long_clip, many_clips)}


def borne(size: Size, only: str = "") -> Iterator[Row]:
    """All burdens of a size, one after the other."""
    for name, part in PARTS.items():
        if only in name:
            with tempfile.TemporaryDirectory(prefix="load-") as folder:
                yield from part(Path(folder), size)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="What a test can wait for.")
    parser.add_argument("--only", default="", help=f"A part of a name of {', '.join(PARTS)}.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for row in borne(QUICK if options.quick else FULL, options.only):
        rows.append(row)
        print(f"{row.burden}: growth {row.growth:.2f}, memory {row.memory:.2f}", file=sys.stderr)
    if options.json:
        print(json.dumps([_values(row) for row in rows]))
    else:
        show(rows)
    return int(any(row.lost for row in rows) or not rows)


def show(rows: list[Row]) -> None:
    table = Table("burden", "s", "ms a piece before", "after", "growth", "MiB", "memory", "lost")
    for row in rows:
        cells = (f"{row.seconds:.0f}", f"{row.before:.1f}", f"{row.after:.1f}")
        cells += (f"{row.growth:.2f}", f"{row.mib:.0f}", f"{row.memory:.2f}")
        table.add_row(row.burden, *cells, row.lost or "nothing")
    Console(width=150 if not sys.stdout.isatty() else None).print(table)


def _values(row: Row) -> dict[str, Any]:
    more = {"growth": row.growth, "memory": row.memory, "lost": row.lost}
    return asdict(row) | more


if __name__ == "__main__":
    sys.exit(main())
