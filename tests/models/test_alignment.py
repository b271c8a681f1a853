"""Streams on one clock."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.dataset import Dataset, Stream
from harness.errors import InputError
from harness.models.alignment import aligned, check_fusion
from harness.models.config import TrialConfig
from harness.models.sequences import read
from tests.datasets import timed_stream

NAN = float("nan")
EYE = [[1], [2], [3]]
EYE_TIMES = [0.0, 1.0, 2.0]


def clips_of(**streams: Stream) -> Dataset:
    count = len(next(iter(streams.values())).counts)
    ids = tuple(f"c{clip}" for clip in range(count))
    return Dataset(ids, ("test",) * count, None, ("A",), streams=streams)


def eye_and_ear(
    ear: list[list[float]], times: list[float] | None, eye_times: list[float] | None = EYE_TIMES
) -> Dataset:
    """One clip with three frames, at seconds 0, 1 and 2, and other steps beside them."""
    return clips_of(
        eye=timed_stream("eye", [EYE], None if eye_times is None else [eye_times], sampled=True),
        ear=timed_stream("ear", [ear], None if times is None else [times]),
    )


def steps_of(data: Dataset, row: int = 0, **values: object) -> list[list[float]]:
    config = TrialConfig.of(**({"stride": 1} | values))
    steps, lengths = aligned(data, np.array([row]), config)
    assert lengths.tolist() == [len(steps)]
    return [[None if np.isnan(value) else float(value) for value in step] for step in steps]


def test_a_step_of_the_clock_has_the_mean_of_the_steps_that_begin_in_its_window() -> None:
    data = eye_and_ear([[10], [20], [30], [40], [50]], [0.0, 0.5, 1.0, 1.9, 2.5])
    assert steps_of(data) == [[15, 1], [35, 2], [50, 3]]


def test_the_first_window_begins_and_the_last_ends_with_the_clip() -> None:
    eye = timed_stream("eye", [EYE], [[4.0, 5.0, 6.0]], sampled=True)
    ear = timed_stream("ear", [[[1], [3], [5], [100]]], [[0.0, 4.5, 5.0, 99.0]])
    assert steps_of(clips_of(eye=eye, ear=ear)) == [[2, 1], [5, 2], [100, 3]]


def test_a_window_without_steps_is_masked() -> None:
    data = eye_and_ear([[10], [20]], [0.0, 2.0])
    assert steps_of(data) == [[10, 1], [None, 2], [20, 3]]


def test_a_stride_widens_the_windows() -> None:
    data = eye_and_ear([[10], [20], [30]], [0.0, 1.0, 2.0])
    assert steps_of(data, stride=2) == [[15, 1], [30, 3]]


def test_fixed_12_repeats_the_last_step_and_its_window() -> None:
    data = eye_and_ear([[10], [20], [30]], [0.0, 1.0, 2.5])
    found = steps_of(data, sequence="fixed-12")
    assert found == [[10, 1], [20, 2], *[[30, 3]] * 10]


def test_fixed_12_trims_the_windows_with_the_steps() -> None:
    times = [np.arange(14.0)]
    numbers = np.arange(14.0)[:, None]
    eye, ear = (timed_stream(n, [numbers], times, sampled=n == "eye") for n in ("eye", "ear"))
    found = steps_of(clips_of(eye=eye, ear=ear), sequence="fixed-12")
    assert found == [[n, n] for n in range(1, 13)]


def test_another_stream_may_be_the_clock() -> None:
    data = eye_and_ear([[10], [20]], [0.0, 1.5])
    assert steps_of(data, clock="ear") == [[10, 1.5], [20, 3]]


def test_a_clip_without_the_clock_has_the_steps_of_the_first_other_stream() -> None:
    eye = timed_stream("eye", [EYE, []], [EYE_TIMES, []], sampled=True)
    ear = timed_stream("ear", [[], [[5], [6]]], [[], [0.0, 1.0]])
    nose = timed_stream("nose", [[[7]], [[8], [9]]], [[1.0], [0.2, 0.4]])
    data = clips_of(nose=nose, eye=eye, ear=ear)
    assert steps_of(data, 0) == [[None, 1, None], [None, 2, 7], [None, 3, None]]
    assert steps_of(data, 1) == [[5, None, 8.5], [6, None, None]]


@pytest.mark.parametrize("times", [None, [0.0, NAN, 2.0]])
def test_equal_numbers_of_steps_without_times_align_by_number(times: list[float] | None) -> None:
    data = eye_and_ear([[10], [20], [30]], times)
    assert steps_of(data) == [[10, 1], [20, 2], [30, 3]]


def test_two_streams_of_frames_without_times_align_by_frame() -> None:
    eye = timed_stream("eye", [EYE], None, sampled=True)
    face = timed_stream("face", [[[10], [20]]], None, sampled=True)
    face = dataclasses.replace(face, positions=np.array([0, 2], np.int32))
    assert steps_of(clips_of(eye=eye, face=face)) == [[1, 10], [2, None], [3, 20]]


def test_what_cannot_be_aligned_is_an_error_that_names_clip_and_streams() -> None:
    data = eye_and_ear([[10], [20]], None)
    message = r"clip c0: the streams eye \(3 steps\) and ear \(2 steps\) cannot be aligned"
    config = TrialConfig.of(stride=1)
    for check in (lambda: steps_of(data), lambda: check_fusion(data, config)):
        with pytest.raises(InputError, match=message):
            check()
    check_fusion(data, config.changed(fusion="late"))
    check_fusion(data, config.changed(streams="ear"))


def test_early_fusion_needs_a_clock() -> None:
    ear, nose = (timed_stream(name, [EYE], [EYE_TIMES]) for name in ("ear", "nose"))
    data = clips_of(ear=ear, nose=nose)
    with pytest.raises(InputError, match="fusion of ear, nose: none has frames; set the"):
        check_fusion(data, TrialConfig.of())
    with pytest.raises(InputError, match="clock: expected one of the streams ear, nose, got eye"):
        check_fusion(data, TrialConfig.of(clock="eye"))
    check_fusion(data, TrialConfig.of(clock="nose"))


def test_late_fusion_reads_each_stream_at_its_own_steps() -> None:
    eye = timed_stream("eye", [EYE, []], [EYE_TIMES, []], sampled=True)
    ear = timed_stream("ear", [[[7]], [[5], [6]]], [[0.0], [0.0, 1.0]])
    config = TrialConfig.of(stride=2, fusion="late")
    (ears, of_ear), (eyes, of_eye) = read(clips_of(eye=eye, ear=ear), np.arange(2), config)
    assert (of_ear.tolist(), of_eye.tolist()) == ([1, 2], [2, 0])
    assert ears.ravel().tolist() == [7, 5, 6]
    np.testing.assert_array_equal(eyes.ravel(), [1, 3, NAN])


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_windows_divide_the_steps_of_a_clip(data: st.DataObject) -> None:
    """Each step is in one window, so that the windows' sums are the clip's."""
    kind = st.lists(st.integers(0, 20), min_size=1, max_size=12, unique=True).map(sorted)
    ours = data.draw(st.lists(kind, min_size=1, max_size=4))
    theirs = data.draw(st.lists(kind, min_size=len(ours), max_size=len(ours)))
    ones = [np.ones((len(times), 1)) for times in ours]
    numbers = [np.array(times, float)[:, None] + 1 for times in theirs]
    streams = clips_of(
        eye=timed_stream("eye", ones, ours, sampled=True), ear=timed_stream("ear", numbers, theirs)
    )
    rows = np.array(data.draw(st.permutations(range(len(ours)))))
    steps, lengths = aligned(streams, rows, TrialConfig.of(stride=1))
    assert lengths.tolist() == [len(ours[row]) for row in rows]
    for row, found in zip(rows, np.split(steps[:, 0], np.cumsum(lengths)[:-1]), strict=True):
        bounds = [-1, *ours[row][1:], 99]
        for mean, begin, end in zip(found, bounds[:-1], bounds[1:], strict=True):
            inside = [t + 1 for t in theirs[row] if begin <= t < end]
            assert np.isnan(mean) if not inside else mean == np.float32(np.mean(inside))
