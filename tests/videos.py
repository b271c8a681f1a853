"""Video files of the kinds that phones, browsers and accidents make."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from harness.clips.video import write_video


def grey(value: int, height: int = 32, width: int = 48) -> NDArray[np.uint8]:
    """A picture of one shade."""
    return np.full((height, width, 3), value, np.uint8)


def make_video(path: Path, frames: int) -> Path:
    """Frame k is a grey of about 5 k."""
    write_video(path, (grey(5 * k) for k in range(frames)))
    return path


def make_uneven(path: Path, times: list[int], codec: str = "libx264", form: str = "mp4") -> Path:
    """Frame k, a grey of about 5 k, is shown from `times[k]` on, in hundredths of a second."""
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=100)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.time_base = Fraction(1, 100)
        container.start_encoding()
        for k, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(grey(5 * k % 256), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def make_noise(path: Path, frames: int, options: dict[str, str]) -> Path:
    """A bright square that moves over noise; `options` go to x264."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.options = 96, 64, "yuv420p", options
        for k in range(frames):
            picture = rng.integers(60, 90, (64, 96, 3)).astype(np.uint8)
            picture[10:40, k : k + 30] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def without_first(path: Path, packets: int, out: Path) -> Path:
    """The same film without its first packets, copied as they are."""
    with av.open(str(path)) as source, av.open(str(out), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if number >= packets and packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    return out


def make_sound(path: Path, cover: bool = False) -> Path:
    """A second of silence; with a `cover`, a picture as songs carry it."""
    with av.open(str(path), "w", format="mp4") as container:
        if cover:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 48, 32, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for start in range(0, 16000, 1024):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            samples.sample_rate, samples.pts = 16000, start
            container.mux(sound.encode(samples))
        container.mux(sound.encode())
        if cover:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(grey(9), format="rgb24")))
            container.mux(picture.encode())
    return path


def turn(path: Path, clockwise: int) -> Path:
    """Makes the file ask its player to turn the picture by 90, 180 or 270 degrees."""
    a, b, c, d = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[clockwise]
    content = bytearray(path.read_bytes())
    # The matrix of the track's header, in fixed point; the unit one stands there.
    one = (1 << 16).to_bytes(4, "big")
    start = content.index(one + bytes(12), content.index(b"tkhd"))
    matrix = struct.pack(">iiiiii", a << 16, b << 16, 0, c << 16, d << 16, 0)
    content[start : start + 24] = matrix
    path.write_bytes(content)
    return path


def cut(path: Path, share: float = 0.5) -> Path:
    """Keeps the first part of a file, as a broken download does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path
