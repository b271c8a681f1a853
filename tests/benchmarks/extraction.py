"""Images a second of the plain and of the fused network, and of the whole extraction.

    python -m tests.benchmarks.extraction [--json] [--quick] [--encoder FILE [--encoder FILE]]
                                          [--faces]

MTL-DAN with 9 + 9 heads at 224 pixels, random weights and batch statistics. `plain` is the model
as published, a clip of 12 images at a time, as the public code runs it; `fused` takes ready
batches of 64, which is the ceiling; `extract` is everything from mp4 files to the features: films
of faces (224 pixels high, 30 frames a second), sampled at the strides of paper.toml. Sides are
measured in turn, round by round, and the best round counts.

With --encoder, an ONNX file or module:function takes the place of MTL-DAN. `encoder` is the network
on ready batches, `decode` reads and resizes the films alone (with --faces it also finds the face of
each frame and crops to it), `extract` does both. Each stage alone uses all cores. On a GPU the
stages overlap, and the floor of the time of an image is that of the slowest stage. On a CPU they
share the cores: the floor is the sum of both stages' times, that is 1 / (1 / encoder + 1 / decode)
images a second, unless one stage cannot use all cores alone. `extract_over_floor` compares with
that of the device; `extract_over_slowest_stage` with the slowest stage in any case. `two encoders`
computes both in one pass, the same one twice if one is given; `two_over_each_alone` is its time
over the sum of the times of both alone: decoding, and finding faces, is done once.

The floor, by operations an image: the trunk 1.82 G multiply-adds, 18 heads as published 1.85 G,
fused 1.16 G. So folding and fusing alone give 3.67 / 2.98 = 1.23; the rest of the gain is memory
that is not touched, and bf16 doubles what a multiply-add unit does at once.

What was tried on 2 cores of an AMD EPYC (Zen 5: AVX-512, bf16), in milliseconds of one thread an
image, plain 41.3:

    one grouped convolution for all heads (the first version)          29.1
    a convolution a head: oneDNN's grouped ones are a third slower     25.7
    and the trunk's widest maps 4 images at a time, ReLU after pooling 24.5   (3.4e-6 off)
    the same in bf16                                                   13.6   (1.3e-2 off)

Direct convolutions then run at 235 to 265 G operations a second in float32 and 450 to 490 in bf16,
where the unit's peak is about 260 and 500: nothing is left there. On 2 cores of a Zen 4, whose peak
in float32 is 110 G: float32 39.0 images a second, bf16 73.6, plain 24.5.

What did not pay: Winograd's 4 x 4 tiles in the heads take half the multiplications, but gained 6 to
8 % of the network at 224 pixels on two processors and lost on a third, so that the way had to be
timed at run time; the first convolution on 2 x 2 blocks of pixels (3.0 ms against 2.4), weights
packed beforehand (5 %, by private functions), the trunk channels first.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from harness.clips.faces import load_detector
from harness.encoders.encoder import EncoderOptions
from harness.encoders.mtl_dan.encoder import Standardised
from harness.encoders.mtl_dan.fused import fuse
from harness.encoders.mtl_dan.preprocessing import resized
from harness.encoders.registry import Wanted
from harness.sampling import strides
from harness.streams.extraction import Extractor, Need, Network, Work
from tests.benchmarks.films import write_films
from tests.benchmarks.inference import BATCH, CLIP, SIZE, seconds
from tests.networks import make_network

STRIDES = (10, 15, 30)


def relative_error(plain: nn.Module, other: nn.Module, images: Tensor) -> float:
    """Norm of the difference over the norm of the plain model's output."""
    expected = plain(images)
    return float((other(images) - expected).norm() / expected.norm())


@torch.inference_mode()
def measure(folder: Path, rounds: int, films: int) -> dict[str, float]:
    """Every figure, by name."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plain = make_network(9).to(device)
    fused = {name: fuse(make_network(9), dtype).to(device)
             for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16))}  # fmt: skip
    images = torch.randn(BATCH, 3, SIZE, SIZE, device=device)
    clips = write_films(folder, films, SIZE, 0.8)
    work = [Work(c, row, "", (Need(0, strides(*STRIDES)),)) for row, c in enumerate(clips.clip_ids)]
    extracted = [0]

    def whole() -> None:
        network = Network("mtl-dan", Standardised(fused["float32"]), partial(resized, size=SIZE))
        results = Extractor([network], device)(clips, work)
        extracted[0] = sum(len(result.frames) for _, result in results)

    runs: dict[str, tuple[Callable[[], object], Callable[[], int]]] = {
        "plain": (lambda: [plain(part) for part in images[:24].split(CLIP)], lambda: 24),
        "fused float32": (lambda: fused["float32"](images), lambda: BATCH),
        "fused bf16": (lambda: fused["bf16"](images), lambda: BATCH),
        "extract float32": (whole, lambda: extracted[0]),
    }
    best: dict[str, float] = dict.fromkeys(runs, 0.0)
    for number in range(rounds + 1):
        for name, (run, count) in runs.items():
            taken = seconds(run, device)
            if number:  # the first round warms up
                best[name] = max(best[name], count() / taken)
    return best | {
        "fused_over_plain_float32": best["fused float32"] / best["plain"],
        "fused_over_plain_bf16": best["fused bf16"] / best["plain"],
        "pipeline_over_ceiling": best["extract float32"] / best["fused float32"],
        "relative_error_float32": relative_error(plain, fused["float32"], images),
        "relative_error_bf16": relative_error(plain, fused["bf16"], images),
    }


class _Nothing(nn.Module):
    """No network: one column of zeros."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.zeros(len(images), 1, device=images.device)


@torch.inference_mode()
def measure_encoders(
    folder: Path, given: list[str], rounds: int, films: int, *, crops: bool
) -> dict[str, float]:
    """Of one or two encoders: images a second of the first network, of reading, of both, and of two
    encoders in one pass.

    crops: reading finds the face of each frame and crops to it.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoders = [Wanted(encoder=(each,)).load(EncoderOptions()) for each in given]
    networks = [Network(each.stream, each.load(), each.resize) for each in encoders]
    first, second = networks[0], networks[-1]
    clips = write_films(folder, films, SIZE, 0.8)
    detector = load_detector() if crops else None
    frames = torch.randint(256, (BATCH, SIZE, SIZE, 3), dtype=torch.uint8)
    images, module = first.resize(frames).to(device), first.module.to(device)

    def through(*networks: Network) -> int:
        needs = tuple(Need(number, strides(*STRIDES)) for number in range(len(networks)))
        work = [Work(clip, row, "", needs) for row, clip in enumerate(clips.clip_ids)]
        found = Extractor(networks, device, detector)(clips, work)
        return sum(len(result.frames) for _, result in found) // len(networks)

    nothing = Network("nothing", _Nothing(), first.resize)
    count = through(nothing)
    runs: dict[str, tuple[Callable[[], object], int]] = {
        "encoder": (lambda: module(images), BATCH),
        "decode": (lambda: through(nothing), count),
        "extract": (lambda: through(first), count),
        "two encoders": (lambda: through(first, second), count),
    }
    if len(given) > 1:
        runs["extract of the second"] = lambda: through(second), count
    best: dict[str, float] = dict.fromkeys(runs, 0.0)
    for number in range(rounds + 1):
        for name, (run, done) in runs.items():
            taken = seconds(run, device)
            if number:  # the first round warms up
                best[name] = max(best[name], done / taken)
    slowest = min(best["encoder"], best["decode"])
    shared = 1 / (1 / best["encoder"] + 1 / best["decode"])
    other = best.get("extract of the second", best["extract"])
    return best | {
        "extract_over_slowest_stage": best["extract"] / slowest,
        "extract_over_floor": best["extract"] / (slowest if device.type == "cuda" else shared),
        "two_over_each_alone": (1 / best["two encoders"]) / (1 / best["extract"] + 1 / other),
    }


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and films")
    parser.add_argument(
        "--encoder", metavar="FILE", action="append", help="an ONNX file or module:function"
    )
    parser.add_argument("--faces", action="store_true", help="with --encoder: crop to faces")
    options = parser.parse_args()
    if len(options.encoder or ()) > 2:
        parser.error("expected one or two encoders")
    rounds, films = (2, 8) if options.quick else (6, 12)
    with tempfile.TemporaryDirectory() as folder:
        figures = (
            measure_encoders(Path(folder), options.encoder, rounds, films, crops=options.faces)
            if options.encoder
            else measure(Path(folder), rounds, films)
        )
    if options.json:
        print(json.dumps(figures))
        return
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} cores"
    what = ", ".join(options.encoder or ["MTL-DAN, 9 + 9 heads"])
    table = Table("", "images a second", title=f"{what}, films of {SIZE} pixels, {name}")
    for label, value in figures.items():
        shown = f"{value:.1e}" if "error" in label else f"{value:.2f}" if "_" in label else None
        table.add_row(label, shown or f"{value:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
