"""Paired comparison of two ensembles, from Python and by the command."""

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import harness
from harness.dataset import Dataset
from harness.ensembles.comparison import MEAN, compare
from harness.ensembles.construction import construct
from harness.ensembles.library import load_library
from harness.ensembles.selection import Recipe
from harness.errors import InputError
from harness.metrics import pcc
from tests.commands import command
from tests.simulations import persons
from tests.studies import TARGETS, make_index, make_study, reordered

INDEX = make_index(val=40, test=35)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Study a has five trials; study b has three of them, with the clips in another order."""
    make_study(tmp_path / "a", 5, INDEX)
    order = np.random.default_rng(5).permutation(len(INDEX.clip_ids))
    make_study(tmp_path / "b", 3, reordered(INDEX, order), base=INDEX)
    return tmp_path


def test_an_ensemble_does_not_differ_from_itself(results: Path) -> None:
    built = construct(load_library(results / "a"), Recipe(top=3))
    for row in compare(built, built).rows:
        assert row.difference == 0
        assert row.interval is not None
        assert row.interval.low == row.interval.high == 0


def test_the_order_of_clips_does_not_matter(results: Path) -> None:
    """The same trials with the clips in another order: equal on test; on val, the folds differ."""
    shutil.rmtree(results / "a" / "predictions")
    make_study(results / "a", 3, INDEX)
    a, b = (construct(load_library(results / name), Recipe(top=3)) for name in "ab")
    rows = compare(a, b).rows
    assert all(row.difference == pytest.approx(0, abs=1e-6) for row in rows if row.split == "test")
    assert all(abs(row.difference) < 0.05 for row in rows)


def test_scores_are_those_of_the_ensembles(results: Path) -> None:
    study, other = harness.load_study(results / "a"), harness.load_study(results / "b")
    ours, theirs = study.ensemble(top=2), other.ensemble("zscore", top=3)
    table = study.compare(ours, other, theirs).frame().set_index(["split", "target"])
    assert ours.estimate is not None
    assert theirs.estimate is not None
    assert list(table.columns[:2]) == ["a/mean-top2", "b/zscore-top3"]
    for place, ensemble in enumerate((ours, theirs)):
        assert table.loc[("val", MEAN)].iloc[place] == pytest.approx(ensemble.estimate.nested)
        assert table.loc[("test", MEAN)].iloc[place] == pytest.approx(ensemble.test)
    rated, predicted = study.ratings("test"), study.predictions(ours, "test")
    expected = pcc(rated.to_numpy(), predicted.to_numpy())
    np.testing.assert_allclose(table.loc["test"].loc[list(TARGETS), "a/mean-top2"], expected)
    assert (table["low"] <= table["difference"]).all()
    assert (table["difference"] <= table["high"]).all()
    assert table["clips"].tolist() == [40] * 4 + [35] * 4


def test_the_comparison_is_antisymmetric(results: Path) -> None:
    built = [construct(load_library(results / "a"), Recipe(top=top)) for top in (1, 5)]
    there, back = compare(*built).rows, compare(*built[::-1]).rows
    for row, turned in zip(there, back, strict=True):
        assert row.difference == pytest.approx(-turned.difference)
        assert row.interval is not None
        assert turned.interval is not None
        assert row.interval.low == pytest.approx(-turned.interval.high)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip_ids": ("[77777]", *INDEX.clip_ids[1:])}, r"are not those of a/mean-top2"),
        ({"target_names": ("Joy", "Awe", "X")}, "its targets are Joy, Awe, X; those of a/mean"),
        ({"targets": INDEX.targets + np.float32(0.1)}, r"has other ratings than in a/mean-top2"),
    ],
)
def test_other_data_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    make_study(tmp_path / "a", 2, INDEX)
    make_study(tmp_path / "c", 2, dataclasses.replace(INDEX, **change))
    a, c = (construct(load_library(tmp_path / name), Recipe(top=2)) for name in "ac")
    with pytest.raises(InputError, match=message):
        compare(a, c)


def test_an_ensemble_of_another_study_is_refused(results: Path) -> None:
    study, other = harness.load_study(results / "a"), harness.load_study(results / "b")
    theirs = other.ensemble(top=2)
    with pytest.raises(InputError, match="mean-top2 is of study b; this is a"):
        study.predictions(theirs)
    with pytest.raises(InputError, match="is of study b; this is a"):
        study.compare(theirs, other, theirs)


def test_persons_widen_the_interval(tmp_path: Path) -> None:
    population = persons(4)
    rng = np.random.default_rng(0)
    predictions, truth = population.draw(160, rng)
    ids = tuple(f"[{number:05d}]" for number in range(160))
    groups = tuple(f"p{number // 4}" for number in range(160))
    index = Dataset(ids, ("val",) * 160, truth, tuple("wxyz"), groups)
    values = [predictions[:, trial].T for trial in range(4)]
    make_study(tmp_path / "s", 4, index, values=values)
    library = load_library(tmp_path / "s")
    widths = []
    for grouped in (None, False):
        one, all_four = (construct(library, Recipe(top=top, groups=grouped)) for top in (1, 4))
        row = compare(one, all_four).rows[-1]
        assert row.interval is not None
        widths.append(row.interval.high - row.interval.low)
    assert widths[0] > widths[1]


@pytest.mark.parametrize("known", ["ab", "a", "b"])
def test_persons_that_one_study_knows_are_resampled(tmp_path: Path, known: str) -> None:
    groups = tuple(f"p{number // 5}" for number in range(len(INDEX)))
    with_persons = dataclasses.replace(INDEX, groups=groups)
    order = np.random.default_rng(5).permutation(len(INDEX))
    first, second = (with_persons if name in known else INDEX for name in "ab")
    make_study(tmp_path / "a", 5, first)
    make_study(tmp_path / "b", 5, reordered(second, order), base=INDEX)
    ours = construct(load_library(tmp_path / "a"), Recipe(top=2))
    theirs = construct(load_library(tmp_path / "b"), Recipe(top=4))
    recipe = dataclasses.replace(ours.ensemble.recipe, groups=False)
    of_clips = dataclasses.replace(ours, ensemble=dataclasses.replace(ours.ensemble, recipe=recipe))
    found, by_clip = compare(ours, theirs), compare(of_clips, theirs)
    assert found.grouped
    assert not by_clip.grouped
    for one, other in zip(found.rows, by_clip.rows, strict=True):
        assert one.difference == pytest.approx(other.difference)
        assert one.interval != other.interval


def test_the_command_writes_csv_and_latex(results: Path) -> None:
    line = ("ensemble", "--results", results, "--no-report", "--study", "a", "--top", "2")
    assert command("ensemble", "--results", results, "--no-report", "--study", "b", "--top", "3",
                   "--name", "best_3").returncode == 0  # fmt: skip
    done = command(*line, "--against", "b/best_3")
    assert done.returncode == 0, done.stderr
    assert "A = a/mean-top2 and B = b/best_3" in done.stdout
    assert "40 rated clips of val, 35 rated clips of test" in done.stdout
    folder = results / "a" / "ensembles" / "mean-top2"
    with (folder / "against-b-best_3.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["split"], row["target"]) for row in rows] == [
        (split, target) for split in ("val", "test") for target in (*TARGETS, MEAN)
    ]
    text = (folder / "against-b-best_3.tex").read_text()
    assert r"b/best\_3" in text
    assert re.search(r"test \(35 clips\) & mean & 0\.\d{4} & 0\.\d{4} & [+-]0\.\d{4} & \[", text)
    values = json.loads(command(*line, "--against", "b", "--json").stdout)
    assert values["comparison"]["theirs"] == "b/mean-top2", "built by the same options"


def test_comparisons_of_an_ensemble_stay_until_another_replaces_it(results: Path) -> None:
    make_study(results / "c", 4, INDEX)
    line = ("ensemble", "--results", results, "--no-report", "--study", "a", "--top", "2")
    for other in "bc":
        assert command(*line, "--against", other).returncode == 0
    folder = results / "a" / "ensembles" / "mean-top2"
    assert sorted(path.name for path in folder.glob("against-*.csv")) == [
        "against-b-mean-top2.csv",
        "against-c-mean-top2.csv",
    ]
    (results / "a" / "predictions" / "00000.parquet").unlink()
    assert command(*line).returncode == 0
    assert not list(folder.glob("against-*")), "they compare other members"


def test_every_comparison_has_its_own_files(results: Path) -> None:
    """Also with an ambiguous `-`, and with names that are too long for one file."""
    ours = construct(load_library(results / "a"), Recipe(top=2))
    compared = compare(ours, ours)
    names = ["a/b-c", "a-b/c", *(f"{'x' * 120}/{'y' * 130}{end}" for end in "12")]
    written = [
        path.name
        for name in names
        for path in dataclasses.replace(compared, theirs=name).write(results / "out")
    ]
    assert written[:2] == ["against-a-b-c.csv", "against-a-b-c.tex"]
    assert len(set(written)) == len(written) == len(list((results / "out").iterdir()))


@pytest.mark.parametrize(
    ("against", "message"),
    [
        ("none", "no such study"),
        ("b/none", "no such file"),
        ("../b", "expected a plain folder name"),
        ("b/x/y", "expected a plain folder name"),
    ],
)
def test_errors_of_the_command_write_no_files(results: Path, against: str, message: str) -> None:
    done = command("ensemble", "--results", results, "--study", "a", "--top", "2",
                   "--against", against)  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not (results / "a" / "ensembles").exists()
