"""What a kind of input is: how an ONNX file with one of it becomes an encoder."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.encoders.encoder import Encoder, EncoderOptions
from harness.encoders.onnx.graph import OnnxFile, Value
from harness.encoders.preprocessing import decoded
from harness.encoders.sound.encoder import SoundEncoder
from harness.errors import InputError

#: Hugging Face's file beside the ONNX file.
CONFIG = "preprocessor_config.json"


@dataclass(frozen=True)
class InputKind:
    """A kind of input of graphs.

    name: value of `--encoder-input kind=`. shapes: that it may have, for people. fits: whether an
    input is of this kind, by its shape alone; None: it may be. load: the encoder of a file.
    describe: how items become its input, a line each; InputError if they cannot.
    """

    name: str
    shapes: str
    fits: Callable[[Value], bool | None]
    load: Callable[[OnnxFile, EncoderOptions], Encoder | SoundEncoder]
    describe: Callable[[OnnxFile, EncoderOptions], list[str]]


def configuration(path: Path) -> dict[str, Any]:
    """What `preprocessor_config.json` beside a file says; nothing without one."""
    config = path.with_name(CONFIG)
    if not config.is_file():
        return {}
    try:
        values = json.loads(config.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{config}: no JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{config}: expected an object of names and values")
    return values


def metadata(file: OnnxFile, names: Collection[str]) -> dict[str, Any]:
    """What the metadata of a file say, if one of `names` is among them."""
    return decoded({each.key: each.value for each in file.model.metadata_props}, names)


def wanted_output(file: OnnxFile, options: EncoderOptions) -> str:
    """The name of the value that becomes features."""
    return file.resolve(options.output or str(options.like.get("output", "")))
