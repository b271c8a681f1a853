"""One trial: repeatable by its seed, honest about its best epoch, failing with a reason."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from harness.metrics import mean_pcc
from harness.models.config import TrialConfig
from harness.models.training import Epoch
from harness.streams.sequences import FrameFeatures
from harness.trials.trial import TrialData, run_trial

CONFIG = TrialConfig(
    stride=1, layers=1, hidden=8, head_width=8, batch_size=16, epochs=6, patience=6, seed=3
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # as in a worker


def make_data(clips: int = 60, seed: int = 0) -> TrialData:
    """Sequences of 2 to 6 steps whose mean decides the ratings; some clips unlabelled."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, 7, clips)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    features = rng.standard_normal((offsets[-1], 4)).astype(np.float32)
    means = np.stack([features[a:b].mean(0) for a, b in itertools.pairwise(offsets)])
    targets = (1 / (1 + np.exp(-means[:, :3]))).astype(np.float32)
    frames = np.concatenate([np.arange(n) for n in counts]).astype(np.int32)
    rows = dict(
        zip(
            ("train", "val", "test"),
            np.split(np.arange(clips), [clips // 2, clips * 3 // 4]),
            strict=True,
        )
    )
    targets[clips * 5 // 6 :] = np.nan
    return TrialData(FrameFeatures(features, frames, offsets), targets, rows)


def test_equal_seeds_give_equal_trials() -> None:
    one, two = (run_trial(CONFIG, make_data()) for _ in range(2))
    assert one.curve == two.curve
    for split in ("val", "test"):
        np.testing.assert_array_equal(one.predictions[split], two.predictions[split])


def test_the_order_of_clips_in_the_store_changes_nothing() -> None:
    data, rng = make_data(), np.random.default_rng(1)
    order = rng.permutation(60)
    bounds = data.frames.offsets
    taken = np.concatenate([np.arange(bounds[c], bounds[c + 1]) for c in order])
    frames = FrameFeatures(
        data.frames.features[taken],
        data.frames.frames[taken],
        np.concatenate([[0], np.cumsum(np.diff(bounds)[order])]),
    )
    place = np.argsort(order)
    rows = {split: place[clips] for split, clips in data.rows.items()}
    one, two = (
        run_trial(CONFIG, data),
        run_trial(CONFIG, TrialData(frames, data.targets[order], rows)),
    )
    assert one.curve == two.curve
    for split in ("val", "test"):
        np.testing.assert_array_equal(one.predictions[split], two.predictions[split])


def test_a_batch_of_one_and_constant_ratings_train() -> None:
    data = make_data()
    data.targets[data.rows["train"]] = 0.5
    for loss in ("ccc", "pcc", "mse"):
        result = run_trial(dataclasses.replace(CONFIG, loss=loss, batch_size=1, epochs=2), data)
        assert all(np.isfinite(epoch.loss) for epoch in result.curve)
        assert all(np.isfinite(array).all() for array in result.weights.values())


def test_other_seeds_give_other_trials() -> None:
    other = dataclasses.replace(CONFIG, seed=4)
    assert run_trial(CONFIG, make_data()).curve != run_trial(other, make_data()).curve


def test_a_trial_reads_the_features_it_asks_for() -> None:
    data = make_data()
    columns = {"outputs": slice(0, 1), "shared": slice(1, 4), "both": slice(0, 4)}
    split = dataclasses.replace(data, columns=columns)
    results = {
        kind: run_trial(dataclasses.replace(CONFIG, features=kind), split) for kind in columns
    }
    widths = {kind: result.weights["mean"].shape for kind, result in results.items()}
    assert widths == {"outputs": (1,), "shared": (3,), "both": (4,)}
    alone = FrameFeatures(data.frames.features[:, 1:], data.frames.frames, data.frames.offsets)
    expected = run_trial(CONFIG, dataclasses.replace(data, frames=alone))
    assert results["shared"].curve == expected.curve


def test_a_trial_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    run_trial(CONFIG, make_data())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_score_is_the_best_epochs_and_its_predictions() -> None:
    data, told = make_data(), []
    result = run_trial(CONFIG, data, told.append)
    assert tuple(told) == result.curve
    assert result.best == max(result.curve, key=lambda epoch: epoch.score)
    truth = data.targets[data.rows["val"]]
    assert mean_pcc(truth, result.predictions["val"]) == pytest.approx(result.score, abs=1e-9)
    assert result.per_target.mean() == pytest.approx(result.best.score)


def test_clips_without_frames_are_predicted_by_trains_mean_and_scored() -> None:
    data = make_data()
    keep = np.ones(len(data.frames.frames), bool)
    for clip in (2, 31, 46):  # one of each split
        keep[data.frames.offsets[clip] : data.frames.offsets[clip + 1]] = False
    counts = np.diff(data.frames.offsets)
    counts[[2, 31, 46]] = 0
    offsets = np.concatenate([[0], np.cumsum(counts)])
    frames = FrameFeatures(data.frames.features[keep], data.frames.frames[keep], offsets)
    holey = dataclasses.replace(data, frames=frames)
    result = run_trial(CONFIG, holey)
    train = np.delete(data.targets[:30], 2, axis=0)
    np.testing.assert_allclose(result.predictions["val"][1], train.mean(0), rtol=1e-5)
    np.testing.assert_allclose(result.predictions["test"][1], train.mean(0), rtol=1e-5)
    assert result.filled == {"val": 1, "test": 1}
    truth = data.targets[data.rows["val"]]
    assert mean_pcc(truth, result.predictions["val"]) == pytest.approx(result.score, abs=1e-9)


def test_unlabelled_clips_are_predicted() -> None:
    data = make_data()
    assert run_trial(CONFIG, data).predictions["test"].shape == (15, 3)
    assert len(data.labelled(data.rows["test"])) == 5


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
    {"layers": 2},
    {"hidden": 9},
    {"bidirectional": True},
    {"dropout": 0.4},
    {"pooling": "mean"},
    {"pooling": "attention"},
    {"head_width": 9},
    {"optimiser": "adamw"},
    {"lr": 0.02},
    {"weight_decay": 0.1},
    {"schedule": "cosine"},
    {"clip_norm": 0.01},
    {"ema": 0.9},
    {"label_transform": "sqrt"},
    {"label_transform": "range"},
    {"batch_size": 8},
    {"normalise": False},
    {"seed": 5},
]


def test_no_hyperparameter_is_forgotten() -> None:
    """The rest have tests of their own, here."""
    elsewhere = {"features", "epochs", "patience"}
    named = {name for change in CHANGES for name in change}
    assert named | elsewhere == {field.name for field in dataclasses.fields(TrialConfig)}


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_hyperparameter_matters(change: dict[str, object]) -> None:
    changed = dataclasses.replace(CONFIG, **change)  # type: ignore[arg-type]
    assert run_trial(changed, make_data()).curve != run_trial(CONFIG, make_data()).curve


def test_an_undefined_score_is_a_reason() -> None:
    data = make_data()
    data.targets[data.rows["val"], 1] = 0.5
    with pytest.raises(ValueError, match="no epoch of 6 had a defined score"):
        run_trial(CONFIG, data)


def test_configuration_round_trip() -> None:
    assert TrialConfig.from_dict(CONFIG.to_dict()) == CONFIG
    with pytest.raises(ValueError, match="stride must be at least 1"):
        TrialConfig(stride=0)


def test_an_epoch_counts_from_one() -> None:
    first = run_trial(CONFIG, make_data()).curve[0]
    assert isinstance(first, Epoch)
    assert first.number == 1


def test_unlabelled_clips_change_no_weight_and_no_score() -> None:
    data = make_data()
    for clip in (4, 33):  # of train and of val
        data.targets[clip] = np.nan
    without = {
        split: rows[~np.isin(rows, [4, 33])] for split, rows in data.rows.items() if len(rows)
    }
    one, two = run_trial(CONFIG, data), run_trial(CONFIG, dataclasses.replace(data, rows=without))
    assert one.curve == two.curve
    assert one.score == two.score
    np.testing.assert_array_equal(np.delete(one.predictions["val"], 3, 0), two.predictions["val"])
    assert np.isfinite(one.predictions["val"][3]).all(), "predicted all the same"
