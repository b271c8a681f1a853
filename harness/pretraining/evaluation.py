"""Annotated faces through the network: scores, and the input shared with training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.choices import Precision
from harness.encoders.mtl_dan.checkpoints import load_mtl_dan
from harness.encoders.mtl_dan.encoder import input_size
from harness.encoders.mtl_dan.fused import PRECISIONS
from harness.encoders.mtl_dan.network import MTLDAN, OUTPUTS
from harness.encoders.mtl_dan.preprocessing import normalise
from harness.errors import InputError
from harness.pretraining import processes
from harness.pretraining.annotations import Annotations
from harness.pretraining.faces import Pictures, once
from harness.pretraining.scores import Details, Scores, details, score

_EVALUATION_BATCH = 256


def evaluate(
    model: MTLDAN,
    pictures: Pictures,
    truth: Annotations,
    *,
    device: torch.device,
    precision: Precision = "float32",
    workers: int = 0,
) -> Scores:
    """Scores a model on annotated faces. Raises as `predict`."""
    return score(predict(model, pictures, device, precision, workers), truth)


@torch.inference_mode()
def predict(
    model: MTLDAN,
    pictures: Pictures,
    device: torch.device,
    precision: Precision = "float32",
    workers: int = 0,
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
) -> NDArray[np.float32]:
    """The outputs of a model for faces, (faces, 22). Each face is computed by one process.

    Raises:
        InputError: a picture cannot be read, or an output is not finite.
    """
    model.eval()
    # Zeros where another process computes, so that the sum is exact.
    outputs = torch.zeros(len(pictures), OUTPUTS, device=device)
    batches = once(pictures, _EVALUATION_BATCH, workers, device)
    for number, (batch, places, problems) in enumerate(batches, start=1):
        check_pictures(problems)
        with autocast(device, precision):
            out = model(network_input(batch, device, pictures.size))
        outputs[places.to(device)] = out.float()
        progress("evaluating batches of faces", number, len(batches))
    found: NDArray[np.float32] = processes.summed(outputs).cpu().numpy()
    if not np.isfinite(found).all():
        raise InputError("the network's outputs are not finite; lower `learning_rate`")
    return found


def evaluate_file(
    file: Path,
    truth: Annotations,
    device: torch.device,
    precision: Precision = "float32",
    workers: int = 0,
    *,
    key: str | None = None,
    progress: Callable[[str, int, int], None] = lambda step, done, total: None,
) -> tuple[Scores, Details]:
    """Scores the MTL-DAN in a weight file at the input size that the file states.

    Args:
        key: which network of the file, if it has several.

    Raises:
        InputError: the file has no MTL-DAN, or as `predict`.
    """
    model = load_mtl_dan(file, key).to(device).to(memory_format=torch.channels_last)
    pictures = Pictures(truth.images, input_size(file))
    outputs = predict(model, pictures, device, precision, workers, progress)
    return score(outputs, truth), details(outputs, truth)


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context that computes in a precision. The weights stay float32."""
    return torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "float32")


def network_input(pictures: Tensor, device: torch.device, size: int) -> Tensor:
    """(batch, height, width, 3) uint8 -> the network's input on its device."""
    images = normalise(pictures.to(device, non_blocking=True), size)
    return images.contiguous(memory_format=torch.channels_last)


def check_pictures(problems: tuple[str, ...]) -> None:
    """Raises InputError if a picture of a batch could not be decoded."""
    for problem in problems:
        if problem:
            raise InputError(problem)
