"""Annotated faces through the network: scores, and the input shared with training."""

import numpy as np
import torch
from torch import Tensor

from harness.encoders.mtl_dan.network import MTLDAN, OUTPUTS
from harness.encoders.mtl_dan.preprocessing import normalise
from harness.errors import InputError
from harness.pretraining import processes
from harness.pretraining.annotations import Annotations
from harness.pretraining.config import Precision
from harness.pretraining.faces import Pictures, once
from harness.pretraining.scores import Scores, score

_AUTOCAST = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_EVALUATION_BATCH = 256


@torch.inference_mode()
def evaluate(
    model: MTLDAN,
    pictures: Pictures,
    truth: Annotations,
    *,
    device: torch.device,
    precision: Precision = "float32",
    workers: int = 0,
) -> Scores:
    """Scores a model on annotated faces. Each face is computed by one of the processes.

    Raises:
        InputError: a picture cannot be read, or an output is not finite.
    """
    model.eval()
    # Zeros where another process computes, so that the sum is exact.
    outputs = torch.zeros(len(pictures), OUTPUTS, device=device)
    for batch, places, problems in once(pictures, _EVALUATION_BATCH, workers, device):
        check_pictures(problems)
        with autocast(device, precision):
            out = model(network_input(batch, device, pictures.size))
        outputs[places.to(device)] = out.float()
    found = processes.summed(outputs).cpu().numpy()
    if not np.isfinite(found).all():
        raise InputError("the network's outputs are not finite; lower `learning_rate`")
    return score(found, truth)


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context that computes in a precision. The weights stay float32."""
    return torch.autocast(device.type, _AUTOCAST[precision], enabled=precision != "float32")


def network_input(pictures: Tensor, device: torch.device, size: int) -> Tensor:
    """(batch, height, width, 3) uint8 -> the network's input on its device."""
    images = normalise(pictures.to(device, non_blocking=True), size)
    return images.contiguous(memory_format=torch.channels_last)


def check_pictures(problems: tuple[str, ...]) -> None:
    """Raises InputError if a picture of a batch could not be decoded."""
    for problem in problems:
        if problem:
            raise InputError(problem)
