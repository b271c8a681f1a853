"""One trial: repeatable by its seed, honest about its best epoch, failing with a reason."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from harness.dataset import Dataset
from harness.metrics import mean_pcc, pcc
from harness.models.config import TrialConfig, accepted
from harness.models.sequences import tensors
from harness.models.training import Epoch, predict
from harness.trials.trial import Trial, run_trial
from tests.datasets import CONFIG, make_data, make_dataset, make_stream, with_stream


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # as in a worker


def test_equal_seeds_give_equal_trials() -> None:
    one, two = (run_trial(CONFIG, make_data()) for _ in range(2))
    assert one.curve == two.curve
    for split in ("val", "test"):
        np.testing.assert_array_equal(one.predictions[split], two.predictions[split])


def test_how_splits_are_interleaved_changes_nothing() -> None:
    data, rng = make_data(), np.random.default_rng(1)
    splits = rng.permutation(data.splits)
    order = np.empty(60, np.intp)
    for split in data.split_names:  # each split keeps its own order
        order[splits == split] = data.rows(split)
    bounds = data.features.offsets
    taken = np.concatenate([np.arange(bounds[c], bounds[c + 1]) for c in order])
    stream = make_stream(
        data.features.values[taken],
        data.features.positions[taken],
        np.concatenate([[0], np.cumsum(np.diff(bounds)[order])]),
    )
    rows = {split: np.flatnonzero(splits == split) for split in data.split_names}
    other = make_dataset(stream, data.ratings[order], rows)
    one, two = run_trial(CONFIG, data), run_trial(CONFIG, other)
    assert one.curve == two.curve
    for split in ("val", "test"):
        np.testing.assert_array_equal(one.predictions[split], two.predictions[split])


@pytest.mark.parametrize(
    ("loss", "reduction", "size"),
    [("ccc", "flat", 1), ("pcc", "flat", 1), ("mse", "per_target", 1), ("ccc", "both", 3)],
)
def test_the_smallest_batches_and_constant_ratings_train(
    loss: str, reduction: str, size: int
) -> None:
    data = make_data()
    data.ratings[data.rows("train")] = 0.5
    config = CONFIG.changed(loss=loss, reduction=reduction, batch_size=size, epochs=2)
    result = run_trial(config, data)
    assert all(np.isfinite(epoch.loss) for epoch in result.curve)
    assert all(np.isfinite(array).all() for array in result.model.weights[0].values())


@pytest.mark.parametrize("loss", ["ccc", "pcc"])
@pytest.mark.parametrize(("clips", "size", "reduction"), [(60, 1, "per_target"), (60, 2, "both"),
                                                          (4, 128, "per_target")])  # fmt: skip
def test_a_correlation_of_one_or_two_clips_is_refused(
    loss: str, clips: int, size: int, reduction: str
) -> None:
    """The correlation of two clips is always -1 or 1, that of one is undefined."""
    config = CONFIG.changed(loss=loss, batch_size=size, reduction=reduction)
    with pytest.raises(ValueError, match=rf"a batch has [12] of {clips // 2} training clips"):
        run_trial(config, make_data(clips))


def test_other_seeds_give_other_trials() -> None:
    other = dataclasses.replace(CONFIG, seed=4)
    assert run_trial(CONFIG, make_data()).curve != run_trial(other, make_data()).curve


def test_a_trial_reads_the_features_it_asks_for() -> None:
    data, stream = make_data(), make_data().features
    parts = {"outputs": slice(0, 1), "shared": slice(1, 4), "both": slice(0, 4)}
    split = with_stream(data, dataclasses.replace(stream, parts=parts))
    results = {kind: run_trial(dataclasses.replace(CONFIG, features=kind), split) for kind in parts}
    columns = {kind: result.model.streams["test"].columns for kind, result in results.items()}
    assert columns == {k: stream.specification.columns[part] for k, part in parts.items()}
    alone = with_stream(data, stream.select(stream.specification.columns[1:]))
    assert results["shared"].curve == run_trial(CONFIG, alone).curve


def test_a_trial_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    run_trial(CONFIG, make_data())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_score_is_the_best_epochs_and_its_predictions() -> None:
    data, told = make_data(), []
    result = run_trial(CONFIG, data, told.append)
    assert tuple(told) == result.curve
    assert result.best == max(result.curve, key=lambda epoch: epoch.score)
    truth = data.ratings[data.rows("val")]
    assert mean_pcc(truth, result.predictions["val"]) == pytest.approx(result.score, abs=1e-9)
    assert result.per_target.mean() == pytest.approx(result.best.score)


def test_clips_without_frames_are_predicted_by_trains_mean_and_scored() -> None:
    data = make_data()
    holey = without_frames(data, (2, 31, 46))  # one of each split
    result = run_trial(CONFIG, holey)
    train = np.delete(data.ratings[:30], 2, axis=0)
    np.testing.assert_allclose(result.predictions["val"][1], train.mean(0), rtol=1e-5)
    np.testing.assert_allclose(result.predictions["test"][1], train.mean(0), rtol=1e-5)
    assert result.filled == {"val": 1, "test": 1}
    truth = data.ratings[data.rows("val")]
    assert mean_pcc(truth, result.predictions["val"]) == pytest.approx(result.score, abs=1e-9)


def without_frames(data: Dataset, clips: Sequence[int]) -> Dataset:
    """The same data in which some clips have no step."""
    stream = data.features
    keep, counts = np.ones(len(stream.positions), bool), stream.counts.copy()
    for clip in clips:
        keep[stream.offsets[clip] : stream.offsets[clip + 1]] = False
        counts[clip] = 0
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return with_stream(data, make_stream(stream.values[keep], stream.positions[keep], offsets))


@pytest.mark.parametrize("loss", ["ccc", "pcc", "mse"])
def test_calibration_gives_predictions_the_level_and_scale_of_the_ratings(loss: str) -> None:
    data = make_data(120)
    result = run_trial(CONFIG.changed(loss=loss), data)
    train = data.rows("train")
    predicted = result.model.predict(data, train)
    np.testing.assert_allclose(predicted.mean(0), data.ratings[train].mean(0), atol=1e-5)
    np.testing.assert_allclose(predicted.std(0), data.ratings[train].std(0), rtol=1e-4)
    slope, offset = result.model.calibration
    assert (slope > 0).all()
    head = result.model.heads()[0]
    head.calibration.reset()
    raw = predict(head, tensors(data, data.rows("val"), CONFIG, torch.device("cpu")))
    np.testing.assert_allclose(slope * raw + offset, result.predictions["val"], atol=1e-5)
    truth = data.ratings[data.rows("val")]
    np.testing.assert_allclose(pcc(truth, raw), result.per_target, atol=1e-5)


def test_clips_without_frames_cost_a_pcc_head_no_more_than_a_ccc_head() -> None:
    data = make_data(400)
    empty = data.rows("val")[::20]
    lost = {}
    for loss in ("pcc", "ccc"):
        model = run_trial(CONFIG.changed(loss=loss, ema=0.0), data).model
        val = data.rows("val")
        full, filled = (
            mean_pcc(data.ratings[val], model.predict(each, val))
            for each in (data, without_frames(data, empty.tolist()))
        )
        lost[loss] = full - filled
    assert lost["pcc"] < lost["ccc"] + 0.01


def test_unrated_clips_are_predicted() -> None:
    data = make_data()
    assert run_trial(CONFIG, data).predictions["test"].shape == (15, 3)
    assert len(data.rated(data.rows("test"))) == 5


def test_training_learns() -> None:
    config = dataclasses.replace(CONFIG, epochs=40, patience=40)
    assert run_trial(config, make_data(600)).best.score > 0.8


def test_patience_ends_a_trial() -> None:
    config = dataclasses.replace(CONFIG, epochs=500, patience=2)
    result = run_trial(config, make_data())
    assert len(result.curve) == result.best.number + 2


CHANGES: list[dict[str, object]] = [
    {"loss": "pcc"},
    {"loss": "mse"},
    {"reduction": "flat"},
    {"reduction": "both"},
    {"stride": 2},
    {"sequence": "fixed-12"},
    {"project": 2},
    {"layers": 2},
    {"hidden": 9},
    {"bidirectional": True},
    {"initial": "uniform"},
    {"dropout": 0.4},
    {"pooling": "mean"},
    {"pooling": "attention"},
    {"head_width": 9},
    {"optimiser": "adam"},
    {"lr": 0.02},
    {"weight_decay": 0.1},
    {"schedule": "cosine"},
    {"last_batch": "drop"},
    {"shuffle": False},
    {"clip_norm": 0.01},
    {"ema": 0.0},
    {"label_transform": "sqrt"},
    {"label_transform": "range"},
    {"batch_size": 8},
    {"normalise": False},
    {"seed": 5},
]


def test_no_hyperparameter_is_forgotten() -> None:
    """The rest have tests of their own, here."""
    elsewhere = {"features", "epochs", "patience", "family"}
    elsewhere |= {"streams", "fusion", "clock", "stream_dropout", "interval"}
    named = {name for change in CHANGES for name in change}
    assert named | elsewhere == set(accepted())


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_hyperparameter_matters(change: dict[str, object]) -> None:
    changed = CONFIG.changed(**change)
    assert run_trial(changed, make_data()).curve != run_trial(CONFIG, make_data()).curve


def test_an_undefined_score_is_a_reason() -> None:
    data = make_data()
    data.ratings[data.rows("val"), 1] = 0.5
    with pytest.raises(ValueError, match="no epoch of 6 had a defined score"):
        run_trial(CONFIG, data)


@pytest.mark.parametrize("bias", [200.0, float("nan")])
def test_a_head_that_predicts_a_constant_is_dead_after_two_epochs(bias: float) -> None:
    trial = Trial(CONFIG, make_data())
    trial.step()
    (training,) = trial.trainings
    with torch.no_grad():
        training.head.regressor.out.bias[1] = bias
    for number in (2, 3):
        assert trial.dead == ""
        assert not trial.finished
        assert np.isnan(trial.step().score), "a correlation of roundings is no score"
        assert trial.curve[-1].number == number
    what = "a constant for B" if np.isfinite(bias) else "values that are not finite"
    assert trial.dead == f"predicts {what} since epoch 2"
    assert trial.finished


def test_a_head_that_recovers_is_not_dead() -> None:
    trial = Trial(CONFIG.changed(ema=0.0), make_data())
    (training,) = trial.trainings
    bias = training.head.regressor.out.bias
    for value in (200.0, 0.0, 200.0, 0.0):
        with torch.no_grad():
            bias[1] = value
        trial.step()
    assert trial.dead == ""


def test_configuration_round_trip() -> None:
    assert TrialConfig.from_dict(CONFIG.to_dict()) == CONFIG
    with pytest.raises(ValueError, match="stride must be at least 1"):
        TrialConfig.of(stride=0)


def test_an_epoch_counts_from_one() -> None:
    first = run_trial(CONFIG, make_data()).curve[0]
    assert isinstance(first, Epoch)
    assert first.number == 1


def test_unrated_clips_change_no_weight_and_no_score() -> None:
    data = make_data()
    for clip in (4, 33):  # of train and of val
        data.ratings[clip] = np.nan
    splits = tuple("none" if clip in (4, 33) else s for clip, s in enumerate(data.splits))
    one, two = run_trial(CONFIG, data), run_trial(CONFIG, dataclasses.replace(data, splits=splits))
    assert one.curve == two.curve
    assert one.score == two.score
    np.testing.assert_array_equal(np.delete(one.predictions["val"], 3, 0), two.predictions["val"])
    assert np.isfinite(one.predictions["val"][3]).all(), "predicted all the same"
