"""Films for the benchmarks: a person before a webcam, as mp4 with the usual B-frames."""

from pathlib import Path

import av
import numpy as np

from harness.clips.table import ClipTable
from tests.photographs import person
from tests.sounds import Track

SECONDS = 10
FPS = 30


def write_films(
    folder: Path, count: int, height: int, share: float, sound: bool = False
) -> ClipTable:
    """`count` clips of 10 s at 30 frames a second, (height, 4/3 height), the face `share` of it;
    with a track of noise (AAC, 48 kHz, stereo) if `sound`.

    One film is drawn and encoded; the others are copies, as decoding does not remember.
    """
    first = folder / "00000.mp4"
    rng = np.random.default_rng(0)
    with av.open(str(first), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = height * 4 // 3, height, "yuv420p"
        stream.options = {"preset": "fast", "bf": "3"}
        track = Track(container, "aac", 48_000, "stereo") if sound else None
        for k in range(SECONDS * FPS):
            picture, _ = person(height, share, 0.1 * np.sin(k / 20))
            noise = rng.integers(-3, 4, (*picture.shape[:2], 1))
            shown = (picture.astype(np.int16) + noise).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())
        if track:
            track.write(rng.normal(0, 0.1, SECONDS * 48_000).astype(np.float32))
    paths = [first]
    for number in range(1, count):
        paths.append(folder / f"{number:05d}.mp4")
        paths[-1].write_bytes(first.read_bytes())
    return ClipTable(
        clip_ids=tuple(path.stem for path in paths),
        splits=("train",) * count,
        targets=np.full((count, 1), 0.5, np.float32),
        target_names=("joy",),
        paths=tuple(paths),
        kind="video",
    )
