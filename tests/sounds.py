"""Sound files and films with sound, of the kinds that phones, browsers and accidents make."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tests.videos import grey

RATE = 16_000


def tone(seconds: float, rate: int = RATE, pitch: float = 440.0) -> NDArray[np.float32]:
    """(samples,) of a sine of half the full scale."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * pitch * t)).astype(np.float32)


def write_sound(
    path: Path,
    sound: NDArray[np.float32],
    rate: int = RATE,
    codec: str = "pcm_s16le",
    layout: str = "mono",
) -> Path:
    """A sound file; each channel has the same sound."""
    with av.open(str(path), "w") as container:
        Track(container, codec, rate, layout).write(sound)
    return path


def write_film(
    path: Path,
    seconds: float,
    sound: NDArray[np.float32],
    *,
    codecs: tuple[str, str] = ("libx264", "aac"),
    begins: float = 0.0,
    bright: float = -1.0,
    rate: int = 48_000,
) -> Path:
    """Dark frames, 25 a second, one of them bright, with a sound track that begins at a second."""
    with av.open(str(path), "w") as container:
        film = container.add_stream(codecs[0], rate=25)
        film.width, film.height, film.pix_fmt = 48, 32, "yuv420p"
        track = Track(container, codecs[1], rate, "mono")
        for k in range(round(25 * seconds)):
            shade = 250 if k == round(25 * bright) else 20
            frame = av.VideoFrame.from_ndarray(grey(shade), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            container.mux(film.encode(frame))
        container.mux(film.encode())
        track.write(sound, begins)
    return path


class Track:
    """A sound track of a container that is being written."""

    def __init__(
        self, container: av.container.OutputContainer, codec: str, rate: int, layout: str
    ) -> None:
        self.container, self.rate = container, rate
        self.stream = container.add_stream(codec, rate=rate, layout=layout)
        context = self.stream.codec_context
        self.layout, self.channels = layout, context.layout.nb_channels
        self.resampler = av.AudioResampler(context.format, layout, rate)

    def write(self, sound: NDArray[np.float32], begins: float = 0.0, flush: bool = True) -> None:
        """Writes all of it to each channel, from `begins` (seconds) on; with `flush`, the end of
        the track."""
        for first in range(0, len(sound), 960):
            packed = np.repeat(sound[first : first + 960], self.channels)[None]
            samples = av.AudioFrame.from_ndarray(packed, "flt", self.layout)
            samples.sample_rate, samples.time_base = self.rate, Fraction(1, self.rate)
            samples.pts = round(begins * self.rate) + first
            for frame in self.resampler.resample(samples):
                self.container.mux(self.stream.encode(frame))
        if flush:
            self.container.mux(self.stream.encode())
