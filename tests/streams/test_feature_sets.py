"""Members that read different sets of precomputed features: each is fed its own."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.clips.layouts import feature_sets, read_clips
from harness.dataset import Dataset, Specification
from harness.errors import InputError
from harness.models.model import Model
from harness.predictor import check_told_apart
from harness.streams.precomputed import read_foreign
from harness.study.folder import Manifest, StudyFolder
from harness.trials.trial import run_trial
from tests.commands import command
from tests.datasets import CONFIG, make_data
from tests.predictors import ROUNDING, check_same, ensemble_of
from tests.trees import authors_tree, muse_tree, plain_tree

SETS = ("FAUs", "VGGFace2")


def dataset(root: Path, features: str | None = None) -> Dataset:
    clips = read_clips(root, features=features)
    stream, *_ = read_foreign(clips)
    return Dataset(
        clips.clip_ids, clips.splits, clips.targets, clips.target_names, streams={"files": stream}
    )


def model_of(data: Dataset, name: str) -> Model:
    return replace(run_trial(CONFIG.changed(epochs=1), data).model, name=name)


@pytest.fixture(scope="module")
def muse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first set as wide as the second, and of the same names."""
    root = muse_tree(tmp_path_factory.mktemp("muse"))
    for file in (root / "c2_muse_reaction" / "feats" / "VGGFace2").iterdir():
        pd.read_csv(file).drop(columns=["f5", "f6", "f7"]).to_csv(file, index=False)
    return root


@pytest.fixture(scope="module")
def members(muse: Path) -> dict[str, Model]:
    """A model of each set."""
    return {name: model_of(dataset(muse, name), f"of-{name}") for name in SETS}


def test_the_sets_of_a_folder_are_listed(muse: Path, tmp_path: Path) -> None:
    assert feature_sets(muse) == SETS
    assert feature_sets(muse / "c2_muse_reaction", "muse") == SETS
    assert feature_sets(plain_tree(tmp_path, "features")) == ("features",)
    assert feature_sets(tmp_path / "features") == ()


@pytest.mark.parametrize("order", [SETS, SETS[::-1], (*SETS, "FAUs")])
def test_each_member_reads_its_own_set(
    muse: Path, members: dict[str, Model], order: tuple[str, ...]
) -> None:
    found = ensemble_of(*(members[name] for name in order))(muse)
    own = [members[name].predict(dataset(muse, name)) for name in order]
    np.testing.assert_allclose(found.drop(columns="filled"), np.mean(own, axis=0), atol=1e-6)
    chosen = ensemble_of(*(members[name] for name in order))(muse, features=list(SETS))
    pd.testing.assert_frame_equal(chosen, found)


def test_a_clip_without_a_file_of_one_set_is_read_by_the_others(
    muse: Path, members: dict[str, Model], tmp_path: Path
) -> None:
    root = Path(shutil.copytree(muse, tmp_path / "muse"))
    (root / "c2_muse_reaction" / "feats" / "FAUs" / "00003.csv").unlink()
    found = ensemble_of(*members.values())(root)
    assert not found["filled"].any()
    other = members["VGGFace2"].predict(dataset(muse, "VGGFace2"))[3]
    expected = (members["FAUs"].fill + other) / 2
    np.testing.assert_allclose(found.drop(columns="filled").iloc[3], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("names", "features", "message"),
    [
        (SETS, ["None-such"], "`features`: None-such: no such feature set; found FAUs, VGGFace2"),
        (SETS, ["FAUs"], "trial of-VGGFace2 reads the precomputed features VGGFace2, found FAUs"),
        (["FAUs"], ["VGGFace2"], "of-FAUs reads the precomputed features FAUs, found VGGFace2"),
        (["FAUs"], [*SETS], "`data`: no member reads the set VGGFace2 of this folder"),
    ],
)
def test_other_sets_are_refused_by_name(
    muse: Path, members: dict[str, Model], names: list[str], features: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ensemble_of(*(members[name] for name in names))(muse, features=features)


def test_a_set_that_is_missing_is_named(
    muse: Path, members: dict[str, Model], tmp_path: Path
) -> None:
    root = Path(shutil.copytree(muse, tmp_path / "muse"))
    (root / "c2_muse_reaction" / "feats" / "FAUs").rename(tmp_path / "gone")
    with pytest.raises(InputError, match="of-FAUs reads the precomputed features FAUs, found VGG"):
        ensemble_of(*members.values())(root)


def folders(tmp_path: Path) -> list[Path]:
    """Two folders of the same clips in other orders, with csv features of other columns."""
    homes = []
    for place, names in enumerate((["a", "b"], ["x", "y"])):
        (tmp_path / str(place)).mkdir()
        home = plain_tree(tmp_path / str(place), "features")
        table = pd.read_csv(home / "clips.csv")
        table.sort_values("clip_id", ascending=bool(place)).to_csv(home / "clips.csv", index=False)
        for file in sorted((home / "features").iterdir()):
            values = np.load(file)[:, 2 * place : 2 * place + 2]
            pd.DataFrame(values, columns=names).to_csv(file.with_suffix(".csv"), index=False)
            file.unlink()
        homes.append(home)
    return homes


def test_sets_in_several_folders_are_told_apart_by_their_columns(tmp_path: Path) -> None:
    homes = folders(tmp_path)
    data = [dataset(home) for home in homes]
    models = [model_of(each, str(place)) for place, each in enumerate(data)]
    found = ensemble_of(*models)(homes[::-1])
    own = [
        pd.DataFrame(model.predict(each), index=each.clip_ids).loc[found.index]
        for model, each in zip(models, data, strict=True)
    ]
    mean = (own[0] + own[1]) / 2
    np.testing.assert_allclose(found.drop(columns="filled"), mean, rtol=0, atol=ROUNDING)
    copy = Path(shutil.copytree(homes[0], tmp_path / "copy"))
    with pytest.raises(InputError, match="2 of 2 folders hold the features features that trial 0"):
        ensemble_of(models[0])([homes[0], copy])
    (homes[1] / "clips.csv").write_text((homes[1] / "clips.csv").read_text().replace("c7,", "c70,"))
    with pytest.raises(InputError, match="different clips: 2 are in one alone, such as c7, c70"):
        ensemble_of(*models)(homes)


def test_another_layout_has_another_set(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    model = model_of(dataset(plain_tree(tmp_path / "plain", "features")), "0")
    with pytest.raises(InputError, match="reads the precomputed features features, found MTL_feat"):
        ensemble_of(model)(authors_tree(tmp_path, "features"))


def study(results: Path, name: str, columns: tuple[str, ...], contents: str) -> StudyFolder:
    """The folder of a study of precomputed features."""
    data = make_data(6)
    stream = Specification("files", {"set": "features"}, columns, 3)
    about = Manifest(
        name=name, seed=0, space="", data="d", features=stream.fingerprint(),
        streams={"features": stream.to_dict()}, early_stop_split="val", held_out="",
        storage="study.log", targets=data.target_names, synthetic=False,
        oracle={}, problems={}, empty=(),
    )  # fmt: skip
    folder = StudyFolder(results, name)
    of_clips = {clip: f"{contents} {clip}" for clip in data.clip_ids}
    folder.settle(about, data, {"features": of_clips})
    return folder


def test_different_features_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    """Without names and of one width: a member would be given the features of another study."""
    one, same, other = (
        study(tmp_path, name, (), contents)
        for name, contents in (("one", "x"), ("same", "x"), ("other", "y"))
    )
    check_told_apart(tmp_path, [one, same, one])
    with pytest.raises(InputError, match="different features of the set features, without column"):
        check_told_apart(tmp_path, [one, other])
    named = [study(tmp_path, f"named-{c}", ("a", "b", "c"), c) for c in "xy"]
    check_told_apart(tmp_path, named)


@pytest.mark.slow
def test_an_ensemble_of_two_studies_predicts_through_the_command(
    muse: Path, tmp_path: Path
) -> None:
    space = tmp_path / "space.toml"
    space.write_text(
        "[budget]\ntrials = 1\nepochs = 2\n[fixed]\nhidden = 8\nhead_width = 8\n"
        '[parameters.lr]\ntype = "float"\nlow = 0.01\nhigh = 0.05\n'
    )
    results = ["--results", tmp_path]
    for name in SETS:
        search = ["--data", muse, "--features", name, "--study", name, "--space", space, *results]
        done = command("search", *search)
        assert done.returncode == 0, done.stderr
        assert f"files {name}: 11 clips" in done.stdout
    studies = [part for name in SETS for part in ("--study", name)]
    assert command("ensemble", *studies, "--top", 2, *results).returncode == 0
    folder = tmp_path / "FAUs" / "ensembles" / "mean-top2-with-VGGFace2"
    line = ["--ensemble", folder, "--data", muse, "--out", tmp_path / "new.csv", *results]
    done = command("predict", *line)
    assert done.returncode == 0, done.stderr
    for name in SETS:
        assert f"files {name}: 11 clips" in done.stdout
    found, stored = (
        pd.read_csv(file, index_col="File_ID")
        for file in (tmp_path / "new.csv", folder / "predictions.csv")
    )
    # Other batches round otherwise, and the calibration of a weak head enlarges it.
    check_same(found, stored)
    other = Path(shutil.copytree(muse, tmp_path / "other"))
    for file in sorted((other / "c2_muse_reaction" / "feats").glob("*/*.csv")):
        table = pd.read_csv(file)
        table[table.columns[::-1]].to_csv(file)  # with an index
    again = ["--ensemble", folder, "--data", other, "--out", tmp_path / "again.csv", *results]
    done = command("predict", *again)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.csv").read_text() == (tmp_path / "new.csv").read_text()
    done = command("predict", *line, "--features", "FAUs")
    assert done.returncode == 1
    assert "reads the precomputed features VGGFace2, found FAUs" in done.stderr
