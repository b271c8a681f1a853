"""Frames -> network input. One definition for training and inference."""

import torch
from torch import Tensor

#: Names in fingerprints what the readers of images and films give; change it when they change.
READERS = "3"
#: Names this transform in fingerprints; change it with the transform.
PREPROCESSING = f"resize-antialias-bilinear+imagenet/{READERS}"

# Of ImageNet, per channel (red, green, blue), on a scale of 0 to 1; what the trunk was made for.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def resized(frames: Tensor, size: int) -> Tensor:
    """Frames as the network's size wants them, still a byte a value.

    Args:
        frames: (batch, height, width, 3) uint8, RGB.
        size: pixels a side; the picture is stretched to a square.

    Returns:
        (batch, 3, size, size) uint8.
    """
    # torchvision takes a second to import, which what is stored need not wait for.
    from torchvision.transforms.v2.functional import resize

    # In bytes throughout: five times faster than in floats, and a quarter to carry to a GPU.
    images: Tensor = resize(frames.permute(0, 3, 1, 2), [size, size], antialias=True)
    return images


def standardised(images: Tensor) -> Tensor:
    """(batch, 3, size, size) uint8 -> the same in float32, by ImageNet's mean and deviation."""
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1) * 255
    deviation = torch.tensor(DEVIATION, device=images.device).view(3, 1, 1) * 255
    # In place: a batch is larger than a cache, and each copy of it is a way to memory and back.
    return images.to(torch.float32, copy=True).sub_(mean).div_(deviation)


def normalise(frames: Tensor, size: int) -> Tensor:
    """(batch, height, width, 3) uint8 -> (batch, 3, size, size) float32: resized, standardised."""
    return standardised(resized(frames, size))
