"""Frames of real video files, in the forms they come in."""

from pathlib import Path

import av
import numpy as np
import pytest

from harness.clips import video
from harness.clips.video import sampled_frames, write_video
from harness.errors import InputError
from tests.videos import (
    cut,
    grey,
    make_noise,
    make_sound,
    make_uneven,
    make_video,
    turn,
    without_first,
)


def shades(path: Path, strides: list[int]) -> dict[int, float]:
    return {index: picture.mean() for index, picture in sampled_frames(path, strides)}


@pytest.mark.parametrize(
    ("strides", "expected"),
    [([1], list(range(40))), ([30], [0, 30]), ([10, 15], [0, 10, 15, 20, 30]), ([100], [0])],
)
def test_strides_count_frames_from_the_first(
    tmp_path: Path, strides: list[int], expected: list[int]
) -> None:
    got = shades(make_video(tmp_path / "v.mp4", 40), strides)
    assert list(got) == expected
    for index, shade in got.items():
        assert abs(shade - 5 * index) < 4, "the right frame, not only its number"


def test_known_frames_are_counted_and_not_converted(tmp_path: Path) -> None:
    path = make_video(tmp_path / "v.mp4", 12)
    assert [i for i, _ in sampled_frames(path, [3], skip=frozenset({0, 6}))] == [3, 9]


@pytest.mark.parametrize(
    "times", [[0, 1, 2, 50, 51, 300, 301, 302], [7, 9, 12, 30, 31, 32, 33, 90]]
)
def test_a_variable_frame_rate_changes_no_count(tmp_path: Path, times: list[int]) -> None:
    got = shades(make_uneven(tmp_path / "v.mp4", times), [3])
    assert list(got) == [0, 3, 6]
    np.testing.assert_allclose(list(got.values()), [0, 15, 30], atol=4)


@pytest.mark.parametrize(("codec", "form"), [("libvpx", "webm"), ("mpeg4", "avi")])
def test_other_containers(tmp_path: Path, codec: str, form: str) -> None:
    path = make_uneven(tmp_path / f"v.{form}", list(range(8)), codec, form)
    assert list(shades(path, [3])) == [0, 3, 6]


ENCODINGS = [
    {"bf": "0"},
    {"bf": "3"},
    {"bf": "3", "b-pyramid": "none"},
    {"bf": "2", "x264-params": "open-gop=1:keyint=7"},
]


@pytest.mark.parametrize("options", ENCODINGS)
def test_frames_left_undecoded_change_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    path = make_noise(tmp_path / "v.mp4", 60, options)
    sampled = dict(sampled_frames(path, [7, 10], frozenset({14, 20})))
    monkeypatch.setattr(video, "_LISTED", 0)
    whole = dict(sampled_frames(path, [1]))
    assert list(whole) == list(range(60))
    assert list(sampled) == [0, 7, 10, 21, 28, 30, 35, 40, 42, 49, 50, 56]
    for index, picture in sampled.items():
        np.testing.assert_array_equal(picture, whole[index])


def test_frames_are_counted_from_the_first_that_can_be_decoded(tmp_path: Path) -> None:
    """A film cut out of another may begin between key frames, whatever holds it."""
    film = make_noise(tmp_path / "v.mp4", 75, {"bf": "0", "g": "20", "sc_threshold": "0"})
    found = [
        dict(sampled_frames(without_first(film, 5, tmp_path / f"cut.{form}"), [30]))
        for form in ("mkv", "mp4")
    ]
    assert list(found[0]) == list(found[1]) == [0, 30]
    for index in (0, 30):
        np.testing.assert_array_equal(found[0][index], found[1][index])


@pytest.mark.parametrize("limit", ["_LISTED", "_HELD"])
def test_large_films_are_read_as_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(video, limit, 0)
    assert list(shades(make_video(tmp_path / "v.mp4", 40), [15])) == [0, 15, 30]


@pytest.mark.parametrize(("clockwise", "side"), [(0, "left"), (90, "top"), (180, "right"),
                                                 (270, "bottom")])  # fmt: skip
def test_a_turned_film_is_set_upright(tmp_path: Path, clockwise: int, side: str) -> None:
    half = grey(250)
    half[:, 24:] = 0
    write_video(tmp_path / "v.mp4", [half] * 2)
    if clockwise:
        turn(tmp_path / "v.mp4", clockwise)
    ((_, picture),) = sampled_frames(tmp_path / "v.mp4", [5])
    assert picture.shape == ((48, 32, 3) if clockwise in (90, 270) else (32, 48, 3))
    edges = {"left": picture[:, :4], "right": picture[:, -4:],
             "top": picture[:4], "bottom": picture[-4:]}  # fmt: skip
    assert max(edges, key=lambda name: edges[name].mean()) == side


@pytest.mark.parametrize("pixels", ["gray", "yuv444p", "yuv420p10le"])
def test_other_pixels_than_phones_make(tmp_path: Path, pixels: str) -> None:
    with av.open(str(tmp_path / "v.mkv"), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 48, 32, pixels
        frame = av.VideoFrame.from_ndarray(grey(128), format="rgb24").reformat(format=pixels)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert abs(shades(tmp_path / "v.mkv", [1])[0] - 128) < 4


def test_a_song_with_a_cover_is_no_film(tmp_path: Path) -> None:
    for cover in (False, True):
        path = make_sound(tmp_path / f"{cover}.mp4", cover)
        with pytest.raises(InputError, match="holds no video stream"):
            list(sampled_frames(path, [1]))


def test_what_came_before_a_break_is_given(tmp_path: Path) -> None:
    path = cut(make_uneven(tmp_path / "v.mkv", list(range(0, 1500, 30)), "mpeg4", "matroska"))
    got = []
    with pytest.raises(InputError, match=r"v\.mkv: ends after frame .* announces 14\.7 s"):
        got.extend(index for index, _ in sampled_frames(path, [1]))
    assert got == list(range(len(got)))
    assert 0 < len(got) < 50


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    make_video(tmp_path / "secret.mp4", 3)
    (tmp_path / "v.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    with pytest.raises(InputError, match="cannot be opened as mp4"):
        list(sampled_frames(tmp_path / "v.mp4", [1]))


def test_pictures_of_absurd_size_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "v.mp4", 3)
    monkeypatch.setattr(video, "MAX_PIXELS", 1000)
    with pytest.raises(InputError, match="cannot be decoded"):
        list(sampled_frames(path, [1]))


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    def frames() -> object:
        yield np.zeros((32, 32, 3), np.uint8)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_video(tmp_path / "v.mp4", frames())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
