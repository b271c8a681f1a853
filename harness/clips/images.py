"""One folder of images in, its sampled RGB frames out: crops that were made before."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import InputError
from harness.pictures import read_picture

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_NUMBER = re.compile(r"(\d+)")


def image_files(folder: Path) -> list[Path]:
    """The images of a folder, in order of the numbers in their names."""
    files = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(files, key=_natural)


def sampled_images(
    folder: Path, strides: Sequence[int], skip: frozenset[int] = frozenset()
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yields (index, picture) for every image whose place is a multiple of a stride.

    Args and yields as `harness.clips.video.sampled_frames`; strides count images.

    Raises:
        InputError: the folder is missing or holds no image, or an image cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")
    files = image_files(folder)
    if not files:
        raise InputError(f"{folder}: holds no image ({', '.join(IMAGE_SUFFIXES)})")
    for index, file in enumerate(files):
        if index not in skip and any(index % stride == 0 for stride in strides):
            yield index, read_picture(file)


def _natural(path: Path) -> list[tuple[int, str]]:
    # "10.jpg" comes after "9.jpg".
    parts = _NUMBER.split(path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
