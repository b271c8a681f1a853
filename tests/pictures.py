"""Image files that say the same picture in several ways."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image


def pattern(height: int = 20, width: int = 40, seed: int = 0) -> NDArray[np.uint8]:
    """A picture (height, width, 3) without any symmetry."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def stored_as(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """The pixels that a file of an EXIF orientation holds, by the standard's definition: where the
    stored first row and first column are in the upright picture (CIPA DC-008, 4.6.4, Orientation).
    """
    swapped = upright.transpose(1, 0, 2)
    return np.ascontiguousarray(
        {
            1: upright,  # row 0 is the top, column 0 the left side
            2: upright[:, ::-1],  # top, right
            3: upright[::-1, ::-1],  # bottom, right
            4: upright[::-1],  # bottom, left
            5: swapped,  # left, top
            6: swapped[::-1],  # right, top
            7: swapped[::-1, ::-1],  # right, bottom
            8: swapped[:, ::-1],  # left, bottom
        }[orientation]
    )


def save_turned(file: Path, upright: NDArray[np.uint8], orientation: int) -> Path:
    """Writes a file whose EXIF orientation makes the stored pixels upright, without loss where the
    format allows."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(stored_as(upright, orientation)).save(
        file, exif=exif, **({"lossless": True} if file.suffix == ".webp" else {})
    )
    return file


def save_16_bit(file: Path, samples: NDArray[np.uint16]) -> Path:
    """Writes a PNG of 16 bits a sample: grey (height, width), RGB or RGBA (height, width, 3 or 4).

    PIL writes no colours of 16 bits.
    """
    form = {2: "gray16be", 3: "rgb48be"}[samples.ndim]
    if samples.shape[2:] == (4,):
        form = "rgba64be"
    codec = av.CodecContext.create("png", "w")
    codec.height, codec.width = samples.shape[:2]
    codec.pix_fmt, codec.time_base = form, Fraction(1)  # type: ignore[attr-defined]
    frame = av.VideoFrame(samples.shape[1], samples.shape[0], form)
    rows = samples.astype(">u2").reshape(samples.shape[0], -1).view(np.uint8)
    plane = np.zeros((samples.shape[0], frame.planes[0].line_size), np.uint8)
    plane[:, : rows.shape[1]] = rows
    frame.planes[0].update(plane.tobytes())
    packets = [*codec.encode(frame), *codec.encode(None)]  # type: ignore[attr-defined]
    file.write_bytes(b"".join(bytes(packet) for packet in packets))
    return file
