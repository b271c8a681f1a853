"""The kinds of encoders, and the encoder of a weight file.

To add a kind, write its file and enter it here (docs/extending.md).
"""

from pathlib import Path

from harness.encoders.encoder import Encoder, EncoderKind
from harness.encoders.mtl_dan.encoder import MTL_DAN

#: By name. The last one reads whatever no other does, so that its messages name what is wrong.
ENCODERS: dict[str, EncoderKind] = {MTL_DAN.name: MTL_DAN}


def encoder_of(
    weights: Path,
    *,
    outputs: str = "outputs",
    precision: str = "float32",
    crop: str = "none",
    key: str | None = None,
) -> Encoder:
    """The encoder of a weight file.

    Args:
        outputs: which of its outputs; `outputs` are those that every kind has.
        precision: number format of its convolutions.
        crop: how faces come out of frames, or "none"; part of the stream's specification.
        key: which network of the weight file, where it holds several.

    Raises:
        InputError: the file is not readable; no such outputs or precision.
    """
    for kind in ENCODERS.values():
        if kind is not MTL_DAN and kind.reads(weights):
            return kind.load(weights, outputs, precision, crop, key)
    return MTL_DAN.load(weights, outputs, precision, crop, key)
