"""One image file -> an RGB picture, of bounded size and of a format that cannot run anything."""

import struct
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.errors import InputError

# A few bytes can announce a picture of any size; as for films.
MAX_PIXELS = 8192 * 8192
# PIL warns of pictures larger than these, which are refused below, by name.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# By its content, whatever its name: PIL would hand PostScript to an interpreter.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")


def read_picture(file: Path, size: int | None = None) -> NDArray[np.uint8]:
    """The picture in a file, (height, width, 3) RGB. size: pixels a side that it is resized to.

    Raises:
        InputError: no readable image, of another format, or of too many pixels.
    """
    if not file.is_file():
        raise InputError(f"{file}: not a file")  # a pipe would be waited for
    try:
        with Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"{file}: not a readable image: {image.width} x {image.height} pixels; "
                    f"expected at most {MAX_PIXELS:,}"
                )
            picture = image.convert("RGB")
            if size is not None:
                picture = picture.resize((size, size), Image.Resampling.BILINEAR)
            return np.array(picture, dtype=np.uint8)
    except InputError:
        raise
    # Decoders of damaged files fail in many ways.
    except (
        OSError,
        ValueError,
        SyntaxError,
        IndexError,
        KeyError,
        TypeError,
        struct.error,
        MemoryError,
        Image.DecompressionBombError,
    ) as error:
        raise InputError(f"{file}: not a readable image: {error}") from error
