"""Frames of real video files, in the forms they come in."""

import contextlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from harness.clips import video
from harness.clips.folder import VIDEO_SUFFIXES
from harness.clips.video import sampled_frames, stated_frames, write_video
from harness.errors import InputError
from tests.pictures import pattern
from tests.videos import (
    cut,
    damaged,
    grey,
    keyframes,
    make_noise,
    make_open_gop,
    make_sound,
    make_streams,
    make_uneven,
    make_video,
    make_with_cover,
    make_with_sound,
    set_matrix,
    turn,
    without_first,
    write_lossless,
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


# A suffix, an encoder that its container takes, and frames a second.
CONTAINERS = [
    (".mp4", "libx264", 30),
    (".m4v", "libx264", 30),
    (".MOV", "libx265", 30),
    (".3gp", "h263", 30),
    (".mkv", "libx264", 30),
    (".webm", "libvpx", 30),
    (".avi", "mpeg4", 30),
    (".wmv", "wmv2", 30),
    (".asf", "wmv1", 30),
    (".MTS", "libx264", 30),
    (".m2ts", "libx264", 30),
    (".ts", "mpeg2video", 30),
    (".mpg", "mpeg2video", 30),
    (".vob", "mpeg2video", 30),
    (".flv", "flv1", 30),
    (".mxf", "mpeg2video", 25),
]


@pytest.mark.parametrize(("suffix", "codec", "rate"), CONTAINERS)
def test_every_container_gives_every_frame(
    tmp_path: Path, suffix: str, codec: str, rate: int
) -> None:
    path = tmp_path / f"v{suffix}"
    form = {".3gp": "3gp", ".m2ts": "mpegts", ".mts": "mpegts", ".wmv": "asf"}
    with av.open(str(path), "w", format=form.get(suffix.lower())) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 176, 144, "yuv420p"
        for k in range(40):
            frame = av.VideoFrame.from_ndarray(grey(5 * k, 144, 176), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    got = shades(path, [13])
    assert list(got) == [0, 13, 26, 39]
    np.testing.assert_allclose(list(got.values()), [0, 65, 130, 195], atol=6)
    assert path.suffix.lower() in VIDEO_SUFFIXES


def test_frames_are_counted_where_the_header_states_no_length(tmp_path: Path) -> None:
    path = tmp_path / "browser.webm"
    with av.open(str(path), "w", options={"live": "1"}) as container:
        stream = container.add_stream("libvpx", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for k in range(25):
            frame = av.VideoFrame.from_ndarray(grey(5 * k), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        assert not container.duration
        assert not container.streams.video[0].frames
    assert stated_frames(path) == 25
    assert stated_frames(make_video(tmp_path / "v.mp4", 12)) == 12


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
    whole = dict(sampled_frames(film, [1]))
    for form in ("mkv", "mp4", "mov", "m4v", "ts", "MTS", "flv"):
        found = dict(sampled_frames(without_first(film, 5, tmp_path / f"cut.{form}"), [30]))
        assert list(found) == [0, 30]
        for index in (0, 30):  # the next key frame is frame 20 of the whole film
            np.testing.assert_array_equal(found[index], whole[index + 20])


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("form", ["mp4", "mov", "mkv", "flv"])
@pytest.mark.parametrize("cuts", [1, 3])
def test_a_cut_between_open_groups_begins_at_the_first_decodable_frame(
    tmp_path: Path, codec: str, form: str, cuts: int
) -> None:
    """The key frame is followed by frames that come before it and refer to what was cut off."""
    film = make_open_gop(tmp_path / "v.mp4", codec)
    whole = dict(sampled_frames(film, [1]))
    part = without_first(film, keyframes(film)[cuts], tmp_path / f"cut.{form}")
    found = dict(sampled_frames(part, [10]))
    assert list(found) == list(range(0, 60 - 12 * cuts, 10))
    for index, picture in found.items():
        np.testing.assert_array_equal(picture, whole[index + 12 * cuts])


@pytest.mark.parametrize("form", ["mp4", "mkv"])
@pytest.mark.parametrize("lost", [{5}, {16}, {60}, {16, 17, 40}])
@pytest.mark.parametrize("stride", [1, 7])
def test_a_damaged_packet_costs_its_frame_alone(
    tmp_path: Path, form: str, lost: set[int], stride: int
) -> None:
    """As with ffmpeg. The frames after it keep their indices, whatever is sampled."""
    whole = make_noise(tmp_path / "v.mp4", 61, {"bf": "3"})
    path = damaged(whole, lost, tmp_path / f"d.{form}")
    with av.open(str(path)) as container:
        pts = {p.pts for p in container.demux(video=0) if p.pts is not None}
    places = {time: place for place, time in enumerate(sorted(pts))}
    expected: dict[int, np.ndarray] = {}
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            with contextlib.suppress(av.error.FFmpegError):
                for frame in packet.decode():
                    expected[places[frame.pts]] = frame.to_ndarray(format="rgb24")
    assert len(expected) == 61 - len(lost)
    found = {}
    with pytest.raises(InputError, match=rf"{len(lost)} of 61 packets cannot be decoded"):
        found.update(sampled_frames(path, [stride]))
    assert list(found) == [index for index in expected if index % stride == 0]
    for index, picture in found.items():
        np.testing.assert_array_equal(picture, expected[index])


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


# (a, b, c, d) of a display matrix, and what a player shows of the stored picture.
MATRICES = {
    "as it is": ((1, 0, 0, 1), lambda p: p),
    "hflip": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "vflip": ((1, 0, 0, -1), lambda p: p[::-1]),
    "half a turn": ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
    "clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "counterclockwise": ((0, -1, 1, 0), lambda p: np.rot90(p)),
    "transpose": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
    "transverse": ((0, -1, -1, 0), lambda p: np.rot90(p, 2).transpose(1, 0, 2)),
    "nearly clockwise": ((0.02, 0.99, -0.99, 0.02), lambda p: np.rot90(p, -1)),
    "scaled mirror": ((-0.5, 0, 0, 0.5), lambda p: p[:, ::-1]),
    "nothing": ((0, 0, 0, 0), lambda p: p),
}


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("form", ["mp4", "mov"])
def test_a_display_matrix_is_applied(tmp_path: Path, name: str, form: str) -> None:
    matrix, shown = MATRICES[name]
    stored = [pattern(32, 48, seed) for seed in range(2)]
    path = set_matrix(write_lossless(tmp_path / f"v.{form}", stored), matrix)
    for index, picture in sampled_frames(path, [1]):
        np.testing.assert_array_equal(picture, shown(stored[index]))


@pytest.mark.parametrize(("ratio", "width", "height"), [("4/3", 64, 32), ("2/3", 48, 48),
                                                        ("100/101", 48, 32)])  # fmt: skip
def test_pixels_become_square(tmp_path: Path, ratio: str, width: int, height: int) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(ratio)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(90), format="rgb24")))
        container.mux(stream.encode())
    ((_, picture),) = sampled_frames(tmp_path / "v.mp4", [1])
    assert picture.shape == (height, width, 3)


# Sizes of the streams, which one is the default, and which one is read.
STREAMS = [
    ([(48, 32), (96, 64)], 1, 1),
    ([(96, 64), (48, 32)], 1, 1),
    ([(96, 64), (48, 32), (64, 48)], 0, 0),
]


@pytest.mark.parametrize("form", ["mp4", "mkv"])
@pytest.mark.parametrize(("sizes", "default", "read"), STREAMS)
def test_of_several_streams_the_best_is_read_and_named(
    tmp_path: Path, form: str, sizes: list[tuple[int, int]], default: int, read: int
) -> None:
    path = make_streams(tmp_path / f"v.{form}", sizes, default)
    with av.open(str(path)) as container:
        best = container.streams.best("video")
        assert best is not None
        assert best.index == read
    found = {}
    width, height = sizes[read]
    message = rf"holds {len(sizes)} video streams; stream {read} \({width} x {height} pixels\)"
    with pytest.raises(InputError, match=message):
        found.update(sampled_frames(path, [3]))
    assert list(found) == [0, 3, 6, 9]
    for picture in found.values():
        assert abs(picture.mean() - 50 * (read + 1)) < 4


# A container with sound that outlasts the picture or ends before it, in seconds.
SOUNDS = [
    (".webm", "libvpx", "libopus", 2.0, 6.0),
    (".mkv", "libx264", "aac", 2.0, 6.0),
    (".mp4", "libx264", "aac", 2.0, 9.0),
    (".wmv", "wmv2", "wmav2", 2.0, 6.0),
    (".ts", "mpeg2video", "mp2", 2.0, 6.0),
    (".mkv", "libx264", "aac", 6.0, 2.0),
]


@pytest.mark.parametrize(("suffix", "codec", "sound", "seconds", "heard"), SOUNDS)
def test_sound_of_another_length_makes_no_film_incomplete(
    tmp_path: Path, suffix: str, codec: str, sound: str, seconds: float, heard: float
) -> None:
    path = make_with_sound(tmp_path / f"v{suffix}", codec, sound, seconds, heard)
    assert list(shades(path, [1])) == list(range(round(30 * seconds)))


def test_a_film_with_sound_that_was_cut_off_is_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        film = container.add_stream("mpeg4", rate=30)
        film.width, film.height, film.pix_fmt = 48, 32, "yuv420p"
        track = container.add_stream("pcm_s16le", rate=30 * 960, layout="mono")
        for k in range(300):
            frame = av.VideoFrame.from_ndarray(pattern(32, 48, k), format="rgb24")
            container.mux(film.encode(frame))
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), "s16", "mono")
            samples.sample_rate, samples.pts = 30 * 960, 960 * k
            container.mux(track.encode(samples))
        container.mux(film.encode())
    with pytest.raises(InputError, match=r"ends after frame .* announces 10\.0 s"):
        list(sampled_frames(cut(path), [1]))


def test_the_last_frame_may_stand_for_long(tmp_path: Path) -> None:
    """As in recordings of a screen."""
    path = make_uneven(tmp_path / "v.mkv", [0, 10, 20, 30], "mpeg4", "matroska")
    with av.open(str(path)) as source, av.open(str(tmp_path / "v.mp4"), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.duration = 60_000 if packet.pts == 300 else 100
                packet.stream = stream
                copy.mux(packet)
    assert list(shades(tmp_path / "v.mp4", [1])) == [0, 1, 2, 3]


@pytest.mark.parametrize("form", ["mp4", "mkv"])
def test_interlaced_frames_are_whole_frames(tmp_path: Path, form: str) -> None:
    options = {"x264-params": "tff=1:bframes=2", "flags": "+ildct+ilme"}
    whole = make_noise(tmp_path / "v.mp4", 40, options)
    with av.open(str(whole)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    path = without_first(whole, 0, tmp_path / f"w.{form}")
    assert list(shades(path, [13])) == [0, 13, 26, 39]


@pytest.mark.parametrize("pixels", ["gray", "yuv444p", "yuv420p10le"])
def test_other_pixels_than_phones_make(tmp_path: Path, pixels: str) -> None:
    with av.open(str(tmp_path / "v.mkv"), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 48, 32, pixels
        frame = av.VideoFrame.from_ndarray(grey(128), format="rgb24").reformat(format=pixels)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert abs(shades(tmp_path / "v.mkv", [1])[0] - 128) < 4


def test_a_cover_is_no_stream(tmp_path: Path) -> None:
    assert list(shades(make_with_cover(tmp_path / "v.mp4", 20), [9])) == [0, 9, 18]


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


def test_frames_that_are_lost_without_an_error_are_reported(tmp_path: Path) -> None:
    """HEVC gives nothing between a lost frame and the next key frame, as with ffmpeg."""
    whole = make_noise(
        tmp_path / "v.mp4", 120, {"x265-params": "log-level=none:keyint=-1:scenecut=0"}, "libx265"
    )
    path = damaged(whole, {7}, tmp_path / "d.mp4")
    message = r"1 of 120 packets cannot .* no frame after frame \d+ at 0\.\d s can be decoded"
    with pytest.raises(InputError, match=message):
        list(sampled_frames(path, [10]))


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
