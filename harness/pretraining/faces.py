"""Annotated faces as batches: pictures from disk or from memory, labels as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from harness.errors import InputError
from harness.pictures import read_picture
from harness.pretraining import processes
from harness.pretraining.annotations import Annotations
from harness.pretraining.augmentation import Augmentation, augment


@dataclass(frozen=True)
class Labels:
    """The labels of faces as tensors.

    valence_arousal: (faces, 2) float32, NaN where invalid. expression: (faces,) int64, -1 where
    invalid. action_units: (faces, 12) float32 of 0 and 1, NaN where invalid.
    """

    valence_arousal: Tensor
    expression: Tensor
    action_units: Tensor

    @classmethod
    def of(cls, annotations: Annotations, device: torch.device) -> "Labels":
        """The labels of an annotation file."""
        parts = (annotations.valence_arousal, annotations.expression, annotations.action_units)
        return cls(*(torch.from_numpy(part).to(device) for part in parts))

    def take(self, faces: Tensor) -> "Labels":
        """The labels of some faces. faces: indices."""
        return Labels(self.valence_arousal[faces], self.expression[faces], self.action_units[faces])


class Pictures(Dataset[tuple[Tensor, int, str]]):
    """Pictures by index: ((size, size, 3) uint8 RGB, index, problem of the file or "").

    The seed of each augmentation is drawn from (seed, epoch, index). It depends neither on the
    order nor on the number of workers or processes, and a resumed run repeats it. Set `epoch`
    before each epoch.
    """

    def __init__(
        self,
        files: Sequence[Path],
        size: int,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.files = files
        self.size = size
        self.transforms = augmentation.transforms(size) if augmentation else ()
        self.seed = seed
        self.epoch = 0
        self.held: Tensor | None = None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def bytes(self) -> int:
        """Memory that all decoded pictures take."""
        return len(self.files) * self.size * self.size * 3

    def hold(self) -> None:
        """Decodes every picture now and keeps it.

        Raises:
            InputError: a file is not a readable image.
        """
        pictures = [read_picture(file, self.size) for file in self.files]
        self.held = torch.from_numpy(np.stack(pictures))

    def __getitem__(self, place: int) -> tuple[Tensor, int, str]:
        try:
            picture = self._decoded(place)
        except InputError as error:
            # As text: an exception in a worker process would lose its message.
            return torch.zeros(self.size, self.size, 3, dtype=torch.uint8), place, str(error)
        if self.transforms:
            seed = np.random.SeedSequence([self.seed, self.epoch, place]).generate_state(1)[0]
            changed = augment(picture.permute(2, 0, 1), self.transforms, int(seed))
            picture = changed.permute(1, 2, 0)
        return picture, place, ""

    def _decoded(self, place: int) -> Tensor:
        if self.held is not None:
            return self.held[place]
        return torch.from_numpy(read_picture(self.files[place], self.size))


Batches = DataLoader[tuple[Tensor, int, str]]


def shuffled(
    pictures: Pictures, epoch: int, batch_size: int, workers: int, device: torch.device
) -> Batches:
    """The batches of one training epoch, in an order that depends on (seed, epoch).

    The processes share each batch of `batch_size`. The last batch is dropped if it is not full,
    because batch norms need more than one or two faces.
    """
    count = processes.count()
    sampler: DistributedSampler[tuple[Tensor, int, str]] = DistributedSampler(
        pictures, count, processes.rank(), seed=pictures.seed, drop_last=True
    )
    sampler.set_epoch(epoch)
    pictures.epoch = epoch
    return DataLoader(
        pictures,
        batch_size // count,
        sampler=sampler,
        num_workers=workers,
        drop_last=True,
        pin_memory=device.type == "cuda",
    )


def once(pictures: Pictures, batch_size: int, workers: int, device: torch.device) -> Batches:
    """Batches of this process's share of the pictures. Each picture is in one share."""
    share = range(processes.rank(), len(pictures), processes.count())
    pin = device.type == "cuda"
    return DataLoader(pictures, batch_size, sampler=share, num_workers=workers, pin_memory=pin)
