"""The kinds of encoders, and the encoders that a user asks for.

To add a kind, write its file and enter it here (docs/extending.md).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from harness.choices import Stored
from harness.encoders.encoder import Encoder, EncoderKind, EncoderOptions
from harness.encoders.module import is_reference, module_encoder
from harness.encoders.mtl_dan.encoder import MTL_DAN
from harness.encoders.onnx.encoder import ONNX
from harness.encoders.sound.encoder import SoundEncoder
from harness.errors import InputError

#: By name. `MTL_DAN` reads whatever no other does, so that its messages name what is wrong.
ENCODERS: dict[str, EncoderKind] = {ONNX.name: ONNX, MTL_DAN.name: MTL_DAN}

_NAMED = re.compile(r"([A-Za-z_]\w*)=(.+)", re.DOTALL)


@dataclass(frozen=True)
class Wanted:
    """The encoders that a user asks for, by a weight file and by `encoder`.

    weights, weights_key: of an MTL-DAN or another kind in `ENCODERS`. encoder: [NAME=]FILE or
    [NAME=]module:function. encoder_output: [NAME=]OUTPUT. encoder_input: [NAME=]KEY=VALUE texts.
    """

    weights: Path | None = None
    weights_key: str | None = None
    encoder: Sequence[str] = ()
    encoder_output: Sequence[str] = ()
    encoder_input: Sequence[str] = ()

    @property
    def is_given(self) -> bool:
        """Whether an encoder is asked for."""
        return self.weights is not None or bool(self.encoder)

    @property
    def name(self) -> str:
        """The NAME of the only encoder; "" without."""
        return _named(self.encoder[0])[0] if self.encoder else ""

    def each(self) -> list["Wanted"]:
        """One for each encoder that is asked for, with its own options.

        Raises:
            InputError: several entries of `encoder` without names, or an option of none of them.
        """
        if (self.weights is None or not self.encoder) and len(self.encoder) < 2:
            return [self] if self.is_given else []
        found = [] if self.weights is None else [Wanted(self.weights, self.weights_key)]
        if self.weights is None and self.weights_key:
            self._refuse("weights_key")
        names = [_named(text)[0] for text in self.encoder]
        if len(names) > 1 and ("" in names or len(set(names)) < len(names)):
            raise InputError(
                "several encoders need names of their own: NAME=FILE; a NAME has letters, digits "
                "and _ only",
                "encoder",
            )
        for name, text in zip(names, self.encoder, strict=True):
            outputs, inputs = (
                tuple(each for each in texts if each.startswith(f"{name}=" if name else ""))
                for texts in (self.encoder_output, self.encoder_input)
            )
            found.append(Wanted(None, None, (text,), outputs, inputs))
        for option in ("encoder_output", "encoder_input"):
            for text in getattr(self, option):
                if not any(text in getattr(one, option) for one in found):
                    raise InputError(f"{text}: begin it with the NAME= of an `encoder`", option)
        return found

    def load(self, options: EncoderOptions) -> Encoder | SoundEncoder:
        """The only encoder; `options` has what does not depend on it.

        Raises:
            InputError: there is no such file; two encoders; options that do not fit it.
        """
        if self.encoder and self.weights is not None:
            raise InputError("give one of `encoder` and `weights`", "encoder")
        if len(self.encoder) > 1:
            raise InputError(f"{len(self.encoder)} are given, expected one", "encoder")
        if self.weights is not None:
            self._refuse("encoder_output", "encoder_input")
            if not self.weights.is_file():
                raise InputError(f"{self.weights}: no such weight file", "weights")
            return encoder_of(self.weights, replace(options, key=self.weights_key))
        self._refuse("weights_key")
        name, source = _named(self.encoder[0])
        if len(self.encoder_output) > 1:
            raise InputError("a study reads one output of an encoder", "encoder_output")
        output = [_without(name, text) for text in self.encoder_output]
        options = replace(
            options,
            output=output[0] if output else "",
            values=tuple(_without(name, text) for text in self.encoder_input),
        )
        if is_reference(source) and not Path(source).exists():
            return replace(_used(module_encoder(source, options), options), label=name)
        if not Path(source).is_file():
            hint = "; a NAME has letters, digits and _ only" if "=" in source else ""
            raise InputError(
                f"{source}: no such file; expected an ONNX file or module:function{hint}", "encoder"
            )
        return replace(encoder_of(Path(source), options), label=name)

    def _refuse(self, *names: str) -> None:
        for name in names:
            if getattr(self, name):
                what = "`weights`" if name == "weights_key" else "`encoder`"
                raise InputError(f"it belongs to {what}, which is not given", name)


def encoder_of(
    weights: Path,
    options: EncoderOptions = EncoderOptions(),  # noqa: B008 - it is frozen
) -> Encoder | SoundEncoder:
    """The encoder of a weight file.

    Raises:
        InputError: the file is not readable, or the options do not fit it.
    """
    kinds = [kind for kind in ENCODERS.values() if kind is not MTL_DAN and kind.reads(weights)]
    return _used((kinds or [MTL_DAN])[0].load(weights, options), options)


def _used(encoder: Encoder | SoundEncoder, options: EncoderOptions) -> Encoder | SoundEncoder:
    """With the options that do not depend on the kind."""
    if options.stored not in get_args(Stored):
        raise InputError(
            f"{options.stored!r} is not one of {', '.join(get_args(Stored))}", "stored"
        )
    if isinstance(encoder, SoundEncoder):
        return replace(encoder, stored=options.stored)
    return encoder.used_with(options.crop, options.stored)


def _named(text: str) -> tuple[str, str]:
    """NAME and the rest of [NAME=]REST; a file of that name comes first."""
    found = None if Path(text).exists() else _NAMED.fullmatch(text)
    return (found[1], found[2]) if found else ("", text)


def _without(name: str, text: str) -> str:
    """A text without the encoder's NAME= before it."""
    return text.removeprefix(f"{name}=") if name else text
