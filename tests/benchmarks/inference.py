"""What benchmarks of the frozen network share; needs torch alone."""

import copy
import time
from collections.abc import Callable

import torch
from torch import nn

from harness.encoders.mtl_dan.fused import FusedMTLDAN

#: Images of a clip, of a batch, and pixels a side.
CLIP, BATCH, SIZE = 12, 64, 224


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Of one run, the device's work included."""
    begun = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def direct(network: FusedMTLDAN) -> FusedMTLDAN:
    """The same with direct convolutions alone, which is also what a compiler can look into."""
    network = copy.deepcopy(network)
    for head in network.attend:
        head.__class__ = nn.Conv2d
    return network
