"""Which frames of a clip are used: every n-th one, or one in each interval of time."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.choices import LEAST_INTERVAL
from harness.errors import InputError, printable

# Seconds by which a frame may be early: containers round times to milliseconds. A power of two
# keeps the sum exact.
_TOLERANCE = 2.0**-10
# Numbers of intervals are cut off here, so that a damaged time cannot overflow.
_MOST = 2**31


class UntimedError(InputError):
    """The times of frames are not known, but an interval chooses among them."""

    @classmethod
    def of(cls, clip: str) -> "UntimedError":
        """That of a clip."""
        return cls(
            f"clip {printable(clip)}: the times of its frames are not known, which interval needs; "
            "give stride instead of interval"
        )


@dataclass(frozen=True, order=True)
class Sampling:
    """Every n-th decoded frame, or the first frame at or after each multiple of an interval.

    An interval without a frame has none; the first frame of a clip is always chosen. Frames that
    give no features (images that cannot be read, frames without a face) do not count as frames of
    an interval: the next one is taken.

    stride: frames; 0 with an interval. interval: seconds; 0 with a stride.

    Raises:
        InputError: not exactly one of the two is given, or it is too small.
    """

    stride: int = 0
    interval: float = 0.0

    def __post_init__(self) -> None:
        if bool(self.stride) == bool(self.interval) or self.stride < 0:
            raise InputError(f"expected stride or interval, got {self.stride} and {self.interval}")
        if self.interval and not LEAST_INTERVAL <= self.interval < np.inf:
            raise InputError(
                f"interval must be at least {LEAST_INTERVAL} seconds, got {self.interval}"
            )

    @classmethod
    def of(cls, stride: int, interval: float) -> "Sampling":
        """Of a configuration: the interval if there is one, else the stride."""
        return cls(interval=float(interval)) if interval else cls(stride)

    def __str__(self) -> str:
        return f"stride {self.stride}" if self.stride else f"interval {self.interval:g} s"

    def to_json(self) -> int | str:
        """A stride as its number, an interval such as "0.5s"."""
        return self.stride or f"{self.interval!r}s"

    @classmethod
    def from_json(cls, value: int | str) -> "Sampling":
        """The inverse of `to_json`. ValueError or TypeError if it is something else."""
        if isinstance(value, str):
            return cls(interval=float(value.removesuffix("s")))
        return cls(value)

    def serves(self, other: "Sampling") -> bool:
        """Whether the frames of this sampling contain those of another one, in every clip."""
        if self.stride:
            return other.stride % self.stride == 0 if other.stride else self.stride == 1
        times = other.interval / self.interval
        return abs(times - round(times)) < 1e-9 * times

    def chosen(
        self,
        positions: NDArray[np.int32],
        times: NDArray[np.float32] | None,
        offsets: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """(steps,) True for those that are chosen.

        Args:
            positions, times: (steps,) index and second of each, clip after clip, in order. They
                contain the frames of this sampling, and may contain others.
            offsets: (clips + 1,) where the steps of each clip begin.

        Raises:
            UntimedError: a time is not known, and this is an interval.
        """
        if self.stride:
            every: NDArray[np.bool_] = positions % self.stride == 0
            return every
        if times is None or np.isnan(times).any():
            step = 0 if times is None else int(np.argmax(np.isnan(times)))
            raise UntimedError.of(f"number {int(np.searchsorted(offsets, step, side='right')) - 1}")
        numbers = self.number(times)
        clips = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        # Damaged times may go back: an interval that has a frame gets no other one.
        reached = np.maximum.accumulate(clips * (_MOST + 1) + numbers)
        found: NDArray[np.bool_] = np.diff(reached, prepend=-1) > 0
        return found

    def number(self, times: NDArray[np.float32]) -> NDArray[np.int64]:
        """The number of the interval in which each time lies, from 0."""
        numbers = np.floor((times.astype(np.float64) + _TOLERANCE) / self.interval)
        return np.clip(numbers, 0, _MOST).astype(np.int64)


def strides(*numbers: int) -> tuple[Sampling, ...]:
    """A sampling for each stride."""
    return tuple(map(Sampling, numbers))


#: Every frame, or every step of a stream without frames.
EVERY = strides(1)


def of_clip(
    samplings: Iterable[Sampling],
    positions: NDArray[np.int32],
    times: NDArray[np.float32],
    clip: str,
) -> NDArray[np.bool_]:
    """(steps,) True for those of one clip that some sampling chooses. UntimedError with its id."""
    samplings = tuple(samplings)
    if np.isnan(times).any() and any(sampling.interval for sampling in samplings):
        raise UntimedError.of(clip)
    whole = np.array([0, len(positions)])
    found: NDArray[np.bool_] = np.any(
        [sampling.chosen(positions, times, whole) for sampling in samplings], axis=0
    )
    return found


def shown(config: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration for tables by stride: an interval replaces the stride, as "0.5s"."""
    interval = config.get("interval")
    return {**config, "stride": Sampling.of(1, interval).to_json()} if interval else {**config}


class Sampler:
    """Which frames of one clip are read, asked for in order of time.

    Args:
        samplings: the union of their frames is wanted.
        known: indices of frames whose features are known.
        clip: its id, for errors.
        grid: frames at multiples of it are read as well; 0: no others.
    """

    def __init__(
        self,
        samplings: Iterable[Sampling],
        known: frozenset[int] = frozenset(),
        clip: str = "",
        grid: int = 0,
    ) -> None:
        samplings = tuple(samplings)
        self._strides = [each.stride for each in samplings if each.stride]
        # By interval, the number of the last one that has a frame.
        self._reached = {each: -1 for each in samplings if each.interval}
        self._known, self._clip, self._grid = known, clip, grid

    def reads(self, index: int, second: float) -> bool:
        """Whether a frame is read: those wanted, and those of the grid."""
        return self.wanted(index, second) or (self._grid > 0 and index % self._grid == 0)

    def may_read(self, index: int) -> bool:
        """Whether a frame may be read, before its time and what precedes it are known."""
        return bool(self._reached) or self.reads(index, 0.0)

    def wanted(self, index: int, second: float) -> bool:
        """Whether the features of a frame are wanted. UntimedError if that depends on a time that
        is not known."""
        if index in self._known:
            self.found(second)
            return False
        if any(index % stride == 0 for stride in self._strides):
            return True
        return any(number > self._reached[each] for each, number in self._numbers(second))

    def found(self, second: float) -> None:
        """To be called when a frame gave features: its intervals need no other."""
        for each, number in self._numbers(second):
            self._reached[each] = max(self._reached[each], number)

    def _numbers(self, second: float) -> list[tuple[Sampling, int]]:
        """Of each interval the number of the one in which a time lies, as it is stored."""
        if not self._reached:
            return []
        time = np.array(second, np.float32)
        if np.isnan(time):
            raise UntimedError.of(self._clip)
        return [(each, int(each.number(time))) for each in self._reached]


class Samplers:
    """The samplers of several encoders of one clip: a frame is read once for all of them."""

    def __init__(self, of: Sequence[Sampler]) -> None:
        self._of = of

    def reads(self, index: int, second: float) -> bool:
        """Whether some sampler reads a frame."""
        read = [each.reads(index, second) for each in self._of]  # each notes a frame that it knows
        return any(read)

    def may_read(self, index: int) -> bool:
        """Whether some sampler may read a frame, before its time is known."""
        return any(each.may_read(index) for each in self._of)

    def wanted(self, index: int, second: float) -> list[int]:
        """The places of the samplers that want the features of a frame."""
        return [place for place, each in enumerate(self._of) if each.wanted(index, second)]

    def found(self, second: float) -> None:
        """To be called when a frame gave features. A sampler that did not want it has a frame in
        its interval already."""
        for each in self._of:
            each.found(second)
