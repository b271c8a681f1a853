"""One reader of image files: upright, eight bits a sample, or refused by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from harness.errors import InputError
from harness.pictures import IMAGE_SUFFIXES, read_picture
from tests.pictures import pattern, save_16_bit, save_turned, stored_as

UPRIGHT = pattern()


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_gives_the_upright_pixels(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    file = save_turned(tmp_path / f"e{suffix}", UPRIGHT, orientation)
    np.testing.assert_array_equal(read_picture(file), UPRIGHT)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_as_its_pixels_are(tmp_path: Path, orientation: int) -> None:
    file = save_turned(tmp_path / "e.jpg", UPRIGHT, orientation)
    plain = tmp_path / "plain.jpg"
    Image.fromarray(stored_as(UPRIGHT, orientation)).save(plain)
    read = read_picture(file)
    assert read.shape == UPRIGHT.shape
    np.testing.assert_array_equal(stored_as(read, orientation), read_picture(plain))


TIFFS = {
    "grey": UPRIGHT[:, :, 0],
    "16-bit grey": UPRIGHT[:, :, 0].astype(np.uint16) * 257,
    "rgba": np.dstack([UPRIGHT, np.full(UPRIGHT.shape[:2], 255, np.uint8)]),
    "1-bit": UPRIGHT[:, :, 0] > 127,
}


@pytest.mark.parametrize("name", TIFFS)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_every_kind_of_tiff_is_turned(
    tmp_path: Path, name: str, orientation: int, compression: str | None
) -> None:
    samples = TIFFS[name]
    stored = stored_as(np.atleast_3d(samples), orientation).reshape(
        *stored_as(UPRIGHT, orientation).shape[:2], *samples.shape[2:]
    )
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(stored).save(tmp_path / "t.tif", exif=exif, compression=compression)
    Image.fromarray(samples).save(tmp_path / "plain.png")
    read = read_picture(tmp_path / "t.tif")
    np.testing.assert_array_equal(read, read_picture(tmp_path / "plain.png"))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_do_not_exist_change_nothing(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(UPRIGHT).save(tmp_path / "e.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "e.png"), UPRIGHT)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_exif_that_cannot_be_parsed_changes_nothing(tmp_path: Path) -> None:
    Image.fromarray(UPRIGHT).save(tmp_path / "e.png", exif=b"Exif\0\0MM\0*no directory")
    np.testing.assert_array_equal(read_picture(tmp_path / "e.png"), UPRIGHT)


def test_resizing_follows_the_orientation(tmp_path: Path) -> None:
    turned = save_turned(tmp_path / "e.png", UPRIGHT, 6)
    plain = save_turned(tmp_path / "p.png", UPRIGHT, 1)
    np.testing.assert_array_equal(read_picture(turned, 8), read_picture(plain, 8))


GREY = UPRIGHT[:, :, 0]
OPAQUE = np.full_like(GREY, 255)


def palette(colours: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2), "P")
    image.putpalette(colours.ravel().tolist())
    return image


COLOURS = np.array([[10, 20, 30], [200, 100, 50], [0, 255, 0], [9, 9, 9]], np.uint8)
PAINTED = COLOURS.reshape(2, 2, 3)
BLACKENED = np.where(np.arange(4).reshape(2, 2, 1) == 1, 0, PAINTED)
BITS = GREY > 127
HALF = np.full_like(GREY, 128)

# What is written, by what, and what is read.
SAMPLES: dict[str, tuple[str, Callable[[Path], object], NDArray[np.generic]]] = {
    "16-bit grey png": (
        ".png",
        lambda file: save_16_bit(file, GREY.astype(np.uint16) * 257),
        GREY,
    ),
    "16-bit rgb png": (
        ".png",
        lambda file: save_16_bit(file, UPRIGHT.astype(np.uint16) * 257),
        UPRIGHT,
    ),
    "16-bit rgba png": (
        ".png",
        lambda file: save_16_bit(file, np.dstack([UPRIGHT, OPAQUE]).astype(np.uint16) * 257),
        UPRIGHT,
    ),
    "16-bit grey tiff": (
        ".tif",
        lambda file: tifffile.imwrite(file, GREY.astype(np.uint16) * 257),
        GREY,
    ),
    "16-bit big-endian tiff": (
        ".tif",
        lambda file: tifffile.imwrite(file, GREY.astype(np.uint16) * 257, byteorder=">"),
        GREY,
    ),
    "16-bit white-is-zero tiff": (
        ".tif",
        lambda file: tifffile.imwrite(
            file, 65535 - GREY.astype(np.uint16) * 257, photometric="miniswhite"
        ),
        GREY,
    ),
    "16-bit rgb tiff": (
        ".tiff",
        lambda file: tifffile.imwrite(file, UPRIGHT.astype(np.uint16) * 257, photometric="rgb"),
        UPRIGHT,
    ),
    "8-bit grey": (".png", lambda file: Image.fromarray(GREY).save(file), GREY),
    "1-bit png": (".png", lambda file: Image.fromarray(BITS).save(file), BITS * 255),
    "1-bit tiff": (".tif", lambda file: Image.fromarray(BITS).save(file), BITS * 255),
    "1-bit bmp": (".bmp", lambda file: Image.fromarray(BITS).save(file), BITS * 255),
    "palette": (".png", lambda file: palette(COLOURS).save(file), PAINTED),
    "palette bmp": (".bmp", lambda file: palette(COLOURS).save(file), PAINTED),
    "palette, a colour transparent": (
        ".png",
        lambda file: palette(COLOURS).save(file, transparency=1),
        BLACKENED,
    ),
    "palette, alpha of each colour": (
        ".png",
        lambda file: palette(COLOURS).save(file, transparency=bytes([255, 0, 255, 255])),
        BLACKENED,
    ),
    "16-bit grey png, a shade transparent": (
        ".png",
        lambda file: Image.fromarray(PAINTED[:, :, 0].astype(np.uint16) * 257).save(
            file, transparency=200 * 257
        ),
        np.where(PAINTED[:, :, 0] == 200, 0, PAINTED[:, :, 0]),
    ),
    "8-bit separate planes": (
        ".tif",
        lambda file: tifffile.imwrite(
            file, UPRIGHT.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"
        ),
        UPRIGHT,
    ),
    "opaque rgba": (
        ".png",
        lambda file: Image.fromarray(np.dstack([UPRIGHT, OPAQUE])).save(file),
        UPRIGHT,
    ),
    "half transparent rgba": (
        ".png",
        lambda file: Image.fromarray(np.dstack([UPRIGHT, HALF])).save(file),
        np.round(UPRIGHT * (128 / 255)),
    ),
    "half transparent webp": (
        ".webp",
        lambda file: Image.fromarray(np.dstack([UPRIGHT, HALF])).save(file, lossless=True),
        np.round(UPRIGHT * (128 / 255)),
    ),
    "half transparent grey": (
        ".png",
        lambda file: Image.fromarray(np.dstack([GREY, HALF]), "LA").save(file),
        np.round(GREY * (128 / 255)),
    ),
    "a transparent rgb colour": (
        ".png",
        lambda file: Image.fromarray(PAINTED).save(file, transparency=(200, 100, 50)),
        BLACKENED,
    ),
    "cmyk tiff": (
        ".tif",
        lambda file: Image.fromarray(UPRIGHT).convert("CMYK").save(file),
        UPRIGHT,
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_scaled_to_eight_bits(tmp_path: Path, name: str) -> None:
    suffix, write, expected = SAMPLES[name]
    write(tmp_path / f"p{suffix}")
    read = read_picture(tmp_path / f"p{suffix}").astype(int)
    colours = expected if expected.ndim == 3 else np.repeat(expected[:, :, None], 3, axis=2)
    np.testing.assert_allclose(read, colours.astype(int), atol=1 if "half" in name else 0)


def test_a_cmyk_jpeg_has_its_colours(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), (250, 40, 40)).convert("CMYK").save(tmp_path / "c.jpg")
    assert abs(read_picture(tmp_path / "c.jpg").reshape(-1, 3).mean(0) - (250, 40, 40)).max() < 6


REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "float": (
        ".tif",
        lambda file: tifffile.imwrite(file, np.ones((4, 4), np.float32)),
        "floating-point numbers without a defined range",
    ),
    "32-bit": (
        ".tif",
        lambda file: tifffile.imwrite(file, np.ones((4, 4), np.int32)),
        "32-bit or signed numbers without a defined range",
    ),
    "float rgb": (
        ".tif",
        lambda file: tifffile.imwrite(file, np.ones((4, 4, 3), np.float32), photometric="rgb"),
        "not a readable image",
    ),
    "separate planes of 16 bits": (
        ".tif",
        lambda file: tifffile.imwrite(
            file,
            UPRIGHT.transpose(2, 0, 1).astype(np.uint16),
            photometric="rgb",
            planarconfig="separate",
        ),
        "separate planes of more than 8 bits",
    ),
    "an animation": (
        ".webp",
        lambda file: Image.fromarray(UPRIGHT).save(
            file, save_all=True, append_images=[Image.fromarray(UPRIGHT[::-1])]
        ),
        "holds several pictures; expected one",
    ),
    "pages": (
        ".tiff",
        lambda file: Image.fromarray(UPRIGHT).save(
            file, save_all=True, append_images=[Image.fromarray(UPRIGHT[::-1])]
        ),
        "holds several pictures; expected one",
    ),
    "a gif by another name": (
        ".png",
        lambda file: Image.fromarray(GREY).save(file, format="gif"),
        "not a readable image",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pictures_without_a_defined_meaning_are_refused(tmp_path: Path, name: str) -> None:
    suffix, write, message = REFUSED[name]
    write(tmp_path / f"p{suffix}")
    with pytest.raises(InputError, match=message) as error:
        read_picture(tmp_path / f"p{suffix}")
    assert f"p{suffix}" in str(error.value)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_suffix_is_of_a_format_that_is_read(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (8, 8), (50, 50, 50)).save(tmp_path / f"p{suffix}")
    assert abs(read_picture(tmp_path / f"p{suffix}").astype(int) - 50).max() < 3
