"""An ONNX file as an encoder of images: which value it gives, and how pictures become its input."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from harness.encoders.encoder import Encoder, EncoderKind, EncoderOptions
from harness.encoders.onnx.graph import OnnxFile, Value, image_input, read_onnx
from harness.encoders.onnx.network import OnnxNetwork, provider_of
from harness.encoders.preprocessing import (
    Preprocessed,
    Preprocessing,
    Source,
    chosen,
    columns_of,
    decoded,
    hugging_face,
    parsed,
    settings,
)
from harness.errors import InputError, printable

#: Hugging Face's file beside the ONNX file.
_CONFIG = "preprocessor_config.json"
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


def _onnx(path: Path, options: EncoderOptions) -> Encoder:
    if options.precision != "float32":
        raise InputError(
            f"{options.precision}: the number format of an ONNX file is its own; remove the option",
            "precision",
        )
    if options.key:
        raise InputError("an ONNX file holds one network; remove the option", "weights_key")
    file = read_onnx(path)
    given = read_input(file, options)
    wanted = _output(file, options)
    network = _network(file, given, wanted)
    columns = columns_of(network, given.preprocessing.resized, f"{path}: {printable(wanted)}")
    return Encoder(
        name=ONNX.name,
        columns=tuple(f"feature_{number}" for number in range(columns)),
        details={
            "weights": file.digest,
            "output": wanted,
            "layout": "nhwc" if given.channels_last else "nchw",
            **given.preprocessing.details(),
        },
        resize=given.preprocessing.resized,
        load=partial(_load, path, options, file.digest),
        describe=partial(_describe, path, given, wanted, columns),
    )


def _load(path: Path, options: EncoderOptions, digest: str) -> nn.Module:
    file = read_onnx(path)
    if file.digest != digest:  # a worker on another machine may have another file
        raise InputError(f"{path}: changed since it was first read, or differs between machines")
    return _network(file, read_input(file, options), _output(file, options))


def _output(file: OnnxFile, options: EncoderOptions) -> str:
    return file.resolve(options.output or str(options.like.get("output", "")))


def _network(file: OnnxFile, given: Input, wanted: str) -> nn.Module:
    network = OnnxNetwork(file, given.value, wanted, given.channels_last)
    return Preprocessed(network, given.preprocessing).eval()


def read_input(file: OnnxFile, options: EncoderOptions) -> Input:
    """The image input of a graph, and how pictures become it.

    Raises:
        InputError: the graph has another input, or values of the preprocessing contradict each
            other or the graph.
    """
    value = image_input(file)
    assert value.shape is not None  # image_input checks it
    given = settings(options.values)
    channels_last = _channels_last(file.path, value, given.pop("layout", ""), options.like)
    fixed = value.shape[1:3] if channels_last else value.shape[2:]
    as_is = value.type == "uint8"
    sources = [
        Source(_CONFIG, {} if as_is else _beside(file.path)),
        Source(
            "metadata of the file",
            {}
            if as_is
            else hugging_face(
                decoded({p.key: p.value for p in file.model.metadata_props}), str(file.path)
            ),
        ),
        Source("option", parsed(given, "`encoder_input`"), yields=False),
        Source("the graph", {"size": fixed} if all(isinstance(s, int) for s in fixed) else {}),
        Source("as trained", parsed(options.like, "the stored stream")),
        Source("uint8 input", _IDENTITY if as_is else {}),
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


def _beside(path: Path) -> dict[str, object]:
    """What `preprocessor_config.json` beside the file says; nothing without one."""
    config = path.with_name(_CONFIG)
    if not config.is_file():
        return {}
    try:
        values = json.loads(config.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{config}: no JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{config}: expected an object of names and values")
    return hugging_face(values, str(config))


def _describe(path: Path, given: Input, wanted: str, columns: int) -> list[str]:
    lines = [
        f"Encoder {path}: output {printable(wanted)}, {columns} columns",
        *given.lines(),
    ]
    if torch.cuda.is_available() and not provider_of(torch.device("cuda")).startswith("CUDA"):
        lines.append(
            "The encoder runs on the CPU, since the installed onnxruntime has no CUDA; "
            "the package onnxruntime-gpu has it"
        )
    return lines


def description(path: Path) -> list[str]:
    """Inputs, outputs, candidate features with widths, and the preprocessing of a file, a line
    each. Nothing of it is run.

    Raises:
        InputError: it is not readable.
    """
    file = read_onnx(path)
    opsets = ", ".join(f"{o.domain or 'ai.onnx'} {o.version}" for o in file.model.opset_import)
    lines = [f"{path}: {len(file.model.graph.node)} operations, opset {opsets}"]
    known = {value.name: value for value in file.outputs} | file.values
    lines += [f"Input {value}" for value in file.inputs]
    lines += [f"Output {known[value.name]}" for value in file.outputs]
    lines += [f"Candidate {known[name]}" for name in file.candidates()]
    try:
        lines.append(f"features: {known[file.resolve('features')]}")
    except InputError as error:
        lines.append(f"No features: {error}")
    try:
        lines += read_input(file, EncoderOptions()).lines()
    except InputError as error:
        lines.append(f"No encoder of images: {error}")
    return lines


ONNX = EncoderKind("onnx", lambda weights: weights.suffix.lower() == ".onnx", _onnx)
