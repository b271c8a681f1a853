"""Trials on several streams."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.dataset import Dataset, Stream
from harness.errors import InputError
from harness.models.model import Model
from harness.models.model_file import read_model, write_model
from harness.trials.folds import hold_out
from harness.trials.trial import TrialResult, run_trial
from tests.datasets import CONFIG, make_data, make_fused
from tests.predictors import ROUNDING

FUSIONS = ("early", "late")
SETTINGS = [
    {},
    {"stream_dropout": 0.5, "ema": 0.9},
    {"sequence": "fixed-12", "project": 3, "stride": 2},
    {"pooling": "attention", "bidirectional": True, "normalise": False, "loss": "mse"},
]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # as in a worker


def changed(data: Dataset, **streams: Stream) -> Dataset:
    return dataclasses.replace(data, streams={**data.streams, **streams})


def without(data: Dataset, name: str) -> Stream:
    """The stream in which no clip has a step."""
    stream = data.streams[name]
    return dataclasses.replace(
        stream,
        values=stream.values[:0],
        positions=stream.positions[:0],
        times=None if stream.times is None else stream.times[:0],
        offsets=np.zeros_like(stream.offsets),
    )


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("folds", [None, 3])
def test_a_stored_model_predicts_what_its_trial_did(
    fusion: str, settings: dict[str, object], folds: int | None, tmp_path: Path
) -> None:
    data, *_ = hold_out(make_fused(), None, None, folds=folds, fraction=None, seed=0)
    result = run_trial(CONFIG.changed(fusion=fusion, epochs=3, **settings), data)
    write_model(tmp_path / "model", dataclasses.replace(result.model, name="m"))
    model = read_model(tmp_path / "model")
    for split in ("val", "test"):
        found = model.predict(data, data.rows(split))
        np.testing.assert_allclose(found, result.predictions[split], atol=1e-6)
    assert {k: n for k, n in result.filled.items() if n} == {"val": 1}, "clip 38 lacks both streams"


@pytest.mark.parametrize("settings", [{"streams": "eye"}, *({"fusion": f} for f in FUSIONS)])
def test_an_interval_is_the_stride_that_lasts_as_long(settings: dict[str, str]) -> None:
    """Frames of `make_fused` last half a second."""
    data, config = make_fused(), CONFIG.changed(epochs=2, **settings)
    one, other = (
        run_trial(config.changed(**sampling), data)
        for sampling in ({"stride": 2}, {"stride": 30, "interval": 1.0})
    )
    assert one.curve == other.curve
    np.testing.assert_array_equal(one.predictions["test"], other.predictions["test"])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_both_streams_are_better_than_one(fusion: str) -> None:
    data = make_fused(240)
    config = CONFIG.changed(fusion=fusion, epochs=12, patience=12)
    scores = {s: run_trial(config.changed(streams=s), data).score for s in ("eye", "ear", "")}
    assert scores[""] > max(scores["eye"], scores["ear"]) + 0.05


@pytest.mark.parametrize("fusion", FUSIONS)
def test_one_stream_is_the_same_with_any_fusion(fusion: str) -> None:
    alone = run_trial(CONFIG, make_data())
    fused = run_trial(CONFIG.changed(fusion=fusion, clock="x", stream_dropout=0.5), make_data())
    assert fused.curve == alone.curve
    assert_equal(fused, alone)
    assert fused.model.weights[0].keys() == alone.model.weights[0].keys()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_order_of_streams_changes_nothing(fusion: str) -> None:
    data = make_fused()
    turned = dataclasses.replace(data, streams=dict(reversed(data.streams.items())))
    results = [
        run_trial(CONFIG.changed(fusion=fusion, streams=streams), each)
        for streams, each in (("", data), ("eye+ear", data), ("ear+eye", turned), ("", turned))
    ]
    for result in results[1:]:
        assert result.curve == results[0].curve
        assert_equal(result, results[0])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_constant_stream_says_nothing_once_it_is_normalised(fusion: str) -> None:
    """Its columns are zero at every step, as those of a clip that lacks it with early fusion."""
    data = make_fused()
    ear = data.streams["ear"]
    constant = changed(data, ear=dataclasses.replace(ear, values=np.full_like(ear.values, 0.1)))
    result = run_trial(CONFIG.changed(fusion=fusion), constant)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(ear.values.shape).astype(np.float32)
    rows = np.flatnonzero(data.streams["eye"].counts > 0)
    found = result.model.predict(constant, rows)
    other = changed(data, ear=dataclasses.replace(ear, values=noise))
    np.testing.assert_array_equal(result.model.predict(other, rows), found)
    if fusion == "early":
        missing = changed(data, ear=without(data, "ear"))
        np.testing.assert_array_equal(result.model.predict(missing, rows), found)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_clip_is_predicted_from_its_own_streams(fusion: str) -> None:
    """Neither the other clips nor their order matter, whatever they lack."""
    data = make_fused()
    model = run_trial(CONFIG.changed(fusion=fusion), data).model
    rows = np.random.default_rng(0).permutation(60)
    whole = model.predict(data)
    np.testing.assert_allclose(model.predict(data, rows), whole[rows], atol=ROUNDING)
    alone = np.concatenate([model.predict(data, rows[i : i + 1]) for i in range(60)])
    np.testing.assert_allclose(alone, whole[rows], atol=ROUNDING)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_clips_without_any_stream_are_filled(fusion: str) -> None:
    data = make_fused()
    model = run_trial(CONFIG.changed(fusion=fusion), data).model
    empty = changed(data, ear=without(data, "ear"))
    assert model.reads(empty).tolist() == [clip % 11 != 5 for clip in range(60)]
    filled = model.predict(empty)[~model.reads(empty)]
    np.testing.assert_array_equal(filled, np.tile(model.fill, (len(filled), 1)))


def test_stream_dropout_matters() -> None:
    data = make_fused()
    for fusion in FUSIONS:
        one, two = (
            run_trial(CONFIG.changed(fusion=fusion, stream_dropout=p), data) for p in (0, 0.4)
        )
        assert one.curve != two.curve


def test_a_model_finds_its_streams_by_their_specifications() -> None:
    data = make_fused()
    model = run_trial(CONFIG, data).model
    extra = make_data().features
    renamed = {"x": data.streams["eye"], "ear": data.streams["ear"], "more": extra}
    other = dataclasses.replace(data, streams=renamed)
    np.testing.assert_array_equal(model.predict(other), model.predict(data))
    del renamed["ear"]
    with pytest.raises(InputError, match=r"other features than these .*source"):
        model.predict(dataclasses.replace(data, streams=renamed))
    with pytest.raises(InputError, match="reads the stream ear, these clips have none"):
        model.predict(dataclasses.replace(data, streams={}))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_features_far_from_train_are_reported_by_stream(fusion: str) -> None:
    data = make_fused()
    ear = data.streams["ear"]
    unnamed = dataclasses.replace(ear.specification, columns=())
    data = changed(data, ear=dataclasses.replace(ear, specification=unnamed))
    model: Model = run_trial(CONFIG.changed(fusion=fusion), data).model
    assert model.unlike(data) == ""
    grown = dataclasses.replace(data.streams["ear"], values=ear.values * 50)
    assert "2 of 2 features of the stream ear lie far" in model.unlike(changed(data, ear=grown))


def test_streams_that_cannot_be_read_are_named() -> None:
    data = make_fused()
    with pytest.raises(InputError, match="expected the stream nose of these clips, found ear, eye"):
        run_trial(CONFIG.changed(streams="nose"), data)
    with pytest.raises(InputError, match="train: no rated clip has a step of the stream ear"):
        run_trial(CONFIG, changed(data, ear=without(data, "ear")))
    values = data.streams["ear"].values.copy()
    values[-1] = np.nan
    broken = changed(data, ear=dataclasses.replace(data.streams["ear"], values=values))
    with pytest.raises(InputError, match="clip c58: the stream ear has values that are not finite"):
        run_trial(CONFIG, broken)


def assert_equal(one: TrialResult, two: TrialResult) -> None:
    for split, predictions in one.predictions.items():
        np.testing.assert_array_equal(predictions, two.predictions[split])
