"""Photographs of a person, and films made of them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage import data

# Of the astronaut in her photograph of 512 pixels a side: the face, brows to chin.
FACE = np.array([178, 62, 271, 182], np.float32)


def person(
    height: int = 240, share: float = 0.5, shift: float = 0.0, tilt: float = 0.0
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A picture (height, 4/3 height, 3) as of a webcam, and where the face is in it.

    share: of the face in the height. shift: of the face to the left, in face heights.
    tilt: degrees.
    """
    x, y = (FACE[:2] + FACE[2:]) / 2
    photograph = Image.fromarray(data.astronaut())
    if tilt:
        photograph = photograph.rotate(tilt, Image.Resampling.BILINEAR, center=(x, y))
    tall = (FACE[3] - FACE[1]) / share
    wide = tall * 4 / 3
    left, top = x - wide / 2 + shift * (FACE[3] - FACE[1]), y - tall / 2
    scale = tall / height
    size = (height * 4 // 3, height)
    affine = (scale, 0, left, 0, scale, top)
    picture = photograph.transform(size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    return np.array(picture), (FACE - np.array([left, top] * 2, np.float32)) / scale


def nobody(height: int = 240) -> NDArray[np.uint8]:
    """A cat, as large as `person`."""
    return np.array(Image.fromarray(data.chelsea()).resize((height * 4 // 3, height)))


def film(
    frames: int, *, seen: bool = True, height: int = 240, tilt: float = 0.0
) -> Iterator[NDArray[np.uint8]]:
    """A person who sways; where not `seen`, a cat. Every fifth frame looks away from the person."""
    for k in range(frames):
        if seen and k % 5 != 4:
            yield person(height, 0.5, 0.2 * np.sin(k / 3), tilt)[0]
        else:
            yield nobody(height)


def two_persons(frames: int, height: int = 240) -> Iterator[NDArray[np.uint8]]:
    """One person beside another who comes nearer: at first smaller, at the end larger."""
    wide = height * 4 // 3
    for k in range(frames):
        near = 0.2 + 0.6 * k / frames
        left, right = person(height, 0.4)[0], person(height, near)[0]
        half = wide // 4
        middle = wide // 2
        both = [left[:, middle - half : middle + half], right[:, middle - half : middle + half]]
        yield np.ascontiguousarray(np.concatenate(both, axis=1))
