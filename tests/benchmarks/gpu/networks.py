"""MTL-DAN in each precision, its speed and its error."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.encoders.mtl_dan.fused import fuse
from harness.encoders.mtl_dan.network import MTLDAN
from tests.benchmarks.gpu.parts import Run
from tests.benchmarks.inference import SIZE, seconds
from tests.networks import make_network

PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sizes:
    """heads: of each branch. size: pixels a side. batches: images, the smallest first. least:
    seconds that a timing takes, of which the best of some `rounds` counts. images: of the error."""

    heads: int = 9
    size: int = SIZE
    batches: tuple[int, ...] = (64, 256, 1024)
    least: float = 0.25
    rounds: int = 2
    images: int = 8


QUICK = Sizes(heads=1, size=64, batches=(2, 4), least=0.0, rounds=1, images=2)


def sizes(run: Run) -> Sizes:
    return QUICK if run.quick else Sizes()


def set_precision(precision: str) -> None:
    """Lets float32 be TF32 in convolutions and products of matrices, or float32 alone.

    The older of torch's two interfaces, of which a process may use one: what compiles a network
    asks by this one, and torch raises if the newer one (`fp32_precision`, of the harness's trials
    and extraction) has told it otherwise.
    """
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


class Networks:
    """One network with random weights, on the device in every form; images to run it on."""

    def __init__(self, run: Run) -> None:
        self.sizes, self.device = sizes(run), torch.device(run.device)
        self.model: MTLDAN = make_network(self.sizes.heads)
        self._generator = torch.Generator(self.device).manual_seed(0)
        self.few = self.images(self.sizes.images)
        set_precision("float32")
        with torch.inference_mode():
            exact = copy.deepcopy(self.model).double().to(self.device)
            self.exact = exact(self.few.double())

    @torch.inference_mode()
    def images(self, count: int) -> Tensor:
        """(count, 3, size, size) float32, as if standardised."""
        shape = (count, 3, self.sizes.size, self.sizes.size)
        return torch.randn(shape, device=self.device, generator=self._generator)

    def plain(self, precision: str, channels_last: bool = False) -> Network:
        """The network as published; in bf16 its weights, too."""
        dtype = PRECISIONS[precision]
        layout = torch.channels_last if channels_last else torch.contiguous_format
        network = copy.deepcopy(self.model).to(self.device, dtype).to(memory_format=layout)
        return lambda images: network(images.to(dtype, memory_format=layout))

    def fused(self, precision: str) -> nn.Module:
        return fuse(self.model, PRECISIONS[precision]).to(self.device)

    def compiled(self, precision: str, fused: bool) -> Network:
        """By torch.compile in its default mode; it compiles when it is first called."""
        if fused:
            network: nn.Module = fuse(self.model, PRECISIONS[precision]).to(self.device)
            dtype = torch.float32  # it casts by itself
        else:
            dtype = PRECISIONS[precision]
            network = copy.deepcopy(self.model).to(self.device, dtype)
        program: Network = torch.compile(network, dynamic=False)
        return lambda images: program(images.to(dtype))

    @torch.inference_mode()
    def error(self, network: Network, batch: int) -> float:
        """Norm of the difference to the published network in float64 over its norm. batch: images
        at once, of which a few count."""
        blank = self.few.new_zeros(max(0, batch - len(self.few)), *self.few.shape[1:])
        found = network(torch.cat([self.few, blank]))[: len(self.few)]
        return float((found.double() - self.exact).norm() / self.exact.norm())

    @torch.inference_mode()
    def speed(self, network: Network, images: Tensor) -> float:
        """Images a second, without their way to the device."""
        for _ in range(2):  # the first calls choose kernels and take memory
            seconds(lambda: network(images), self.device)
        one = seconds(lambda: network(images), self.device)
        times = max(1, math.ceil(self.sizes.least / one))

        def run() -> None:
            for _ in range(times):
                network(images)

        best = min(seconds(run, self.device) for _ in range(self.sizes.rounds))
        return times * len(images) / best
