"""Which frames a stride and an interval choose."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.errors import InputError
from harness.sampling import EVERY, Sampler, Sampling, shown, strides

INTERVALS = [Sampling(interval=seconds) for seconds in (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)]


def chosen(sampling: Sampling, times: NDArray[np.floating]) -> list[int]:
    """The frames of one clip."""
    whole = np.array([0, len(times)])
    positions = np.arange(len(times), dtype=np.int32)
    return np.flatnonzero(sampling.chosen(positions, times.astype(np.float32), whole)).tolist()


def uneven(seed: int, frames: int = 200) -> NDArray[np.float32]:
    """Times of frames that last from 1 to 200 ms, with a pause."""
    rng = np.random.default_rng(seed)
    lengths = rng.uniform(0.001, 0.2, frames)
    lengths[frames // 2 :][:1] = 3
    return (np.cumsum(lengths) - rng.uniform(0, 0.2)).clip(0).astype(np.float32)


@pytest.mark.parametrize("rate", [24, 25, 30_000 / 1001, 30, 50, 120])
@pytest.mark.parametrize("frames", [2, 5, 10, 30])
def test_an_interval_on_a_constant_rate_is_a_stride(rate: float, frames: int) -> None:
    for digits in (3, 6):  # containers round to milliseconds, or to finer ticks
        times = (np.arange(40_000) / rate).round(digits)
        found = chosen(Sampling(interval=frames / rate), times)
        assert found == list(range(0, 40_000, frames))


@pytest.mark.parametrize("interval", INTERVALS, ids=str)
def test_each_interval_has_its_first_frame(interval: Sampling) -> None:
    times = uneven(0)
    ends = np.arange(0, times[-1] + 1, interval.interval) - 0.001
    first = np.searchsorted(times, ends)
    numbers = first[first < len(times)].tolist()
    assert chosen(interval, times) == sorted({0, *numbers})


@pytest.mark.parametrize("seed", range(5))
def test_other_stored_frames_change_no_choice(seed: int) -> None:
    """The frames of a sampling are the same among all frames and among some with these."""
    rng, times = np.random.default_rng(seed), uneven(seed)
    for interval in INTERVALS:
        all_of = chosen(interval, times)
        kept = np.union1d(all_of, rng.choice(len(times), 50))
        assert kept[chosen(interval, times[kept])].tolist() == all_of


def test_clips_are_sampled_one_by_one() -> None:
    clips = [uneven(seed, frames) for seed, frames in enumerate((30, 0, 1, 70))]
    offsets = np.cumsum([0, *map(len, clips)])
    together, half = np.concatenate(clips), Sampling(interval=0.5)
    found = half.chosen(np.zeros(len(together), np.int32), together, offsets)
    alone = [[int(first) + k for k in chosen(half, times)]
             for first, times in zip(offsets, clips, strict=False)]  # fmt: skip
    assert np.flatnonzero(found).tolist() == list(itertools.chain(*alone))


def test_what_serves_another_has_all_of_its_frames() -> None:
    every = (*strides(1, 2, 5, 10, 15), *INTERVALS)
    for one, other in itertools.product(every, every):
        contained = all(
            set(chosen(other, uneven(seed))) <= set(chosen(one, uneven(seed))) for seed in range(9)
        )
        assert one.serves(other) is contained, (one, other)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_read_is_what_is_chosen_among_frames_with_features(seed: int) -> None:
    """Also where some frames show no face, and where some are known."""
    rng, times = np.random.default_rng(seed), uneven(seed)
    faces = np.flatnonzero(rng.random(len(times)) < 0.7)
    wanted = (*strides(7), *INTERVALS[2:4])
    known = frozenset(rng.choice(faces, 20).tolist())
    sampler, stored = Sampler(wanted, known), set(known)
    for index, second in enumerate(times):
        assert sampler.may_read(index) or not sampler.reads(index, second)
        if sampler.wanted(index, second) and index in faces:
            sampler.found(second)
            stored.add(index)
    of_all = {*(f for f in faces.tolist() if f % 7 == 0)}
    for interval in INTERVALS[2:4]:
        of_all.update(faces[chosen(interval, times[faces])].tolist())
    assert stored == of_all | known


def test_times_that_go_back_give_an_interval_no_second_frame() -> None:
    assert chosen(Sampling(interval=1.0), np.array([0, 5, 0.5, 1.5, 5.5, 6])) == [0, 1, 5]


def test_frames_without_times_are_refused() -> None:
    times = np.array([0, 0.5, np.nan, 1])
    assert chosen(Sampling(2), times) == [0, 2]
    with pytest.raises(InputError, match=r"clip number 0: the times .* give stride instead"):
        chosen(Sampling(interval=0.5), times)
    sampler = Sampler([Sampling(interval=0.5)], clip="a")
    with pytest.raises(InputError, match="clip a: the times of its frames are not known"):
        sampler.wanted(0, float("nan"))


@pytest.mark.parametrize("sampling", [*strides(1, 30), *INTERVALS, Sampling(interval=1 / 3)])
def test_a_sampling_comes_back_from_its_json_form(sampling: Sampling) -> None:
    assert Sampling.from_json(sampling.to_json()) == sampling


def test_a_stride_is_its_number_in_json() -> None:
    assert [sampling.to_json() for sampling in (*EVERY, Sampling(interval=0.5))] == [1, "0.5s"]
    assert shown({"stride": 30, "interval": 0.5})["stride"] == "0.5s"
    assert shown({"stride": 10}) == {"stride": 10}


@pytest.mark.parametrize("values", [(0, 0), (1, 0.5), (-1, 0), (0, 0.001), (0, float("inf"))])
def test_a_sampling_has_one_of_the_two(values: tuple[int, float]) -> None:
    with pytest.raises(InputError, match=r"stride|interval"):
        Sampling(*values)
