"""How much of the ratings of the synthetic clips a ridge regression finds in their sound.

    python -m tests.benchmarks.sound [--cache DIR] [--names mfcc ...] [--steps .25 ...] [--json]

For each encoder and step: the mean, standard deviation and maximum over the steps of a clip, each
standardised by train, and a ridge regression whose penalty val chooses; mean PCC on val and test.
`oracle` is the best prediction that the sound allows. This chose the defaults (2026-11-26, val and
test): oracle .576 .551; mfcc .1 s .551 .524, .25 s .550 .526, .5 s .548 .525, 1 s .538 .518;
log-mel .25 s .555 .517, .5 s .545 .518, 1 s .525 .495.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from harness.choices import DEFAULT_SOUND_STEP, SOUNDS
from harness.clips.demo import ensure_demo
from harness.clips.layouts import read_clips
from harness.clips.table import ClipTable
from harness.dataset import Stream
from harness.encoders.sound.encoder import sound_encoder
from harness.metrics import mean_pcc
from harness.streams.sound import sound_stream

Scores = tuple[float, float]


def summaries(stream: Stream) -> NDArray[np.float64]:
    """(clips, 3 columns): mean, deviation and maximum over the steps of each clip."""
    clips = np.split(stream.values.astype(np.float64), stream.offsets[1:-1])
    return np.stack([np.concatenate([c.mean(0), c.std(0), c.max(0)]) for c in clips])


def ridge(features: NDArray[np.float64], clips: ClipTable) -> Scores:
    """Mean PCC on val and test; val chooses the penalty."""
    train, val, test = (np.array(clips.splits) == split for split in ("train", "val", "test"))
    scaled = (features - features[train].mean(0)) / (features[train].std(0) + 1e-6)
    kernel = scaled.clip(-5, 5) @ scaled[train].clip(-5, 5).T
    mean = clips.targets[train].mean(0)
    found = []
    for penalty in 10.0 ** np.arange(0, 6, 0.5):
        dual = np.linalg.solve(
            kernel[train] + penalty * np.eye(int(train.sum())), clips.targets[train] - mean
        )
        values = kernel @ dual
        found.append(tuple(mean_pcc(clips.targets[s], values[s]) for s in (val, test)))
    return max(found)


def main() -> None:
    """Prints the scores."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cache", type=Path, default=Path("results/.cache"))
    parser.add_argument("--names", nargs="+", default=["mfcc", "log-mel"], choices=SOUNDS)
    parser.add_argument("--steps", nargs="+", type=float, default=[DEFAULT_SOUND_STEP])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    clips = read_clips(ensure_demo(options.cache).root)
    oracle = [np.mean(list(clips.oracles["sound"][split].values())) for split in ("val", "test")]
    figures = {"oracle": tuple(map(float, oracle))}
    for name in options.names:
        for step in options.steps:
            found = sound_stream(clips, sound_encoder(name, step), options.cache)
            figures[f"{name} {step:g} s"] = ridge(summaries(found.stream), clips)
    if options.json:
        print(json.dumps({key: [round(v, 4) for v in values] for key, values in figures.items()}))
        return
    table = Table("sound", "val", "test", title="mean PCC on synthetic clips")
    for key, values in figures.items():
        table.add_row(key, *(f"{value:.3f}" for value in values))
    Console().print(table)


if __name__ == "__main__":
    main()
