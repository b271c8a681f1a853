"""Frames -> the input of an image network: how pictures are resized and scaled.

The values come from several sources (`chosen`), so that each has an origin, which is printed.
"""

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from harness.encoders.mtl_dan.preprocessing import DEVIATION, MEAN, READERS
from harness.errors import InputError

#: Pillow's numbers of interpolations, as Hugging Face's configurations give them.
_RESAMPLE = {0: "nearest", 2: "bilinear", 3: "bicubic"}
#: Hugging Face's names that only a configuration of images has.
IMAGE_NAMES = {"image_mean", "image_std", "do_rescale", "rescale_factor", "do_resize"}
#: Hugging Face's name for whether an input is standardised, of images and of sound.
NORMALIZE = "do_normalize"
#: Hugging Face's name that only a configuration of sound has.
SAMPLING_RATE = "sampling_rate"
# Text of an empty `resize`.
_NONE = "none"
#: Items of the trial run: of two, one can tell whether each gives a row of its own.
TRIAL = 2
# By which features may differ between batches, as a part of their norm: more than what bfloat16
# rounds, which has 8 bits.
_ROUNDING = 0.01
# No camera gives larger pictures.
_LARGEST = 4096
# Hugging Face's ConvNext crops pictures below this side and stretches others.
_CROP_PCT_BELOW = 384


@dataclass(frozen=True)
class Preprocessing:
    """A picture is resized, cropped at its centre if it is larger than `size`, and standardised:
    (value * scale - mean) / std, of values 0 to 255. The defaults are ImageNet's.

    size: (height, width) of the input in pixels. resize: (height, width) to which pictures are
    stretched, or (shortest side,) with the aspect ratio kept; empty: `size`. interpolation:
    nearest, bilinear or bicubic; the latter two with antialiasing. order: of the colours, rgb or
    bgr. mean, std: of each colour, in the order of the input.
    """

    size: tuple[int, ...] = (224, 224)
    resize: tuple[int, ...] = ()
    interpolation: str = "bilinear"
    order: str = "rgb"
    scale: float = 1 / 255
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = DEVIATION

    def details(self) -> dict[str, str | int]:
        """The values by name, as a specification stores them; `parsed` reads them."""
        named = {f.name: _text(getattr(self, f.name)) for f in fields(self)}
        return {**named, "preprocessing": _NEAREST if self.interpolation == "nearest" else _VERSION}

    def resized(self, frames: Tensor) -> Tensor:
        """(n, height, width, 3) uint8 RGB -> (n, 3, *size) uint8 RGB."""
        # torchvision takes a second to import, which what is stored need not wait for.
        from torchvision.transforms.v2.functional import InterpolationMode, center_crop, resize

        # Pillow's "nearest" reads the centres of pixels, torchvision's does not.
        nearest = self.interpolation == "nearest"
        mode = InterpolationMode.NEAREST_EXACT if nearest else InterpolationMode(self.interpolation)
        images: Tensor = frames.permute(0, 3, 1, 2)
        images = resize(images, list(self.resize or self.size), mode, antialias=True)
        if self.resize:
            images = center_crop(images, list(self.size))
        return images

    def standardised(self, images: Tensor) -> Tensor:
        """(n, 3, *size) uint8 RGB -> the same in float32, in the order of the network."""
        mean, std = (
            torch.tensor(values, dtype=torch.float64, device=images.device).view(3, 1, 1)
            for values in (self.mean, self.std)
        )
        images = images.flip(1) if self.order == "bgr" else images
        # One multiplication and one subtraction, rounded from float64.
        factor, offset = (self.scale / std).float(), (mean / std).float()
        return images.to(torch.float32, copy=True).mul_(factor).sub_(offset)


#: Names the transform in fingerprints; change it with `Preprocessing.resized`.
_VERSION = f"resize-antialias/{READERS}"
_NEAREST = f"resize-nearest-exact/{READERS}"


class Preprocessed(nn.Module):
    """A network of standardised images as one of uint8 images."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network, self.preprocessing = network, preprocessing

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(self.preprocessing.standardised(images))
        return features


def columns_of(network: nn.Module, resize: Callable[[Tensor], Tensor], where: str) -> int:
    """Runs a network on pictures of noise, so that what is wrong with it is known before anything
    is computed; gives the number of its columns.

    Raises:
        InputError: it does not give a row of finite numbers for each picture.
    """
    noise = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (TRIAL, 64, 64, 3), generator=noise, dtype=torch.uint8)
    return checked_columns(network, resize(frames), where, "pictures")


def checked_columns(network: nn.Module, noise: Tensor, where: str, what: str) -> int:
    """The same of inputs of noise; what: their name."""
    # Another range than its neighbour's, which a scale over the batch would change.
    faint = (noise[1:] / 4).to(noise.dtype)
    with torch.inference_mode():
        features: Tensor = network(torch.cat([noise[:1], faint]))
        alone: Tensor = network(faint)
    for found, count in ((features, len(noise)), (alone, len(faint))):
        if found.ndim != 2 or len(found) != count or not found.shape[1]:
            raise InputError(
                f"{where}: gave shape {tuple(found.shape)} for {count} {what}; expected "
                f"({count}, columns)"
            )
    if not bool(torch.isfinite(features).all()):
        raise InputError(f"{where}: gave NaN or infinity for {what} of noise")
    if float((features[1:] - alone).norm()) > _ROUNDING * float(features.norm()):
        raise InputError(
            f"{where}: features of {what} depend on the others in a batch; use the network in "
            "evaluation mode, without statistics over the batch"
        )
    return features.shape[1]


@dataclass(frozen=True)
class Source:
    """Where values of the preprocessing come from. name: for people. values: by their names in
    `Preprocessing`. yields: whether other sources may differ; a value that a user gives may not."""

    name: str
    values: Mapping[str, Any]
    yields: bool = True


def merged(sources: Sequence[Source]) -> tuple[dict[str, Any], dict[str, str]]:
    """Takes each value from the first source that has it; gives the origin of each, too.

    Raises:
        InputError: a user's value contradicts an earlier source.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source in sources:
        for key, value in source.values.items():
            if key not in values:
                values[key], origin[key] = value, source.name
            elif values[key] != value and not source.yields:
                raise InputError(
                    f"{key}={_text(value)} contradicts {_text(values[key])} of {origin[key]}; "
                    "remove the option, or change the file",
                    "encoder_input",
                )
    return values, origin


def chosen(sources: Sequence[Source]) -> tuple[Preprocessing, dict[str, str]]:
    """The preprocessing of images by the first source of each value, and the origin of each.

    Raises:
        InputError: a user's value contradicts an earlier source, or two values do not fit.
    """
    values, origin = merged(sources)
    made = Preprocessing(**values)
    # Of a picture of any shape, either side may be the shortest.
    sides = made.resize * 2 if len(made.resize) == 1 else made.resize
    if any(side < wanted for side, wanted in zip(sides, made.size, strict=False)):
        raise InputError(
            f"resize {_text(made.resize)} ({origin['resize']}) is smaller than size "
            f"{_text(made.size)}; expected at least as many pixels"
        )
    return made, {f.name: origin.get(f.name, "default") for f in fields(Preprocessing)}


def parsed(
    texts: Mapping[str, str | int], where: str, readers: "Readers | None" = None
) -> dict[str, Any]:
    """Values of the preprocessing from their text; other names are ignored.

    Args:
        readers: None: those of images.

    Raises:
        InputError: a value that is not accepted; `where` begins the message.
    """
    readers = readers or _READ
    found = {key: readers[key](f"{where}: {key}", str(text)) for key, text in texts.items()
             if key in readers}  # fmt: skip
    return {key: value for key, value in found.items() if value != ()}


def settings(given: Iterable[str], readers: "Readers | None" = None) -> dict[str, str]:
    """KEY=VALUE texts by key: those of `readers` (None: of images), and `kind`.

    Raises:
        InputError: an unknown key, a missing value, or a key that is given twice.
    """
    known = (*(readers or (*_READ, "layout")), "kind")
    found: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if key not in known or not equals or not value:
            raise InputError(
                f"{text}: expected KEY=VALUE, KEY one of {', '.join(known)}",
                "encoder_input",
            )
        if key in found:
            raise InputError(f"{key} is given twice", "encoder_input")
        found[key] = value
    return found


def hugging_face(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values of the preprocessing from a `preprocessor_config.json` of an image model.

    Raises:
        InputError: a value that is not accepted, or a transform that is not available.
    """
    found: dict[str, Any] = {}
    if values.get("rescale_offset"):
        raise InputError(f"{where}: rescale_offset is not supported; give scale, mean and std")
    if values.get("do_flip_channel_order"):
        found["order"] = "bgr"
    if values.get("do_rescale") is False:
        found["scale"] = 1.0
    elif "rescale_factor" in values:
        found["scale"] = number(f"{where}: rescale_factor", str(values["rescale_factor"]))
    found |= _standardising(values, where)
    if (resample := values.get("resample")) is not None:
        if resample not in _RESAMPLE:
            known = ", ".join(f"{code} ({name})" for code, name in _RESAMPLE.items())
            raise InputError(f"{where}: resample {resample!r}; expected one of {known}")
        found["interpolation"] = _RESAMPLE[resample]
    return found | _sizes(values, where)


def _standardising(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`mean` and `std`, where they are stated."""
    known = {
        key: read(f"{where}: {name}", _flat(values[name]))
        for key, name, read in (("mean", "image_mean", _numbers), ("std", "image_std", _deviation))
        if values.get(name) is not None
    }
    normalises = values.get(NORMALIZE)
    if normalises is None and not known:
        # The processor of MobileViT, which alone has this name, never normalises.
        normalises = values.get("do_flip_channel_order") is None
    found = {"mean": (0.0,) * 3, "std": (1.0,) * 3} if normalises is False else known
    if values.get("include_top") and "std" in known:  # EfficientNet's divides once more
        std = tuple(a * b for a, b in zip(found["std"], known["std"], strict=True))
        return {**found, "std": std}
    return found


def _sizes(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`size`, and `resize` where pictures are cropped."""
    given = values.get("size")
    if given is None:
        return {}
    shortest = given.get("shortest_edge") if isinstance(given, Mapping) else None
    if isinstance(given, int):  # as files of 2022 write it
        shortest = given
    size = _side(f"{where}: size", given)
    ratio = values.get("crop_pct")
    if ratio and shortest and size[0] < _CROP_PCT_BELOW:
        return {"size": size, "resize": (int(size[0] / number(where, str(ratio))),)}
    if not values.get("do_center_crop") or values.get("crop_size") is None:
        return {"size": size}
    crop = _side(f"{where}: crop_size", values["crop_size"])
    resize = size if isinstance(given, Mapping) and not shortest else size[:1]
    return {"size": crop} if resize == crop else {"size": crop, "resize": resize}


def _side(where: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, Mapping):
        value = value.get("shortest_edge") or [value.get("height"), value.get("width")]
    return _square(where, _flat(value).replace(",", "x"))


def _flat(value: Any) -> str:
    """A number or a list of numbers as text."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _text(value: Any) -> str:
    """The inverse of `_READ`."""
    if value == ():
        return _NONE
    if isinstance(value, tuple):
        separator = "x" if all(isinstance(item, int) for item in value) else ","
        return separator.join(map(str, value))
    return str(value)


def _resize(where: str, text: str) -> tuple[int, ...]:
    return () if text == _NONE else _pixels(where, text)


def _pixels(where: str, text: str) -> tuple[int, ...]:
    sides = text.split("x")
    if (
        not all(
            s.isascii() and s.isdecimal() and len(s) <= 4 and 1 <= int(s) <= _LARGEST for s in sides
        )
        or len(sides) > 2
    ):
        raise InputError(
            f"{where} is {text!r}; expected pixels a side or HEIGHTxWIDTH, each 1 to {_LARGEST}"
        )
    return tuple(map(int, sides))


def _square(where: str, text: str) -> tuple[int, ...]:
    sides = _pixels(where, text)
    return sides if len(sides) == 2 else sides * 2


def number(where: str, text: str) -> float:
    """The number or fraction that a text is; InputError, which `where` begins, if it is none."""
    try:
        value = float(Fraction(text.strip()))  # 1/255, too
    except (ValueError, ZeroDivisionError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where} is {text!r}; expected a number")
    return value


def _numbers(where: str, text: str) -> tuple[float, ...]:
    values = tuple(number(where, part) for part in text.split(","))
    if len(values) not in (1, 3):
        raise InputError(f"{where} is {text!r}; expected one number, or three with commas")
    return values if len(values) == 3 else values * 3


def _deviation(where: str, text: str) -> tuple[float, ...]:
    values = _numbers(where, text)
    if min(values) <= 0:
        raise InputError(f"{where} is {text!r}; expected numbers above 0")
    return values


def one_of(choices: Sequence[str], where: str, text: str) -> str:
    """The text, if it is a choice; InputError, which `where` begins, if not."""
    if text not in choices:
        raise InputError(f"{where} is {text!r}; expected one of {', '.join(choices)}")
    return text


#: By name, how a value is read of a text: (where, text) -> value.
Readers = Mapping[str, Callable[[str, str], Any]]
_READ: Readers = {
    "size": _square,
    "resize": _resize,
    "interpolation": partial(one_of, tuple(_RESAMPLE.values())),
    "order": partial(one_of, ("rgb", "bgr")),
    "scale": number,
    "mean": _numbers,
    "std": _deviation,
}


def decoded(texts: Mapping[str, str], names: Collection[str]) -> dict[str, Any]:
    """What metadata, whose values are text, say of preprocessing, by Hugging Face's names; nothing
    unless one of `names` is there: `size` alone may mean anything."""
    if not set(names) & texts.keys():
        return {}
    found: dict[str, Any] = {}
    for key, text in texts.items():
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found
