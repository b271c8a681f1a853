"""An epoch of a head, ours beside the conventional loop, both on the card.

Both sides are those of tests/benchmarks/training.py, in float32: Hume-Reaction's size, generated.
"""

from tests.benchmarks import training
from tests.benchmarks.gpu.parts import Figures, Note, Run

#: Layers and width of the configurations.
SHAPES = ((2, 128), (1, 64), (3, 256))
#: Of the clips with --quick.
SMALL = 0.005


def measure(run: Run, note: Note) -> None:
    """A row a configuration."""
    data = training.make_data(SMALL if run.quick else 1.0)
    workers = training.Workers(data, 1, run.device, "spawn")
    rows: list[Figures] = []
    note({"clips": {split: len(data.rows(split)) for split in data.split_names}})
    for layers, hidden in SHAPES[:2] if run.quick else SHAPES:
        config = training.CONFIG.changed(layers=layers, hidden=hidden)
        rounds = 2 if run.quick else 4
        row = training.measure_alone(data, workers, config, run.device, rounds)
        workers.ask("end", config)
        rows.append(row)
        note({"rows": rows})
    workers.close()
