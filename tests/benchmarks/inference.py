"""What benchmarks of the frozen network share; needs torch alone."""

import time
from collections.abc import Callable

import torch

#: Images of a clip, of a batch, and pixels a side.
CLIP, BATCH, SIZE = 12, 64, 224


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Of one run, the device's work included."""
    begun = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun
