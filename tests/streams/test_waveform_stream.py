"""The stream of the sound of clips by an ONNX file of waveforms."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper

from harness.clips.sound import sound_blocks
from harness.clips.table import ClipTable
from harness.encoders.encoder import Encoder, EncoderOptions
from harness.encoders.registry import encoder_of
from harness.encoders.sound.encoder import SoundEncoder, sound_encoder
from harness.errors import InputError
from harness.progress import silent
from harness.sampling import Sampling
from harness.streams import sources
from harness.streams.cache import entries
from harness.streams.features import Machines
from harness.streams.sound import sound_stream
from harness.streams.sources import Source, read_all, real_sources
from tests.graphs import means, save_graph
from tests.sounds import tone, write_film, write_sound
from tests.trees import plain_tree
from tests.videos import cut, make_video


def loudness(path: Path) -> Path:
    """The logarithm of the length of each window as a vector: -infinity for silence."""
    nodes = [
        helper.make_node("ReduceL2", ["x"], ["l"], axes=[1], keepdims=1),
        helper.make_node("Log", ["l"], ["y"]),
    ]
    return save_graph(path, nodes, shape=("b", "t"))


def encoder(path: Path, *values: str) -> SoundEncoder:
    found = encoder_of(loudness(path), EncoderOptions(values=values))
    assert isinstance(found, SoundEncoder)
    return found


def table(films: list[Path | None], sounds: list[Path | None]) -> ClipTable:
    return ClipTable(
        clip_ids=tuple(f"c{number}" for number in range(len(films))),
        splits=("train",) * len(films),
        targets=np.zeros((len(films), 1), np.float32),
        target_names=("joy",),
        paths=tuple(films),
        kind="video",
        sounds=tuple(sounds),
    )


def test_each_clip_has_the_steps_of_its_sound_or_the_reason_why_not(tmp_path: Path) -> None:
    network = encoder(tmp_path / "wave.onnx", "rate=8000", "window=0.5")
    noise = np.random.default_rng(0).uniform(-1, 1, 160_000).astype(np.float32)
    sounds = [
        write_sound(tmp_path / "a.wav", tone(1.0)),
        write_sound(tmp_path / "short.wav", tone(0.06)),
        cut(write_sound(tmp_path / "cut.wav", noise)),
        None,
        None,
        None,
    ]
    films = [None, None, None, write_film(tmp_path / "heard.mp4", 2.0, tone(2.0, rate=48_000)),
             make_video(tmp_path / "mute.mp4", 5), None]  # fmt: skip
    clips = table(films, sounds)
    for computed in (6, 0):
        found = sound_stream(clips, network, tmp_path / "cache")
        assert found.extraction.clips == computed
        assert found.stream.counts.tolist() == [4, 1, 20, 8, 0, 0]
        assert found.stream.times is not None
        assert found.stream.times[:4].tolist() == [0, 0.25, 0.5, 0.75]
        reasons = {gap.clip_id: gap.problem for gap in found.gaps.clips}
        assert list(reasons) == ["c1", "c2", "c4", "c5"]
        assert reasons["c1"].endswith(
            "short.wav: 0.06 s of sound, less than the window of 0.5 s, which zeros fill"
        )
        assert "ends at 5.0 s, but the file announces 10.0 s" in reasons["c2"]
        assert reasons["c4"].endswith("mute.mp4: has no sound track")
        assert reasons["c5"] == "no sound file"
    assert sounds[0] is not None
    expected = network(sound_blocks(sounds[0], 8_000))
    np.testing.assert_allclose(found.stream.values[:4], expected, rtol=1e-6)


def test_a_network_that_gives_infinity_is_named_with_the_clip(tmp_path: Path) -> None:
    network = encoder(tmp_path / "wave.onnx")
    sounds = [write_sound(tmp_path / "a.wav", tone(1.0)),
              write_sound(tmp_path / "b.wav", np.zeros(32_000, np.float32))]  # fmt: skip
    with pytest.raises(InputError, match="network of waveform gave NaN or infinity for clip c1"):
        sound_stream(table([None, None], sounds), network, tmp_path / "cache")


def test_each_encoder_of_sound_has_its_own_store(tmp_path: Path) -> None:
    clips = table([None], [write_sound(tmp_path / "a.wav", tone(1.0))])
    networks = [
        encoder(tmp_path / "wave.onnx"),
        encoder(tmp_path / "wave.onnx", "window=0.5"),
        sound_encoder("mfcc"),
    ]
    for _ in range(2):
        for network in networks:
            sound_stream(clips, network, tmp_path / "cache")
    assert sorted((e.name, e.columns) for e in entries(tmp_path / "cache")) == [
        ("sound", 40), ("waveform", 1), ("waveform", 1),
    ]  # fmt: skip


def test_pictures_and_sound_of_one_folder_have_an_encoder_each(tmp_path: Path) -> None:
    root = plain_tree(tmp_path, "clips")
    files = [f"face={means(tmp_path / 'face.onnx')}", f"voice={loudness(tmp_path / 'voice.onnx')}"]
    given = real_sources(
        root, None, encoder=files, encoder_input=["voice=rate=8000", "face=mean=0.5"], crop="none",
        stored="float16", sound="mfcc", sound_step=0.5,
    )  # fmt: skip
    face, voice, sound = (source.encoder for source in given)
    assert [source.name for source in given] == ["face", "voice", "sound"]
    assert isinstance(face, Encoder)
    assert isinstance(voice, SoundEncoder)
    assert voice.specification().details["rate"] == 8_000
    assert voice.specification().details["step"] == "0.5"
    for each in (face, voice):
        assert each.specification().details["stored"] == "float16"
    assert isinstance(sound, SoundEncoder)


def test_clips_without_a_frame_have_their_sound_and_the_other_way_round(tmp_path: Path) -> None:
    face = encoder_of(means(tmp_path / "face.onnx"))
    bad, good = tmp_path / "bad.mp4", make_video(tmp_path / "good.mp4", 5)
    bad.write_bytes(b"no film" * 100)
    voice = write_sound(tmp_path / "a.wav", tone(1.0))

    def steps(film: Path, sound: Path | None) -> list[int]:
        given = table([film], [sound])
        found = read_all(
            [Source(given, face), Source(given, sound_encoder("mfcc"))], tmp_path / "cache",
            [[Sampling(interval=0.1)]] * 2, Machines(torch.device("cpu")), silent, required=False,
        )  # fmt: skip
        pictures = found[0].stream
        assert pictures.sampled
        assert pictures.chosen(Sampling(interval=0.1)).all()
        return [int(each.stream.counts[0]) for each in found]

    assert steps(bad, voice) == [0, 4]
    assert steps(good, None)[1] == 0
    with pytest.raises(InputError, match=r"no clip has a step of any stream: .*bad\.mp4.*no sound"):
        steps(bad, None)


def test_sound_alone_needs_neither_frames_nor_a_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> str:
        raise InputError("the detector is not installed", "crop")

    monkeypatch.setattr(sources, "crop_recipe", missing)
    wave, image = loudness(tmp_path / "wave.onnx"), means(tmp_path / "face.onnx")
    videos, features = tmp_path / "videos", tmp_path / "features"
    for root, kind in ((videos, "clips"), (features, "features")):
        root.mkdir()
        plain_tree(root, kind)
        assert real_sources(root, None, encoder=[str(wave)])[0].name == "waveform"
    for root, message in ((videos, "not installed"), (features, "need no encoder of frames")):
        with pytest.raises(InputError, match=message):
            real_sources(root, None, encoder=[f"a={image}", f"b={wave}"])
