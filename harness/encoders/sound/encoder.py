"""What turns the sound of a clip into the steps of a stream."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, get_args

import numpy as np

from harness.choices import DEFAULT_SOUND_STEP, Sound
from harness.dataset import Specification
from harness.encoders.sound import egemaps
from harness.encoders.sound.spectrum import (
    CEPSTRA,
    FFT,
    HOP,
    MELS,
    RATE,
    WINDOW,
    Array,
    log_mel,
    mfcc,
)
from harness.errors import InputError

# Longest step, in seconds; a shorter one is a multiple of the hop.
_LONGEST = 60.0


#: Sources of streams of sound: those that need no file, and those of an ONNX file.
HEARD = ("sound", "waveform")
#: How `harness.clips.sound` makes one channel of several, as specifications name it.
MONO = "mean of channels"
#: (samples,) blocks of a sound -> (steps, columns) float32.
Listening = Callable[[Iterable[Array]], Array]


@dataclass(frozen=True)
class SoundEncoder:
    """Turns the sound of a clip into the steps of a stream; step k begins at k times `step`.

    columns: names of the outputs, in order. details: what determines them, by name. load: gives
    what turns the blocks of a sound into steps; its memory must not depend on the length of the
    sound, but for the result. step: seconds. rate: samples a second of the blocks. window: seconds
    of sound that a step is computed from, if shorter sounds are filled with zeros; else 0. name: of
    the kind, `sound` for those that need no file. label, stored, describe: as of an encoder of
    frames (`harness.encoders.encoder.Encoder`).
    """

    kind: ClassVar[str] = "sound"

    columns: tuple[str, ...]
    details: Mapping[str, str | int]
    load: Callable[[], Listening]
    step: float
    rate: int = RATE
    window: float = 0.0
    name: str = "sound"
    label: str = ""
    stored: str = "float32"
    describe: Callable[[], list[str]] = list

    @property
    def stream(self) -> str:
        """The name of the stream that it gives."""
        return self.label or self.name

    def specification(self) -> Specification:
        """Of the stream that it gives."""
        stored = {} if self.stored == "float32" else {"stored": self.stored}
        return Specification(self.name, {**self.details, **stored}, self.columns, len(self.columns))

    def __call__(self, blocks: Iterable[Array]) -> Array:
        """(steps, columns) of a sound that comes in (samples,) float32, `rate` a second."""
        return self.load()(blocks)


def _steps(
    descriptors: Callable[[Iterable[Array]], Iterator[Array]],
    count: int,
    step: float,
    blocks: Iterable[Array],
) -> Array:
    """The mean and the standard deviation of descriptors over each step: (steps, 2 count).

    A rest shorter than half a step belongs to the step before it.

    Args:
        descriptors: gives them, (frames, count), one row each HOP samples.
        step: seconds.
    """
    size = round(step * RATE / HOP)
    steps = [np.empty((0, 2 * count), np.float32)]
    left = np.empty((0, count), np.float32)
    for frames in descriptors(blocks):
        left = np.concatenate([left, frames])
        # The last whole step waits, since the rest may belong to it.
        whole = max(0, (len(left) - 1) // size - 1)
        steps += [_pooled(left[k * size : (k + 1) * size]) for k in range(whole)]
        left = left[whole * size :]
    number = max(1, int(len(left) / size + 0.5)) if len(left) else 0
    steps += [
        _pooled(left[k * size : (k + 1) * size if k + 1 < number else None]) for k in range(number)
    ]
    return np.concatenate(steps)


def _pooled(frames: Array) -> Array:
    """(frames, n) -> (1, 2 n): means, then standard deviations."""
    wide = frames.astype(np.float64)
    return np.concatenate([wide.mean(axis=0), wide.std(axis=0)]).astype(np.float32)[np.newaxis]


def sound_encoder(name: str, step: float = DEFAULT_SOUND_STEP) -> SoundEncoder:
    """The encoder of a name.

    Args:
        step: seconds of each step of the stream, a multiple of .01.

    Raises:
        InputError: another name or step; a package that the encoder needs is not installed.
    """
    if name not in get_args(Sound):
        raise InputError(f"{name!r} is not one of {', '.join(get_args(Sound))}", "sound")
    check_step(step)
    details: dict[str, str | int] = {"descriptors": name, "rate": RATE, "hop": HOP, "mono": MONO}
    if name == "egemaps":
        version, names = egemaps.load()
        details["opensmile"], descriptors = version, egemaps.descriptors
    else:
        descriptors = log_mel if name == "log-mel" else mfcc
        details |= {"window": WINDOW, "fft": FFT, "mels": MELS}
        prefix, count = ("mel", MELS) if name == "log-mel" else ("mfcc", CEPSTRA)
        names = tuple(f"{prefix}{number:02d}" for number in range(count))
    details |= {"step": f"{step:g}", "pooling": "mean, standard deviation"}
    columns = tuple(f"{each}_{part}" for part in ("mean", "std") for each in names)
    line = (
        f"sound: {name}, mean and standard deviation over steps of {step:g} s, "
        f"{len(columns)} columns"
    )
    listening = partial(_steps, descriptors, len(names), step)
    return SoundEncoder(columns, details, lambda: listening, step, describe=lambda: [line])


def check_step(step: float) -> None:
    """Raises an InputError unless a step of this length, in seconds, is possible."""
    hop = HOP / RATE
    if not hop <= step <= _LONGEST or abs(step / hop - round(step / hop)) > 1e-6:
        raise InputError(
            f"{step:g}: expected seconds from {hop:g} to {_LONGEST:g}, a multiple of {hop:g}",
            "sound_step",
        )


def sound_encoder_of(specification: Specification) -> SoundEncoder:
    """The encoder that gives a stored stream, as far as this version can: compare the two
    specifications.

    Raises:
        InputError: it is of no sound encoder of this version, or needs a missing package.
    """
    details = specification.details
    try:
        step = float(details["step"])
    except (KeyError, ValueError):
        raise InputError(f"no stream of sound: {specification.to_dict()}") from None
    return sound_encoder(details.get("descriptors"), step)  # type: ignore[arg-type]  # checked there
