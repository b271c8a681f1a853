"""Several feature sets of the same clips: found, combined, and told apart by their names."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from harness.clips.layouts import feature_sets, read_clips, read_tables
from harness.errors import InputError
from harness.models.model import Model
from harness.progress import silent
from harness.space.file import read_space
from harness.space.search_space import SearchSpace
from harness.streams.clip_issues import report_gaps
from harness.streams.features import Machines
from harness.streams.precomputed import read_foreign
from harness.streams.sources import real_sources
from harness.trials.trial import run_trial
from harness.tuning.preparation import Prepared, prepare
from tests.datasets import CONFIG
from tests.predictors import ensemble_of
from tests.trees import plain_tree

CPU = Machines(torch.device("cpu"))
SPACE = """
[budget]
trials = 2
epochs = 1
[fixed]
stride = 1
{fixed}
[parameters.lr]
type = "float"
low = 0.001
high = 0.01
"""


def make_sets(root: Path, beside: str = "features") -> Path:
    """A folder of frames or of nothing else, with the sets `face` (csv, 3 steps of .5 s) and
    `voice` (Parquet, 6 steps of .25 s)."""
    rng = np.random.default_rng(1)
    root.mkdir(exist_ok=True)
    plain_tree(root, beside)
    for file in (root / "features").glob("*.npy"):
        file.unlink()
    for name, steps, step in (("face", 3, 500), ("voice", 6, 250)):
        (root / "features" / name).mkdir(parents=True)
        for clip in pd.read_csv(root / "clips.csv")["clip_id"]:
            table = pd.DataFrame({"timestamp": np.arange(steps) * step})
            table[["a", "b"]] = rng.random((steps, 2))
            if name == "face":
                table.to_csv(root / "features" / name / f"{clip}.csv", index=False)
            else:
                table.to_parquet(root / "features" / name / f"{clip}.parquet")
    return root


def make_space(folder: Path, fixed: str = "") -> SearchSpace:
    (folder / "space.toml").write_text(SPACE.format(fixed=fixed))
    return read_space(folder / "space.toml")


def prepared(root: Path, fixed: str = "", sets: tuple[str, ...] = ("face", "voice")) -> Prepared:
    space = make_space(root, fixed)
    given = real_sources(root, None, features=sets)
    return prepare(given, root / "cache", space, CPU, silent)


def models(data: Prepared) -> list[Model]:
    """One of each kind of fusion, and one of a single set."""
    wanted = {"early": {"clock": "face"}, "late": {"fusion": "late"}, "one": {"streams": "voice"}}
    found = []
    for name, values in wanted.items():
        model = run_trial(CONFIG.changed(epochs=1, **values), data.data).model
        found.append(Model(**(vars(model) | {"name": name})))
    return found


def test_sets_are_found_beside_frames_and_alone(tmp_path: Path) -> None:
    for beside in ("features", "frames"):
        root = make_sets(tmp_path / beside, beside)
        assert feature_sets(root) == ("face", "voice")
        kinds = [clips.kind for clips in read_tables(root, features=("voice", "face"))]
        assert kinds == ["images"] * (beside == "frames") + ["features"] * 2
    (note,) = read_clips(root).notes
    assert "feature sets that are not read: face, voice; `features` reads them" in note
    with pytest.raises(
        InputError, match="several feature sets; `features`: choose one of face, voice"
    ):
        read_clips(tmp_path / "features")
    with pytest.raises(InputError, match="`features` hand: choose one of face, voice"):
        read_clips(root, features="hand")


def test_each_set_is_a_stream_of_its_name_with_its_times(tmp_path: Path) -> None:
    data = prepared(make_sets(tmp_path), 'clock = "face"').data
    assert list(data.streams) == ["face", "voice"]
    face, voice = data.streams.values()
    np.testing.assert_allclose(face.times[:3], [0, 0.5, 1])
    np.testing.assert_allclose(voice.times[:6], np.arange(6) / 4)


@pytest.mark.parametrize(
    ("times", "unit"), [([0, 500], 1e-3), ([0, 0.5], 1), ([0, 9], 1), ([1000, 1010], 1e-3)]
)
def test_times_are_milliseconds_or_seconds_by_their_step(
    tmp_path: Path, times: list[float], unit: float
) -> None:
    root = plain_tree(tmp_path, "features")
    for file in (root / "features").glob("*.npy"):
        pd.DataFrame({"time": times, "a": [1.0, 2.0]}).to_csv(file.with_suffix(".csv"), index=False)
        file.unlink()
    stream, _, columns = read_foreign(read_clips(root))
    np.testing.assert_allclose(stream.times[:2], np.multiply(times, unit))
    assert (
        columns.times
        == f"times of the steps are read as {'seconds' if unit == 1 else 'milliseconds'}"
    )


def test_files_that_a_set_lacks_are_gaps(tmp_path: Path) -> None:
    root = make_sets(tmp_path)
    for clip in ("c0", "c12"):
        (root / "features" / "face" / f"{clip}.csv").unlink()
    (root / "features" / "voice" / "c12.parquet").unlink()
    found = prepared(root, 'clock = "face"')
    manifest = found.manifest("s", 0, "study.log")
    assert manifest.empty == ("c12",)
    assert manifest.problems["c0"] == "face: no file"
    *lines, last = report_gaps(found.gaps, found.empty, tmp_path / "gaps.csv")
    assert "face: 2 clips have no frame; members that read another stream too mask it" in lines[0]
    assert "1 clips have no step of any stream and are predicted by train's mean: c12" in lines[-1]
    assert last.endswith("gaps.csv")
    assert "c12,0,0,voice: no file" in (tmp_path / "gaps.csv").read_text()
    with pytest.raises(InputError, match="c0: no file"):
        prepare(real_sources(root, None, features=("face", "voice")), root / "cache",
                make_space(root, 'clock = "face"'), CPU, silent, strict=True)  # fmt: skip


def test_a_set_without_any_file_is_refused(tmp_path: Path) -> None:
    root = make_sets(tmp_path)
    (root / "features" / "none").mkdir()
    with pytest.raises(InputError, match="no clip has a file in the feature set none"):
        prepared(root, sets=("face", "none"))


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ('streams = "face+hand"', "streams: hand is none of the streams of these clips: face, voi"),
        ("", "early fusion of face, voice: none has frames; set the hyperparameter"),
        ('clock = "hand"', "clock: expected one of the streams face, voice"),
    ],
)
def test_spaces_that_do_not_fit_the_streams_are_refused(
    tmp_path: Path, fixed: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prepared(make_sets(tmp_path), fixed)


def test_what_one_stream_leaves_no_choice_of_is_fixed(tmp_path: Path) -> None:
    space = prepared(make_sets(tmp_path), 'streams = "voice"\nstream_dropout = 0.5').space
    assert (space.fixed["streams"], space.fixed["stream_dropout"]) == ("", 0.0)


def test_names_of_streams_are_refused_where_they_cannot_be_told_apart(tmp_path: Path) -> None:
    root = make_sets(tmp_path, "clips")
    (root / "features" / "face").rename(root / "features" / "sound")
    with pytest.raises(InputError, match="two streams are named sound"):
        real_sources(root, None, features=("sound",), sound="log-mel")
    (root / "features" / "sound").rename(root / "features" / "a+b")
    with pytest.raises(InputError, match="must not be empty or contain"):
        real_sources(root, None, features=("a+b",))


def test_an_ensemble_of_several_sets_predicts_what_its_models_do(tmp_path: Path) -> None:
    root = make_sets(tmp_path)
    for file in (root / "features" / "face" / "c3.csv", root / "features" / "voice" / "c5.parquet"):
        file.unlink()
    data = prepared(root, 'fusion = "late"')
    made = models(data)
    found = ensemble_of(*made)(root)
    own = pd.DataFrame(np.mean([model.predict(data.data) for model in made], axis=0),
                       index=data.data.clip_ids, columns=["joy", "awe"])  # fmt: skip
    # Other batches round otherwise, and the calibration of a weak head enlarges it.
    np.testing.assert_allclose(found.drop(columns="filled"), own.loc[found.index], atol=1e-4)
    assert not found["filled"].any()
    (root / "features" / "face").rename(root / "gone")
    with pytest.raises(InputError, match="trial early reads the precomputed features face, found"):
        ensemble_of(*made)(root)
    alone = ensemble_of(made[2])(root)
    assert len(alone) == 20, "a set that no member reads is not needed"
