"""An ONNX file as an encoder of images: which value it gives, and how pictures become its input."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import nn

from harness.encoders.encoder import Encoder, EncoderOptions
from harness.encoders.onnx.graph import OnnxFile, Value, only_input, read_onnx
from harness.encoders.onnx.input_kind import (
    CONFIG,
    InputKind,
    configuration,
    metadata,
    wanted_output,
)
from harness.encoders.onnx.network import ImageNetwork, batching, provider_notes
from harness.encoders.preprocessing import (
    IMAGE_NAMES,
    NORMALIZE,
    SAMPLING_RATE,
    Preprocessed,
    Preprocessing,
    Source,
    chosen,
    columns_of,
    hugging_face,
    parsed,
    settings,
)
from harness.errors import InputError, printable

# Element types of the input.
_TYPES = ("float32", "float16", "uint8")
# What a graph that takes bytes reads: it standardises them itself.
_IDENTITY = {"scale": 1.0, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@dataclass(frozen=True)
class Input:
    """How images reach a graph. origin: of each value of the preprocessing, for people."""

    value: Value
    channels_last: bool
    preprocessing: Preprocessing
    origin: Mapping[str, str]

    def lines(self) -> list[str]:
        """A line each, for a person."""
        values = self.preprocessing.details()
        shown = ", ".join(f"{name} {values[name]} ({self.origin[name]})" for name in self.origin)
        layout = "NHWC" if self.channels_last else "NCHW"
        return [f"Input {self.value}, {layout}", f"Preprocessing: {shown}"]


def _image(file: OnnxFile, options: EncoderOptions) -> Encoder:
    path = file.path
    given = read_input(file, options)
    wanted = wanted_output(file, options)
    network = _network(file, given, wanted)
    columns = columns_of(network, given.preprocessing.resized, f"{path}: {printable(wanted)}")
    return Encoder(
        name="onnx",
        columns=tuple(f"feature_{number}" for number in range(columns)),
        details={
            "weights": file.digest,
            "output": wanted,
            "layout": "nhwc" if given.channels_last else "nchw",
            **given.preprocessing.details(),
            **batching(file),
        },
        resize=given.preprocessing.resized,
        load=partial(_load, path, options, file.digest),
        describe=partial(_describe, path, given, wanted, columns),
    )


def _load(path: Path, options: EncoderOptions, digest: str) -> nn.Module:
    file = read_onnx(path, digest)
    return _network(file, read_input(file, options), wanted_output(file, options))


def _network(file: OnnxFile, given: Input, wanted: str) -> nn.Module:
    network = ImageNetwork(file, given.value, wanted, given.channels_last)
    return Preprocessed(network, given.preprocessing).eval()


def read_input(file: OnnxFile, options: EncoderOptions) -> Input:
    """The image input of a graph, and how pictures become it.

    Raises:
        InputError: the graph has another input, or values of the preprocessing contradict each
            other or the graph.
    """
    value = only_input(file, _TYPES)
    if value.shape is None or len(value.shape) != 4:
        raise InputError(f"{file.path}: input {value}: expected rank 4, {IMAGE.shapes}")
    given = settings(options.values)
    channels_last = _channels_last(file.path, value, given.pop("layout", ""), options.like)
    fixed = value.shape[1:3] if channels_last else value.shape[2:]
    as_is = value.type == "uint8"
    beside = {} if as_is else configuration(file.path)
    if SAMPLING_RATE in beside:  # it is of an encoder of sound in the same folder
        beside = {}
    stated = {} if as_is else metadata(file, {*IMAGE_NAMES, NORMALIZE})
    sources = [
        Source("the graph, which takes bytes as they are", _IDENTITY if as_is else {}),
        Source(CONFIG, hugging_face(beside, str(file.path.with_name(CONFIG)))),
        Source("metadata of the file", hugging_face(stated, str(file.path))),
        Source("option", parsed(given, "`encoder_input`"), yields=False),
        Source("the graph", {"size": fixed} if all(isinstance(s, int) for s in fixed) else {}),
        Source("as trained", parsed(options.like, "the stored stream")),
    ]
    preprocessing, origin = chosen(sources)
    for side, wanted in zip(fixed, preprocessing.size, strict=True):
        if isinstance(side, int) and side != wanted:
            raise InputError(
                f"{file.path}: input {value} takes no pictures of "
                f"{'x'.join(map(str, preprocessing.size))} pixels ({origin['size']})"
            )
    return Input(value, channels_last, preprocessing, origin)


def _channels_last(path: Path, value: Value, layout: str, like: Mapping[str, str | int]) -> bool:
    """Whether the colours are the last axis: the one of size 3, or as said where both are dynamic;
    NCHW where nothing is said."""
    assert value.shape is not None
    layouts = {name: value.shape[axis] for name, axis in (("nchw", 1), ("nhwc", 3))}
    if layout not in ("", *layouts):
        raise InputError(f"layout={layout}; expected nchw or nhwc", "encoder_input")
    possible = [name for name, size in layouts.items() if size == 3] or [
        name for name, size in layouts.items() if not isinstance(size, int)
    ]
    if not possible:
        raise InputError(
            f"{path}: input {value}: expected 3 colours, as the second or the last axis"
        )
    wanted = layout or str(like.get("layout", "")) or possible[0]
    if wanted not in possible:
        raise InputError(f"layout={wanted}: {path}: input {value} has another", "encoder_input")
    return wanted == "nhwc"


def _describe(path: Path, given: Input, wanted: str, columns: int) -> list[str]:
    return [
        f"Encoder {path}: output {printable(wanted)}, {columns} columns",
        *given.lines(),
        *provider_notes(),
    ]


IMAGE = InputKind(
    name="image",
    shapes="(batch, 3, height, width) or (batch, height, width, 3)",
    fits=lambda value: value.shape is not None and len(value.shape) == 4,
    load=_image,
    describe=lambda file, options: read_input(file, options).lines(),
)
