"""Small networks with weights and statistics that are not the defaults, and a file to refuse."""

from functools import cache
from pathlib import Path

import torch
from torch import nn

from harness.encoders.mtl_dan.network import MTLDAN


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
