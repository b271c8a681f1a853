"""Frames a second: decoding, detecting, cropping, the network and sound, apart and together.

    python -m tests.benchmarks.clips [--json] [--quick]

Ten seconds of webcam (640 x 480, H.264 with B-frames, 30 frames a second), sampled at the strides
of search_spaces/paper.toml, faces found and cut out, MTL-DAN with 9 + 9 heads at 224 pixels.

The pipeline has two sides, which work at the same time: threads that decode, detect and crop, and
the network. Each side is measured apart with the cores that it has together: on a CPU half of
them, and on a machine with a GPU the network has that. A pipeline is as fast as its slower side;
`pipeline_over_slowest` is how near ours comes to that. Where both sides want the same cores, what
is gained by overlap is lost to sharing: `allowed by the cores` is what their time suffices for.

Sound is computed after the frames, from the same files: `sound` counts the frames of the clips that
are heard in a second by one core (MFCC), `sound_share` is its part of the time of frames and sound
on all cores, `with_sound_over_slowest` is frames and sound together over the slowest stage, as
`pipeline_over_slowest` is for frames alone. `sound times real time` is of one core, too. The last
row is what a process needs for 20 minutes of sound beyond what it needs for one second.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from harness.clips.faces import Track, load_detector, square
from harness.clips.sound import sound_blocks
from harness.clips.table import ClipTable
from harness.clips.video import sampled_frames
from harness.encoders.mtl_dan.encoder import Standardised
from harness.encoders.mtl_dan.fused import fuse
from harness.encoders.mtl_dan.preprocessing import resized, standardised
from harness.encoders.sound.encoder import sound_encoder
from harness.sampling import strides
from harness.streams.extraction import Extractor, Need, Network, Work
from harness.streams.sound import Listener
from tests.benchmarks.films import SECONDS, write_films
from tests.networks import make_network
from tests.sounds import RATE, tone, write_sound

STRIDES = (10, 15, 30)
SIZE = 224


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def rates(runs: dict[str, tuple[int, Callable[[], int]]], rounds: int) -> dict[str, float]:
    """Frames a second of each run's best round; all run in turn, so that noise meets all.

    runs: how many threads torch has, and what to run, which gives how many frames it did.
    """
    best = dict.fromkeys(runs, 0.0)
    for number in range(rounds + 1):
        for name, (count, run) in runs.items():
            with threads(count):
                begun = time.perf_counter()
                frames = run()
                taken = time.perf_counter() - begun
            if number:  # the first round warms up
                best[name] = max(best[name], frames / taken)
    return best


def measure(clips: ClipTable, rounds: int) -> dict[str, float]:
    """Every figure, by name."""
    cores = os.cpu_count() or 1
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # Half of the cores for each side where both want them.
    side = cores if device.type == "cuda" else max(1, cores // 2)
    detector = load_detector()
    network = fuse(make_network(9)).to(device)
    path = clips.paths[0]
    assert path is not None
    frames = [frame for _, frame in sampled_frames(path, STRIDES)]
    boxes = [Track().choose(detector(frame)) for frame in frames]
    found = [(frame, box) for frame, box in zip(frames, boxes, strict=True) if box is not None]
    crops = torch.cat([resized(torch.from_numpy(square(f, b))[None], SIZE) for f, b in found])
    batch = crops.repeat(3, 1, 1, 1)[:64].to(device)

    def cropped() -> int:
        for frame, box in found:
            resized(torch.from_numpy(square(frame, box))[None], SIZE)
        return len(found)

    @torch.inference_mode()
    def computed() -> int:
        network(standardised(batch)).cpu()
        return len(batch)

    work = [Work(c, row, "", (Need(0, strides(*STRIDES)),)) for row, c in enumerate(clips.clip_ids)]
    encoder = sound_encoder("mfcc")

    def sound() -> int:
        assert len(encoder(sound_blocks(path, RATE))) == SECONDS / encoder.step
        return len(frames)

    def together() -> int:
        of_frames = Network("mtl-dan", Standardised(network), partial(resized, size=SIZE))
        extractor = Extractor([of_frames], device, detector, decoders=side)
        return sum(len(result.frames) for _, result in extractor(clips, work))

    def with_sound() -> int:
        done = together()
        assert all(len(found.frames) for _, found in Listener(encoder)(clips, work))
        return done

    figures = rates(
        {
            "decode": (1, lambda: sum(1 for _ in sampled_frames(path, STRIDES))),
            "detect": (1, lambda: len([detector(frame) for frame in frames])),
            "crop": (1, cropped),
            "network": (side, computed),
            "sound": (1, sound),
            "together": (side, together),
            "with sound": (side, with_sound),
        },
        rounds,
    )
    reading = side / sum(1 / figures[name] for name in ("decode", "detect", "crop"))
    figures["read (decode, detect, crop)"] = reading
    # A core's seconds for a frame, over all stages; the network has `side` cores while it runs.
    busy = sum(1 / figures[name] for name in ("decode", "detect", "crop"))
    if device.type == "cpu":
        figures["allowed by the cores"] = cores / (busy + side / figures["network"])
    slowest = min(reading, figures["network"])
    figures["pipeline_over_slowest"] = figures["together"] / slowest
    heard = cores * figures["sound"]
    figures["with_sound_over_slowest"] = figures["with sound"] / min(slowest, heard)
    figures["sound_share"] = figures["together"] / (figures["together"] + heard)
    figures["sound times real time"] = figures["sound"] / len(frames) * SECONDS
    return figures


def peak_of_sound(path: Path) -> float:
    """MB that this process needs at most for a sound, beyond what it needs for a second of it."""

    def peak() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

    encoder = sound_encoder("mfcc")
    encoder([tone(1)])
    before = peak()
    encoder(sound_blocks(path, RATE))
    return (peak() - before) / 1024


def measure_memory(folder: Path) -> float:
    """`peak_of_sound` of 20 minutes, in a process of its own."""
    minute = np.random.default_rng(0).normal(0, 0.1, 60 * 48_000).astype(np.float32)
    path = write_sound(folder / "long.wav", np.tile(minute, 20), 48_000)
    with get_context("spawn").Pool(1) as pool:
        return float(pool.apply(peak_of_sound, (path,)))


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="within a minute")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clips = write_films(Path(folder), 6 if options.quick else 12, 480, 0.4, sound=True)
        figures = measure(clips, 2 if options.quick else 4)
        figures["memory of 20 minutes of sound (MB)"] = measure_memory(Path(folder))
    if options.json:
        print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
        return
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} cores"
    table = Table("stage", "frames a second", title=f"640 x 480, strides {STRIDES}, {name}")
    for stage, value in figures.items():
        table.add_row(stage, f"{value:.3f}" if "_" in stage else f"{value:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
