"""A data set -> what a head reads: the steps of each clip at a stride, by a length rule."""

import numpy as np
import torch
from numpy.typing import NDArray

from harness.dataset import Dataset, Rows, Stream
from harness.models.config import TrialConfig
from harness.models.training import Tensors

#: The authors' fixed length, in steps.
FIXED_LENGTH = 12


def sequences(
    stream: Stream, rows: Rows, *, stride: int, rule: str, part: str = ""
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The sequences of some clips at a stride.

    Args:
        rows: (n,) which clips, in the wanted order.
        stride: frames; a clip's first frame is always kept.
        rule: `full`, or `fixed-12`: sequences longer than 12 are trimmed at both ends, the odd
            step from the front, and shorter ones repeat their last step (the authors' rule).
        part: of the stream's columns.

    Returns:
        (steps, columns), the steps of one clip after the other without padding, and (n,) how many
        each clip has, at least 1.

    Raises:
        ValueError: a clip without any step, named by its row.
    """
    if rule not in ("full", "fixed-12"):
        raise ValueError(f"unknown sequence rule {rule!r}; choose full or fixed-12")
    kept = np.flatnonzero(stream.chosen(stride))
    bounds = np.searchsorted(kept, stream.offsets)
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
    return stream.values[:, stream.part(part)][places], lengths


def tensors(data: Dataset, rows: Rows, config: TrialConfig, device: torch.device) -> Tensors:
    """The sequences of clips, each of which has a step, as a configuration reads them; with their
    ratings, if they have any."""
    steps, lengths = sequences(
        data.features, rows, stride=config.stride, rule=config.sequence, part=config.features
    )
    ratings = np.empty((len(rows), 0), np.float32) if data.targets is None else data.targets[rows]
    arrays = (steps, lengths, ratings)
    return Tensors(*(torch.from_numpy(array).to(device) for array in arrays))
