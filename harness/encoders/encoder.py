"""What the harness asks of a frozen network that turns frames or sound into features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from harness.choices import DEFAULT_SOUND_STEP
from harness.dataset import Specification
from harness.encoders.sound.encoder import SoundEncoder


@dataclass(frozen=True)
class Encoder:
    """A frozen network and everything that depends on it.

    name: of the kind of network, such as `mtl-dan`. columns: names of its outputs, in order.
    details: what determines the outputs, by name: a checksum of the weights, the preprocessing, the
    number format. resize: decoded frames (n, height, width, 3) uint8 RGB -> what is kept of them
    until a batch is full, (n, 3, rows, columns) uint8. load: gives the network, the resized frames
    -> (n, columns) float32, on the CPU and in eval. parts: names of groups of columns that a head
    may read alone. has_outputs: whether the hyperparameter `features` chooses among its outputs.
    crop: how faces are found and cut out of the frames, or "none". wider: an encoder of the same
    network whose columns contain these, if there is one. stored: number format of the feature
    store, `float32` or `float16`. describe: what a user should know about the encoder, a line each.
    label: the name that the user gives to the stream, in place of `name`; the values do not depend
    on it. kind: what it reads.
    """

    kind: ClassVar[str] = "frames"

    name: str
    columns: tuple[str, ...]
    details: Mapping[str, str | int]
    resize: Callable[[Tensor], Tensor]
    load: Callable[[], nn.Module]
    parts: Mapping[str, slice] = field(default_factory=dict)
    has_outputs: bool = False
    crop: str = "none"
    wider: "Encoder | None" = None
    stored: str = "float32"
    describe: Callable[[], list[str]] = list
    label: str = ""

    @property
    def stream(self) -> str:
        """The name of the stream that it gives."""
        return self.label or self.name

    def specification(self) -> Specification:
        """Of the stream that it gives."""
        details = {**self.details, "crop": self.crop}
        if self.stored != "float32":
            details["stored"] = self.stored
        return Specification(self.name, details, self.columns, len(self.columns))

    def used_with(self, crop: str, stored: str) -> "Encoder":
        """The same with another crop and number format, and the wider one as well."""
        wider = self.wider and self.wider.used_with(crop, stored)
        return replace(self, crop=crop, stored=stored, wider=wider)


@dataclass(frozen=True)
class EncoderOptions:
    """How an encoder is used.

    outputs: which outputs of an MTL-DAN; `outputs` are those that every kind has. precision: number
    format of the convolutions of an MTL-DAN. crop: how faces come out of frames, or "none". key:
    which network of a weight file with several. output: which value of a graph; empty: its default.
    values: KEY=VALUE settings of the preprocessing that the file does not state. like: details of
    a stored stream, which replace the defaults of `output`, `values` and `sound_step`. stored:
    number format of the feature store. sound_step: seconds of each step of sound.
    """

    outputs: str = "outputs"
    precision: str = "float32"
    crop: str = "none"
    key: str | None = None
    output: str = ""
    values: Sequence[str] = ()
    like: Mapping[str, str | int] = field(default_factory=dict)
    stored: str = "float32"
    sound_step: float = DEFAULT_SOUND_STEP


@dataclass(frozen=True)
class EncoderKind:
    """A kind of encoder, which is recognised by its weight file.

    reads: whether a weight file is of this kind; it looks at names alone. load: the encoder of such
    a file, of frames or of sound, without `crop` and `stored`, which are set for it.
    """

    name: str
    reads: Callable[[Path], bool]
    load: Callable[[Path, EncoderOptions], Encoder | SoundEncoder]
