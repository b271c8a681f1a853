"""Frame features of clips -> the sequences that a head reads: stride and length rule."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: The authors' fixed length, in steps.
FIXED_LENGTH = 12


@dataclass(frozen=True)
class FrameFeatures:
    """The features of many clips, one row a frame, in flat arrays that can be shared.

    features: (frames, dim) float32, clip after clip, in order of time.
    frames: (frames,) int32, the index of each row among the clip's decoded frames.
    offsets: (clips + 1,) int64, clip i has the rows offsets[i]:offsets[i + 1].
    """

    features: NDArray[np.float32]
    frames: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def dim(self) -> int:
        return int(self.features.shape[1])


@dataclass(frozen=True)
class Sequences:
    """features: (steps, dim), the steps of all clips, one clip after the other, without padding;
    lengths: (clips,), at least 1; targets: (clips, targets), NaN where unlabelled."""

    features: NDArray[np.float32]
    lengths: NDArray[np.int64]
    targets: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.lengths)


def sequences(
    frames: FrameFeatures,
    rows: NDArray[np.intp],
    targets: NDArray[np.float32],
    *,
    stride: int,
    rule: str,
    columns: slice = slice(None),
) -> Sequences:
    """The sequences of some clips at a stride.

    Args:
        frames: of all clips of the data set.
        rows: (n,) which clips, in the wanted order.
        targets: (all clips, targets).
        stride: frames; a clip's first frame is always kept.
        rule: `full`, or `fixed-12`: sequences longer than 12 are trimmed at both ends, the odd
            step from the front, and shorter ones repeat their last step (the authors' rule).
        columns: of the features.

    Raises:
        ValueError: a clip without any stored frame, named by its row.
    """
    if rule not in ("full", "fixed-12"):
        raise ValueError(f"unknown sequence rule {rule!r}; choose full or fixed-12")
    kept = np.flatnonzero(frames.frames % stride == 0)
    bounds = np.searchsorted(kept, frames.offsets)
    first, counts = bounds[rows], np.diff(bounds)[rows]
    if len(rows) and not counts.all():
        clip = int(rows[np.argmin(counts)])
        raise ValueError(f"clip {clip} has no stored frame at stride {stride}")
    if rule == "full":
        lengths = counts.astype(np.int64)
        step = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    else:
        lengths = np.full(len(rows), FIXED_LENGTH, np.int64)
        front = np.maximum(counts - FIXED_LENGTH + 1, 0) // 2
        step = front[:, None] + np.arange(FIXED_LENGTH)
        step = np.minimum(step, counts[:, None] - 1).ravel()
    places = kept[np.repeat(first, lengths) + step]
    return Sequences(frames.features[:, columns][places], lengths, targets[rows])
