"""Each hyperparameter does what it says. That each changes the result is in test_trial.py."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics import mean_pcc
from harness.models.config import TrialConfig
from harness.models.head import Head
from harness.models.losses import reduced_loss
from harness.models.training import Training, batch_sizes, predict
from harness.trials.trial import Dataset, Trial, run_trial
from tests.datasets import CONFIG, make_data


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # as in a worker


def changed(**values: Any) -> TrialConfig:
    return CONFIG.changed(**values)


def training(data: Dataset | None = None, **values: Any) -> Training:
    """Of a trial that has not begun."""
    return Trial(changed(**values), data or make_data()).trainings[0]


def weights(head: Head) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in head.parameters()])


def test_the_shape_of_the_head() -> None:
    config = changed(layers=3, hidden=6, bidirectional=True, head_width=9, pooling="attention")
    head = Head([4], 7, config)
    assert len(head.sequence.forwards) == len(head.sequence.backwards) == 3
    assert head.sequence.forwards[0].weight_hh_l0.shape == (24, 6)
    assert head.sequence.forwards[1].weight_ih_l0.shape == (24, 12)
    assert head.regressor.widen.weight.shape == (9, 12)
    assert head.regressor.out.weight.shape == (7, 9)
    assert head.sequence.pooling.attention is not None
    assert not len(Head([4], 7, changed()).sequence.backwards)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [("last", lambda x: x[:, -1]), ("mean", lambda x: x.mean(1)), ("attention", None)],
)
def test_pooling_over_time(pooling: str, expected: Any) -> None:
    head = Head([4], 3, changed(pooling=pooling)).eval()
    x = torch.randn(2, 6, 4)
    steps = head.sequence.forwards[0](x)[0]
    if head.sequence.pooling.attention is None:
        pooled = expected(steps)
    else:
        pooled = (head.sequence.pooling.attention(steps).softmax(1) * steps).sum(1)
    rated = torch.sigmoid(head.regressor.out(torch.relu(head.regressor.widen(torch.relu(pooled)))))
    torch.testing.assert_close(head(x, torch.tensor([6, 6])), rated)


def test_glorot_is_of_weights_between_layers_and_opens_forget_gates() -> None:
    config = changed(layers=2, hidden=6, bidirectional=True, initial="glorot")
    head = Head([4], 3, config)
    for first, second in (head.sequence.forwards, head.sequence.backwards):
        assert first.weight_ih_l0.abs().max() <= 6**-0.5, "as torch has it"
        for gate in second.weight_ih_l0.chunk(4):  # (6, 12)
            assert 0.8 * (6 / (6 + 12)) ** 0.5 < gate.abs().max() <= (6 / (6 + 12)) ** 0.5
        for lstm in (first, second):
            assert (lstm.bias_ih_l0.chunk(4)[1] == 1).all()
            assert lstm.weight_hh_l0.abs().max() <= 6**-0.5


def test_uniform_initial_weights_are_those_of_torch() -> None:
    config = changed(layers=1, hidden=6, initial="uniform")
    torch.manual_seed(7)
    ours = Head([4], 3, config).sequence.forwards[0].weight_hh_l0
    torch.manual_seed(7)
    torch.testing.assert_close(ours, torch.nn.LSTM(4, 6).weight_hh_l0)


def test_what_differs_between_clips_comes_through_several_layers() -> None:
    clips, lengths = torch.randn(100, 12, 22), torch.full((100,), 12)
    differ = {}
    for initial in ("glorot", "uniform"):
        for layers in (1, 4):
            torch.manual_seed(0)
            model = Head([22], 7, changed(layers=layers, hidden=64, initial=initial)).sequence
            differ[initial, layers] = model(clips, lengths).std(0).mean().item()
    assert differ["glorot", 4] > differ["glorot", 1] / 4
    assert differ["uniform", 4] < differ["uniform", 1] / 40


def test_dropout_is_of_training_alone() -> None:
    head = Head([4], 3, changed(dropout=0.5, layers=2))
    x, lengths = torch.randn(5, 6, 4), torch.tensor([6, 2, 3, 6, 1])
    head.train()
    assert not torch.equal(head(x, lengths), head(x, lengths))
    head.eval()
    assert torch.equal(head(x, lengths), head(x, lengths))


def test_adam_moves_a_weight_by_the_learning_rate_at_first() -> None:
    for lr in (0.01, 0.001):
        each = training(lr=lr, batch_size=100, weight_decay=0.0)
        before = weights(each.head)
        each.epoch()
        assert (weights(each.head) - before).abs().max().item() == pytest.approx(lr, rel=1e-3)


def test_weight_decay_of_adamw_is_apart_from_the_gradient() -> None:
    moved = {}
    for decay in (0.0, 0.5):
        each = training(optimiser="adamw", weight_decay=decay, batch_size=100, lr=0.01)
        before = weights(each.head)
        each.epoch()
        moved[decay] = weights(each.head)
    torch.testing.assert_close(moved[0.5], moved[0.0] - 0.01 * 0.5 * before)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ("cosine", [(1 + np.cos(np.pi * done / 4)) / 2 for done in range(1, 5)]),
    ],
)
def test_schedules(schedule: str, expected: list[float]) -> None:
    each = training(schedule=schedule, epochs=4, lr=0.02)
    rates = []
    while not each.finished:
        each.epoch()
        rates.append(each.optimiser.param_groups[0]["lr"] / 0.02)
    assert rates == pytest.approx(expected, abs=1e-9)


def test_a_plateau_lowers_the_learning_rate() -> None:
    data = make_data()
    data.targets[data.rows("val"), 0] = 0.5  # no score is ever defined, and none is better
    each = training(data, schedule="plateau", epochs=20, patience=20, lr=0.02)
    for _ in range(8):
        each.epoch()
    assert each.optimiser.param_groups[0]["lr"] == pytest.approx(0.002)


def test_clipping_bounds_the_gradient() -> None:
    norms = {}
    for most in (0.0, 1e-3):
        each = training(clip_norm=most, batch_size=100)
        each.epoch()
        gradients = [p.grad for p in each.head.parameters() if p.grad is not None]
        norms[most] = torch.cat([g.flatten() for g in gradients]).norm().item()
    assert norms[0.0] > 2e-3
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-2)


def test_the_moving_average_of_weights_is_what_is_scored() -> None:
    data = make_data()
    each = training(data, ema=0.75, batch_size=100)
    average = None
    for step in (1, 2, 3):  # an epoch is one batch
        each.epoch()
        now, decay = weights(each.head), min(0.75, (1 + step) / (10 + step))
        average = now if average is None else decay * average + (1 - decay) * now
    assert average is not None
    torch.testing.assert_close(weights(each.scored_head), average)
    predicted = predict(each.scored_head, each.val)
    assert each.curve[-1].score == mean_pcc(each.truth, predicted)
    assert not torch.equal(weights(each.head), average)


def test_a_batch_holds_so_many_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    each, sizes = training(batch_size=7), []
    loss = each.loss
    monkeypatch.setattr(each, "loss", lambda p, y: (sizes.append(len(p)), loss(p, y))[1])
    each.epoch()
    assert sizes == [7, 7, 7, 9]


@given(clips=st.integers(1, 2000), size=st.integers(1, 300))
def test_no_batch_is_much_smaller_than_the_others(clips: int, size: int) -> None:
    sizes = batch_sizes(clips, size, "merge")
    assert sum(sizes) == clips
    assert set(sizes[:-1]) <= {size}
    assert min(size, 3, clips) <= sizes[-1] <= size + max(size // 2, 2)
    assert min(size, 2 * clips) <= 2 * sizes[-1]


@pytest.mark.parametrize("loss", ["ccc", "pcc"])
@pytest.mark.parametrize("rest", [0, 1, 2, 3])
def test_no_step_follows_the_correlation_of_few_clips(loss: str, rest: int) -> None:
    data = make_data(2 * (32 + rest))  # half of them train
    each, norms = training(data, loss=loss, batch_size=16, clip_norm=0.0), []

    def note(*_: object) -> None:
        gradients = [p.grad for p in each.head.parameters() if p.grad is not None]
        norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))

    each.optimiser.register_step_pre_hook(note)
    each.epoch()
    assert len(norms) == 2
    assert max(norms) < 3 * min(norms)


BATCHES = [
    ("merge", 30, 7, [7, 7, 7, 9]),  # a remainder of 2 would be a correlation of two clips
    ("merge", 30, 8, [8, 8, 8, 6]),
    ("merge", 32, 8, [8, 8, 8, 8]),
    ("drop", 30, 8, [8, 8, 8]),
    ("drop", 5, 8, [5]),
    ("merge", 30, 4, [4] * 6 + [6]),
    ("merge", 5, 3, [5]),
    ("merge", 5, 2, [2, 3]),
]


@pytest.mark.parametrize(("last", "clips", "size", "expected"), BATCHES)
def test_the_last_batch(last: str, clips: int, size: int, expected: list[int]) -> None:
    assert batch_sizes(clips, size, last) == expected


def test_without_shuffling_every_epoch_has_the_clips_in_their_order() -> None:
    each = training(shuffle=False, batch_size=7)
    for _ in range(2):
        rows = torch.cat([rows for rows, *_ in each._batches()])
        torch.testing.assert_close(rows, torch.arange(len(each.train)))


def test_a_plateau_of_the_loss_looks_at_the_loss_on_val(monkeypatch: pytest.MonkeyPatch) -> None:
    each, seen = training(schedule="plateau-loss", loss="mse", label_transform="sqrt"), []
    monkeypatch.setattr(each.scheduler, "step", seen.append)
    each.epoch()
    learnt = np.sqrt(predict(each.scored_head, each.val)) - np.sqrt(each.truth)
    assert seen == [pytest.approx(float((learnt**2).mean()), rel=1e-5)]


@pytest.mark.parametrize("transform", ["none", "sqrt", "range"])
def test_what_is_learnt_becomes_ratings_again(transform: str) -> None:
    each = training(label_transform=transform)
    ratings = each.train.targets
    torch.testing.assert_close(each.head.transform.inverse(each.learnt), ratings)
    low, high = ratings.amin(0), ratings.amax(0)
    expected = {"none": ratings, "sqrt": ratings.sqrt(), "range": (ratings - low) / (high - low)}
    torch.testing.assert_close(each.learnt, expected[transform])


def test_features_are_normalised_by_the_training_split_alone() -> None:
    data = make_data()
    bounds = data.features.offsets
    train = data.features.values[: bounds[len(data.rows("train"))]]
    others = data.features.values[bounds[len(data.rows("train"))] :]
    others *= 100
    head = training(data).head
    np.testing.assert_allclose(head.scaler.mean, train.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(head.scaler.scale, 1 / train.std(0), rtol=1e-4)
    plain = training(data, normalise=False).head
    assert not plain.scaler.mean.any()
    assert (plain.scaler.scale == 1).all()


def test_stride_and_rule_make_the_sequences() -> None:
    lengths = {
        (stride, rule): training(stride=stride, sequence=rule).train.lengths_on_host.tolist()
        for stride, rule in itertools.product((1, 2), ("full", "fixed-12"))
    }
    assert lengths[2, "full"] == [-(-n // 2) for n in lengths[1, "full"]]
    assert set(lengths[1, "fixed-12"]) == set(lengths[2, "fixed-12"]) == {12}


def test_the_loss_and_its_reduction_are_what_is_minimised() -> None:
    for loss, reduction in itertools.product(("ccc", "pcc", "mse"), ("per_target", "flat", "both")):
        each = training(loss=loss, reduction=reduction, batch_size=100, dropout=0.0)
        everything = each.train.streams[0].padded(torch.arange(len(each.train)), each.train.longest)
        predicted = each.head(*everything).detach()
        expected = reduced_loss(loss, reduction)(predicted, each.learnt)
        assert each.epoch().loss == pytest.approx(float(expected), rel=1e-4)


def test_a_batch_is_as_long_as_its_longest_clip() -> None:
    each = training(batch_size=3)
    batches = list(each._batches())
    assert sorted(torch.cat([rows for rows, *_ in batches])) == list(range(len(each.train)))
    times = [features.shape[1] for _, features, _ in batches]
    assert times == [int(lengths.max()) for *_, lengths in batches]
    assert len(set(times)) > 1


@pytest.mark.parametrize("loss", ["ccc", "pcc", "mse"])
def test_a_loss_of_half_precision_is_float32(loss: str) -> None:
    p, y = torch.rand(20, 3, dtype=torch.bfloat16), torch.rand(20, 3)
    found = reduced_loss(loss, "both")(p, y)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, reduced_loss(loss, "both")(p.float(), y))


def test_a_constant_output_is_a_reason() -> None:
    data = make_data()
    data.features.values[:] = 1.0
    config = changed(sequence="fixed-12")  # as long as each other, and all alike
    with pytest.raises(ValueError, match="predicts a constant since epoch 1"):
        run_trial(config, data)
