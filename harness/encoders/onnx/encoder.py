"""An ONNX file as an encoder: of images or of sound, as its input says.

To add a kind of input, write its file and enter it in `INPUTS`.
"""

from pathlib import Path

from harness.encoders.encoder import Encoder, EncoderKind, EncoderOptions
from harness.encoders.onnx.graph import OnnxFile, only_input, read_onnx
from harness.encoders.onnx.image import IMAGE
from harness.encoders.onnx.input_kind import InputKind
from harness.encoders.onnx.waveform import WAVEFORM
from harness.encoders.sound.encoder import SoundEncoder
from harness.errors import InputError

#: By name.
INPUTS: dict[str, InputKind] = {IMAGE.name: IMAGE, WAVEFORM.name: WAVEFORM}


def _onnx(path: Path, options: EncoderOptions) -> Encoder | SoundEncoder:
    if options.precision != "float32":
        raise InputError(
            f"{options.precision}: the number format of an ONNX file is its own; remove the option",
            "precision",
        )
    if options.key:
        raise InputError("an ONNX file holds one network; remove the option", "weights_key")
    file = read_onnx(path)
    return _kind(file, options).load(file, options)


def _kind(file: OnnxFile, options: EncoderOptions) -> InputKind:
    """The kind of the only input: as the user says, else by its shape.

    Raises:
        InputError: several inputs, or no kind or several that it may be of.
    """
    value = only_input(file)
    stated = [text.removeprefix("kind=") for text in options.values if text.startswith("kind=")]
    for name in (*stated, str(options.like.get("input", ""))):
        if name in INPUTS:
            return INPUTS[name]
    names = " or ".join(f"kind={name}" for name in INPUTS)
    if stated:
        raise InputError(f"kind={stated[0]}; expected {names}", "encoder_input")
    fits = {kind.name: kind.fits(value) for kind in INPUTS.values()}
    for name, certain in fits.items():
        if certain:
            return INPUTS[name]
    expected = "; ".join(f"{kind.name}: {kind.shapes}" for kind in INPUTS.values())
    possible = [name for name, fit in fits.items() if fit is None]
    hints = (f"; if it is of kind {name}, give `encoder_input` kind={name}" for name in possible)
    raise InputError(f"{file.path}: input {value}: expected {expected}{''.join(hints)}")


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
        lines += _kind(file, EncoderOptions()).describe(file, EncoderOptions())
    except InputError as error:
        lines.append(f"No encoder: {error}")
    return lines


ONNX = EncoderKind("onnx", lambda weights: weights.suffix.lower() == ".onnx", _onnx)
