"""Ensembles of stored predictions, and the command that builds them."""

import csv
import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import harness
from harness.choices import METHODS
from harness.dataset import Dataset
from harness.ensembles.caveats import caveats
from harness.ensembles.construction import construct, rebuild
from harness.ensembles.ensemble import Ensemble, combine, default_name
from harness.ensembles.files import read_ensemble, submission, write_ensemble
from harness.ensembles.library import Library, load_library, load_members, newest_study
from harness.ensembles.selection import Recipe
from harness.ensembles.table import show
from harness.errors import InputError
from harness.predictions import read_predictions
from harness.reports.evidence import gather
from harness.reports.page import page
from tests import commands
from tests.studies import make_fold_study, make_index, make_study, write_manifest


def command(results: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return commands.command("ensemble", "--results", results, *arguments)


def average_top(library: Library, k: int, name: str = "e") -> Ensemble:
    return construct(library, Recipe(top=k), name).ensemble


def small_study(folder: Path, trials: int = 8, *, val: int = 40) -> Dataset:
    """A study with enough clips for a nested estimate."""
    return make_study(folder, trials, make_index(val=val))


@pytest.mark.parametrize("method", ["mean", "zscore", "greedy"])
def test_an_ensemble_of_one_is_its_member(tmp_path: Path, method: str) -> None:
    make_study(tmp_path / "s", 3)
    library = load_library(tmp_path / "s")
    one = construct(library, Recipe(method, top=1)).ensemble
    assert one.members == (one.best_single,)
    assert one.weights == (1.0,)
    assert one.naive == pytest.approx(one.best_single_naive, abs=1e-6)
    number = [trial.id for trial in library.matrix.trials].index(one.best_single)
    own = library.matrix.predictions[:, [number]]
    # Without standardisation, the average of one member is exactly its prediction.
    tolerance = 0 if method == "mean" else 1e-6
    np.testing.assert_allclose(one.combine(own), own[:, 0].T, atol=tolerance)


@pytest.mark.parametrize("method", [*METHODS, "auto"])
@pytest.mark.parametrize("per_target", [False, True])
def test_weights_form_a_simplex(tmp_path: Path, method: str, per_target: bool) -> None:
    small_study(tmp_path / "s")
    recipe = Recipe(method, per_target=per_target)
    ensemble = construct(load_library(tmp_path / "s"), recipe).ensemble
    assert sum(ensemble.weights) == pytest.approx(1)
    assert min(ensemble.weights) > 0
    assert list(ensemble.weights) == sorted(ensemble.weights, reverse=True)
    assert (ensemble.target_weights is not None) == per_target
    for row in ensemble.target_weights or ():
        assert sum(row) == pytest.approx(1)
        assert min(row) >= 0


def test_weights_outside_the_simplex_are_refused(tmp_path: Path) -> None:
    make_study(tmp_path / "s", 2)
    values = vars(average_top(load_library(tmp_path / "s"), 2))
    for weights in [(0.5, 0.6), (1.5, -0.5), (1.0,)]:
        with pytest.raises(ValueError, match="weights"):
            Ensemble(**(values | {"weights": weights}))


def test_the_result_does_not_depend_on_the_order_of_members() -> None:
    predictions = np.random.default_rng(0).random((3, 4, 6)).astype(np.float32)
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    order = np.array([2, 0, 3, 1])

    def rows(of: np.ndarray) -> tuple[tuple[float, ...], ...]:
        return (tuple(of.tolist()),) * 3

    turned = combine(predictions[:, order], rows(weights[order]))
    np.testing.assert_allclose(combine(predictions, rows(weights)), turned)


def test_the_estimate_does_not_depend_on_the_order_of_clips(tmp_path: Path) -> None:
    small_study(tmp_path / "s")
    library = load_library(tmp_path / "s")
    matrix = library.matrix
    order = np.random.default_rng(0).permutation(len(matrix.clip_ids))
    turned = dataclasses.replace(
        matrix,
        predictions=np.ascontiguousarray(matrix.predictions[:, :, order]),
        truth=matrix.truth[order],
        clip_ids=tuple(matrix.clip_ids[place] for place in order),
    )
    found = []
    for each in (library, dataclasses.replace(library, matrix=turned)):
        estimate = construct(each, Recipe(top=3)).ensemble.estimate
        assert estimate is not None
        assert estimate.interval is not None
        found.append((estimate.nested, estimate.interval.low, estimate.interval.high))
    assert found[1] == pytest.approx(found[0], abs=1e-9)


@pytest.mark.parametrize("recipe", [Recipe(top=3), Recipe("greedy", per_target=True)])
def test_json_round_trip_is_exact(tmp_path: Path, recipe: Recipe) -> None:
    small_study(tmp_path / "s")
    ensemble = construct(load_library(tmp_path / "s"), recipe).ensemble
    assert ensemble.estimate is not None
    assert Ensemble.from_dict(json.loads(json.dumps(ensemble.to_dict()))) == ensemble


def test_damaged_and_renamed_files_are_refused_with_a_reason(tmp_path: Path) -> None:
    make_study(tmp_path / "s", 3)
    files = sorted((tmp_path / "s" / "predictions").iterdir())
    files[0].write_bytes(b"no parquet")
    files[1].with_name("00009.parquet").write_bytes(files[1].read_bytes())
    library = load_library(tmp_path / "s")
    assert len(library.matrix) == 2
    reasons = [refusal.reason for refusal in library.refused]
    assert "damaged" in reasons[0]
    assert "is the file of trial 00001" in reasons[1]


def test_the_written_ensemble_reads_back(tmp_path: Path) -> None:
    index = make_study(tmp_path / "s", 4)
    library = load_library(tmp_path / "s")
    ensemble = average_top(library, 3)
    paths = {path.name: path for path in write_ensemble(ensemble, library)}
    assert list(paths) == ["predictions.parquet", "predictions.csv", "ensemble.json"]
    info, values = read_predictions(paths["predictions.parquet"], index, "test")
    assert info.config["members"] == list(ensemble.members)
    with paths["predictions.csv"].open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["File_ID", *index.target_names]
    assert [row[0] for row in rows] == sorted(index.ids("test"))
    by_id = dict(zip(index.ids("test"), values, strict=True))
    for clip_id, *cells in rows:
        expected = np.clip(by_id[clip_id], 0, 1)
        np.testing.assert_allclose(np.array(cells, float), expected, atol=5e-7)


def test_a_submission_is_in_the_range_of_ratings_and_counts_what_it_clips(tmp_path: Path) -> None:
    values = np.array([[-0.25, 0.5], [1.0, 1.75], [0.0, 2.0]])
    made = submission(["b", "a", "c"], ["Joy", "Awe"], values)
    assert made.text.splitlines()[1:] == [
        "a,1.000000,1.000000", "b,0.000000,0.500000", "c,0.000000,1.000000"
    ]  # fmt: skip
    (line,) = made.lines(tmp_path / "predictions.csv")
    assert line.startswith("3 of 6 values were outside [0, 1]")
    assert "predictions.csv" in line
    assert submission(["a"], ["Joy"], np.array([[0.5]])).lines(tmp_path) == []


def test_the_command_says_how_many_values_it_clips(tmp_path: Path) -> None:
    index = make_study(tmp_path / "s", 3)
    done = command(tmp_path, "--top", "2")
    folder = tmp_path / "s" / "ensembles" / "mean-top2"
    _, values = read_predictions(folder / "predictions.parquet", index, "test")
    outside = int(((values < 0) | (values > 1)).sum())
    assert outside > 0
    assert f"{outside} of {values.size} values were outside [0, 1]" in done.stdout
    with (folder / "predictions.csv").open(newline="") as file:
        cells = [float(cell) for row in list(csv.reader(file))[1:] for cell in row[1:]]
    assert (min(cells) >= 0, max(cells) <= 1) == (True, True)


def test_an_ensemble_stays_if_the_next_one_of_its_name_cannot_be_written(tmp_path: Path) -> None:
    small_study(tmp_path / "s")
    library = load_library(tmp_path / "s")
    stored = average_top(library, 2)
    write_ensemble(stored, library)
    (tmp_path / "s" / "predictions" / f"{stored.members[0]}.parquet").unlink()
    with pytest.raises(InputError, match=stored.members[0]):
        write_ensemble(average_top(library, 3), library)
    assert read_ensemble(tmp_path / "s" / "ensembles" / "e") == stored


def test_unrated_clips_are_predicted_and_not_scored(tmp_path: Path) -> None:
    make_study(tmp_path / "s", 2, make_index(labelled_test=False))
    library = load_library(tmp_path / "s")
    ensemble = average_top(library, 2)
    assert ensemble.test is None
    names = [path.name for path in write_ensemble(ensemble, library)]
    assert "predictions.csv" in names


def test_a_study_without_a_test_split_has_no_submission(tmp_path: Path) -> None:
    make_study(tmp_path / "s", 2, make_index(test=0))
    library = load_library(tmp_path / "s")
    ensemble = average_top(library, 2)
    names = [path.name for path in write_ensemble(ensemble, library)]
    assert names == ["predictions.parquet", "ensemble.json"]


def test_the_newest_study_is_found(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run python -m harness\.search first"):
        newest_study(tmp_path)
    make_study(tmp_path / "old", 1)
    make_study(tmp_path / "new", 1)
    assert newest_study(tmp_path) == tmp_path / "new"


def test_the_command_prints_its_results_and_is_reproducible(tmp_path: Path) -> None:
    make_study(tmp_path / "s", 6)
    first = command(tmp_path, "--top", "5")
    assert first.returncode == 0, first.stderr
    for text in ("6 eligible", "Members", "optimistic", "Oracle", "SYNTHETIC", "mean-top5"):
        assert text in first.stdout
    folder = tmp_path / "s" / "ensembles" / "mean-top5"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert command(tmp_path, "--top", "5", "--study", "s").returncode == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_command_prints_json(tmp_path: Path) -> None:
    make_study(tmp_path / "s", 3)
    values = json.loads(command(tmp_path, "--top", "2", "--json").stdout)
    assert values["method"] == "mean"
    assert len(values["members"]) == 2
    assert values["synthetic"] is True


@pytest.mark.parametrize("option", ["--no-report", "--report"])
def test_json_is_printed_whatever_else_is_damaged(tmp_path: Path, option: str) -> None:
    make_study(tmp_path / "s", 3)
    (tmp_path / "s" / "study.log").write_text("no journal\n")
    done = command(tmp_path, "--top", "2", "--json", option)
    values = json.loads(done.stdout)
    assert len(values["members"]) == 2
    assert [Path(each).name for each in values["written"]] == [
        "predictions.parquet", "predictions.csv", "ensemble.json"
    ]  # fmt: skip
    assert done.returncode == (option == "--report")
    assert ("study.log" in done.stderr) == (option == "--report")


def test_the_command_prints_estimates_and_warnings(tmp_path: Path) -> None:
    index = small_study(tmp_path / "s")
    write_manifest(tmp_path / "s", empty=index.ids("test")[:3])
    done = command(tmp_path, "--method", "greedy", "--explain")
    assert done.returncode == 0, done.stderr
    for text in (
        "naive (optimistic)",
        "95 % interval",
        "Effective number of members",
        "Gain over the best single trial",
        "100 replicates of the selection",
        "40 rated clips of val",
        "8 rated clips: scores of fewer than 30 clips are unreliable",
        "probably too narrow",
        "The clips of val also chose the epochs of the members",
        "3 of 8 test clips have no features",
        "greedy by ensemble size",
        "Correlations of the members",
    ):
        assert text in done.stdout, text
    assert "Oracle" not in done.stdout


def test_ceilings_stand_beside_the_scores_of_the_targets(tmp_path: Path) -> None:
    index = dataclasses.replace(make_index(val=40), synthetic=False)
    folder = tmp_path / "s"
    make_study(folder, 3, index)
    write_manifest(folder, ceilings={"val": {"Joy": 0.9125, "Awe": 0.8}, "test": {"Joy": 0.7}})
    built = construct(load_library(folder), Recipe(top=2), "e")
    out = Console(record=True, width=200, quiet=False)
    show(out, built.library, built.ensemble)
    lines = out.export_text().splitlines()
    rows = [line.split() for line in lines if line.strip().startswith(("Joy", "Fear", "Awe"))]
    assert [row[-1] for row in rows] == ["0.9125", "-", "0.8000"]
    assert any("reliability (ratings.csv)" in line for line in lines)
    assert built.to_dict(explain=False)["ceilings"] == {"Joy": 0.9125, "Awe": 0.8}
    write_ensemble(built.ensemble, built.library)
    shown = page(gather(folder, built=built))
    assert "0.9125" in shown
    assert "reliability (ratings.csv)" in shown


def test_json_contains_all_estimates(tmp_path: Path) -> None:
    small_study(tmp_path / "s")
    values = json.loads(command(tmp_path, "--method", "auto", "--explain", "--json").stdout)
    assert set(values["estimate"]["methods"]) == set(METHODS)
    assert values["method"] in METHODS
    assert values["estimate"]["folds"] == 10
    assert len(values["curve"]["nested"]) == len(values["curve"]["naive"])
    assert len(values["correlations"]) == len(values["members"])


@pytest.mark.parametrize("arguments", [("--method", "bagged"), ("--method", "ridge")])
def test_equal_inputs_and_seed_give_equal_files(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    small_study(tmp_path / "s")
    line = (*arguments, "--seed", "3", "--name", "e")
    folder = tmp_path / "s" / "ensembles" / "e"
    found = []
    for _ in range(2):
        assert command(tmp_path, *line).returncode == 0
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert found[0] == found[1]
    assert len(found[0]) == 4


def test_an_ensemble_combines_several_studies(tmp_path: Path) -> None:
    small_study(tmp_path / "a", 3)
    index = small_study(tmp_path / "b", 6)
    values = json.loads(command(tmp_path, "--study", "b", "--study", "a", "--json").stdout)
    assert (values["eligible"], values["duplicates"]) == (9, 3)
    assert all(member.startswith("b/") for member in values["members"])
    folder = tmp_path / "b" / "ensembles" / "mean-top5-with-a"
    info, _ = read_predictions(folder / "predictions.parquet", index, "val")
    assert info.config["members"] == values["members"]


def test_the_name_of_an_ensemble_of_many_studies_is_short_enough(tmp_path: Path) -> None:
    studies = [f"hume-tpe-stride10-seed{number:02d}-cropped" for number in range(9)]
    name = default_name(Recipe(), studies)
    (tmp_path / name).mkdir()
    assert name != default_name(Recipe(), studies[::-1])


@pytest.mark.parametrize("name", [None, "mine"])
def test_the_printed_command_builds_the_ensemble_again(tmp_path: Path, name: str | None) -> None:
    for study in ("a", "b"):
        small_study(tmp_path / study)
    library = load_library(tmp_path / "a", tmp_path / "b")
    recipe = Recipe("zscore", 3, per_family=3, seed=4, groups=False)
    made = construct(library, recipe, name).ensemble
    assert made.name == (name or "zscore-top3-family3-no-groups-seed4-with-b")
    line = shlex.split(made.command(tmp_path / "a"))
    done = subprocess.run([sys.executable, *line[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_ensemble(tmp_path / "a" / "ensembles" / made.name) == made


def test_an_ensemble_of_a_renamed_study_is_rebuilt(tmp_path: Path) -> None:
    small_study(tmp_path / "first", 3)
    small_study(tmp_path / "b", 6)
    library = load_library(tmp_path / "first", tmp_path / "b")
    made = construct(library, Recipe(top=5)).ensemble
    assert {member.partition("/")[0] for member in made.members} == {"first", "b"}
    (tmp_path / "first").rename(tmp_path / "renamed")
    built = rebuild(tmp_path / "renamed", made)
    assert {member.partition("/")[0] for member in built.ensemble.members} == {"renamed", "b"}


@pytest.mark.parametrize(("change", "same"), [(1e-8, True), (1e-3, False)])
def test_weights_that_differ_by_rounding_are_the_same(
    tmp_path: Path, change: float, same: bool
) -> None:
    """Another machine, or another version of a library, rounds otherwise."""
    small_study(tmp_path / "s")
    made = construct(load_library(tmp_path / "s"), Recipe("ridge")).ensemble
    first, *rest, last = made.weights
    stored = dataclasses.replace(made, weights=(first + change, *rest, last - change))
    if same:
        assert rebuild(tmp_path / "s", stored).ensemble == made
    else:
        with pytest.raises(InputError, match="the study has changed"):
            rebuild(tmp_path / "s", stored)


def test_weights_of_each_target_are_compared(tmp_path: Path) -> None:
    small_study(tmp_path / "s")
    made = construct(load_library(tmp_path / "s"), Recipe("greedy", per_target=True)).ensemble
    assert made.target_weights is not None
    assert rebuild(tmp_path / "s", made).ensemble == made
    other = dataclasses.replace(made, target_weights=made.target_weights[::-1])
    assert other.weights == made.weights
    with pytest.raises(InputError, match="the study has changed"):
        rebuild(tmp_path / "s", other)


@pytest.mark.parametrize("others", [(), ("b",), tuple(f"{n}" * 60 for n in "3456")])
def test_the_command_of_a_copied_study_names_the_copy(
    tmp_path: Path, others: tuple[str, ...]
) -> None:
    for study in ("first", *others):
        small_study(tmp_path / study, 3)
    library = load_library(*(tmp_path / study for study in ("first", *others)))
    made = construct(library, Recipe(top=2)).ensemble
    write_ensemble(made, library)
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    before = (tmp_path / "first" / "ensembles" / made.name / "ensemble.json").stat().st_mtime_ns
    _, _, module, *options = shlex.split(made.command(tmp_path / "copy"))
    assert module == "harness.ensemble"
    assert commands.command("ensemble", *options, "--no-report").returncode == 0
    after = (tmp_path / "first" / "ensembles" / made.name / "ensemble.json").stat().st_mtime_ns
    assert after == before
    again = read_ensemble(tmp_path / "copy" / "ensembles" / made.name)
    assert again.studies == ("copy", *others)


def test_stored_weights_reproduce_the_stored_predictions(tmp_path: Path) -> None:
    index = small_study(tmp_path / "s")
    library = load_library(tmp_path / "s")
    ensemble = construct(library, Recipe("greedy", per_target=True), "e").ensemble
    paths = {path.name: path for path in write_ensemble(ensemble, library)}
    again = read_ensemble(paths["ensemble.json"].parent)
    by_id = {trial.id: trial for trial in library.matrix.trials}
    for split in ("val", "test"):
        _, values = read_predictions(paths["predictions.parquet"], index, split)
        members = load_members(library, [by_id[member] for member in again.members], split)
        np.testing.assert_array_equal(values, again.combine(members.predictions).astype(np.float32))


def test_too_few_clips_give_no_estimate(tmp_path: Path) -> None:
    make_study(tmp_path / "s", 3, make_index(val=3))
    library = load_library(tmp_path / "s")
    assert average_top(library, 2).estimate is None
    with pytest.raises(InputError, match="choose another `method`"):
        construct(library, Recipe("auto"))


@pytest.mark.parametrize(
    ("val", "persons", "warning"),
    [
        (29, None, "Val has 29 rated clips"),
        (30, None, None),
        (60, 19, "Val has 19 persons"),
        (60, 20, None),
    ],
)
def test_few_clips_or_persons_give_a_warning(
    tmp_path: Path, val: int, persons: int | None, warning: str | None
) -> None:
    index = make_index(val=val, test=0)
    if persons:
        groups = tuple(f"person {row % persons}" for row in range(val))
        index = dataclasses.replace(index, groups=groups)
    make_study(tmp_path / "s", 3, index)
    found = [each for each in caveats(average_top(load_library(tmp_path / "s"), 2))
             if "unreliable" in each]  # fmt: skip
    assert len(found) == (warning is not None)
    assert all(each.startswith(warning or "") for each in found)


def test_a_target_that_depends_on_one_clip_has_no_interval(tmp_path: Path) -> None:
    index = make_index(val=40, test=0)
    index.ratings[:, 2] = 0.0
    index.ratings[5, 2] = 1.0
    make_study(tmp_path / "s", 3, index)
    ensemble = average_top(load_library(tmp_path / "s"), 2)
    assert ensemble.estimate is not None
    assert ensemble.estimate.interval is None
    assert [each.interval is None for each in ensemble.estimate.targets] == [False, False, True]
    (warning,) = [each for each in caveats(ensemble) if "No interval" in each]
    assert "without one of 1 of 40 clips" in warning
    assert Ensemble.from_dict(json.loads(json.dumps(ensemble.to_dict()))) == ensemble


def study_of_persons(folder: Path) -> None:
    index = make_index(val=40)
    groups = tuple(f"person {row // 4}" for row in range(len(index.clip_ids)))
    make_study(folder, 4, dataclasses.replace(index, groups=groups))


def test_persons_are_kept_together(tmp_path: Path) -> None:
    study_of_persons(tmp_path / "s")
    estimate = average_top(load_library(tmp_path / "s"), 2).estimate
    assert estimate is not None
    assert estimate.grouped


def test_groups_can_be_switched_off(tmp_path: Path) -> None:
    study_of_persons(tmp_path / "known")
    small_study(tmp_path / "unknown")
    line = ("--top", "2", "--study", "known")
    found = {
        option: json.loads(command(tmp_path, *line, *option, "--json").stdout)["estimate"]
        for option in ((), ("--groups",), ("--no-groups",))
    }
    assert found[()] == found["--groups",]
    assert [estimate["grouped"] for estimate in found.values()] == [True, True, False]
    assert found[()]["fold_hash"] != found["--no-groups",]["fold_hash"]
    assert "independent (--no-groups)" in command(tmp_path, *line, "--no-groups").stdout
    refused = command(tmp_path, "--study", "unknown", "--groups")
    assert refused.returncode == 1
    assert "has no groups; --groups needs a column group" in refused.stderr


def test_the_command_starts_without_torch_and_ray() -> None:
    code = "import sys, harness.ensemble; print({'torch', 'ray', 'optuna'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_ensemble_and_report_import_no_torch_if_no_clips_are_shown(tmp_path: Path) -> None:
    make_study(tmp_path / "s", 3)
    arguments = ["--top", "2", "--quiet", "--results", str(tmp_path)]
    code = (
        "import sys; from harness.ensemble import app; "
        f"app({arguments}, standalone_mode=False); print({{'torch', 'ray'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert (tmp_path / "s" / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--top", "9"), "only 3 eligible trials"),
        (("--top", "0"), "must be at least 1"),
        (("--study", "s", "--study", "s"), "is given twice"),
        (("--study", "none"), "no such study"),
        (("--study", "../s"), "expected a plain folder name"),
        (("--name", "a/b"), "expected a plain folder name"),
    ],
)
def test_errors_are_one_line_and_write_no_files(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    make_study(tmp_path / "s", 3)
    done = command(tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert not (tmp_path / "s" / "ensembles").exists()


def test_train_chooses_by_out_of_fold_predictions_and_val_is_a_hold_out(tmp_path: Path) -> None:
    index = make_fold_study(tmp_path / "s", 6)
    done = command(tmp_path, "--choose-on", "train", "--top", "2", "--against", "s")
    assert done.returncode == 0, done.stderr
    ensemble = read_ensemble(tmp_path / "s" / "ensembles" / "mean-top2-on-train")
    assert ensemble.clips == 60
    assert ensemble.estimate is not None
    assert ensemble.hold_out is not None
    assert ensemble.estimate.mean_pcc_corrected == pytest.approx(ensemble.estimate.nested - 0.01)
    predicted = harness.load_study(tmp_path / "s").predictions(ensemble).to_numpy()
    rated = index.ratings[index.rows("val")]
    assert ensemble.hold_out.score == pytest.approx(harness.mean_pcc(rated, predicted), abs=1e-6)
    for text in (
        "60 rated clips of train",
        "Val: mean PCC",
        "chose nothing",
        "40 rated clips of val",
    ):
        assert text in done.stdout, text
    make_fold_study(tmp_path / "other", 6, invert_val=True)
    library = load_library(tmp_path / "other", split="train")
    other = construct(library, ensemble.recipe).ensemble
    assert (other.members, other.weights) == (ensemble.members, ensemble.weights)
    assert other.hold_out is not None
    assert other.hold_out.score < 0 < ensemble.hold_out.score


def test_train_chooses_only_in_studies_with_folds(tmp_path: Path) -> None:
    make_study(tmp_path / "s", 3)
    done = command(tmp_path, "--choose-on", "train")
    assert done.returncode == 1
    assert "s was stopped by val" in done.stderr
    assert "--folds" in done.stderr
