"""Trials that share the card: how many an hour it trains.

Each in a process of its own with one thread, as a worker of the search is; a trial is 50 epochs
over Hume-Reaction's size with 2 layers of 128. Plain processes, so that it needs no Ray. They begin
together, and the slowest counts.
"""

from tests.benchmarks import training
from tests.benchmarks.gpu.parts import Figures, Note, Run
from tests.benchmarks.gpu.training import SMALL

COUNTS, QUICK_COUNTS = (1, 4, 16), (1, 4)
# Seconds for each count, if so many took as long as one after the other.
WINDOW, QUICK_WINDOW = 8.0, 0.5
MOST_EPOCHS = 10


def measure(run: Run, note: Note) -> None:
    """A row a count."""
    counts = QUICK_COUNTS if run.quick else COUNTS
    workers = training.Workers(
        training.make_data(SMALL if run.quick else 1.0), max(counts), run.device, "spawn"
    )
    workers.ask("build", training.CONFIG)
    workers.ask("epochs", training.CONFIG, 1)  # the libraries' first calls are not of a trial
    ((alone, _),) = workers.ask("epochs", training.CONFIG, 1, only=1)
    window = QUICK_WINDOW if run.quick else WINDOW
    rows: list[Figures] = []
    for trials in counts:
        epochs = max(1, min(MOST_EPOCHS, int(window / (alone * trials))))
        rate = training.trials_an_hour(workers, trials, epochs)
        one = rows[0]["trials_an_hour"] if rows else rate
        rows.append(
            {"trials": trials, "epochs": epochs, "trials_an_hour": rate, "over_one": rate / one}
        )
        note({"processes": "plain", "rows": rows})
    workers.close()
