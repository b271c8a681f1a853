"""What `import harness` gives to notebooks and scripts."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import harness
from harness.errors import InputError
from tests.studies import TARGETS, make_study

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
