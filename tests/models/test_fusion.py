"""Masks, stream dropout and the modules of late fusion."""

import numpy as np
import pytest
import torch

from harness.models.config import TrialConfig
from harness.models.head import Head
from harness.models.scaler import MaskedScaler, Scaler, kept_streams

NAN = float("nan")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_each_stream_is_standardised_by_the_steps_that_have_it() -> None:
    steps = torch.randn(50, 5) * 3 + 1
    steps[::3, :2] = NAN
    steps[1::3, 2:] = NAN
    scaler, first, second = MaskedScaler([2, 3]), Scaler(2), Scaler(3)
    scaler.fit(steps)
    first.fit(steps[~steps[:, 0].isnan(), :2])
    second.fit(steps[~steps[:, 2].isnan(), 2:])
    assert torch.equal(scaler.mean, torch.cat([first.mean, second.mean]))
    assert torch.equal(scaler.scale, torch.cat([first.scale, second.scale]))
    found = scaler(steps[None])[0]
    assert torch.equal(found[::3, :2], torch.zeros(17, 2))
    assert torch.equal(found[1::3, 2:], torch.zeros(17, 3))
    assert torch.equal(found[2::3], torch.cat([first(steps[2::3, :2]), second(steps[2::3, 2:])], 1))


def test_a_stream_that_training_lacks_is_zero() -> None:
    scaler = MaskedScaler([1, 1])
    scaler.fit(torch.tensor([[1.0, NAN], [3.0, NAN]]))
    assert scaler(torch.tensor([[[1.0, 7.0]]])).tolist() == [[[-1.0, 0.0]]]


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_dropout_keeps_at_least_one_stream_that_is_there(dropout: float) -> None:
    present = torch.rand(20_000, 3) < 0.6
    kept = kept_streams(present, dropout) & present
    there = present.any(1)
    assert kept[there].any(1).all()
    alone = present.sum(1) == 1
    assert torch.equal(kept[alone], present[alone])
    # A stream beside two others: dropped by itself, unless all are and it was drawn last.
    expected = 1 - dropout + dropout**3 / 3
    np.testing.assert_allclose(kept[present.all(1)].float().mean(0), expected, atol=0.03)


def test_dropout_masks_streams_in_training_alone() -> None:
    scaler = MaskedScaler([1, 2], dropout=0.5)
    steps = torch.ones(200, 4, 3)
    trained = scaler.train()(steps)
    assert torch.equal(scaler.eval()(steps), steps)
    patterns = {tuple(clip.tolist()) for clip in trained[:, 0].int()}
    assert patterns == {(1, 1, 1), (1, 0, 0), (0, 1, 1)}
    assert torch.equal(trained, trained[:, :1].expand(-1, 4, -1)), "whole streams of a clip"


def late_head() -> Head:
    config = TrialConfig.of(hidden=5, layers=1, fusion="late")
    return Head([2, 3], 3, config).eval()


def test_late_fusion_is_the_vectors_of_the_streams_side_by_side() -> None:
    head, x, y = late_head(), torch.randn(4, 6, 2), torch.randn(4, 5, 3)
    lengths = torch.tensor([6, 2, 1, 3]), torch.tensor([1, 5, 0, 2])
    first, second = head.sequence
    vectors = [first(x, lengths[0]), second(y, lengths[1].clamp_min(1))]
    vectors[1][2] = 0.0
    torch.testing.assert_close(head((x, y), lengths), head.regressor(torch.cat(vectors, 1)))


def test_what_stands_in_a_missing_stream_changes_nothing() -> None:
    head, x = late_head(), torch.randn(2, 6, 2)
    lengths = torch.tensor([6, 2]), torch.tensor([0, 0])
    found = [head((x, torch.full((2, 1, 3), v)), lengths) for v in (NAN, 0.0, 1e6)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_no_gradient_of_a_missing_stream_is_undefined() -> None:
    head = late_head().train()
    lengths = torch.tensor([6, 2]), torch.tensor([0, 1])
    head((torch.randn(2, 6, 2), torch.full((2, 1, 3), NAN)), lengths).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
