"""What else might make the frozen network faster: memory format, precision, compiling, batch size
and threads, each with its error beside its speed.

    python -m tests.benchmarks.variants [--json] [--quick]

MTL-DAN with 9 + 9 heads at 224 pixels, as in tests/benchmarks/extraction.py. Every variant runs in
turn, round by round, and the best round counts; `over` is its speed over that of what extraction
uses, the fused network in float32 and channels_last, 64 images at a time on every core. `error` is
the norm of the difference to the published network's outputs over their norm.
`--quick` leaves out what is compiled, which takes minutes to make.
"""

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from harness.encoders.mtl_dan.fused import FusedMTLDAN, fuse
from tests.benchmarks.inference import BATCH, CLIP, SIZE, seconds
from tests.networks import make_network

USED = "fused float32"


class Contiguous(FusedMTLDAN):
    """The fused network with images and maps channel by channel, as tensors are by default."""

    def _features(self, images: Tensor) -> Tensor:
        return super()._features(images.contiguous())

    def _positions(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x).chunk(2 * self.num_heads, dim=1)
        maps = [
            torch.relu_(attend(part.contiguous())).sum(dim=1)
            for attend, part in zip(self.attend, reduced, strict=True)
        ]
        weights = torch.stack(maps, dim=1).flatten(2).float()
        return torch.bmm(weights, x.flatten(2).float().transpose(1, 2)) / weights.shape[2]


@dataclass(frozen=True)
class Variant:
    """A way to run the network. batch: images at a time. threads: of torch."""

    network: Callable[[Tensor], Tensor]
    batch: int = BATCH
    threads: int | None = None

    def __call__(self, images: Tensor) -> Tensor:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            return torch.cat([self.network(part) for part in images.split(self.batch)])
        finally:
            torch.set_num_threads(before)


def variants(device: torch.device, compiled: bool) -> dict[str, Variant]:
    """All of them by name."""
    model = make_network(9)
    by_rows: nn.Module = Contiguous(model, torch.float32, "outputs").eval()
    by_rows = by_rows.to(device).to(memory_format=torch.contiguous_format)
    exact, bf16 = fuse(model).to(device), fuse(model, torch.bfloat16).to(device)
    last = make_network(9).to(device).to(memory_format=torch.channels_last)
    found = {
        USED: Variant(exact),
        "published, channels_last": Variant(
            lambda x: last(x.contiguous(memory_format=torch.channels_last)), CLIP
        ),
        "channels first": Variant(by_rows),
        "bf16": Variant(bf16),
    }
    if device.type == "cuda":
        # Processors have no arithmetic for it.
        found["fp16"] = Variant(fuse(model, torch.float16).to(device))
    found |= {f"batches of {n}": Variant(exact, n) for n in (1, CLIP, 128)}
    if device.type == "cpu":
        found |= {"one thread": Variant(exact, threads=1)}
        found |= {"one thread, bf16": Variant(bf16, threads=1)}
    if compiled:
        found["compiled"] = Variant(torch.compile(exact, dynamic=False))
        found["compiled, bf16"] = Variant(torch.compile(bf16, dynamic=False))
    return found


@torch.inference_mode()
def measure(rounds: int, images: int, compiled: bool) -> dict[str, dict[str, float]]:
    """By variant: images a second, that over the used one's, and the error."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pictures = torch.randn(images, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    pictures = pictures.to(device)
    plain = make_network(9).to(device)
    expected = torch.cat([plain(part) for part in pictures.split(CLIP)])
    runs = variants(device, compiled)
    best = dict.fromkeys(runs, 0.0)
    # The first round warms up, and compiles.
    errors = {name: float((run(pictures) - expected).norm() / expected.norm())
              for name, run in runs.items()}  # fmt: skip
    for _ in range(rounds):
        for name, run in runs.items():
            taken = seconds(lambda run=run: run(pictures), device)  # type: ignore[misc]
            best[name] = max(best[name], images / taken)
    return {
        name: {"images_a_second": speed, "over": speed / best[USED], "error": errors[name]}
        for name, speed in best.items()
    }


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="without what is compiled")
    options = parser.parse_args()
    figures = measure(1 if options.quick else 4, 64 if options.quick else 128, not options.quick)
    if options.json:
        print(json.dumps(figures))
        return
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} cores"
    table = Table("", "images a second", "over", "error", title=f"MTL-DAN, {SIZE} pixels, {name}")
    for label, of in figures.items():
        speed, over = f"{of['images_a_second']:.1f}", f"{of['over']:.2f}"
        table.add_row(label, speed, over, f"{of['error']:.1e}")
    Console().print(table)


if __name__ == "__main__":
    main()
