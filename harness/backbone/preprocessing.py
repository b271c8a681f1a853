"""Frames -> network input. One definition for training and inference."""

import torch
import torch.nn.functional as F
from torch import Tensor

#: Names this transform in fingerprints; change it with the transform.
PREPROCESSING = "resize-antialias-bilinear+imagenet/1"

# Of ImageNet, per channel (red, green, blue), on a scale of 0 to 1; what the trunk was made for.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def normalise(frames: Tensor, size: int) -> Tensor:
    """Resizes and normalises frames.

    Args:
        frames: (batch, height, width, 3) uint8, RGB.
        size: pixels a side; the picture is stretched to a square.

    Returns:
        (batch, 3, size, size) float32.
    """
    images = frames.permute(0, 3, 1, 2).float()
    if images.shape[-2:] != (size, size):
        images = F.interpolate(
            images, size=(size, size), mode="bilinear", antialias=True, align_corners=False
        )
    mean = torch.tensor(MEAN, device=frames.device).view(3, 1, 1) * 255
    deviation = torch.tensor(DEVIATION, device=frames.device).view(3, 1, 1) * 255
    return (images - mean) / deviation
