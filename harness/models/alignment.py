"""Early fusion: the steps of one stream, the clock, with the others averaged between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from harness.dataset import Dataset, Rows, Stream
from harness.errors import InputError, printable
from harness.models.config import TrialConfig
from harness.sampling import Sampling

#: The authors' fixed length, in steps.
FIXED_LENGTH = 12
# So many steps are averaged at once: their copies in float64 stay small.
_BLOCK = 2**16
Steps = NDArray[np.float32]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Picked:
    """Which steps of a stream the sequences of some clips have.

    kept: places of all sampled steps. first, counts: (clips,) where those of each clip begin in
    `kept`, and how many they are. lengths: (clips,) of the sequences. step: of each step of the
    sequences, one clip after the other, its number among the `counts`.
    """

    kept: Rows
    first: Rows
    counts: Rows
    lengths: Counts
    step: Rows

    @property
    def chosen(self) -> Rows:
        """Of each step of the sequences its place in `kept`."""
        return np.repeat(self.first, self.lengths) + self.step

    @classmethod
    def of(cls, stream: Stream, rows: Rows, sampling: Sampling, rule: str) -> "Picked":
        """rule: `full` or `fixed-12`, see `TrialConfig.sequence`."""
        kept = np.flatnonzero(stream.chosen(sampling))
        bounds = np.searchsorted(kept, stream.offsets)
        first, counts = bounds[rows], np.diff(bounds)[rows]
        if rule == "full":
            lengths = counts.astype(np.int64)
            return cls(kept, first, counts, lengths, ranges(lengths))
        lengths = np.full(len(rows), FIXED_LENGTH, np.int64)
        front = np.maximum(counts - FIXED_LENGTH + 1, 0) // 2
        step = front[:, None] + np.arange(FIXED_LENGTH)
        return cls(kept, first, counts, lengths, np.minimum(step, counts[:, None] - 1).ravel())


def ranges(lengths: Counts) -> Counts:
    """0 to n - 1 for each n, one after the other."""
    found: Counts = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return found


def aligned(data: Dataset, rows: Rows, config: TrialConfig) -> tuple[Steps, Counts]:
    """The streams of some clips on one clock, side by side in alphabetical order of their names.

    Each step of the clock has the mean of those steps of another stream that begin in its window:
    from its own time to that of the next step of the clock in this sampling. The first window of a
    clip begins with the clip and the last ends with it, so that each step is in one window. Where a
    window or a clip has no step of a stream, its columns are NaN. A clip without the clock has the
    steps of the first other stream that it has.

    Args:
        rows: (n,) clips with a step of any stream.

    Returns:
        (steps, columns), one clip after the other, and (n,) how many each clip has.

    Raises:
        InputError: there is no clock, two streams cannot be aligned, or a value is not finite.
    """
    streams = {name: data.streams[name] for name in sorted(data.streams)}
    parts = {name: each.values[:, each.part(config.features)] for name, each in streams.items()}
    groups = _groups(data, rows, config)
    lengths = np.zeros(len(rows), np.int64)
    for _, mine, picked in groups:
        lengths[mine] = picked.lengths
    starts = np.cumsum(lengths) - lengths
    widths = [part.shape[1] for part in parts.values()]
    out = np.full((lengths.sum(), sum(widths)), np.nan, np.float32)
    for clock, mine, picked in groups:
        places = np.repeat(starts[mine], picked.lengths) + ranges(picked.lengths)
        end = 0
        for (name, stream), width in zip(streams.items(), widths, strict=True):
            begin, end = end, end + width
            if name == clock:
                found = parts[name][picked.kept[picked.chosen]]
            else:
                windows = _windows(data, rows[mine], picked, (clock, name), config)
                found = _means(
                    parts[name], np.flatnonzero(stream.chosen(config.sampling)), *windows
                )
            out[places, begin:end] = found
    return out, lengths


def check_fusion(data: Dataset, config: TrialConfig) -> None:
    """Checks that the streams of a configuration can be combined as it says.

    Raises:
        InputError: a stream is missing, there is no clock, or two streams cannot be aligned.
    """
    data = data.only(config.streams)
    if len(data.streams) < 2 or config.fusion == "late":
        return
    rows = np.flatnonzero(data.at(config.sampling))
    for clock, mine, picked in _groups(data, rows, config):
        for name in data.streams:
            if name != clock:
                _windows(data, rows[mine], picked, (clock, name), config)


def _groups(data: Dataset, rows: Rows, config: TrialConfig) -> list[tuple[str, Rows, Picked]]:
    """The clips by the stream that is their clock: its name, places in `rows`, and steps."""
    first = _clock(data.streams, config)
    order = [first, *sorted(set(data.streams) - {first})]
    there = np.stack([data.streams[name].at(config.sampling)[rows] for name in order])
    places = [np.flatnonzero(there.argmax(axis=0) == number) for number in range(len(order))]
    return [
        (name, mine, Picked.of(data.streams[name], rows[mine], config.sampling, config.sequence))
        for name, mine in zip(order, places, strict=True)
        if len(mine)
    ]


def _clock(streams: Mapping[str, Stream], config: TrialConfig) -> str:
    names = sorted(streams)
    if config.clock:
        if config.clock not in streams:
            raise InputError(
                f"clock: expected one of the streams {printable(', '.join(names))}, "
                f"got {printable(config.clock)}"
            )
        return config.clock
    frames = [name for name in names if streams[name].sampled]
    if not frames:
        raise InputError(
            f"early fusion of {printable(', '.join(names))}: none has frames; set the "
            "hyperparameter clock to the stream whose steps are used, or fusion to late"
        )
    return frames[0]


def _windows(
    data: Dataset, rows: Rows, picked: Picked, names: tuple[str, str], config: TrialConfig
) -> tuple[Rows, Rows]:
    """For each picked step of a clock, the first step of another stream in its window and the one
    after the last, as places among the other stream's steps in this sampling."""
    clock, other = (data.streams[name] for name in names)
    kept = np.flatnonzero(other.chosen(config.sampling))
    bounds = np.searchsorted(kept, other.offsets)
    begins, ends = [], []
    for clip, first, count in zip(rows, picked.first, picked.counts, strict=True):
        begin, end = bounds[clip], bounds[clip + 1]
        cuts = np.zeros(count + 1, np.intp)
        if end > begin:
            pair = _keys((clock, picked.kept[first : first + count]), (other, kept[begin:end]))
            if pair is None:
                raise InputError(
                    f"clip {printable(data.clip_ids[clip])}: the streams {printable(names[0])} "
                    f"({count} steps) and {printable(names[1])} ({end - begin} steps) cannot be "
                    "aligned: times are unknown and the numbers of steps differ; set fusion to late"
                )
            cuts[1:-1] = np.searchsorted(pair[1], pair[0][1:])
            cuts[-1] = end - begin
        begins.append(begin + cuts[:-1])
        ends.append(begin + cuts[1:])
    # Of all steps of the clock those that the sequences have.
    of = np.repeat(np.cumsum(picked.counts) - picked.counts, picked.lengths) + picked.step
    return np.concatenate(begins)[of], np.concatenate(ends)[of]


def _keys(*pair: tuple[Stream, Rows]) -> Sequence[NDArray[np.generic]] | None:
    """What orders the steps of two streams in a clip: seconds if they are known, the frame if both
    have frames, the number if both have as many steps; else None."""
    seconds = [stream.times[steps] for stream, steps in pair if stream.times is not None]
    if len(seconds) == 2 and not any(np.isnan(each).any() for each in seconds):
        return seconds
    if all(stream.sampled for stream, _ in pair):
        return [stream.positions[steps] for stream, steps in pair]
    numbers = [np.arange(len(steps)) for _, steps in pair]
    return numbers if len(numbers[0]) == len(numbers[1]) else None


def _means(values: Steps, kept: Rows, begins: Rows, ends: Rows) -> Steps:
    """The mean of each window; NaN of one without steps. In float64, which makes the mean of equal
    values that value."""
    counts = ends - begins
    out = np.full((len(counts), values.shape[1]), np.nan, np.float32)
    full = np.flatnonzero(counts)
    total = np.cumsum(counts[full])
    cuts = np.searchsorted(total, np.arange(_BLOCK, total[-1] if len(total) else 0, _BLOCK))
    for block in np.split(full, cuts):
        if len(block):
            sizes = counts[block]
            steps = np.repeat(begins[block], sizes) + ranges(sizes)
            window = torch.from_numpy(np.repeat(np.arange(len(block)), sizes))
            sums = torch.zeros(len(block), values.shape[1], dtype=torch.float64)
            # 2.4 times as fast as numpy's `add.reduceat`.
            sums.index_add_(0, window, torch.from_numpy(values[kept[steps]]).double())
            out[block] = sums.numpy() / sizes[:, None]
    return out
