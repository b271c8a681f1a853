"""New clips through stored heads: the same numbers as in the study, and refusals by name."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.clips.demo import Demo
from harness.clips.layouts import read_clips
from harness.errors import InputError
from harness.models.model_file import read_model
from harness.predictor import load
from harness.spaces import SPACES
from tests.commands import command
from tests.networks import make_network, save_tiny
from tests.predictors import check_same
from tests.trees import plain_tree


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("weights") / "net.safetensors")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_demo: Demo, weights: Path) -> Path:
    """The folder of an ensemble of three trials on the tiny demo; do not change it."""
    results = tmp_path_factory.mktemp("results")
    base = ["--results", results, "--study", "s"]
    search = [*base, "--data", tiny_demo.root, "--weights", weights, "--scheduler", "none"]
    done = command("search", *search, "--space", SPACES / "smoke.toml")
    assert done.returncode == 0, done.stderr
    done = command("ensemble", *base, "--top", 3, "--method", "zscore")
    assert done.returncode == 0, done.stderr
    return results / "s" / "ensembles" / "zscore-top3"


@pytest.mark.slow
def test_the_clips_of_the_study_get_the_numbers_of_the_study(
    built: Path, tmp_path: Path, tiny_demo: Demo, weights: Path
) -> None:
    out = tmp_path / "new.csv"
    line = ["--ensemble", built, "--data", tiny_demo.root, "--weights", weights]
    done = command("predict", *line, "--out", out, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" in done.stdout
    found = pd.read_csv(out, index_col="File_ID")
    stored = pd.read_csv(built / "predictions.csv", index_col="File_ID")
    assert len(found) == 20, "train and val are predicted, too"
    check_same(found, stored)


@pytest.mark.slow
def test_a_folder_of_videos_will_do(
    built: Path, tmp_path: Path, tiny_demo: Demo, weights: Path
) -> None:
    (tmp_path / "clips").mkdir()
    videos = sorted((tiny_demo.root / "test" / "mp4").iterdir())
    for video in videos:
        shutil.copy(video, tmp_path / "clips")
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"nothing")
    predictor = load(str(built))
    table = predictor(str(tmp_path / "clips"), str(weights), cache=str(tmp_path / "cache"))
    assert list(table.index) == sorted([*(v.stem for v in videos), "broken"])
    assert list(table.index[table["filled"]]) == ["broken"]
    assert table.notna().all(axis=None)


@pytest.mark.slow
def test_whole_frames_are_not_taken_for_faces_unsaid(built: Path, tmp_path: Path) -> None:
    """An ensemble built on pictures of faces looks for no face in videos."""
    real = dataclasses.replace(load(built).ensemble, synthetic=False)
    predictor = dataclasses.replace(load(built), ensemble=real)
    (doubt,) = predictor.doubts([read_clips(plain_tree(tmp_path, "clips"))])
    assert "no face is looked for" in doubt
    assert not load(built).doubts([read_clips(tmp_path)]), "drawn faces fill their frames"


@pytest.mark.slow
def test_other_weights_are_refused(built: Path, tmp_path: Path, tiny_demo: Demo) -> None:
    from harness.encoders.mtl_dan.checkpoints import save_mtl_dan

    other = tmp_path / "other.safetensors"
    save_mtl_dan(other, make_network(1, seed=1), {"input_size": "32"})
    with pytest.raises(InputError, match=r"trial \d+ reads other features: weights \w+\.\.\., exp"):
        load(built)(tiny_demo.root, other, cache=tmp_path)
    with pytest.raises(InputError, match="`weights`: missing"):
        load(built)(tiny_demo.root, cache=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("detail", ["preprocessing", "crop", "input_size"])
def test_features_of_another_making_are_refused(
    built: Path, tmp_path: Path, tiny_demo: Demo, weights: Path, detail: str
) -> None:
    predictor = load(built)
    models = [
        dataclasses.replace(
            model,
            streams={
                name: dataclasses.replace(stream, details={**stream.details, detail: "another"})
                for name, stream in model.streams.items()
            },
        )
        for model in predictor.models
    ]
    with pytest.raises(InputError, match=f"reads other features: {detail} .*, expected another"):
        dataclasses.replace(predictor, models=tuple(models))(
            tiny_demo.root, weights, cache=tmp_path
        )
    assert not list(tmp_path.iterdir()), "nothing is computed before"


@pytest.mark.slow
def test_every_kind_of_features_is_searched_combined_and_predicted(
    tmp_path: Path, tiny_demo: Demo, weights: Path
) -> None:
    space = tmp_path / "space.toml"
    kinds = ("outputs", "shared", "both")
    space.write_text(
        "[budget]\ntrials = 3\nepochs = 2\n[fixed]\nhidden = 8\nhead_width = 8\nstride = 10\n"
        '[parameters.features]\ntype = "categorical"\nchoices = ["outputs", "shared", "both"]\n'
        + "".join(f'[[start]]\nfeatures = "{kind}"\n' for kind in kinds)
    )
    base = ["--results", tmp_path, "--study", "s"]
    data = ["--data", tiny_demo.root, "--weights", weights]
    extracted = command("extract", *data, "--results", tmp_path, "--outputs", "both",
                        "--stride", 10)  # fmt: skip
    assert "20 clips computed (80 frames" in extracted.stdout, extracted.stderr
    done = command("search", *base, *data, "--space", space, "--scheduler", "none")
    assert done.returncode == 0, done.stderr
    assert "0 clips computed (0 frames), 20 were stored" in done.stdout
    models = [read_model(file) for file in sorted((tmp_path / "s" / "heads").iterdir())]
    assert {model.config.features for model in models} == set(kinds)
    assert command("ensemble", *base, "--top", 3).returncode == 0
    folder, out = tmp_path / "s" / "ensembles" / "mean-top3", tmp_path / "new.csv"
    done = command("predict", "--ensemble", folder, *data, "--out", out, "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    found, stored = (
        pd.read_csv(file, index_col="File_ID") for file in (out, folder / "predictions.csv")
    )
    check_same(found, stored)


@pytest.mark.slow
def test_features_do_not_stand_in_for_frames(built: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="reads a network's features"):
        load(built)(plain_tree(tmp_path, "features"))


@pytest.mark.slow
def test_a_head_that_was_changed_is_refused(built: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(built.parent.parent, tmp_path / "s"))
    heads = sorted((study / "heads").iterdir())
    folder = study / "ensembles" / built.name
    whole = heads[0].read_bytes()

    shutil.copy(heads[1], heads[0])
    with pytest.raises(InputError, match=r"00000\.safetensors: it is the model of trial 00001"):
        load(folder)
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 100):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        heads[0].write_bytes(flipped)
        with pytest.raises(InputError, match=r"00000\.safetensors: "):
            read_model(heads[0])
    heads[0].unlink()
    with pytest.raises(InputError, match=r"00000\.safetensors: no such file"):
        load(folder)


@pytest.mark.slow
def test_given_features_are_predicted_by_the_heads_of_folds(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    plain_tree(root, "features")
    base = ["--results", tmp_path, "--study", "s"]
    space = tmp_path / "space.toml"
    space.write_text(
        "[budget]\ntrials = 2\nepochs = 2\n[fixed]\nhidden = 8\nhead_width = 8\n"
        '[parameters.lr]\ntype = "float"\nlow = 0.001\nhigh = 0.01\n'
    )
    search = [*base, "--data", root, "--space", space, "--scheduler", "none", "--folds", 2]
    assert command("search", *search).returncode == 0
    told = json.loads(command("ensemble", *base, "--top", 2, "--json").stdout)
    assert len(told["members"]) == 2
    assert told["early_stopped"] is False, "folds stopped the heads, and not val"
    folder = tmp_path / "s" / "ensembles" / "mean-top2"
    out = tmp_path / "out.csv"
    done = command("predict", "--ensemble", folder, "--data", root, "--out", out)
    assert done.returncode == 0, done.stderr
    found, stored = (
        pd.read_csv(table, index_col="File_ID") for table in (out, folder / "predictions.csv")
    )
    check_same(found, stored)
