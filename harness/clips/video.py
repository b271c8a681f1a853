"""One clip in, its sampled RGB frames out; and the other way for synthetic clips.

The only importer of PyAV. Strides count decoded frames from the first, as the paper does
("the first of every 30 frames"), whatever the frame rate.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from harness.atomic import replacing
from harness.errors import InputError
from harness.pictures import MAX_PIXELS

#: Frames a second of what is written here.
FPS = 30
# Files say themselves what they are: a playlist by the name of x.mp4 would open other files.
_OPENING = {"format_whitelist": "mov,matroska,avi", "protocol_whitelist": "file"}
# Of a film's announced length; the last frame may stand for long, and sound may go on.
_MISSING = 0.1
# Of a film whose packets are held in memory together: frames, and bytes of the file.
_LISTED, _HELD = 20_000, 64 * 2**20


def sampled_frames(
    path: Path, strides: Sequence[int], skip: frozenset[int] = frozenset()
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yields (index, frame) for every decoded frame whose index is a multiple of a stride.

    Args:
        path: a video file.
        strides: frames, each at least 1; the union of their multiples is sampled.
        skip: indices already known, which are counted but not converted.

    Yields:
        the index among decoded frames, from 0, and the frame, shape (height, width, 3), RGB.

    Raises:
        InputError: the file is missing, has no video, cannot be decoded, gives no frame or ends
            long before the time it announces. A file that breaks off after some frames raises
            after these were yielded, so that the caller can tell a whole clip from a part of one.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such video file")

    def wanted(index: int) -> bool:
        return index not in skip and any(index % stride == 0 for stride in strides)

    index = -1
    try:
        container = av.open(str(path), options=_OPENING)
    except (FFmpegError, OSError) as error:
        raise InputError(
            f"{path}: cannot be opened as mp4, mov, mkv, webm or avi: {error.strerror}"
        ) from error
    seconds = announced = 0.0
    try:
        with container:
            stream = _video_stream(path, container)
            announced = _announced_seconds(container, stream)
            for index, frame in _numbered(container, stream, wanted):
                seconds = frame.time or 0.0
                if wanted(index):
                    yield index, _rgb(frame)
    except FFmpegError as error:
        raise InputError(
            f"{path}: cannot be decoded after frame {index}: {error.strerror}"
        ) from error
    if index < 0:
        raise InputError(f"{path}: holds no video frame")
    # A download that was cut off decodes without an error as far as it goes.
    if seconds < (1 - _MISSING) * announced - 1:
        raise InputError(
            f"{path}: ends after frame {index} at {seconds:.1f} s, but announces {announced:.1f} s"
        )


def write_video(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    fps: int = FPS,
    *,
    sound: NDArray[np.float32] | None = None,
    rate: int = 16_000,
) -> None:
    """Writes an H.264 mp4, atomically; with a sound track (AAC, mono) where there is sound.

    Args:
        frames: RGB, each (height, width, 3) with even sides; at least one.
        sound: (samples,) in [-1, 1], `rate` of them a second.
    """
    with replacing(path) as temporary, av.open(str(temporary), mode="w", format="mp4") as container:
        stream: VideoStream | None = None
        heard = None if sound is None else _sound_stream(container, rate)
        for picture in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=fps)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.options = {"preset": "ultrafast", "crf": "20", "threads": "1"}
            container.mux(stream.encode(VideoFrame.from_ndarray(picture, format="rgb24")))
        if stream is None:
            raise ValueError("a video needs at least one frame")
        container.mux(stream.encode())
        if heard is not None and sound is not None:
            samples = AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            samples.sample_rate = rate
            # Without a time the coder's delay would not be written, and the sound would lag by it.
            samples.pts, samples.time_base = 0, Fraction(1, rate)
            container.mux(heard.encode(samples))
            container.mux(heard.encode())


def _sound_stream(container: OutputContainer, rate: int) -> AudioStream:
    # The default search for the best coding takes three times as long.
    stream = container.add_stream("aac", rate=rate, options={"aac_coder": "fast"})
    stream.layout = "mono"
    stream.bit_rate = 32_000
    return stream


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    moving = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic  # the cover of a song
    ]
    if not moving:
        raise InputError(f"{path}: holds no video stream (audio only?)")
    # Threads within a clip cost half as much again as they give; every core has a clip of its own.
    moving[0].codec_context.thread_count = 1
    moving[0].codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return moving[0]


def _numbered(
    container: InputContainer, stream: VideoStream, wanted: Callable[[int], bool]
) -> Iterator[tuple[int, VideoFrame]]:
    """Frames with their indices, all of them or at least the wanted ones and the last.

    Where the container lists every frame's time beforehand, frames that no other frame builds
    upon are left undecoded unless wanted: a third of the time, for films with B-frames.
    """
    if (
        "mov" not in container.format.name
        or stream.codec_context.name not in ("h264", "hevc")
        or not 0 < stream.frames <= _LISTED
        or container.size > _HELD
    ):
        yield from enumerate(container.decode(stream))
        return
    packets = list(container.demux(stream))
    times = sorted(packet.pts for packet in packets if packet.pts is not None)
    places = {time: place for place, time in enumerate(times)}
    # The last packet is the empty one that flushes the decoder; before a key frame, where a film
    # was cut out of another, packets give nothing.
    plain = (
        len(places) == len(packets) - 1
        and packets[0].is_keyframe
        and not any(packet.is_discard or packet.is_corrupt for packet in packets)
    )
    if not plain:
        yield from enumerate(frame for packet in packets for frame in stream.decode(packet))
        return
    for packet in packets:
        place = None if packet.pts is None else places[packet.pts]
        needed = place is None or place == len(places) - 1 or wanted(place)
        stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
        for frame in stream.decode(packet):
            if frame.pts is not None:  # it came from a packet that had one
                yield places[frame.pts], frame


def _announced_seconds(container: InputContainer, stream: VideoStream) -> float:
    """When the film should end; 0 where the file does not say."""
    if stream.duration is not None and stream.time_base is not None:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    return (container.duration or 0) / av.time_base


def _rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    picture = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    # The container may ask the player to turn the picture; phones write every portrait clip so.
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture
