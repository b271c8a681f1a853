"""A data set -> what a head reads: the sampled steps of each clip, by a length rule."""

import numpy as np
import torch
from numpy.typing import NDArray

from harness.dataset import Dataset, Rows, Stream
from harness.errors import InputError, printable
from harness.models.alignment import Picked, aligned
from harness.models.config import TrialConfig
from harness.models.training import Steps, Tensors
from harness.sampling import Sampling

Sequences = tuple[NDArray[np.float32], NDArray[np.int64]]


def sequences(
    stream: Stream, rows: Rows, *, sampling: Sampling, rule: str, part: str = ""
) -> Sequences:
    """The sequences of some clips in a sampling.

    Args:
        rows: (n,) which clips, in the wanted order.
        sampling: of frames; a clip's first frame is always kept.
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
    picked = Picked.of(stream, rows, sampling, rule)
    if len(rows) and not picked.counts.all():
        clip = int(rows[np.argmin(picked.counts)])
        raise ValueError(f"clip {clip} has no stored frame at {sampling}")
    return stream.values[:, stream.part(part)][picked.kept[picked.chosen]], picked.lengths


def read(data: Dataset, rows: Rows, config: TrialConfig) -> list[Sequences]:
    """What a head reads of some clips, each of which has a step of any stream: one array of
    sequences, or with late fusion of several streams one of each, in alphabetical order of names.

    With several streams, NaN is where a step or a clip lacks one; of a clip that lacks it, late
    fusion has one such step and the length 0.

    Raises:
        InputError: the streams cannot be aligned, or a value is not finite.
    """
    streams = [data.streams[name] for name in sorted(data.streams)]
    if len(streams) > 1:
        _check_finite(data)
        if config.fusion == "early":
            return [aligned(data, rows, config)]
        return [_masked(stream, rows, config) for stream in streams]
    return [_sequences(streams[0], rows, config)]


def tensors(data: Dataset, rows: Rows, config: TrialConfig, device: torch.device) -> Tensors:
    """`read` on a device, with the ratings of the clips, if they have any."""
    ratings = np.empty((len(rows), 0), np.float32) if data.targets is None else data.targets[rows]
    streams = [
        Steps(*(torch.from_numpy(array).to(device) for array in each))
        for each in read(data, rows, config)
    ]
    return Tensors(tuple(streams), torch.from_numpy(ratings).to(device))


def _sequences(stream: Stream, rows: Rows, config: TrialConfig) -> Sequences:
    return sequences(
        stream, rows, sampling=config.sampling, rule=config.sequence, part=config.features
    )


def _masked(stream: Stream, rows: Rows, config: TrialConfig) -> Sequences:
    here = stream.at(config.sampling)[rows]
    steps, found = _sequences(stream, rows[here], config)
    lengths = np.zeros(len(rows), np.int64)
    lengths[here] = found
    rows_of = np.maximum(lengths, 1)
    out = np.full((rows_of.sum(), steps.shape[1]), np.nan, np.float32)
    out[np.repeat(here, rows_of)] = steps
    return out, lengths


def _check_finite(data: Dataset) -> None:
    """With several streams NaN says that a stream is missing."""
    for name, stream in data.streams.items():
        if stream.not_finite is not None:
            clip = int(np.searchsorted(stream.offsets, stream.not_finite, side="right")) - 1
            raise InputError(
                f"clip {printable(data.clip_ids[clip])}: the stream {printable(name)} has values "
                "that are not finite; replace or remove these rows"
            )
