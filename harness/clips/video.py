"""One film in, its sampled RGB frames out; and the other way for synthetic clips.

Strides count frames from the first that can be decoded, as the paper does ("the first of every 30
frames"), whatever the frame rate and the container.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from math import nan
from pathlib import Path
from typing import Any, TypeAlias, cast

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.buffer import Buffer
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from harness.atomic import replacing
from harness.errors import InputError
from harness.pictures import MAX_PIXELS
from harness.sampling import Sampler, Samplers, Sampling

#: Frames a second of what is written here.
FPS = 30
_Packet: TypeAlias = "Packet[Any]"
# Only containers that hold all of their data, whatever the suffix: a playlist named x.mp4 would
# open other files.
_FORMATS = {
    "video": "mov,matroska,avi,asf,asf_o,mpegts,mpeg,flv,ogg,dv,mxf",
    "sound": "mov,matroska,avi,asf,asf_o,mpegts,mpeg,flv,ogg,dv,mxf,wav,w64,flac,aiff,caf,mp3,aac",
}
_FORMS = {
    "video": "mp4, mov, mkv, webm, avi, wmv, mpeg, mts, flv, ogv, dv or mxf",
    "sound": "wav, flac, aiff, caf, m4a, mka, ogg, opus, mp3, aac, wma or a film",
}
# Containers that state how long each stream is; others state the length of all streams together.
_STATE_STREAMS = ("mov", "avi")
#: Tolerance for a missing end: share of the stated length. Rounding and delays shorten films.
MISSING = 0.1
# Limits for holding all packets of a film in memory: number of frames, bytes of the file.
_LISTED, _HELD = 20_000, 64 * 2**20
# Width over height of a pixel. Closer to 1 is rounding by the encoder; further is an error.
_SQUARE, _WIDEST = 1.02, 4.0


def sampled_frames(
    path: Path, strides: Sequence[int], skip: frozenset[int] = frozenset()
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yields (index, frame) as `timed_frames` for every frame whose index is a multiple of a stride
    and not in `skip`."""
    sampler = Sampler(map(Sampling, strides), skip)
    return ((index, frame) for index, _, frame in timed_frames(path, sampler))


def timed_frames(
    path: Path, sampler: Sampler | Samplers
) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
    """Yields (index, second, frame) for every frame that is to be read.

    Index 0 is the first frame that can be decoded. A packet that cannot be decoded loses its own
    frame; the frames after it keep their indices.

    Args:
        path: a video file.
        sampler: which frames are read. Others are counted but not converted.

    Yields:
        the index; the time at which the frame is shown, in seconds from the start of the film, NaN
        where the file does not say; the frame, upright, shape (height, width, 3), RGB.

    Raises:
        InputError: the file is missing, has no video or gives no frame. After the last frame, so
            that the caller can tell a whole clip from a part of one: packets cannot be decoded, the
            file ends long before the time that it states, or it holds several video streams.
    """
    container = opened(path)
    index = -1
    try:
        with container:
            film = _Film(path, container)
            # One for all frames: what it prepares takes longer than to convert a small frame.
            converter = VideoReformatter()
            for index, frame in film.frames(sampler.may_read):
                second = film.time_of(frame)
                if sampler.reads(index, second):
                    yield index, second, _rgb(frame, film.stream, converter)
    except FFmpegError as error:
        raise InputError(f"{path}: cannot be read after frame {index}: {error.strerror}") from error
    if problems := film.problems(index):
        raise InputError(f"{path}: {'; '.join(problems)}") from film.error


# Frames of 46 hours at 60 frames a second; a damaged header may state any number.
_MOST_STATED = 10_000_000


def stated_frames(path: Path) -> int:
    """How many frames the header of a film states, or its duration and frame rate. Where neither
    is stated, as in recordings of a browser, the packets are counted, which reads the file.

    Raises:
        InputError: the file is missing, cannot be opened, or has no video.
    """
    with opened(path) as container:
        stream, _ = _video_stream(path, container)
        if stream.frames:
            return min(int(stream.frames), _MOST_STATED)
        seconds = (container.duration or 0) / av.time_base
        if stream.duration is not None and stream.time_base is not None:
            seconds = float(stream.duration * stream.time_base)
        stated = round(seconds * float(stream.average_rate or 0))
        return min(stated, _MOST_STATED) if stated > 0 else _packets(container, stream)


def _packets(container: InputContainer, stream: VideoStream) -> int:
    """How many packets of a stream can be read. What is damaged is reported by `sampled_frames`."""
    count = 0
    with suppress(FFmpegError):
        for packet in container.demux(stream):
            count += packet.size > 0  # the last one is empty
    return count


def stated_rate(path: Path) -> float:
    """The frames a second that the header of a film states; FPS if it states none.

    Raises:
        InputError: the file is missing, cannot be opened, or has no video.
    """
    with opened(path) as container:
        return float(_video_stream(path, container)[0].average_rate or FPS)


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


class _Film:
    """An open film, whose packets are read once from the first to the last.

    stream: the video stream that is read. error: the last one of a packet.
    """

    def __init__(self, path: Path, container: InputContainer) -> None:
        self.stream, self._choice = _video_stream(path, container)
        self._container = container
        self._packets = 0
        # Presentation times of packets that cannot be decoded, where known; why the last one.
        self._lost: list[int] = []
        self._undecoded, self._reason = 0, ""
        self._interruption = ""
        self.error: FFmpegError | None = None
        # Seconds at which the data of all streams that are read ends, at which the last packet of
        # the film begins, and at which the last decoded frame begins.
        self._reached = self._last = self._shown = 0.0
        self._unit = float(self.stream.time_base or 0)
        names = container.format.name.split(",")
        self._states_streams = any(name in names for name in _STATE_STREAMS)
        self._stated = self._stated_seconds()

    def frames(self, wanted: Callable[[int], bool]) -> Iterator[tuple[int, VideoFrame]]:
        """Frames with their indices: all of them, or at least the wanted ones and the last.

        Where the container lists every frame's time beforehand, frames that no other frame refers
        to are left undecoded unless wanted. This saves a third of the time for films with B-frames.
        """
        if (
            "mov" in self._container.format.name
            and self.stream.codec_context.name in ("h264", "hevc")
            and 0 < self.stream.frames <= _LISTED
            and self._container.size <= _HELD
        ):
            packets = list(self._read())
            if places := _places(packets):
                return self._by_place(packets, places, wanted)
            return self._by_count(packets)
        return self._by_count(self._read())

    def time_of(self, frame: VideoFrame) -> float:
        """When a frame is shown, in seconds from the start of the film; NaN if it is not known."""
        return nan if frame.pts is None else frame.pts * self._unit - start_of(self._container)

    def problems(self, last: int) -> list[str]:
        """What is wrong with the film that was read, and what was chosen. last: index."""
        if last < 0 and self._undecoded:
            return [
                f"cannot be decoded: none of {self._packets} packets gives a frame ({self._reason})"
            ]
        if last < 0:
            return ["holds no video frame"]
        found = []
        if self._undecoded:
            found.append(
                f"{self._undecoded} of {self._packets} packets cannot be decoded, so that "
                f"frames are missing ({self._reason})"
            )
        # Some decoders give nothing, and no error, until the next key frame.
        if self._shown < (1 - MISSING) * self._last - 1:
            found.append(
                f"no frame after frame {last} at {self._shown:.1f} s can be decoded, but there are "
                f"packets up to {self._last:.1f} s"
            )
        # A download that was cut off decodes without an error as far as it goes.
        short = self._reached < (1 - MISSING) * self._stated - 1
        if short or self._interruption:
            found.append(
                f"ends after frame {last} at {self._reached:.1f} s, but announces "
                f"{self._stated:.1f} s{self._interruption}"
            )
        return [*found, self._choice] if self._choice else found

    def _read(self) -> Iterator[_Packet]:
        """The packets of the stream. The last one is empty and flushes the decoder."""
        streams = (self.stream,) if self._states_streams else tuple(self._container.streams)
        # Seconds of a tick, by stream; fractions for each packet would take a fifth of the time.
        units: dict[int, float] = {}
        try:
            for packet in self._container.demux(*streams):
                time = packet.dts if packet.pts is None else packet.pts
                if time is not None:
                    unit = units.get(packet.stream.index)
                    if unit is None:
                        unit = units[packet.stream.index] = float(packet.time_base)
                    begin = time * unit
                    self._reached = max(self._reached, begin + (packet.duration or 0) * unit)
                if packet.stream.index == self.stream.index:
                    self._packets += packet.size > 0
                    self._last = max(self._last, begin if time is not None else 0.0)
                    yield packet
        except FFmpegError as error:
            # As ffmpeg does: this is the end of the film, and the decoder gives what it holds.
            self.error, self._interruption = error, f" ({error.strerror})"
            yield Packet()

    def _decoded(self, packet: _Packet) -> list[VideoFrame]:
        """The frames that a packet completes. One that cannot be decoded costs no other."""
        ends = packet.pts is None and packet.dts is None
        if not packet.size and not ends:
            return []  # avi repeats a frame so; the decoder would take it for the end
        try:
            frames = self.stream.decode(packet if packet.size else None)
        except FFmpegError as error:
            self._undecoded += 1
            self.error, self._reason = error, error.strerror or str(error)
            if packet.pts is not None:
                insort(self._lost, packet.pts)
            return []
        for frame in frames:
            self._shown = max(self._shown, (frame.pts or 0) * self._unit)
        return frames

    def _by_count(self, packets: Iterable[_Packet]) -> Iterator[tuple[int, VideoFrame]]:
        """Decodes everything and counts frames, those of undecodable packets included."""
        first: int | None = None
        index = -1
        for count, frame in enumerate(f for packet in packets for f in self._decoded(packet)):
            first = frame.pts if first is None else first
            lost = 0
            if first is not None and frame.pts is not None:
                lost = bisect_left(self._lost, frame.pts) - bisect_left(self._lost, first)
            index = max(index + 1, count + lost)
            yield index, frame

    def _by_place(
        self, packets: Sequence[_Packet], places: dict[int, int], wanted: Callable[[int], bool]
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Counts packets in order of their times. places: the position by time."""
        first: int | None = None
        for packet in packets:
            place = None if packet.pts is None else places[packet.pts]
            # Which frame is the first is known when one comes out.
            needed = place is None or first is None or place == len(places) - 1
            needed = needed or wanted((place or 0) - (first or 0))
            self.stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
            for frame in self._decoded(packet):
                if first is None and frame.interlaced_frame:
                    # A packet may hold a field, half of a frame. Nothing was given until now.
                    self.stream.codec_context.flush_buffers()
                    self._undecoded, self._lost = 0, []
                    yield from self._by_count(packets)
                    return
                if frame.pts is not None:  # frames have the times of their packets
                    first = places[frame.pts] if first is None else first
                    yield places[frame.pts] - first, frame

    def _stated_seconds(self) -> float:
        """When the film should end; 0 where the file does not say."""
        stream, container = self.stream, self._container
        if not self._states_streams:
            return ((container.start_time or 0) + (container.duration or 0)) / av.time_base
        if stream.duration is None or stream.time_base is None:
            return 0.0
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)


def opened(path: Path, what: str = "video") -> InputContainer:
    """An open container of local data alone. what: "video" or "sound".

    Raises:
        InputError: the file is missing, or is of no known form.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such {what} file")
    allowed = {"format_whitelist": _FORMATS[what], "protocol_whitelist": "file"}
    try:
        # Not `options`, with which PyAV before 18 crashes where streams appear late (mpg).
        # Titles and other texts of a file may be in any encoding; none of them is used.
        return av.open(str(path), container_options=allowed, metadata_errors="replace")
    except (FFmpegError, OSError) as error:
        raise InputError(f"{path}: cannot be opened as {_FORMS[what]}: {error.strerror}") from error


def start_of(container: InputContainer) -> float:
    """The second of its clock at which a film begins: times of frames and sound count from it."""
    return float((container.start_time or 0) / av.time_base)


def _video_stream(path: Path, container: InputContainer) -> tuple[VideoStream, str]:
    """The stream that ffmpeg chooses, and a line on the choice where there are several."""
    moving = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic  # the cover of a song
    ]
    if not moving:
        raise InputError(f"{path}: holds no video stream (audio only?)")
    best = container.streams.best("video")
    chosen = next((stream for stream in moving if best and stream.index == best.index), moving[0])
    if cast(Any, chosen).codec_context is None:
        raise InputError(f"{path}: its video stream has an unknown codec; convert it")
    # Threads within a clip cost half as much again as they give; every core has a clip of its own.
    chosen.codec_context.thread_count = 1
    chosen.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    if len(moving) == 1:
        return chosen, ""
    size = f"{chosen.codec_context.width} x {chosen.codec_context.height}"
    return chosen, (
        f"holds {len(moving)} video streams; stream {chosen.index} ({size} pixels) is read"
    )


def _places(packets: Sequence[_Packet]) -> dict[int, int]:
    """The position of each packet in order of its time; empty where packets may give nothing."""
    times = sorted(packet.pts for packet in packets if packet.pts is not None)
    # The last packet is empty. Before a key frame, where a film was cut out of another, packets
    # give nothing.
    plain = (
        len(set(times)) == len(packets) - 1
        and packets[0].is_keyframe
        and all(packet.size for packet in packets[:-1])
        and not any(packet.is_discard or packet.is_corrupt for packet in packets)
    )
    return {time: place for place, time in enumerate(times)} if plain else {}


def _rgb(frame: VideoFrame, stream: VideoStream, converter: VideoReformatter) -> NDArray[np.uint8]:
    """The frame as a player shows it: with square pixels, turned and mirrored."""
    shape = float(stream.sample_aspect_ratio or 1)
    width, height = frame.width, frame.height
    if _SQUARE < shape <= _WIDEST:
        width = round(width * shape)
    elif _SQUARE < 1 / shape <= _WIDEST:
        height = round(height / shape)
    if width * height > MAX_PIXELS:
        width, height = frame.width, frame.height
    converted = converter.reformat(frame, width=width, height=height, format="rgb24")
    picture = np.asarray(converted.to_ndarray(), dtype=np.uint8)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return picture
    # A point (x, y) is shown at (a x + c y, b x + d y); phones turn and front cameras mirror.
    a, b, _, c, d, *_ = np.frombuffer(bytes(cast(Buffer, matrix)), np.int32).tolist()
    turned = abs(b) + abs(c) > abs(a) + abs(d)
    if turned:
        picture, a, d = picture.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
