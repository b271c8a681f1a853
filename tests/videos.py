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


def make_noise(path: Path, frames: int, options: dict[str, str], codec: str = "libx264") -> Path:
    """A bright square that moves over noise; `options` go to the encoder."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.options = 96, 64, "yuv420p", options
        for k in range(frames):
            picture = rng.integers(60, 90, (64, 96, 3)).astype(np.uint8)
            picture[10:40, k : k + 30] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def without_first(path: Path, packets: int, out: Path) -> Path:
    """The same film without its first packets, copied as they are, and without an edit list."""
    options = {"use_editlist": "0"} if out.suffix in (".mp4", ".mov") else {}
    with av.open(str(path)) as source, av.open(str(out), "w", options=options) as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if number >= packets and packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    return out


def damaged(path: Path, numbers: set[int], out: Path, kind: str = "video") -> Path:
    """The same film in which some packets, counted as they are stored, hold nothing but ones; or,
    of the kind `audio`, the same sound file."""
    with av.open(str(path)) as source, av.open(str(out), "w") as copy:
        stream = copy.add_stream_from_template(getattr(source.streams, kind)[0])
        for number, packet in enumerate(source.demux(getattr(source.streams, kind)[0])):
            if packet.dts is None:
                continue
            bad = packet
            if number in numbers:
                bad = av.Packet(b"\xff" * packet.size)
                bad.pts, bad.dts, bad.time_base = packet.pts, packet.dts, packet.time_base
                bad.duration, bad.is_keyframe = packet.duration, packet.is_keyframe
            bad.stream = stream
            copy.mux(bad)
    return out


def keyframes(path: Path) -> list[int]:
    """The places of the packets that hold key frames."""
    with av.open(str(path)) as container:
        return [n for n, packet in enumerate(container.demux(video=0)) if packet.is_keyframe]


def make_open_gop(path: Path, codec: str, frames: int = 60) -> Path:
    """A film whose key frames, one in twelve, are preceded by frames that refer to them."""
    keys = "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3"
    options = {"x265-params": f"{keys}:log-level=none"}
    if codec == "libx264":
        options = {"x264-params": keys}
    return make_noise(path, frames, options, codec)


def write_lossless(path: Path, frames: list[NDArray[np.uint8]]) -> Path:
    """An H.264 mp4 that gives back exactly these frames, (height, width, 3) RGB."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264rgb", rate=30)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = "rgb24", {"qp": "0"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def make_streams(path: Path, sizes: list[tuple[int, int]], default: int, frames: int = 10) -> Path:
    """Video streams of some sizes (width, height); stream k shows a grey of 50 (k + 1)."""
    with av.open(str(path), "w") as container:
        streams = []
        for number, (width, height) in enumerate(sizes):
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.disposition = (
                av.stream.Disposition.default if number == default else av.stream.Disposition(0)
            )
            streams.append(stream)
        for _ in range(frames):
            for number, stream in enumerate(streams):
                picture = grey(50 * (number + 1), stream.height, stream.width)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    return path


def make_with_cover(path: Path, frames: int) -> Path:
    """An mp4 whose frame k is a grey of about 5 k, with a larger picture as its cover."""
    with av.open(str(path), "w", format="mp4") as container:
        film = container.add_stream("libx264", rate=30)
        film.width, film.height, film.pix_fmt = 48, 32, "yuv420p"
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 480, 320, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.start_encoding()
        for k in range(frames):
            container.mux(film.encode(av.VideoFrame.from_ndarray(grey(5 * k), format="rgb24")))
        container.mux(film.encode())
        picture = av.VideoFrame.from_ndarray(grey(9, 320, 480), format="rgb24")
        container.mux(cover.encode(picture))
        container.mux(cover.encode())
    return path


def make_with_sound(path: Path, codec: str, sound: str, seconds: float, heard: float) -> Path:
    """Greys for some seconds, and silence for `heard` seconds."""
    rate = 44100 if sound == "wmav2" else 48000
    with av.open(str(path), "w") as container:
        film = container.add_stream(codec, rate=30)
        film.width, film.height, film.pix_fmt = 48, 32, "yuv420p"
        track = container.add_stream(sound, rate=rate, layout="mono")
        track.bit_rate = 64_000
        for k in range(round(30 * seconds)):
            frame = av.VideoFrame.from_ndarray(grey(5 * k % 256), format="rgb24")
            container.mux(film.encode(frame))
        container.mux(film.encode())
        form = track.codec_context.format.name
        kind = np.int16 if form.startswith("s16") else np.float32
        for start in range(0, round(rate * heard), 960):
            silence = np.zeros((1, 960), kind)
            samples = av.AudioFrame.from_ndarray(silence, form, "mono")
            samples.sample_rate, samples.pts = rate, start
            samples.time_base = Fraction(1, rate)
            container.mux(track.encode(samples))
        container.mux(track.encode())
    return path


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
    turns = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
    return set_matrix(path, turns[clockwise])


def set_matrix(path: Path, matrix: tuple[float, float, float, float]) -> Path:
    """Makes the file ask its player to show the point (x, y) at (a x + c y, b x + d y).

    Args:
        matrix: a, b, c, d of a display matrix (ISO/IEC 14496-12, 6.2.2).
    """
    a, b, c, d = (round(value * (1 << 16)) for value in matrix)
    content = bytearray(path.read_bytes())
    # The matrix of the track's header, in fixed point; the writer put the unit matrix there.
    one = (1 << 16).to_bytes(4, "big")
    start = content.index(one + bytes(12), content.index(b"tkhd"))
    content[start : start + 24] = struct.pack(">iiiiii", a, b, 0, c, d, 0)
    path.write_bytes(content)
    return path


def repacked(path: Path, form: str) -> Path:
    """The same packets and display matrix in another container, beside the file."""
    other = path.with_suffix(f".{form}")
    with av.open(str(path)) as source, av.open(str(other), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    return other


def cut(path: Path, share: float = 0.5) -> Path:
    """Keeps the first part of a file, as a broken download does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path
