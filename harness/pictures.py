"""One image file -> an upright RGB picture of eight bits a sample and of bounded size.

The only reader of image files: extraction, face detection, pretraining and reports use it.
"""

import struct
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from harness.errors import InputError

# A few bytes can announce a picture of any size. The same limit holds for films.
MAX_PIXELS = 8192 * 8192
#: Suffixes of image files, in lower case. The content decides how a file is decoded.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
# PIL warns of large pictures, which are refused here by name, and of metadata that is not read.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
# No other format: PIL passes PostScript to an interpreter.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
# What decoders raise on damaged files.
_DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
    MemoryError,
    Image.DecompressionBombError,
)
# EXIF orientation -> the change that makes the picture upright; 1 needs none.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Tags of TIFF, and one value of each.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _PLANAR = 258, 262, 284
_WHITE_IS_ZERO, _SEPARATE = 0, 2


def read_picture(file: Path, size: int | None = None) -> NDArray[np.uint8]:
    """Reads an image file.

    The picture is made upright by its EXIF orientation. Samples of more than eight bits keep their
    high byte. Transparent pixels are blended with black. Colour profiles are not applied.

    Args:
        file: a JPEG, PNG, BMP, WebP or TIFF with one picture.
        size: pixels a side that the picture is resized to; None: its own size.

    Returns:
        (height, width, 3) RGB.

    Raises:
        InputError: the file is no readable image, has another format, several pictures or too many
            pixels, or its samples have no defined range (floating point, 32 bits).
    """
    if not file.is_file():
        raise InputError(f"{file}: not a file")  # opening a pipe would wait
    try:
        # Not by its path: PIL maps some files into memory, and then reads turned TIFFs wrongly.
        with file.open("rb") as content, Image.open(content, formats=_FORMATS) as image:
            _check(file, image)
            image.load()
            picture = _rgb(file, image)
            change = _UPRIGHT.get(_orientation(image))
            if change is not None:
                picture = picture.transpose(change)
            if size is not None:
                picture = picture.resize((size, size), Image.Resampling.BILINEAR)
            return np.array(picture, dtype=np.uint8)
    except InputError:
        raise
    except UnidentifiedImageError as error:
        expected = "expected JPEG, PNG, BMP, WebP or TIFF"
        raise InputError(f"{file}: not a readable image: {expected}") from error
    except _DAMAGE as error:
        raise InputError(f"{file}: not a readable image: {error}") from error


def _check(file: Path, image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise InputError(
            f"{file}: not a readable image: {image.width} x {image.height} pixels; "
            f"expected at most {MAX_PIXELS:,}"
        )
    # The further pictures of a JPEG (MPO) are previews, depth and gain maps of the first.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise InputError(f"{file}: holds several pictures; expected one, save each as a file")
    tags = getattr(image, "tag_v2", {})
    if tags.get(_PLANAR) == _SEPARATE and max(tags.get(_BITS_PER_SAMPLE, (8,))) > 8:
        # PIL takes the halves of such samples for samples.
        raise InputError(
            f"{file}: not a readable image: separate planes of more than 8 bits a sample; "
            "save it with interleaved samples"
        )


def _rgb(file: Path, image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return _from_16_bits(image).convert("RGB")
    if image.mode in ("I", "F"):
        kind = "floating-point" if image.mode == "F" else "32-bit or signed"
        raise InputError(
            f"{file}: not a readable image: its samples are {kind} numbers without a defined "
            "range; save it with 8 or 16 bits a sample"
        )
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, picture).convert("RGB")
    return image.convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    """Grey of 9 to 16 bits -> grey of 8. PIL itself clips instead of scaling."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    full = np.asarray(image).astype(np.int64)
    # PNG's transparent grey becomes black, as in `_rgb`.
    samples = np.where(full == image.info.get("transparency", -1), 0, full) >> (bits - 8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        samples = 255 - samples
    return Image.fromarray(samples.astype(np.uint8))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8. As in viewers, metadata that cannot be parsed counts as 1."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DAMAGE:
        return 1
    return found if isinstance(found, int) else 1
