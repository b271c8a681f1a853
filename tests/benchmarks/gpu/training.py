"""An epoch of a head, ours beside the conventional loop, both on the card.

Both sides are those of tests/benchmarks/training.py: Hume-Reaction's size, generated. `ours_tf32`
is ours with `precision` bf16, which on a GPU is TF32 in the LSTM; else both sides are float32.
"""

from dataclasses import replace

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
    note({"clips": {split: len(clips) for split, clips in data.rows.items()}})
    for layers, hidden in SHAPES[:2] if run.quick else SHAPES:
        config = replace(training.CONFIG, layers=layers, hidden=hidden)
        rounds = 2 if run.quick else 4
        row = training.measure_alone(data, workers, config, run.device, rounds)
        # After float32: what a trial sets of its process holds for those before it, too.
        low = replace(config, precision="bf16")
        workers.ask("build", low)
        lows = [wall for _ in range(rounds) for wall, _ in workers.ask("epochs", low, 1)]
        row["ours_tf32_s" if run.device == "cuda" else "ours_bf16_s"] = min(lows)
        workers.ask("end", config)
        rows.append(row)
        note({"rows": rows})
    workers.close()
