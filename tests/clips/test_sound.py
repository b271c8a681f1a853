"""Films and sound files -> mono sound at one rate, in blocks, in time with the pictures."""

import struct
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from harness.clips.layouts import read_clips, read_new_clips
from harness.clips.sound import sound_blocks, stated_seconds
from harness.clips.video import timed_frames
from harness.errors import InputError
from harness.sampling import EVERY, Sampler
from tests.sounds import RATE, Track, tone, write_film, write_sound
from tests.trees import SPLITS, hume_table, plain_tree
from tests.videos import cut, damaged, make_uneven, make_video


def heard(path: Path, rate: int = RATE) -> NDArray[np.float32]:
    return np.concatenate(list(sound_blocks(path, rate)))


KINDS = [
    ("a.wav", "pcm_s16le", 16_000, "mono"),
    ("a.wav", "pcm_u8", 8_000, "mono"),
    ("a.wav", "pcm_f32le", 44_100, "stereo"),
    ("a.wav", "pcm_s24le", 48_000, "5.1"),
    ("a.aiff", "pcm_s16be", 22_050, "mono"),
    ("a.flac", "flac", 96_000, "stereo"),
    ("a.mp3", "libmp3lame", 44_100, "stereo"),
    ("a.m4a", "aac", 48_000, "mono"),
    ("a.mka", "aac", 32_000, "stereo"),
    ("a.opus", "libopus", 48_000, "mono"),
]


@pytest.mark.parametrize(("name", "codec", "rate", "layout"), KINDS)
def test_every_kind_gives_the_same_tone(
    name: str, codec: str, rate: int, layout: str, tmp_path: Path
) -> None:
    sound = np.concatenate([np.zeros(rate, np.float32), tone(1.06, rate)])
    path = write_sound(tmp_path / name, sound, rate, codec, layout)
    found = heard(path)
    assert abs(len(found) / RATE - 2.06) < 0.06, "coders fill their last window"
    assert abs(stated_seconds(path) - 2.06) < 0.07
    onset = int(np.argmax(np.abs(found) > 0.2))
    assert abs(onset / RATE - 1) < 0.025
    part = found[onset + 2000 : onset + 2000 + RATE // 2]
    assert np.argmax(np.abs(np.fft.rfft(part))) == 220, "440 Hz in half a second"
    assert part.std() == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize("rate", [RATE, 44_100])
@pytest.mark.parametrize("channels", [1, 2, 6, 7, 8, 9, 16])
def test_the_mean_of_any_number_of_channels(channels: int, rate: int, tmp_path: Path) -> None:
    weights = np.linspace(0, 1, channels) if channels > 1 else np.ones(1)
    samples = np.outer(tone(0.5, rate), weights)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes((samples * 32_767).astype("<i2").tobytes())
    middle = slice(RATE // 10, RATE * 4 // 10)
    found, expected = heard(tmp_path / "a.wav")[middle], weights.mean() * tone(0.5)[middle]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_samples_of_the_wanted_rate_are_kept_as_they_are(tmp_path: Path) -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    found = heard(write_sound(tmp_path / "a.wav", sound, RATE, "pcm_f32le"))
    np.testing.assert_array_equal(found, sound)


@pytest.mark.parametrize(
    ("form", "codecs", "begins"),
    [
        ("mp4", ("libx264", "aac"), 0.0),
        ("mp4", ("libx264", "aac"), 0.6),
        ("mkv", ("libx264", "libopus"), 0.6),
        ("webm", ("libvpx", "libopus"), 0.6),
        ("ts", ("libx264", "aac"), 0.0),
        ("mpg", ("mpeg1video", "mp2"), 0.6),
        ("avi", ("mpeg4", "mp2"), 0.0),  # avi does not store when a track begins
    ],
)
def test_a_click_is_heard_when_its_frame_is_shown(
    form: str, codecs: tuple[str, str], begins: float, tmp_path: Path
) -> None:
    click = np.zeros(round(48_000 * (3 - begins)), np.float32)
    click[round(48_000 * (2 - begins)) :][:480] = 0.9 * tone(0.01, 48_000, 1000) / 0.5
    path = tmp_path / f"film.{form}"
    write_film(path, 3, click, codecs=codecs, begins=begins, bright=2.0)
    frames = {second: frame.mean() for _, second, frame in timed_frames(path, Sampler(EVERY))}
    shown = max(frames, key=frames.__getitem__)
    assert np.argmax(np.abs(heard(path)) > 0.3) / RATE == pytest.approx(shown, abs=0.021)
    assert shown == pytest.approx(2, abs=0.03)


def test_frames_have_the_times_of_the_file(tmp_path: Path) -> None:
    hundredths = [0, 4, 50, 51, 200]
    path = make_uneven(tmp_path / "v.mp4", hundredths)
    times = [second for _, second, _ in timed_frames(path, Sampler(EVERY))]
    assert times == pytest.approx([t / 100 for t in hundredths])


def test_memory_does_not_depend_on_the_length(tmp_path: Path) -> None:
    for seconds in (2, 60):
        path = write_sound(tmp_path / f"{seconds}.wav", tone(seconds, 8_000), 8_000)
        assert max(map(len, sound_blocks(path, RATE))) < RATE


def test_a_sound_of_60_milliseconds(tmp_path: Path) -> None:
    assert len(heard(write_sound(tmp_path / "a.wav", tone(0.06)))) == 960


def no_track(folder: Path) -> Path:
    return make_video(folder / "v.mp4", 5)


def no_file(folder: Path) -> Path:
    return folder / "a.wav"


def text(folder: Path) -> Path:
    (folder / "a.mp3").write_text("no sound")
    return folder / "a.mp3"


def empty(folder: Path) -> Path:
    with wave.open(str(folder / "a.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
    return folder / "a.wav"


def playlist(folder: Path) -> Path:
    other = write_sound(folder / "b.wav", tone(1))
    (folder / "a.wav").write_text(f"ffconcat version 1.0\nfile {other.name}\n")
    return folder / "a.wav"


def of_one_sample_a_second(folder: Path) -> Path:
    path = write_sound(folder / "a.wav", tone(1))
    content = bytearray(path.read_bytes())
    content[24:32] = struct.pack("<II", 1, 2)
    path.write_bytes(content)
    return path


def of_an_unknown_codec(folder: Path) -> Path:
    path = write_sound(folder / "a.caf", tone(1), RATE, "pcm_s16be")
    path.write_bytes(path.read_bytes().replace(b"lpcm", b"zzzz"))
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (of_an_unknown_codec, "its sound track has an unknown codec"),
        (no_track, "has no sound track"),
        (no_file, "no such sound file"),
        (text, "cannot be opened as wav, flac"),
        (playlist, "cannot be opened as wav, flac"),
        (empty, "none of 0 packets of its sound track gives a sample"),
        (of_one_sample_a_second, "states 1 samples a second; expected 1000 to 768000"),
    ],
)
def test_what_gives_no_sound_is_one_line(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    path = make(tmp_path)
    with pytest.raises(InputError, match=message) as refused:
        heard(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def partly(path: Path) -> tuple[NDArray[np.float32], str]:
    """What is heard before the error, and the error."""
    blocks = []
    with pytest.raises(InputError) as refused:
        blocks.extend(sound_blocks(path, RATE))
    return np.concatenate(blocks), str(refused.value)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_broken_download_gives_what_is_there_and_says_so(name: str, tmp_path: Path) -> None:
    codec = "flac" if name.endswith("flac") else "pcm_s16le"
    noise = np.random.default_rng(0).uniform(-1, 1, 10 * RATE).astype(np.float32)
    found, error = partly(cut(write_sound(tmp_path / name, noise, RATE, codec)))
    assert 4.5 < len(found) / RATE < 5.5
    assert "but the file announces 10.0 s" in error


def test_damaged_packets_are_silence_and_what_follows_keeps_its_place(tmp_path: Path) -> None:
    sound = np.zeros(3 * 48_000, np.float32)
    sound[2 * 48_000 :] = tone(1, 48_000)
    path = write_sound(tmp_path / "a.mka", sound, 48_000, "aac")
    whole = heard(path)
    bad = damaged(path, set(range(20, 50)), tmp_path / "b.mka", "audio")
    found, error = partly(bad)
    assert "30 of " in error
    assert "packets of sound cannot be decoded, so that sound is missing" in error
    assert len(found) == pytest.approx(len(whole), abs=RATE // 10)
    onset = [np.argmax(np.abs(each) > 0.2) / RATE for each in (whole, found)]
    assert onset[1] == pytest.approx(onset[0], abs=0.11)


def test_a_gap_of_a_live_recording_is_silence(tmp_path: Path) -> None:
    path = tmp_path / "live.webm"
    options = {"live": "1"}  # no length is stated, as in recordings of browsers
    with av.open(str(path), "w", format="webm", options=options) as container:
        track = Track(container, "libopus", 48_000, "mono")
        track.write(tone(12, 48_000), flush=False)
        track.write(tone(3, 48_000), begins=20)
    assert stated_seconds(path) == 0
    assert len(heard(path)) / RATE == pytest.approx(23, abs=0.1)


def test_texts_of_a_file_may_be_in_any_encoding(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", tone(1))
    content = path.read_bytes()
    assert b"Lavf" in content
    path.write_bytes(content.replace(b"Lavf", b"Caf\xe9"))
    assert len(heard(path)) == RATE


def test_channels_that_cancel_each_other_are_reported(tmp_path: Path) -> None:
    sound = (tone(1.0) * 32_767).astype(np.int16)
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.stack([sound, -sound], axis=1).tobytes())
    with pytest.raises(InputError, match=r"a.wav: its channels cancel each other"):
        heard(path)


def test_nan_is_refused(tmp_path: Path) -> None:
    sound = tone(1)
    sound[8000] = np.nan
    path = write_sound(tmp_path / "a.wav", sound, RATE, "pcm_f32le")
    with pytest.raises(InputError, match="NaN or infinity"):
        heard(path)


def names(paths: tuple[Path | None, ...] | None, root: Path) -> list[str | None]:
    return [path and str(path.relative_to(root)) for path in paths or ()]


def test_sound_files_of_the_release_are_found_by_split(tmp_path: Path) -> None:
    hume_table().to_csv(tmp_path / "data_info.csv", index=False)
    films = [f"{split}/mp4/{number:05d}.mp4" for number, split in enumerate(SPLITS)]
    for film in films:
        (tmp_path / film).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / film).touch()
    clips = read_clips(tmp_path)
    assert clips.sounds is None
    assert clips.heard().paths == clips.paths, "the film's own track"
    (tmp_path / "train" / "wav").mkdir()
    for name in ("00000", "00001", "99999"):
        (tmp_path / "train" / "wav" / f"{name}.wav").touch()
    again = read_clips(tmp_path)
    found = ["train/wav/00000.wav", "train/wav/00001.wav", None]
    assert names(again.sounds, tmp_path)[:3] == found
    assert again.heard().paths[2] == again.paths[2]
    assert any("1 sound files are of no clip" in note and "99999" in note for note in again.notes)


def test_any_layout_may_have_sound_files_in_audio(tmp_path: Path) -> None:
    plain_tree(tmp_path, "features")
    (tmp_path / "audio").mkdir()
    for name in ("c0.wav", "c0.mp3", "c1.FLAC", "c2.txt"):
        (tmp_path / "audio" / name).touch()
    clips = read_clips(tmp_path)
    assert names(clips.sounds, tmp_path)[:3] == ["audio/c0.wav", "audio/c1.FLAC", None]
    assert clips.heard().paths[2] is None, "features are no sound"
    notes = "\n".join(clips.notes)
    assert "audio/c0.mp3" in notes
    assert "c2.txt" in notes


def test_sound_files_are_found_beside_a_feature_set(tmp_path: Path) -> None:
    plain_tree(tmp_path, "features")
    files = list((tmp_path / "features").iterdir())
    (tmp_path / "features" / "FAUs").mkdir()
    for file in files:
        file.rename(tmp_path / "features" / "FAUs" / file.name)
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "c0.wav").touch()
    clips = read_clips(tmp_path)
    assert names(clips.sounds, tmp_path)[:2] == ["audio/c0.wav", None]


def test_new_clips_may_have_sound_files_beside_them(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", 3)
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "a.wav").touch()
    clips = read_new_clips(tmp_path)
    assert names(clips.sounds, tmp_path) == ["audio/a.wav"]
    assert clips.notes == ()
