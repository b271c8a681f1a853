"""Random changes of training pictures that keep their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.encoders.mtl_dan.preprocessing import MEAN

if TYPE_CHECKING:
    from torchvision.transforms import v2

# An erased rectangle becomes ImageNet's mean colour, which is zero for the network.
_ERASED = tuple(round(255 * value) for value in MEAN)
_ERASED_AREA = (0.02, 0.2)
_CROP_SHAPE = (0.9, 1.1)


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training picture. Zeros and a crop of 1 switch them off.

    flip: probability of mirroring. crop: smallest share of the area that a random crop keeps.
    jitter: largest relative change of brightness, contrast and saturation; the hue of a face is
    kept. erase: probability that a rectangle is covered.
    """

    flip: float = 0.5
    crop: float = 0.8
    jitter: float = 0.2
    erase: float = 0.25

    def transforms(self, size: int) -> tuple[v2.Transform, ...]:
        """The changes in order, for pictures (3, size, size) uint8."""
        # torchvision takes a second to import; commands that do not train need not wait for it.
        from torchvision.transforms import v2

        steps: list[v2.Transform] = []
        if self.crop < 1:
            crop = v2.RandomResizedCrop(size, (self.crop, 1.0), _CROP_SHAPE, antialias=True)
            steps.append(crop)
        if self.flip > 0:
            steps.append(v2.RandomHorizontalFlip(self.flip))
        if self.jitter > 0:
            steps.append(v2.ColorJitter(self.jitter, self.jitter, self.jitter))
        if self.erase > 0:
            steps.append(v2.RandomErasing(self.erase, _ERASED_AREA, value=_ERASED))
        return tuple(steps)


def augment(picture: Tensor, transforms: tuple[v2.Transform, ...], seed: int) -> Tensor:
    """Applies transforms with a seed. The state of torch's global generator is restored."""
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        for transform in transforms:
            picture = transform(picture)
    finally:
        torch.set_rng_state(state)
    return picture
