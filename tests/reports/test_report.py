"""The report: complete without a network, drawn by a real browser without an error."""

import dataclasses
import html
import json
import re
import shlex
import shutil
import sys
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from skimage.color import rgb2lab

from harness.clips.table import EMOTIONS
from harness.dataset import Dataset
from harness.ensembles.construction import construct, nested_score
from harness.ensembles.files import read_ensemble, write_ensemble
from harness.ensembles.library import load_library
from harness.ensembles.selection import Recipe
from harness.errors import InputError
from harness.metrics import mean_pcc
from harness.predictions import write_clips
from harness.reports import tables
from harness.reports.commands import _renamed
from harness.reports.drawing import COLOURS, DASHES, SYMBOLS, styles
from harness.reports.ensemble_figures import _per_target, ensemble_drawings
from harness.reports.evidence import gather
from harness.reports.figures import drawings
from harness.reports.frames import strips
from harness.reports.markup import anchor
from harness.reports.page import write_report
from harness.reports.paper import write_figures
from harness.reports.search_figures import _slices, search_drawings
from harness.reports.summary import SECTIONS
from harness.reports.tables import ensembles, problems
from harness.sealed import write_sealed
from harness.unfolding import unfoldings
from tests.browser import Browser
from tests.commands import command
from tests.conftest import Searched
from tests.studies import make_fold_study, make_index, make_study, write_log, write_manifest


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six complete trials, two pruned ones, an ensemble; test is unrated."""
    folder = tmp_path_factory.mktemp("results") / "s"
    make_study(folder, 6, make_index(40, 10, labelled_test=False))
    write_log(folder, *[TrialState.COMPLETE] * 6, *[TrialState.PRUNED] * 2)
    library = load_library(folder)
    write_ensemble(construct(library, Recipe("mean", 3)).ensemble, library)
    return folder


def page(folder: Path) -> str:
    """The report without the script of plotly."""
    text = write_report(gather(folder), unfoldings).read_text(encoding="utf-8")
    return re.sub(r"<script>.{100000,}?</script>", "", text, flags=re.DOTALL)


def test_the_report_has_all_sections(study: Path) -> None:
    text = page(study)
    for part in ("Leaderboard", "Best score", "Learning curves", "nested", "Joy", "Correlations"):
        assert part in text
    assert "SYNTHETIC" in text


def headings(text: str) -> list[str]:
    return re.findall(r"<h2[^>]*>(.*?)</h2>", text)


def test_the_sections_answer_in_order(study: Path) -> None:
    assert headings(page(study)) == ["Summary", *SECTIONS]
    first = page(study).split("<nav")[0]
    assert re.findall(r"<h3>(.*?)</h3>", first) == list(SECTIONS)
    assert re.findall(r'class="card".*?href="#(.*?)"', first) == [anchor(s) for s in SECTIONS]


def test_every_figure_of_the_study_is_in_the_page(study: Path) -> None:
    text = page(study)
    for drawing in drawings(gather(study)):
        assert f'id="plot-{drawing.key}"' in text


def test_the_summary_has_the_scores_of_the_ensemble(study: Path) -> None:
    first = html.unescape(page(study).split("<nav")[0])
    ensemble = read_ensemble(study / "ensembles" / "mean-top3")
    assert ensemble.estimate is not None
    for value, what in (
        (ensemble.estimate.nested, "Expected on new clips"),
        (ensemble.naive, "Ensemble mean-top3 on val, naive"),
        (ensemble.best_single_naive, "Best single trial on val"),
    ):
        assert f"<strong>{value:.4f}</strong> {what}" in first
    assert f"{ensemble.estimate.interval:.4f}; 40 clips" in first


def test_the_summary_has_the_corrected_score(study: Path) -> None:
    built = construct(load_library(study), Recipe("mean", 3))
    assert built.ensemble.estimate is not None
    estimate = dataclasses.replace(built.ensemble.estimate, mean_pcc_corrected=0.43215)
    ensemble = dataclasses.replace(built.ensemble, estimate=estimate)
    evidence = gather(study, built=dataclasses.replace(built, ensemble=ensemble))
    text = write_report(evidence, unfoldings).read_text(encoding="utf-8").split("<nav")[0]
    assert "<strong>0.4321</strong> The same, corrected" in text
    assert "The same, corrected" not in page(study), "it is not known there"


@pytest.mark.parametrize(("trials", "shown"), [(18, False), (41, True)])
def test_importances_need_enough_trials(tmp_path: Path, trials: int, shown: bool) -> None:
    make_study(tmp_path / "s", 3, make_index(40, 10))
    write_log(tmp_path / "s", *[TrialState.COMPLETE] * trials)
    text = page(tmp_path / "s")
    assert ('id="plot-importance"' in text) == shown
    first = text.split("<nav")[0]
    assert bool(re.search(r"importance \d\.\d\d, 95 % \d\.\d\d to \d\.\d\d", first)) == shown
    assert text.count(f"No importances:</strong> {trials} complete trials, 41 are needed") == (
        not shown
    )


def test_what_a_stream_adds_says_what_its_interval_leaves_out(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    make_study(folder, 4, make_index(40), streams=["face+sound"] * 2 + ["face"] * 2)
    library = load_library(folder)
    write_ensemble(construct(library, Recipe(top=2)).ensemble, library)
    text = page(folder)
    assert "What each stream adds" in text
    assert "the intervals do not include the selection of trials" in text


def test_the_summary_says_that_persons_are_those_of_another_study(tmp_path: Path) -> None:
    index = make_index(40)
    make_study(tmp_path / "a", 2, index)
    persons = tuple(f"p{row % 9}" for row in range(len(index.clip_ids)))
    make_study(tmp_path / "b", 3, dataclasses.replace(index, groups=persons))
    library = load_library(tmp_path / "a", tmp_path / "b")
    write_ensemble(construct(library, Recipe(top=2)).ensemble, library)
    first = page(tmp_path / "a").split("<nav")[0]
    assert "<strong>Persons</strong> are those of another study" in first
    assert "clips count as independent" not in first


def test_failures_are_shown_with_their_reasons(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    write_clips(folder / "clips.parquet", make_index())
    write_manifest(folder)
    write_log(folder, *[TrialState.FAIL] * 6, reason="no space left on <device>")
    text = page(folder)
    assert text.count("no space left on &lt;device&gt;") >= 6
    assert "6 failed" in text
    assert "correct the reasons above" in text


@pytest.mark.parametrize(
    ("command", "renamed"),
    [
        ("python -m harness.search --study a --trials 9", "--study 'b c' --trials 9"),
        ("python -m harness.search --study='a b' --seed 1", "--study='b c' --seed 1"),
        ("python -m harness.search --data X", "--data X --study 'b c'"),
        ("harness.run_search(study='a', trials=3)", "(study='b c', trials=3)"),
        ("harness.run_search(data='X')", "(data='X', study='b c')"),
        ("harness.run_search()", "(study='b c')"),
        ("harness.run_search(data='/x/study=3', storage=...)", "storage=..., study='b c')"),
        ("python -m harness.search --data /x/study=3", "--data /x/study=3 --study 'b c'"),
        ("python -m harness.search --study 'it'\"'\"'s' --seed 1", "--study 'b c' --seed 1"),
    ],
)
def test_commands_of_a_renamed_study_have_its_name(command: str, renamed: str) -> None:
    assert _renamed(command, "b c").endswith(renamed)


def test_a_copied_study_has_a_report_under_its_new_name(tmp_path: Path) -> None:
    """The log has the study under its first name, which old manifests do not contain."""
    make_study(tmp_path / "first", 4, make_index(40, 10))
    write_log(tmp_path / "first", *[TrialState.COMPLETE] * 4)
    shutil.copytree(tmp_path / "first", tmp_path / "renamed")
    done = command("ensemble", "--study", "renamed", "--results", tmp_path, "--top", 3)
    assert done.returncode == 0, done.stderr
    assert "4 complete" in page(tmp_path / "renamed")
    both = load_library(tmp_path / "first", tmp_path / "renamed")
    assert len(both.duplicates) == 4


def test_scores_are_printed_before_the_report_fails(tmp_path: Path) -> None:
    make_study(tmp_path / "s", 4, make_index(40, 10))
    (tmp_path / "s" / "study.log").write_text("no journal\n")
    done = command("ensemble", "--study", "s", "--results", tmp_path, "--top", 3)
    assert done.returncode == 1
    assert "Expected on new clips" in done.stdout
    assert done.stdout.count("Written: ") == 3
    assert "study.log" in done.stderr


def test_a_value_has_one_colour_in_all_figures() -> None:
    losses = CategoricalDistribution(("a", "b", "c"))
    depths = IntDistribution(1, 2)
    trials = [
        create_trial(
            params={"loss": loss, "layers": depth},
            distributions={"loss": losses, "layers": depths},
            value=0.5,
        )
        for loss, depth in (("b", 1), ("c", 1), ("a", 2), ("c", 2))
    ]
    found: dict[str, set[tuple[str, str]]] = {}
    for drawing in _slices(trials):
        for trace in drawing.figure.data:
            found.setdefault(trace.name, set()).add((trace.marker.color, trace.marker.symbol))
    assert {loss: len(seen) for loss, seen in found.items()} == {"a": 1, "b": 1, "c": 1}
    assert len(set.union(*found.values())) == 3


def test_many_targets_have_a_style_each() -> None:
    names = [f"t{number}" for number in range(35)]
    assert len(set(styles(names).values())) == 35


def test_figures_of_the_dashboard_have_titles(study: Path) -> None:
    for drawing in search_drawings(gather(study)):
        assert drawing.titled().layout.title.text == drawing.title


@pytest.mark.parametrize(
    "name", ["<b>", '<a href="x">y</a>', "&lt;", "2020-01-01", "1e3", "n" * 76]
)
def test_names_on_axes_are_shown_as_text_and_short(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "s"
    make_study(folder, 3, dataclasses.replace(make_index(20, 5), target_names=(name, "b", "c")))
    library = load_library(folder)
    built = construct(library, Recipe("mean", 2))
    found = {d.key: d.figure for d in ensemble_drawings(gather(folder, built=built))}
    axis = found["targets"].layout.xaxis
    assert (axis.type, list(axis.tickvals)) == ("category", [name, "b", "c"])
    full, shown = found["targets"].data[0].customdata[0], axis.ticktext[0]
    assert html.unescape(full) == name
    assert len(html.unescape(shown)) <= 24
    for text in (full, shown, found["calibration"].data[1].name):
        assert "<" not in text


def test_the_report_loads_nothing_from_a_network(study: Path) -> None:
    assert not re.search(r'(src|href)="(?!data:|#)', page(study))


def test_every_figure_has_a_text_alternative_and_numbers(study: Path) -> None:
    text = page(study)
    figures = re.findall(r"<figure>.*?</figure>", text, flags=re.DOTALL)
    assert len(figures) >= 9
    for figure in figures:
        assert re.search(r'role="img" aria-label="[^"]{20,}"', figure)
        assert "<td>" in figure


def test_names_of_targets_are_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    index = make_index(20, 5)
    index = type(index)(**{**vars(index), "target_names": ("<b>", "</script>", "&")})
    make_study(folder, 3, index)
    library = load_library(folder)
    write_ensemble(construct(library, Recipe("mean", 2)).ensemble, library)
    text = page(folder)
    assert "<b>" not in text
    data = text.split('id="figures">')[1].split("</script>")[0]
    assert "</script>" in json.loads(data)["targets"]["data"][0]["x"]


def test_names_that_look_like_placeholders_or_numbers_are_text(tmp_path: Path) -> None:
    folder = tmp_path / "my study"
    index = make_index(20, 5)
    make_study(folder, 3, dataclasses.replace(index, target_names=("100%PLOTLY%", "%BODY%", "2")))
    library = load_library(folder)
    write_ensemble(construct(library, Recipe("mean", 2)).ensemble, library)
    text = write_report(gather(folder), unfoldings).read_text(encoding="utf-8")
    assert text.count("100%PLOTLY%") > 1
    assert len(re.findall("<script>.{100000,}?</script>", text, flags=re.DOTALL)) == 1
    data = text.split('id="figures">')[1].split("</script>")[0]
    assert json.loads(data)["targets"]["layout"]["xaxis"]["type"] == "category"


def test_printed_commands_work_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "my results" / "my study"
    make_study(folder, 4)
    text = html.unescape(page(folder))
    (line,) = re.findall("No ensemble yet; run (.*?)</p>", text)
    python, _, module, *options = shlex.split(line)
    assert (python, module) == ("python", "harness.ensemble")
    assert command("ensemble", *options).returncode == 0
    assert (folder / "ensembles" / "mean-top4" / "ensemble.json").is_file()


def test_a_study_without_complete_trials_has_a_report(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    write_clips(folder / "clips.parquet", make_index())
    write_manifest(folder)
    write_log(folder, TrialState.PRUNED, TrialState.PRUNED, TrialState.FAIL)
    text = page(folder)
    assert "2 pruned" in text
    assert "Learning curves" in text
    assert "No trial has finished with predictions yet" in text


def test_dead_trials_are_listed_with_their_reason(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    make_study(folder, 1, make_index())
    why = {"reason": "predicts a constant for Fear since epoch 2"}
    write_log(folder, TrialState.COMPLETE, *[TrialState.PRUNED] * 3, notes={1: why, 3: why})
    text = page(folder)
    assert text.count("<td>predicts a constant for Fear since epoch 2</td>") == 2
    assert "2 of 4 finished trials ended early" in text
    assert "predicts a constant: 1, 3. They share loss=pcc (0 of 2 others)." in text


def test_scores_are_shown_by_what_all_trials_cost(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    make_study(folder, 6, make_index(40, 10))
    cheap = {1: {"seconds": 30.0}, 6: {"seconds": 60.0}}
    states = [TrialState.COMPLETE, TrialState.PRUNED, *[TrialState.COMPLETE] * 4, TrialState.FAIL]
    write_log(folder, *states, notes=cheap)
    drawing = next(d for d in search_drawings(gather(folder)) if d.key == "time")
    seconds = drawing.table["minutes"] * 60
    assert seconds.tolist() == pytest.approx([1.5, 33.0, 34.5, 36.0, 37.5])
    assert "1.6 minutes of training in all" in drawing.alt, "what comes after the last one, too"
    assert drawing.table["best so far"].is_monotonic_increasing
    library = load_library(folder)
    slots = library.matrix.slots([f"{number:05d}" for number in (0, 2, 3, 4, 5)])
    expected = nested_score(library.matrix, slots, Recipe("mean", 5))
    assert drawing.table["ensemble, nested"].iloc[-1] == pytest.approx(expected)
    estimate = construct(library, Recipe("mean", 5)).ensemble.estimate
    whole = nested_score(library.matrix, range(len(library.matrix)), Recipe("mean", 5))
    assert estimate is not None
    assert whole == pytest.approx(estimate.nested)


def test_an_outdated_ensemble_gives_a_warning(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    make_study(folder, 4)
    library = load_library(folder)
    write_ensemble(construct(library, Recipe("mean", 3)).ensemble, library)
    (folder / "predictions" / "00000.parquet").unlink()
    assert "the study has changed since ensemble mean-top3" in page(folder)


def test_all_parts_of_a_report_have_the_same_scores_of_an_ensemble(tmp_path: Path) -> None:
    """Trials that were added since do not become members, but change the nested estimate."""
    folder, index = tmp_path / "s", make_index(40, 0)
    noise = np.random.default_rng(0).standard_normal((12, *index.ratings.shape))
    values = [(index.ratings + 0.5 * each).astype(np.float32) for each in noise]
    values.sort(key=lambda each: -mean_pcc(index.ratings, each))
    make_study(folder, 3, index, values=values)
    library = load_library(folder)
    stored = construct(library, Recipe("mean", 2)).ensemble
    write_ensemble(stored, library)
    make_study(folder, 12, index, values=values)
    evidence = gather(folder)
    (row,) = ensembles(evidence).to_dict("records")
    assert evidence.shown is not None
    assert evidence.shown.estimate is not None
    assert stored.estimate is not None
    assert evidence.shown.members == stored.members
    assert evidence.shown.estimate.nested != pytest.approx(stored.estimate.nested, abs=1e-4)
    assert row["nested"] == f"{evidence.shown.estimate.nested:.4f}"


def test_a_trial_of_another_study_has_its_own_hyperparameters(tmp_path: Path) -> None:
    """The storage of the first study does not contain the trials of the second."""
    for name, trials in (("a", 6), ("b", 3)):  # duplicates are read once
        make_study(tmp_path / name, trials, make_index(40, 10))
    write_log(tmp_path / "a", *[TrialState.COMPLETE] * 6)
    library = load_library(tmp_path / "b", tmp_path / "a")
    built = construct(library, Recipe("mean", 2))
    table = tables.leaderboard(gather(tmp_path / "a", built=built))
    rows = table.set_index("trial")
    assert list(rows.loc["b/00001", ["time", "stride"]]) == ["", "30"]
    assert list(rows.loc["a/00004", ["time", "stride"]]) == ["1.5 s", ""]


def test_the_report_has_the_intervals_of_the_ensemble(tmp_path: Path) -> None:
    """Over persons, or over clips if the ensemble ignores persons."""
    index = make_index(60, 10)
    persons = tuple(f"p{number % 6}" for number in range(len(index.clip_ids)))
    make_study(tmp_path / "s", 4, dataclasses.replace(index, groups=persons))
    library = load_library(tmp_path / "s")
    for groups in (None, False):
        ensemble = construct(library, Recipe("mean", 3, groups=groups)).ensemble
        write_ensemble(ensemble, library)
        evidence = gather(tmp_path / "s", ensemble=ensemble.name)
        (drawing,) = [d for d in ensemble_drawings(evidence) if d.key == "published"]
        row = drawing.table.set_index("what").loc["ensemble, nested"]
        assert ensemble.estimate is not None
        interval = ensemble.estimate.interval
        assert interval is not None
        assert (row["95 % from"], row["to"]) == (interval.low, interval.high)
        assert ensemble.estimate.groups == (6 if groups is None else 60)


@pytest.mark.parametrize(
    ("change", "published"),
    [
        ({}, True),
        ({"synthetic": True}, False),
        ({"target_names": tuple("abcdefg")}, False),
        ({"splits": ("val",) * 4656 + ("test",)}, False),
    ],
)
def test_published_scores_are_shown_for_hume_reaction_only(
    tmp_path: Path, change: dict, published: bool
) -> None:
    truth = np.random.default_rng(0).random((4657, 7)).astype(np.float32)
    ids = tuple(f"[{number:05d}]" for number in range(4657))
    index = Dataset(ids, ("val",) * 4657, truth, EMOTIONS)
    make_study(tmp_path / "s", 2, dataclasses.replace(index, **change))
    library = load_library(tmp_path / "s")
    built = construct(library, Recipe("mean", 2))
    drawing = ensemble_drawings(gather(tmp_path / "s", built=built))[0]
    assert ("MTL-DAN + LSTM (video)" in drawing.table["what"].tolist()) == published


def test_a_missing_study_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such study; run"):
        gather(tmp_path / "s")


def test_a_missing_ensemble_is_an_error(study: Path) -> None:
    with pytest.raises(InputError, match="no ensemble 'x'; choose one of: mean-top3"):
        gather(study, ensemble="x")


def test_clips_with_problems_are_counted_the_worst_first(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    index = make_index(40, 10)
    make_study(folder, 2, index)
    found = {clip: f"2 of 9 frames, {clip}" for clip in index.clip_ids[:30]}
    empty = index.clip_ids[25:28]
    write_manifest(folder, problems=found, empty=empty)
    shown = problems(gather(folder))["clip"].tolist()
    assert shown == [*empty, *index.clip_ids[:7]]
    text = page(folder)
    assert "10 of 30 clips with problems" in text
    assert "clips-with-gaps.csv" in text
    write_manifest(folder, problems=dict(list(found.items())[:3]))
    assert "clips-with-gaps.csv" not in page(folder)


def test_an_unreadable_ensemble_does_not_stop_the_report_of_another(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    make_study(folder, 4, make_index(40, 10))
    library = load_library(folder)
    write_ensemble(construct(library, Recipe("mean", 3)).ensemble, library)
    old = folder / "ensembles" / "old" / "ensemble.json"
    write_sealed(old, "ensemble 0", {})
    evidence = gather(folder)
    assert evidence.shown is not None
    assert evidence.shown.name == "mean-top3"
    assert [each.name for each in evidence.ensembles] == ["mean-top3"]
    assert f"{old}: schema is 'ensemble 0'" in html.unescape(page(folder))
    done = command("report", "--study", "s", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{old}: schema is 'ensemble 0'" in done.stdout
    with pytest.raises(InputError, match="schema is 'ensemble 0'"):
        gather(folder, ensemble="old")
    shutil.rmtree(folder / "ensembles" / "mean-top3")
    text = html.unescape(page(folder))
    assert f"{old}: schema is 'ensemble 0'" in text
    assert "No ensemble yet" in text


def test_figures_for_a_paper_have_the_numbers_of_the_study(study: Path, tmp_path: Path) -> None:
    written = write_figures(gather(study), tmp_path)
    assert sorted(path.name for path in written) == sorted(p.name for p in tmp_path.iterdir())
    names = {path.name for path in written}
    assert {"targets.pdf", "targets.svg", "calibration.pdf", "scores.tex", "scores.csv"} <= names
    assert (tmp_path / "targets.pdf").read_bytes().startswith(b"%PDF")
    drawn = (tmp_path / "targets.svg").read_text()
    for text in ("Joy", "Fear-of-Tests", "nested PCC on val", "SYNTHETIC"):
        assert text in drawn
    ensemble = read_ensemble(study / "ensembles" / "mean-top3")
    assert ensemble.estimate is not None
    nested = [each.nested for each in ensemble.estimate.targets]
    table = pd.read_csv(tmp_path / "scores.csv")
    assert table["nested"].tolist() == pytest.approx(nested, abs=5e-5)
    assert set(table["data"]) == {"SYNTHETIC demo clips"}
    assert "\\toprule" in (tmp_path / "scores.tex").read_text()
    before = {path: path.read_bytes() for path in written}
    write_figures(gather(study), tmp_path)
    assert before == {path: path.read_bytes() for path in written}, "equal inputs, equal files"


@pytest.fixture(scope="module")
def chosen_on_train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with an ensemble that train chose, and ceilings of both splits."""
    folder = tmp_path_factory.mktemp("results") / "s"
    make_fold_study(folder, 4)
    ceilings = {"train": {"Joy": 0.8125}, "val": {"Joy": 0.9125}}
    write_manifest(folder, early_stop_split="folds", ceilings=ceilings)
    write_log(folder, *[TrialState.COMPLETE] * 4)
    library = load_library(folder, split="train")
    recipe = Recipe(top=2, choose_on="train")
    write_ensemble(construct(library, recipe).ensemble, library)
    return folder


def test_ceilings_are_those_of_the_split_that_chose(chosen_on_train: Path) -> None:
    evidence = gather(chosen_on_train)
    assert tables.targets(evidence)["ceiling"].tolist() == ["0.8125", "-", "-"]
    stale = dataclasses.replace(evidence, built=None)
    assert "ceiling" not in tables.targets(stale), "it was read for val"


def test_errors_on_val_say_what_val_chose(study: Path, chosen_on_train: Path) -> None:
    assert "These clips selected its members" in page(study)
    text = page(chosen_on_train)
    assert "These clips selected its members" not in text
    assert "which took no part in selecting its members" in text


def test_figures_for_a_paper_name_the_split_that_chose(
    chosen_on_train: Path, tmp_path: Path
) -> None:
    write_figures(gather(chosen_on_train), tmp_path)
    assert "nested PCC on train" in (tmp_path / "targets.svg").read_text()
    assert "mean PCC on train" in (tmp_path / "size.svg").read_text()
    assert "mean PCC on val" in (tmp_path / "best.svg").read_text(), "all trials are scored on val"


@pytest.mark.filterwarnings("error")
def test_targets_without_an_interval_are_drawn(study: Path) -> None:
    built = gather(study).built
    assert built is not None
    assert built.ensemble.estimate is not None
    given = built.ensemble.estimate.targets
    targets = tuple(dataclasses.replace(each, interval=None) for each in given)
    drawing = _per_target(dataclasses.replace(built.ensemble.estimate, targets=targets), "val")
    ours = drawing.table[drawing.table["model"] == "ensemble"]
    assert ours["to"].tolist() == [""] * 3
    assert ours["nested PCC"].tolist() == [each.nested for each in given]


def test_figures_without_matplotlib_are_refused(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'reaction-harness\[paper\]'"):
        write_figures(gather(study), tmp_path)


# Linear RGB as seen without one type of cones (Machado et al., 2009, severity 1).
COLOUR_VISION = {
    "all": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip


@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_colours_are_distinct_for_every_colour_vision(vision: str) -> None:
    codes = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in COLOURS])
    linear = np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ COLOUR_VISION[vision].T, 0, 1)
    shown = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    distances = [np.linalg.norm(a - b) for a, b in combinations(rgb2lab(shown), 2)]
    # A difference of 2.3 is just visible.
    assert min(distances) > 10


def test_every_colour_has_its_own_dash_and_symbol() -> None:
    assert len(set(DASHES)) == len(set(SYMBOLS)) == len(COLOURS)


# --- A real study in a real browser.

HEIGHT = "return document.documentElement.scrollHeight"
DRAWN = "return document.body.dataset.drawn"
#: Number of drawn plots, number of plots, and horizontal overflow of the page in pixels.
SEEN = (
    "const plots = [...document.querySelectorAll('.plot')];"
    "const drawn = plots.filter((p) => p.querySelector('.trace, .heatmaplayer image'));"
    "return [drawn.length, plots.length,"
    " document.documentElement.scrollWidth - window.innerWidth]"
)
#: Contrast of texts with the background, as defined by WCAG 2.2.
CONTRASTS = """
const channels = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map((c) => c / 255);
const light = (colour) => channels(colour)
  .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const page = light(getComputedStyle(document.body).backgroundColor);
return ["body", "nav a", "figcaption", "th", "summary", ".gtitle, .xtick text"].map((which) => {
  const style = getComputedStyle(document.querySelector(which));
  const text = light(which.includes("xtick") ? style.fill : style.color);
  return (Math.max(text, page) + 0.05) / (Math.min(text, page) + 0.05);
});
"""


@pytest.fixture(scope="module")
def opened(study: Path, browser: Browser) -> Browser:
    """The report of the small study, without complaints, in a window of 1200 x 900 pixels."""
    path = write_report(gather(study), unfoldings)
    browser.open(path.resolve().as_uri(), drawn=DRAWN)
    assert browser.complaints() == []
    return browser


@pytest.mark.slow
def test_a_reader_sees_the_answers_in_order_on_one_screen(opened: Browser) -> None:
    seen = opened.ask("return [...document.querySelectorAll('h1, h2, .card h3')].map((e) => "
                      "[e.tagName, e.innerText])")  # fmt: skip
    assert isinstance(seen, list)
    cards = [["H3", title] for title in SECTIONS]
    sections = [["H2", title] for title in SECTIONS]
    assert seen == [["H1", "Study s"], ["H2", "Summary"], *cards, *sections]
    last = opened.ask("return Math.max(...[...document.querySelectorAll('.card')]"
                      ".map((card) => card.getBoundingClientRect().bottom))")  # fmt: skip
    assert last <= 900, "the summary fits on one screen"
    missing = opened.ask("return [...document.querySelectorAll('a')].filter((link) => "
                         "!document.getElementById(link.hash.slice(1))).length")  # fmt: skip
    assert missing == 0


@pytest.mark.slow
def test_numbers_on_the_screen_are_those_of_ensemble_json(opened: Browser, study: Path) -> None:
    ensemble = json.loads((study / "ensembles" / "mean-top3" / "ensemble.json").read_text())
    estimate = ensemble["estimate"]
    shown = str(opened.ask("return document.querySelector('.summary').innerText"))
    for value in (estimate["nested"], ensemble["naive"], ensemble["best_single_naive"]):
        assert f"{value:.4f}" in shown
    low, high = estimate["interval"]["low"], estimate["interval"]["high"]
    assert f"{low:.4f} to {high:.4f}; {ensemble['clips']} clips" in shown
    rows = opened.ask("return [...document.querySelectorAll('#score ~ .table tbody')][0].innerText")
    for target in estimate["targets"]:
        assert f"{target['nested']:.4f}" in str(rows)
    drawn = opened.ask("const { y } = document.getElementById('plot-targets').data[0];"
                       "return Object.values(y._inputArray ?? y)"
                       ".filter((value) => typeof value === 'number')")  # fmt: skip
    assert drawn == [target["nested"] for target in estimate["targets"]]


@pytest.mark.slow
def test_a_screen_reader_has_names_for_everything(opened: Browser) -> None:
    nameless = opened.ask("""
      const lacks = (which, test) => [...document.querySelectorAll(which)].filter(test).length;
      return [
        lacks(".plot", (e) => e.getAttribute("role") !== "img" || !e.ariaLabel),
        lacks("table", (e) => !e.caption || !e.querySelector("th[scope=col]")),
        lacks("img", (e) => !e.alt),
        lacks("nav, [role=region]", (e) => !e.ariaLabel),
        document.querySelectorAll("main").length - 1,
        document.documentElement.lang ? 0 : 1,
      ]""")
    assert nameless == [0] * 6
    levels = opened.ask("return [...document.querySelectorAll('h1, h2, h3')]"
                        ".map((e) => Number(e.tagName[1]))")  # fmt: skip
    assert isinstance(levels, list)
    assert all(after - before <= 1 for before, after in pairwise(levels)), "no level is skipped"


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_long_and_many_names_fit_a_phone(tmp_path: Path, browser: Browser, dark: bool) -> None:
    names = tuple(f"{'<b>' * (n % 2)}{'a long name of a target ' * 3}{n}" for n in range(35))
    index = make_index(40, 10)
    ratings = np.random.default_rng(0).random((50, 35)).astype(np.float32)
    make_study(tmp_path / "s", 3, dataclasses.replace(index, targets=ratings, target_names=names))
    library = load_library(tmp_path / "s")
    built = construct(library, Recipe("mean", 2))
    path = write_report(gather(tmp_path / "s", built=built), unfoldings)
    browser.open(path.resolve().as_uri(), width=390, dark=dark, drawn=DRAWN)
    assert browser.ask(SEEN)[2] <= 0, "the page is wider than the window"
    assert browser.complaints() == []
    plot = "document.getElementById('plot-targets')"
    ticks = browser.ask(
        f"return [...{plot}.querySelectorAll('.xtick text')].map(e => e.textContent)"
    )
    assert isinstance(ticks, list)
    assert max(map(len, ticks)) <= 24
    assert browser.ask(f"return {plot}.querySelectorAll('.xtick [style*=bold]').length") == 0
    broken = browser.ask("return [...document.querySelectorAll('th:first-child')].filter((head) => "
                         "head.checkVisibility() && head.innerText.length < 12 && "
                         "head.getBoundingClientRect().height > 50).length")  # fmt: skip
    assert broken == 0, "short headings have one line"
    height = browser.ask(f"return {plot}.querySelector('.plot .barlayer, .barlayer')"
                         ".getBoundingClientRect().height")  # fmt: skip
    assert height > 80, "labels leave room for the bars"
    browser.picture(f"report-names{'-dark' * dark}", 2400)


@pytest.fixture(scope="module", params=["journal", "database"])
def written(request: pytest.FixtureRequest, searched: Searched) -> tuple[str, Path]:
    """The name of a study and the path of its report, written by the command."""
    line = ["--results", searched.results, "--study", request.param, "--data", searched.data]
    if request.param == "database":
        line += ["--storage", searched.database]
    done = command("report", *line)
    assert done.returncode == 0, done.stderr
    return request.param, searched.results / request.param / "report.html"


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, False), (1200, True)])
def test_a_browser_draws_the_report(
    written: tuple[str, Path], browser: Browser, width: int, dark: bool
) -> None:
    study, path = written
    browser.open(path.resolve().as_uri(), width=width, dark=dark, drawn=DRAWN)
    drawn, wanted, overflow = browser.ask(SEEN)
    # Four figures of the search; an ensemble adds four, seven scatter plots and four clips.
    assert drawn == wanted >= (19 if study == "journal" else 4)
    assert overflow <= 0, "the page is wider than the window"
    assert min(browser.ask(CONTRASTS)) >= 4.5
    browser.picture(f"report-{study}-{width}{'-dark' * dark}", browser.ask(HEIGHT))
    assert browser.complaints() == []


@pytest.mark.slow
def test_the_keyboard_reaches_everything(written: tuple[str, Path], browser: Browser) -> None:
    browser.open(written[1].resolve().as_uri(), drawn=DRAWN)
    shown = "a, summary, [tabindex='0']"
    ways = browser.ask(f"return [...document.querySelectorAll(\"{shown}\")]"
                       ".filter((e) => e.checkVisibility()).length")  # fmt: skip
    keys = ActionChains(browser.driver)
    reached = set()
    for _ in range(ways):
        keys.send_keys(Keys.TAB).perform()
        active = browser.driver.switch_to.active_element
        reached.add(active.id)
        if active.tag_name == "summary":
            opened = active
    assert len(reached) == ways, "every link, every table and every figure's numbers"
    opened.send_keys(Keys.ENTER)
    table = "return arguments[0].parentElement.querySelector('table').checkVisibility()"
    assert browser.driver.execute_script(table, opened)


@pytest.mark.slow
def test_the_printed_report_fits_on_paper(written: tuple[str, Path], browser: Browser) -> None:
    study, path = written
    browser.open(path.resolve().as_uri(), drawn=DRAWN)
    browser.ask("dispatchEvent(new Event('beforeprint'))")
    widest = browser.ask("return Math.max(...[...document.querySelectorAll('.main-svg')]"
                         ".map((svg) => svg.getBoundingClientRect().width))")  # fmt: skip
    assert widest <= 688, "A4 minus two margins of 14 mm, at 96 pixels per inch"
    size = {"width": 688, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    tables = browser.ask("return [...document.querySelectorAll('table')].filter((table) => "
                         "table.getBoundingClientRect().width > 688)"
                         ".map((table) => table.caption.innerText)")  # fmt: skip
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen"})
    assert tables == [], "wider than the paper"
    browser.ask("dispatchEvent(new Event('afterprint'))")
    assert browser.print(f"report-{study}").stat().st_size > 50_000


@pytest.mark.slow
def test_the_curves_of_a_clip_end_at_its_prediction(searched: Searched) -> None:
    evidence = gather(searched.results / "journal")
    shown = strips(evidence, unfoldings, searched.data)
    assert len(shown) == 4
    for strip in shown:
        assert len(strip.pictures) >= 3
        assert strip.unfolding is not None
        assert np.allclose(strip.unfolding.predicted[-1], strip.predicted, atol=1e-5)
        assert np.ptp(strip.unfolding.predicted, axis=0).max() > 0, "later frames count"


@pytest.mark.slow
def test_clips_without_stored_features_have_frames_and_no_curves(
    searched: Searched, tmp_path: Path
) -> None:
    ignored = shutil.ignore_patterns(".cache")
    shutil.copytree(searched.results, tmp_path / "results", ignore=ignored)
    found = gather(tmp_path / "results" / "journal")
    text = write_report(found, unfoldings, searched.data).read_text(encoding="utf-8")
    assert "Frame 0 of clip" in text
    assert "python -m harness.extract computes them" in text
