"""Several streams through the commands: a search, an ensemble, and new clips."""

import shutil
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from onnx import helper

from harness.clips.demo import Demo
from harness.models.model_file import read_model
from harness.predictor import load
from harness.streams.cache import entries
from tests.commands import command
from tests.graphs import means, save_graph
from tests.sounds import tone, write_sound
from tests.trees import plain_tree

SPACE = """
[budget]
trials = 4
epochs = 10
[fixed]
lr = 0.02
batch_size = 8
hidden = 8
head_width = 8
layers = 1
stride = 10
[parameters.streams]
type = "categorical"
choices = ["mtl-dan", "sound", "sound+mtl-dan"]
[parameters.fusion]
type = "categorical"
choices = ["early", "late"]
only_if = { streams = ["sound+mtl-dan"] }
[[start]]
streams = "mtl-dan"
[[start]]
streams = "sound"
[[start]]
streams = "sound+mtl-dan"
fusion = "early"
[[start]]
streams = "sound+mtl-dan"
fusion = "late"
"""


def mute(film: Path) -> None:
    """Removes the sound of a film; its pictures are copied as they are."""
    silent = film.with_name(f"silent-{film.name}")
    with av.open(str(film)) as source, av.open(str(silent), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    silent.replace(film)


@pytest.mark.slow
def test_picture_and_sound_are_searched_combined_and_predicted(
    tmp_path: Path, tiny_demo: Demo, weights: Path
) -> None:
    root = Path(shutil.copytree(tiny_demo.root, tmp_path / "data"))
    films = sorted(root.glob("*/mp4/*.mp4"))
    muted = [film.stem for split in ("train", "test") for film in films
             if film.parent.parent.name == split][::9]  # fmt: skip
    for film in films:
        if film.stem in muted:
            mute(film)
    (tmp_path / "space.toml").write_text(SPACE)
    place = ["--results", tmp_path, "--study", "s"]
    data = ["--data", root, "--weights", weights]
    search = ["--space", tmp_path / "space.toml", "--scheduler", "none"]
    done = command("search", *place, *data, *search)
    assert done.returncode == 0, done.stderr
    assert f"sound: {len(muted)} clips have no" in done.stdout
    assert "sound: To compute: about" in done.stdout
    for what in ("these pictures allow", "these sounds allow", "pictures and sounds together"):
        assert what in done.stdout, "an oracle of each"
    models = [read_model(file) for file in sorted((tmp_path / "s" / "heads").iterdir())]
    assert sorted("+".join(model.streams) for model in models) == [
        "mtl-dan", "mtl-dan+sound", "mtl-dan+sound", "sound",
    ]  # fmt: skip
    done = command("ensemble", *place, "--top", 4)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "s" / "report.html").read_text()
    assert "Score by streams" in page
    assert "What each stream adds" in page
    folder, out = tmp_path / "s" / "ensembles" / "mean-top4", tmp_path / "new.csv"
    stored = pd.read_csv(folder / "predictions.csv", index_col="File_ID")
    for results, tolerance in ((tmp_path, 1.1e-6), (tmp_path / "elsewhere", 2e-5)):
        done = command("predict", "--ensemble", folder, *data, "--out", out, "--results", results)
        assert done.returncode == 0, done.stderr
        assert f"sound: {len(muted)} clips have no" in done.stdout
        found = pd.read_csv(out, index_col="File_ID")
        np.testing.assert_allclose(found.loc[stored.index], stored, rtol=0, atol=tolerance)
    (tmp_path / "mute").mkdir()
    for film in films:
        if film.stem in muted:
            shutil.copy(film, tmp_path / "mute")
    alone = load(folder)(tmp_path / "mute", weights, cache=tmp_path / ".cache")
    assert not alone.pop("filled").any(), "the picture is read"
    same = found.loc[[f"[{clip}]" for clip in alone.index]]
    np.testing.assert_allclose(alone, same, rtol=0, atol=2e-5)
    (tmp_path / "heard" / "audio").mkdir(parents=True)
    (tmp_path / "heard" / "x.mp4").write_bytes(b"no film" * 100)
    write_sound(tmp_path / "heard" / "audio" / "x.wav", tone(2.0))
    heard = load(folder)(tmp_path / "heard", weights, cache=tmp_path / ".cache")
    assert not heard["filled"].any(), "the sound is read"


FOUR = """
[budget]
trials = 6
epochs = 2
[fixed]
batch_size = 8
hidden = 8
head_width = 8
layers = 1
stride = 2
clock = "large"
[parameters.streams]
type = "categorical"
choices = ["small", "large", "sound", "face", "small+large+sound+face"]
[parameters.fusion]
type = "categorical"
choices = ["early", "late"]
only_if = { streams = ["small+large+sound+face"] }
"""


def four_streams(root: Path) -> Path:
    """Films, sound files beside them, and a feature set `face` of three steps."""
    root.mkdir()
    plain_tree(root, "clips")
    rng = np.random.default_rng(2)
    (root / "audio").mkdir()
    (root / "features" / "face").mkdir(parents=True)
    for clip in pd.read_csv(root / "clips.csv")["clip_id"]:
        write_sound(root / "audio" / f"{clip}.wav", tone(0.5, pitch=float(rng.uniform(200, 900))))
        table = pd.DataFrame({"timestamp": [0, 150, 300]})
        table[["a", "b"]] = rng.random((3, 2))
        table.to_csv(root / "features" / "face" / f"{clip}.csv", index=False)
    return root


@pytest.mark.slow
def test_two_encoders_sound_and_a_feature_set_from_clips_to_predictions(tmp_path: Path) -> None:
    root = four_streams(tmp_path / "data")
    means(tmp_path / "a.onnx")
    means(tmp_path / "b.onnx", 1, shape=("b", 3, "h", "w"))
    combined = "small+large+sound+face"
    starts = [f'streams = "{name}"' for name in ("small", "large", "sound", "face")]
    starts += [f'streams = "{combined}"\nfusion = "{fusion}"' for fusion in ("early", "late")]
    text = FOUR + "".join(f"[[start]]\n{start}\n" for start in starts)
    (tmp_path / "space.toml").write_text(text)
    files = ["--encoder", f"small={tmp_path / 'a.onnx'}", "--encoder", f"large={tmp_path}/b.onnx"]
    line = [*files, "--encoder-output", "large=relu", "--encoder-input", "large=size=24"]
    line += ["--crop", "none", "--sound", "mfcc", "--features", "face"]
    place = ["--results", tmp_path, "--study", "s"]
    search = ["search", *place, "--data", root, *line, "--space", tmp_path / "space.toml"]
    done = command(*search, "--scheduler", "none")
    assert done.returncode == 0, done.stderr
    for name in ("small", "large", "sound"):
        assert f"{name}: To compute: about" in done.stdout
    models = [read_model(file) for file in sorted((tmp_path / "s" / "heads").iterdir())]
    names = sorted("+".join(sorted(model.streams)) for model in models)
    joined = "face+large+small+sound"
    assert names == ["face", joined, joined, "large", "small", "sound"]
    done = command("ensemble", *place, "--top", 6)
    assert done.returncode == 0, done.stderr
    new = Path(shutil.copytree(root, tmp_path / "new"))
    clips = pd.read_csv(new / "clips.csv")
    clips[clips["split"] == "test"].to_csv(new / "clips.csv", index=False)
    folder, out = tmp_path / "s" / "ensembles" / "mean-top6", tmp_path / "new.csv"
    given = ["--ensemble", folder, "--data", new, *files, "--features", "face", "--out", out]
    done = command("predict", *given, "--results", tmp_path / "elsewhere")
    assert done.returncode == 0, done.stderr
    stored = pd.read_csv(folder / "predictions.csv", index_col="File_ID")
    found = pd.read_csv(out, index_col="File_ID")
    assert len(found) == 4
    np.testing.assert_allclose(found, stored.loc[found.index], rtol=0, atol=2e-5)
    one = ["--ensemble", folder, "--data", new, *files[:2], "--features", "face", "--out", out]
    done = command("predict", *one)
    assert done.returncode == 1
    assert "missing: give the file that the ensemble was built on, for large, as large=FILE" in (
        done.stderr
    )
    # An encoder of the study is not exchanged silently.
    means(tmp_path / "b.onnx", 2, shape=("b", 3, "h", "w"))
    for again in (["predict", *given], [*search, "--trials", 7]):
        done = command(*again)
        assert done.returncode == 1
        assert "reads other features: " in done.stderr
        assert "large" in done.stderr
        assert "weights" in done.stderr


PICTURE_AND_VOICE = """
[budget]
trials = 4
epochs = 2
[fixed]
batch_size = 8
hidden = 8
head_width = 8
layers = 1
stride = 2
[parameters.streams]
type = "categorical"
choices = ["picture", "sound", "picture+sound"]
[parameters.fusion]
type = "categorical"
choices = ["early", "late"]
only_if = { streams = ["picture+sound"] }
[[start]]
streams = "picture"
[[start]]
streams = "sound"
[[start]]
streams = "picture+sound"
fusion = "early"
[[start]]
streams = "picture+sound"
fusion = "late"
"""


def voice(path: Path, kernel: int = 64) -> Path:
    """A convolution over samples; its input may be images, as far as its shape says."""
    weights = {"w": np.random.default_rng(0).normal(size=(4, 1, kernel)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], strides=[16]),
        helper.make_node("Abs", ["c"], ["a"]),
        helper.make_node("Transpose", ["a"], ["y"], perm=[0, 2, 1]),
    ]
    return save_graph(path, nodes, shape=("b", "c", "t"), weights=weights)


@pytest.mark.slow
def test_an_encoder_of_images_and_one_of_waveforms_from_clips_to_predictions(
    tmp_path: Path,
) -> None:
    root = four_streams(tmp_path / "data")
    means(tmp_path / "face.onnx")
    (tmp_path / "voice").mkdir()
    wave = voice(tmp_path / "voice" / "voice.onnx")
    (tmp_path / "space.toml").write_text(PICTURE_AND_VOICE)
    # The name is that of the built-in encoders of sound, none of which is read.
    files = ["--encoder", f"picture={tmp_path / 'face.onnx'}", "--encoder", f"sound={wave}"]
    inputs = [f"--encoder-input=sound={each}" for each in ("kind=waveform", "window=0.2")]
    line = [*files, *inputs, "--sound-step", 0.1, "--crop", "none"]
    place = ["--results", tmp_path, "--study", "s"]
    given = ["--data", root, *line]
    done = command("extract", *given, "--results", tmp_path, "--stride", 2)
    assert done.returncode == 0, done.stderr
    assert "sound: To compute: about" in done.stdout
    assert "Windows of 0.2 s around the middle of each step of 0.1 s" in done.stdout
    assert "--sound-step=0.1" in done.stdout.rpartition("Next:")[2]
    search = ["search", *place, *given, "--space", tmp_path / "space.toml"]
    done = command(*search, "--scheduler", "none")
    assert done.returncode == 0, done.stderr
    assert "To compute" not in done.stdout, "it is stored"
    models = [read_model(file) for file in sorted((tmp_path / "s" / "heads").iterdir())]
    names = sorted("+".join(sorted(model.streams)) for model in models)
    assert names == ["picture", "picture+sound", "picture+sound", "sound"]
    stores = {(entry.name, entry.columns) for entry in entries(tmp_path / ".cache")}
    assert stores == {("waveform", 4), ("onnx", 2)}
    done = command("ensemble", *place, "--top", 4)
    assert done.returncode == 0, done.stderr
    folder, out = tmp_path / "s" / "ensembles" / "mean-top4", tmp_path / "new.csv"
    predict = ["predict", "--ensemble", folder, "--data", root, *files, "--out", out]
    # Rate, window, step and kind are those of the study.
    done = command(*predict, "--results", tmp_path / "elsewhere")
    assert done.returncode == 0, done.stderr
    stored = pd.read_csv(folder / "predictions.csv", index_col="File_ID")
    found = pd.read_csv(out, index_col="File_ID")
    np.testing.assert_allclose(found.loc[stored.index], stored, rtol=0, atol=2e-5)
    # Another rate and another file are refused by name.
    config = wave.with_name("preprocessor_config.json")
    config.write_text('{"sampling_rate": 8000}')
    for again, name in ((predict, "voice.onnx"), ([*search, "--trials", 5], "sound")):
        done = command(*again)
        assert done.returncode == 1
        assert "rate 8000, expected 16000" in done.stderr
        assert name in done.stderr
    config.unlink()
    voice(wave, kernel=32)
    done = command(*predict)
    assert done.returncode == 1
    assert "voice.onnx: trial" in done.stderr
    assert "reads other features: weights" in done.stderr
