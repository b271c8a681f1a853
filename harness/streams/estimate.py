"""How many frames an extraction will compute, and the disk and memory that their features take."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.clips.images import image_files, image_times
from harness.clips.table import ClipTable
from harness.clips.video import stated_frames, stated_rate
from harness.dataset import Specification
from harness.errors import InputError
from harness.sampling import Sampling, of_clip

# Clips that are opened to learn how many frames a clip has.
_LOOKED_AT = 32
_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


@dataclass(frozen=True)
class Estimate:
    """frames: about how many are computed. columns: of each. disk: bytes of the store, which
    compression reduces. memory: bytes of the features in float32. what: the name of a frame."""

    frames: int
    columns: int
    disk: int
    memory: int
    what: str = "frames"

    @classmethod
    def of(cls, frames: int, specification: Specification, what: str = "frames") -> "Estimate":
        """Of so many frames of a stream."""
        values = frames * specification.width
        size = np.dtype(str(specification.details.get("stored", "float32"))).itemsize
        return cls(frames, specification.width, values * size, values * 4, what)

    def __str__(self) -> str:
        return (
            f"To compute: about {self.frames:,} {self.what} of {self.columns:,} columns, "
            f"up to {readable_size(self.disk)} on disk and {readable_size(self.memory)} of memory"
        )


def check_disk(needed: Sequence[Estimate], folder: Path) -> None:
    """Raises an InputError if the disk of `folder` has less space than the features need."""
    disk, free = sum(each.disk for each in needed), shutil.disk_usage(folder).free
    if disk > free:
        raise InputError(
            f"{folder}: the features take about {readable_size(disk)}, "
            f"{readable_size(free)} are free; free some space, or choose `stored` float16, "
            "a larger stride or interval, or another `cache`"
        )


def estimate(
    clips: ClipTable,
    rows: Sequence[int],
    samplings: Sequence[Sampling],
    specification: Specification,
) -> Estimate:
    """Of an extraction of some clips, from what some of their files state."""
    counts = [_sampled(clips.paths[row], clips.kind, samplings) for row in looked_at(rows)]
    return Estimate.of(round(float(np.mean(counts)) * len(rows)), specification)


def looked_at(rows: Sequence[int]) -> list[int]:
    """The clips among `rows` whose files are opened for an estimate."""
    return sorted({rows[i] for i in np.linspace(0, len(rows) - 1, _LOOKED_AT).round().astype(int)})


def _sampled(path: Path | None, kind: str, samplings: Sequence[Sampling]) -> int:
    """How many frames of a clip the samplings ask for."""
    if path is None or not path.exists():
        return 0
    if kind == "images":
        times = np.array(image_times(image_files(path)[0]) if path.is_dir() else [], np.float32)
    else:
        try:
            times = (np.arange(stated_frames(path)) / stated_rate(path)).astype(np.float32)
        except InputError:  # reported when the film is read
            return 0
    return int(of_clip(samplings, np.arange(len(times), dtype=np.int32), times, path.name).sum())


def readable_size(count: int) -> str:
    """Bytes for a person."""
    unit, scale = next((u, s) for u, s in _UNITS if count >= s or u == "kB")
    return f"{count / scale:.1f} {unit}"
