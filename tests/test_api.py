"""What `import harness` gives to notebooks and scripts."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from optuna.trial import TrialState

import harness
from harness.errors import InputError
from harness.results import _typed
from tests.studies import (
    TARGETS,
    make_fold_study,
    make_index,
    make_predictions,
    make_study,
    reordered,
    write_log,
)

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> harness.StudyResults:
    folder = tmp_path_factory.mktemp("results") / "s"
    make_study(folder, 4)
    return harness.load_study(folder)


def test_every_name_is_there_and_documented() -> None:
    for name in harness.__all__:
        assert getattr(harness, name).__doc__
        assert name in dir(harness)


def test_every_method_is_documented() -> None:
    for name in ("StudyResults", "Ensemble", "PredictionMatrix"):
        for method in set(vars(getattr(harness, name))) - set(dir(object)):
            if not method.startswith("_") and callable(getattr(getattr(harness, name), method)):
                assert getattr(getattr(harness, name), method).__doc__, f"{name}.{method}"


@pytest.mark.slow
def test_types_are_shipped(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import harness\n"
        "study = harness.load_study('results/demo')\n"
        "reveal_type(study.trials())\n"
        "reveal_type(study.ensemble(top=5))\n"
        "study.predictions(5)\n"
    )
    line = [sys.executable, "-m", "mypy", "--strict", str(script)]
    told = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT).stdout
    assert 'Revealed type is "pandas.' in told
    assert 'Revealed type is "harness.ensembles.ensemble.Ensemble"' in told
    assert 'incompatible type "int"; expected "str | Ensemble"' in told
    assert (Path(harness.__file__).parent / "py.typed").is_file()


def test_a_repr_is_short(study: harness.StudyResults) -> None:
    assert repr(study) == "StudyResults(s: 4 trials, 20 clips, 3 targets)"
    for value in (study.matrix, study.library):
        assert len(repr(value)) < 500


def test_a_notebook_shows_a_small_table(study: harness.StudyResults) -> None:
    shown = study._repr_html_()
    assert "mean_pcc" in shown
    assert "StudyResults(s: 4 trials" in shown
    assert len(shown) < 5000


def test_no_other_name() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        harness.nonsense  # noqa: B018 - the access is what is tested


def test_reading_results_needs_no_torch() -> None:
    code = (
        "import harness, sys; harness.load_study; harness.Ensemble; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_trials_are_a_frame_the_best_first(study: harness.StudyResults) -> None:
    table = study.trials()
    assert table.index.name == "trial"
    assert table["mean_pcc"].is_monotonic_decreasing
    assert set(table["loss"]) == {"ccc"}


def test_predictions_have_the_recorded_score(study: harness.StudyResults) -> None:
    found, rated = study.predictions("00001"), study.ratings()
    assert list(found.columns) == list(TARGETS)
    assert found.index.equals(rated.index)
    score = harness.mean_pcc(rated.to_numpy(), found.to_numpy())
    assert score == pytest.approx(study.trials().loc["00001", "mean_pcc"], abs=1e-6)


def test_an_ensembles_predictions_have_its_score(study: harness.StudyResults) -> None:
    ensemble = study.ensemble("zscore", 3)
    found = study.predictions(ensemble)
    score = harness.mean_pcc(study.ratings().to_numpy(), found.to_numpy())
    assert score == pytest.approx(ensemble.naive, abs=1e-9)


def test_an_ensemble_of_one_is_its_member(study: harness.StudyResults) -> None:
    ensemble = study.ensemble(top=1)
    member = study.predictions(ensemble.members[0], "test")
    assert np.allclose(study.predictions(ensemble, "test"), member)


def test_an_unknown_trial_is_named(study: harness.StudyResults, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no eligible trial 00099"):
        study.predictions("00099")


def test_trials_have_typed_columns(tmp_path: Path) -> None:
    make_study(tmp_path / "s", 3)
    table = harness.load_study(tmp_path / "s").trials()
    names = ("mean_pcc", "best_epoch", "stride", "layers")
    assert [str(table[name].dtype) for name in names] == ["float64", *["int64"] * 3]
    assert pd.api.types.is_string_dtype(table["loss"])
    assert table.index.map(type).unique() == [str]


def test_hyperparameters_that_some_trials_lack_are_nullable() -> None:
    assert str(_typed([1, None, 3]).dtype) == "Int64"
    assert str(_typed([0.5, None, 1]).dtype) == "float64"
    assert str(_typed([True, None]).dtype) == "boolean"
    assert _typed(["full", 3]).tolist() == ["full", 3]


def test_frames_are_aligned_by_name(tmp_path: Path) -> None:
    """Also through the csv file, whose rows are sorted by id, and with other columns."""
    index = make_index(12, 20)
    shuffled = reordered(index, np.random.default_rng(1).permutation(len(index)))
    make_study(tmp_path / "s", 4, shuffled, base=index)
    study = harness.load_study(tmp_path / "s")
    ensemble = study.ensemble(top=3)
    stored = pd.read_csv(study.save(ensemble) / "predictions.csv", index_col=0)
    ratings, own = study.ratings("test"), study.predictions(ensemble, "test")
    assert list(stored.index) != list(ratings.index)
    score = harness.mean_pcc(ratings.to_numpy(), own.to_numpy())
    assert score == pytest.approx(ensemble.test, abs=1e-9)
    assert harness.mean_pcc(ratings, own.sample(frac=1, random_state=0)) == pytest.approx(score)
    clipped = harness.mean_pcc(ratings, own.clip(0, 1))  # as the csv file of the challenge is
    for predicted in (stored, stored[stored.columns[::-1]]):
        assert harness.mean_pcc(ratings, predicted) == pytest.approx(clipped, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.iloc[1:], "y_pred has no clip"),
        (lambda frame: frame.rename(index={frame.index[0]: 7}), "y_true has no clip 7"),
        (lambda frame: frame.assign(filled=False), "y_true has no target 'filled'"),
        (lambda frame: pd.concat([frame, frame]), "twice"),
        (lambda frame: frame.reset_index(drop=True), "Ids are text"),
    ],
)
def test_frames_of_other_clips_are_refused(
    study: harness.StudyResults, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        harness.mean_pcc(study.ratings(), change(study.predictions("00001")))


def test_an_ensemble_of_another_study_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        make_study(tmp_path / name, 3)
    a, b = (harness.load_study(tmp_path / name) for name in "ab")
    with pytest.raises(InputError, match="is of study b; this is a"):
        a.predictions(b.ensemble(top=2))
    with pytest.raises(InputError, match="is of study b; this is a"):
        a.save(b.ensemble(top=2))


def test_an_ensemble_of_another_study_of_the_same_name_is_refused(tmp_path: Path) -> None:
    """Its trials have the same numbers and other predictions."""
    index = make_index()
    other = [make_predictions(index, 10 + number)["val"] for number in range(3)]
    make_study(tmp_path / "A" / "paper", 3, index)
    make_study(tmp_path / "B" / "paper", 3, index, values=other)
    a, b = (harness.load_study(tmp_path / home / "paper") for home in "AB")
    theirs = a.ensemble(top=2)
    for call in (b.predictions, b.save, b.figures, lambda each: b.compare(each, b, each)):
        with pytest.raises(InputError, match=r"trial 0000. has mean PCC .* of another study"):
            call(theirs)
    assert not (tmp_path / "B" / "paper" / "ensembles").exists()


def test_an_ensemble_is_not_compared_as_that_of_a_study_which_grew(tmp_path: Path) -> None:
    index = make_index(val=40)
    make_study(tmp_path / "s", 3, index)
    early = harness.load_study(tmp_path / "s").ensemble("greedy")
    make_study(tmp_path / "s", 6, index)
    now = harness.load_study(tmp_path / "s")
    late = now.ensemble("greedy")
    assert early.members != late.members
    now.compare(late, now, late)
    with pytest.raises(
        InputError, match="the study has changed since ensemble greedy-top50 was built"
    ):
        now.compare(early, now, late)


def test_an_ensemble_chosen_on_train_is_known_by_the_scores_there(tmp_path: Path) -> None:
    make_fold_study(tmp_path / "s", 3)
    study = harness.load_study(tmp_path / "s")
    own = study.ensemble(top=2, choose_on="train")
    assert len(study.predictions(own)) == 40
    first, second = own.member_reports
    other = replace(own, member_reports=(first, replace(second, pcc=second.pcc + 1e-3)))
    with pytest.raises(InputError, match=f"trial {second.trial} has mean PCC .* another study"):
        study.predictions(other)


def test_a_saved_ensemble_is_that_of_the_command(study: harness.StudyResults) -> None:
    folder = study.save(study.ensemble(top=2))
    assert folder.name == "mean-top2"
    assert (folder / "ensemble.json").is_file()


def test_paths_are_resolved_when_a_study_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(tmp_path / "s", 3)
    monkeypatch.chdir(tmp_path)
    study = harness.load_study("s")
    monkeypatch.chdir("/")
    assert len(study.predictions(study.ensemble(top=2), "test")) == 8
    assert study.save(study.ensemble(top=2)).parent == tmp_path / "s" / "ensembles"


@pytest.mark.parametrize(
    "call",
    [
        lambda study: harness.load_study(),
        lambda study: harness.load_study([study.library.home]),
        lambda study: harness.load_study(None),
        lambda study: study.ensemble(top=3.0),
        lambda study: study.ensemble(top="3"),
        lambda study: study.ensemble(top=True),
        lambda study: study.ensemble(per_family=1.5),
        lambda study: study.ensemble(seed=-1),
        lambda study: study.ensemble(method="best"),
        lambda study: study.ensemble(method=None),
        lambda study: study.predictions(3),
        lambda study: study.predictions(["00001"]),
        lambda study: study.predictions("00001", "dev"),
        lambda study: study.ratings("validation"),
        lambda study: study.save("mean-top2"),
        lambda study: study.compare("00001", study, "00002"),
        lambda study: study.plot("none"),
    ],
)
def test_odd_calls_are_input_errors(
    study: harness.StudyResults, call: Callable[[harness.StudyResults], object]
) -> None:
    with pytest.raises(InputError):
        call(study)


def test_studies_are_equal_to_themselves_alone(study: harness.StudyResults) -> None:
    again = harness.load_study(study.library.home)
    for one, two in ((study, again), (study.matrix, again.matrix), (study.library, again.library)):
        assert one == one
        assert one != two
    assert study.ensemble(top=np.int64(2)) == study.ensemble(top=2)
    assert study in {study}


def test_the_reasons_of_failed_trials_are_shown(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    make_study(folder, 2)
    write_log(folder, *[TrialState.COMPLETE] * 2, *[TrialState.FAIL] * 2, reason="out of memory")
    failed = harness.load_study(folder).failures()
    assert failed["reason"].to_dict() == {"00002": "out of memory", "00003": "out of memory"}
    shutil.rmtree(folder / "predictions")
    with pytest.raises(InputError, match="2 trials failed, the last is trial 3: out of memory"):
        harness.load_study(folder)


def test_figures_are_drawn_one_by_one(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    make_study(folder, 5, make_index(40, 10))
    write_log(folder, *[TrialState.COMPLETE] * 5)
    study = harness.load_study(folder)
    ensemble = study.ensemble(top=3)
    names = study.figures(ensemble)
    assert {"best", "time", "curves", "targets", "calibration", "scatter-0"} <= set(names)
    figure = study.plot("targets", ensemble)
    assert figure.layout.title.text == names["targets"]
    assert ensemble.estimate is not None
    assert list(figure.data[0].y) == [each.nested for each in ensemble.estimate.targets]
    with pytest.raises(InputError, match="choose one of: best, "):
        study.plot("targets")
