"""Encoders of the user's own: `--encoder module:function` calls a Python function.

It is the only encoder that runs foreign code. `image_encoder` builds what the function returns.
"""

import hashlib
import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path

from torch import nn

from harness.encoders.encoder import Encoder, EncoderOptions
from harness.encoders.preprocessing import Preprocessed, Preprocessing, columns_of
from harness.errors import InputError

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
#: What the details of an encoder must state, so that features of other code or weights differ.
_STATED = ("version", "weights")


def image_encoder(
    name: str,
    *,
    version: str,
    load: Callable[[], nn.Module],
    columns: int | Sequence[str],
    weights: str | PathLike[str] | None = None,
    preprocessing: Preprocessing = Preprocessing(),  # noqa: B008 - it is frozen
    details: Mapping[str, str | int] | None = None,
) -> Encoder:
    """The encoder of a PyTorch network of images.

    Args:
        name: of the network; models that were trained on its features read no others.
        version: of the function that returns this; change it when `load` gives another network.
        load: gives the network, in eval: (n, 3, height, width) float32 -> (n, columns) float32. A
            function of a module, since worker processes import it by its name.
        columns: names of the features, or their number.
        weights: the file that `load` reads; its contents become part of the fingerprint.
        preprocessing: how pictures become the input; by default that of ImageNet.
        details: what else determines the features.

    Raises:
        InputError: `weights` is no file.
    """
    file = None if weights is None else Path(weights)
    if file is not None and not file.is_file():
        raise InputError(f"{file}: no such weight file")
    names = [f"feature_{n}" for n in range(columns)] if isinstance(columns, int) else columns
    return Encoder(
        name=name,
        columns=tuple(names),
        details={
            **(details or {}),
            "version": version,
            "weights": hashlib.sha256(file.read_bytes()).hexdigest() if file else "none",
            **preprocessing.details(),
        },
        resize=preprocessing.resized,
        load=partial(_preprocessed, load, preprocessing),
    )


def _preprocessed(load: Callable[[], nn.Module], preprocessing: Preprocessing) -> nn.Module:
    return Preprocessed(load(), preprocessing).eval()


def is_reference(text: str) -> bool:
    """Whether a text has the form `module:function`."""
    return _REFERENCE.fullmatch(text) is not None


def module_encoder(reference: str, options: EncoderOptions) -> Encoder:
    """The encoder that a function returns.

    Args:
        reference: `module:function`; the module is looked for in the current folder, too.

    Raises:
        InputError: there is no such function, it fails, it returns something else, or its network
            does not give the columns that it promises.
    """
    if options.values or options.output:
        raise InputError(
            "an encoder of the form module:function decides on its input and output; remove "
            "`encoder_input` and `encoder_output`",
            "encoder",
        )
    if options.precision != "float32":
        raise InputError(f"{options.precision}: the function decides; remove it", "precision")
    encoder = _called(reference)
    if missing := [name for name in _STATED if name not in encoder.details]:
        raise InputError(
            f"{reference}: the details of its encoder lack {', '.join(missing)}; return "
            "harness.encoders.module.image_encoder(...), which states them",
            "encoder",
        )
    try:
        network = encoder.load()
        found = columns_of(network, encoder.resize, reference)
    except InputError:
        raise
    except Exception as error:  # foreign code
        raise InputError(f"{reference}: its network fails: {error!r}", "encoder") from error
    if found != len(encoder.columns):
        raise InputError(
            f"{reference}: its network gives {found} columns, it promises {len(encoder.columns)}",
            "encoder",
        )
    line = f"Encoder {reference}: {encoder.name}, {found} columns; the function is code of your own"
    return replace(encoder, describe=partial(_lines, line, encoder))


def _lines(first: str, encoder: Encoder) -> list[str]:
    return [first, *encoder.describe()]


def _called(reference: str) -> Encoder:
    module, _, function = reference.partition(":")
    folder = os.getcwd()  # noqa: PTH109 - an entry of sys.path
    if folder not in sys.path:  # the console script does not add it
        sys.path.insert(0, folder)
    try:
        encoder = getattr(importlib.import_module(module), function)()
    except InputError:
        raise
    except Exception as error:  # foreign code
        raise InputError(f"{reference}: {error!r}", "encoder") from error
    if not isinstance(encoder, Encoder):
        raise InputError(
            f"{reference}: returned {type(encoder).__name__}; expected an Encoder, such as "
            "harness.encoders.module.image_encoder(...) returns",
            "encoder",
        )
    return encoder
