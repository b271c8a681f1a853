"""Picture and sound through the commands: a search, an ensemble, and new clips."""

import shutil
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest

from harness.clips.demo import Demo
from harness.models.model_file import read_model
from harness.predictor import load
from tests.commands import command

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
