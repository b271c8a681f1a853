"""What the harness asks of a frozen network that turns frames into features."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from harness.dataset import Specification


@dataclass(frozen=True)
class Encoder:
    """A frozen network and everything that depends on it.

    name: of the kind of network, such as `mtl-dan`; also the name of the stream. columns: names of
    its outputs, in order. details: what determines the outputs, by name: of the weights a checksum,
    the preprocessing, the number format. resize: decoded frames (n, height, width, 3) uint8 RGB ->
    what is kept of them until a batch is full, (n, 3, size, size) uint8. load: gives the network,
    (n, 3, size, size) uint8 -> (n, columns) float32, on the CPU and in eval. parts: names of groups
    of columns that a head may read alone. crop: how faces are found and cut out of the frames, or
    "none". wider: an encoder of the same network whose columns contain these, if there is one.
    describe: what a user should know about the weight file, a line each.
    """

    name: str
    columns: tuple[str, ...]
    details: Mapping[str, str | int]
    resize: Callable[[Tensor], Tensor]
    load: Callable[[], nn.Module]
    parts: Mapping[str, slice] = field(default_factory=dict)
    crop: str = "none"
    wider: "Encoder | None" = None
    describe: Callable[[], list[str]] = list

    def specification(self) -> Specification:
        """Of the stream that it gives."""
        details = {**self.details, "crop": self.crop}
        return Specification(self.name, details, self.columns, len(self.columns))


@dataclass(frozen=True)
class EncoderKind:
    """A kind of encoder, which is recognised by its weight file.

    reads: whether a weight file is of this kind; it looks at names alone. load: the encoder of such
    a file; its arguments are those of `harness.encoders.registry.encoder_of`.
    """

    name: str
    reads: Callable[[Path], bool]
    load: Callable[[Path, str, str, str, str | None], Encoder]
