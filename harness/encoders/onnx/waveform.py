"""An ONNX file as an encoder of sound: windows of samples in, a step of the stream for each.

Step k is that part of the sound from k to k + 1 times the length of a step, as of the encoders of
`harness.encoders.sound`. Its window has a fixed number of samples, at least that of the step, and
its middle is the middle of the step. Beyond both ends of the sound are zeros.
"""

import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.encoders.encoder import EncoderOptions
from harness.encoders.onnx.graph import OnnxFile, Value, only_input, read_onnx
from harness.encoders.onnx.input_kind import (
    CONFIG,
    InputKind,
    configuration,
    metadata,
    wanted_output,
)
from harness.encoders.onnx.network import OnnxNetwork, batching, provider_notes
from harness.encoders.preprocessing import (
    IMAGE_NAMES,
    NORMALIZE,
    SAMPLING_RATE,
    TRIAL,
    Readers,
    Source,
    checked_columns,
    merged,
    number,
    one_of,
    parsed,
    settings,
)
from harness.encoders.sound.encoder import MONO, Listening, SoundEncoder, check_step
from harness.encoders.sound.spectrum import RATE, Array, in_pieces
from harness.errors import InputError, printable

# Samples a second that a network may want, and seconds of its window.
_RATES, _LONGEST = (1_000, 192_000), 600.0
# Seconds of a window where nothing says how long it is, but at least a step.
_WINDOW = 1.0
# Seconds of sound in a batch of windows, which bound the memory of a network; at least one window.
_AT_ONCE = 16
# Samples by which a product of seconds and a rate may be above the number that is meant.
_ROUNDED = 1e-6
# What Hugging Face's feature extractors add to the variance.
_EPSILON = 1e-7


@dataclass(frozen=True)
class Windows:
    """How a sound is cut. rate: samples a second. window: samples. step: hundredths of a second, at
    most as long as the window. normalise: whether each window gets mean 0 and variance 1, zeros
    beyond the sound aside."""

    rate: int
    window: int
    step: int
    normalise: bool

    def count(self, samples: int) -> int:
        """Steps of a sound. A rest shorter than half a step belongs to the step before it, if its
        window has all of it."""
        step, twice = self.step * self.rate, 200 * samples  # in hundredths of a sample
        half = (twice + step) // (2 * step)
        reached = -((100 * self.window - step - twice) // (2 * step))
        return max(1, half, reached) if samples else 0

    def first(self, step: int) -> int:
        """The first sample of the window of a step; before the sound it is negative."""
        return (2 * step + 1) * self.step * self.rate // 200 - self.window // 2

    def __call__(self, blocks: Iterable[Array]) -> Iterator[Array]:
        """The window of each step, (window,) float32. blocks: (samples,) each, `rate` a second."""
        held, begun, step = np.empty(0, np.float32), 0, 0
        for piece in in_pieces(blocks, self.window):
            held = np.concatenate([held, piece])
            while self.first(step) + self.window <= begun + len(held):
                yield self._window(held, self.first(step) - begun)
                step += 1
            gone = max(0, self.first(step) - begun)
            held, begun = held[gone:], begun + gone
        for last in range(step, self.count(begun + len(held))):
            yield self._window(held, self.first(last) - begun)

    def _window(self, held: Array, first: int) -> Array:
        """The samples from `first` on, which is negative before the sound."""
        part = held[max(0, first) : first + self.window]
        if self.normalise and len(part):
            wide = part.astype(np.float64)
            part = ((wide - wide.mean()) / np.sqrt(wide.var() + _EPSILON)).astype(np.float32)
        after = self.window - max(0, -first) - len(part)
        return np.pad(part, (max(0, -first), after))


class WaveformNetwork(OnnxNetwork):
    """(n, window) float32 -> (n, columns) float32. Values of rank 3 are averaged over their second
    axis, the positions in a window. A graph without an axis for the batch takes one at a time."""

    item = "window"

    def __init__(self, file: OnnxFile, given: Value, wanted: str) -> None:
        super().__init__(file, given, wanted, {2: (), 3: (1,)})
        self.rank = len(given.shape or ())
        if self.rank == 1:
            self.batch = 1

    def computed(self, session: Any, items: NDArray[Any]) -> Any:
        if self.rank == 1:
            found = super().computed(session, items[0])
            # (columns,) or (positions, columns); others have an axis of a batch of one.
            return found[np.newaxis] if getattr(found, "ndim", 0) in (1, 2) else found
        return super().computed(session, items[:, np.newaxis] if self.rank == 3 else items)


@dataclass(frozen=True)
class Input:
    """How a sound reaches a graph. origin: of each value of the preprocessing, for people."""

    value: Value
    windows: Windows
    origin: Mapping[str, str]

    @property
    def seconds(self) -> float:
        """Of a window."""
        return self.windows.window / self.windows.rate

    def details(self) -> dict[str, str | int]:
        """The values by name, as a specification stores them."""
        return {
            "rate": self.windows.rate,
            "normalise": "yes" if self.windows.normalise else "no",
            "window": str(self.seconds),
        }

    def lines(self) -> list[str]:
        """A line each, for a person."""
        values = self.details()
        shown = ", ".join(f"{name} {values[name]} ({self.origin[name]})" for name in values)
        return [f"Input {self.value}, a waveform", f"Preprocessing: {shown}"]


def _waveform(file: OnnxFile, options: EncoderOptions) -> SoundEncoder:
    given = _read_input(file, options)
    wanted, windows = wanted_output(file, options), given.windows
    step = windows.step / 100
    if given.seconds < step:
        raise InputError(
            f"{file.path}: its window of {windows.window} samples, {given.seconds:.3g} s, is "
            f"shorter than a step of {step:g} s, so that sound between windows would be lost; give "
            "a smaller `sound_step`, or a larger window if the graph has any number of samples",
            "sound_step",
        )
    network = WaveformNetwork(file, given.value, wanted)
    noise = 0.1 * torch.randn(TRIAL, windows.window, generator=torch.Generator().manual_seed(0))
    columns = checked_columns(network, noise, f"{file.path}: {printable(wanted)}", "windows")
    lines = [
        f"Encoder {file.path}: output {printable(wanted)}, {columns} columns",
        *given.lines(),
        f"Windows of {given.seconds:g} s around the middle of each step of {step:g} s, with zeros "
        "beyond both ends of the sound",
    ]
    return SoundEncoder(
        columns=tuple(f"feature_{column}" for column in range(columns)),
        details={
            "input": WAVEFORM.name,
            "weights": file.digest,
            "output": wanted,
            **given.details(),
            "mono": MONO,
            **batching(file),
            "step": f"{step:g}",
            "pooling": "mean",
        },
        load=partial(_load, file.path, given, wanted, columns, file.digest),
        step=step,
        rate=windows.rate,
        window=given.seconds,
        name=WAVEFORM.name,
        describe=lambda: [*lines, *provider_notes()],
    )


def _load(path: Path, given: Input, wanted: str, columns: int, digest: str) -> Listening:
    network = WaveformNetwork(read_onnx(path, digest), given.value, wanted).eval()
    return partial(_steps, network, given.windows, columns, threading.Lock())


@torch.inference_mode()
def _steps(
    network: WaveformNetwork,
    windows: Windows,
    columns: int,
    lock: threading.Lock,
    blocks: Iterable[Array],
) -> Array:
    """(steps, columns) of a sound, batch by batch. One thread at a time computes, while others
    decode."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    most = max(1, _AT_ONCE * windows.rate // windows.window)
    found = [np.empty((0, columns), np.float32)]
    cut = windows(blocks)
    while batch := list(islice(cut, most)):
        with lock:
            found.append(network(torch.from_numpy(np.stack(batch)).to(device)).cpu().numpy())
    return np.concatenate(found)


def _read_input(file: OnnxFile, options: EncoderOptions) -> Input:
    """The waveform input of a graph, and how a sound becomes it.

    Raises:
        InputError: the graph has another input, or values of the preprocessing contradict each
            other or the graph.
    """
    path, like = file.path, options.like
    value = only_input(file, ("float32",))
    if _fits(value) is False:
        raise InputError(f"{path}: input {value}: expected {WAVEFORM.shapes}")
    assert value.shape is not None  # _fits says so
    size = value.shape[-1]
    fixed = size if isinstance(size, int) and size > 0 else None
    stored = parsed(like, "the stored stream", _READ)
    if fixed is not None:  # the graph says it
        stored.pop("window", None)
    config = configuration(path)
    if IMAGE_NAMES & config.keys() and SAMPLING_RATE not in config:
        config = {}  # it is of an encoder of images in the same folder
    values, origin = merged([
        Source(CONFIG, _hugging_face(config, str(path.with_name(CONFIG)))),
        Source("metadata of the file",
               _hugging_face(metadata(file, {SAMPLING_RATE, NORMALIZE}), str(path))),
        Source("option", parsed(settings(options.values, _READ), "`encoder_input`", _READ),
               yields=False),
        Source("as trained", stored),
        Source("default", {"rate": RATE, "normalise": "no"}),
    ])  # fmt: skip
    step = float(like.get("step", options.sound_step))
    check_step(step)
    seconds = values.get("window", max(_WINDOW, step))
    origin.setdefault("window", "default")
    samples = seconds * values["rate"]
    window = math.ceil(samples - _ROUNDED)
    if fixed is not None:
        if "window" in values and abs(samples - fixed) >= 1:
            raise InputError(
                f"{path}: input {value} takes no windows of {seconds:g} s ({samples:g} samples)",
                "encoder_input",
            )
        window, origin["window"] = fixed, "the graph"
    windows = Windows(values["rate"], window, round(100 * step), values["normalise"] == "yes")
    if 100 * window < windows.rate:
        raise InputError(
            f"{path}: input {value}: a window of {window} samples, {window / windows.rate:.2g} s, "
            "is shorter than any step; expected a waveform of at least 0.01 s"
        )
    return Input(value, windows, origin)


def _fits(value: Value) -> bool | None:
    """Whether an input is a waveform; None: the size of its second axis, which would be 1, is not
    known."""
    if value.shape is None or not 1 <= len(value.shape) <= 3:
        return False
    if len(value.shape) < 3 or value.shape[1] == 1:
        return True
    return None if isinstance(value.shape[1], str) else False


def _hugging_face(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values of the preprocessing from a `preprocessor_config.json` of a sound model.

    Raises:
        InputError: a value that is not accepted, or the model reads no samples.
    """
    found: dict[str, Any] = {}
    if values.get("feature_size", 1) != 1:
        raise InputError(
            f"{where}: feature_size {values['feature_size']}; expected 1: the network of this file "
            "reads spectra, not samples"
        )
    if values.get(SAMPLING_RATE) is not None:
        found["rate"] = _rate(f"{where}: {SAMPLING_RATE}", str(values[SAMPLING_RATE]))
    if (normalise := values.get(NORMALIZE)) is not None:
        if not isinstance(normalise, bool):
            raise InputError(f"{where}: {NORMALIZE} {normalise!r}; expected true or false")
        found["normalise"] = "yes" if normalise else "no"
    return found


def _rate(where: str, text: str) -> int:
    value, (low, high) = number(where, text), _RATES
    if not low <= value <= high or value != int(value):
        raise InputError(f"{where} is {text!r}; expected {low} to {high} samples a second")
    return int(value)


def _seconds(where: str, text: str) -> float:
    value = number(where, text)
    if not 0 < value <= _LONGEST:
        raise InputError(f"{where} is {text!r}; expected seconds, up to {_LONGEST:g}")
    return value


_READ: Readers = {"rate": _rate, "normalise": partial(one_of, ("yes", "no")), "window": _seconds}

WAVEFORM = InputKind(
    name="waveform",
    shapes="(batch, samples), (samples) or (batch, 1, samples)",
    fits=_fits,
    load=_waveform,
    describe=lambda file, options: _read_input(file, options).lines(),
)
