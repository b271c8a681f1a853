"""One clip in, its sampled RGB frames out; and the other way for synthetic clips.

The only importer of PyAV. Strides count decoded frames from the first, as the paper does
("the first of every 30 frames"), whatever the frame rate.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from harness.atomic import replacing
from harness.errors import InputError


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
        InputError: the file is missing, has no video, cannot be decoded or gives no frame. A file
            that breaks off after some frames raises after these were yielded, so that the
            caller can tell a whole clip from a part of one.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such video file")
    index = -1
    try:
        with av.open(str(path)) as container:
            stream = _video_stream(path, container.streams.video)
            # Threads over slices and frames pay only on large pictures; a clip a worker is better.
            stream.thread_type = "AUTO"
            for index, frame in enumerate(container.decode(stream)):
                if index not in skip and any(index % stride == 0 for stride in strides):
                    yield index, _rgb(frame)
    except FFmpegError as error:
        raise InputError(f"{path}: cannot be decoded after frame {index}: {error}") from error
    if index < 0:
        raise InputError(f"{path}: holds no video frame")


def write_video(path: Path, frames: Iterable[NDArray[np.uint8]], fps: int = 30) -> None:
    """Writes RGB frames, each (height, width, 3) with even sides, as an H.264 mp4, atomically."""
    with replacing(path) as temporary, av.open(str(temporary), mode="w", format="mp4") as container:
        stream: VideoStream | None = None
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


def _video_stream(path: Path, streams: Sequence[VideoStream]) -> VideoStream:
    if not streams:
        raise InputError(f"{path}: holds no video stream (audio only?)")
    return streams[0]


def _rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    picture = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    # The container may ask the player to turn the picture; phones write every portrait clip so.
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture
