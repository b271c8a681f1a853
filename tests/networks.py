"""Small networks with weights and statistics that are not the defaults, and a file to refuse."""

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from harness.dataset import Specification
from harness.encoders.mtl_dan.network import MTLDAN
from harness.encoders.mtl_dan.preprocessing import resized, standardised

if TYPE_CHECKING:
    from harness.streams.extraction import Network

#: Of what `Means` gives.
SPECIFICATION = Specification("means", {}, ("red", "green", "blue"), 3)


class Means(nn.Module):
    """A network that anyone can check: the mean of each colour, and a count of its images."""

    def __init__(self) -> None:
        super().__init__()
        self.images = 0

    def forward(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return standardised(images).mean(dim=(2, 3))


def small(module: nn.Module, name: str = "means", size: int = 16) -> "Network":
    """A network of small images, as an extraction takes it."""
    from harness.streams.extraction import Network

    return Network(name, module, partial(to_size, size=size))


def to_size(frames: Tensor, size: int = 16) -> Tensor:
    """Frames as `Means` sees them."""
    return resized(frames, size)


def make_network(num_heads: int, seed: int = 0, width: int = 512) -> MTLDAN:
    """An MTL-DAN in eval with random weights and non-trivial batch-norm statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MTLDAN(num_heads, width)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.2)
    return model.requires_grad_(False).eval()


def make_dan(num_heads: int = 4, classes: int = 8) -> nn.Module:
    """A DAN as its authors publish it: features, heads, fc, bn."""
    dan = nn.Module()
    network = make_network(num_heads, seed=3)
    dan.features = network.DAN.features
    for place, head in enumerate(network.expression_heads()):
        dan.add_module(f"cat_head{place}", head)
    dan.fc, dan.bn = nn.Linear(512, classes), nn.BatchNorm1d(classes)
    dan.bn.running_mean.normal_()
    dan.bn.running_var.uniform_(0.5, 1.5)
    dan.bn.weight.data.uniform_(0.5, 1.5)
    return dan.eval()


@cache
def _tiny() -> MTLDAN:
    return make_network(1)


def save_tiny(path: Path) -> Path:
    """Writes a network of one head a branch, for pictures of 32 pixels a side."""
    # Files need safetensors; networks in memory, of a benchmark say, do not.
    from harness.encoders.mtl_dan.checkpoints import save_mtl_dan

    save_mtl_dan(path, _tiny(), {"input_size": "32"})
    return path


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.mark,)  # type: ignore[return-value]
