"""MTL-DAN as an encoder of face images."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from harness.encoders.encoder import Encoder, EncoderKind, EncoderOptions
from harness.encoders.mtl_dan.checkpoints import (
    load_mtl_dan,
    load_with_report,
    read_metadata,
    weights_fingerprint,
)
from harness.encoders.mtl_dan.fused import COLUMNS, PRECISIONS, fuse
from harness.encoders.mtl_dan.network import ACTION_UNITS, EXPRESSIONS, SHARED
from harness.encoders.mtl_dan.preprocessing import PREPROCESSING, resized, standardised
from harness.errors import InputError

#: Pixels a side that DAN was trained on; a weight file may name another size.
INPUT_SIZE = 224
#: Names of all columns: expression logits, action units, valence and arousal, and the
#: representation that the branches share.
NAMES = (
    *EXPRESSIONS,
    *(f"AU{unit}" for unit in ACTION_UNITS),
    "valence",
    "arousal",
    *(f"shared_{number}" for number in range(SHARED)),
)


def _mtl_dan(weights: Path, options: EncoderOptions) -> Encoder:
    """options.outputs: `outputs` (22 columns), `shared` (512) or `both`."""
    outputs, precision, key = options.outputs, options.precision, options.key
    if options.output or options.values:
        raise InputError("only an ONNX file has one; remove it", "encoder_" +
                         ("output" if options.output else "input"))  # fmt: skip
    for name, value, choices in (
        ("outputs", outputs, COLUMNS),
        ("precision", precision, PRECISIONS),
    ):
        if value not in choices:
            raise InputError(f"{value!r}: choose one of {', '.join(choices)}", name)
    size = input_size(weights)
    both = outputs == "both"
    return Encoder(
        name="mtl-dan",
        columns=NAMES[COLUMNS[outputs]],
        details={
            "weights": weights_fingerprint(weights, key),
            "preprocessing": PREPROCESSING,
            "input_size": size,
            "precision": precision,
        },
        resize=partial(resized, size=size),
        load=partial(_load, weights, outputs, precision, key),
        parts=COLUMNS if both else {},
        has_outputs=True,
        describe=partial(_describe, weights, key),
        wider=None if both else _mtl_dan(weights, replace(options, outputs="both")),
    )


class Standardised(nn.Module):
    """A network of normalised images as one of uint8 images, (n, 3, size, size)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network(standardised(images))
        return features


def _describe(weights: Path, key: str | None) -> list[str]:
    return load_with_report(weights, key).lines()


def _load(weights: Path, outputs: str, precision: str, key: str | None) -> nn.Module:
    return Standardised(fuse(load_mtl_dan(weights, key), PRECISIONS[precision], outputs)).eval()


def input_size(weights: Path) -> int:
    """Pixels a side of the network's input, as its file says.

    Raises:
        InputError: it says something else than a number of pixels.
    """
    size = read_metadata(weights).get("input_size", str(INPUT_SIZE))
    # The trunk divides a side by 32, and no camera gives more.
    if not (size.isascii() and size.isdecimal() and len(size) <= 4 and 32 <= int(size) <= 4096):
        raise InputError(f"{weights}: input_size is {size!r}; expected pixels a side, 32 to 4096")
    return int(size)


MTL_DAN = EncoderKind("mtl-dan", lambda weights: True, _mtl_dan)
