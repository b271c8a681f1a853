"""The head and its losses: padding changes nothing, equal seeds give equal trials."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.correlation import ccc_loss, pcc_loss
from harness.metrics import ccc, pcc
from harness.models.alike import groups_of_similar_length
from harness.models.config import TrialConfig
from harness.models.head import Head
from harness.models.losses import reduced_loss

HEADS = [
    {"pooling": pooling, "bidirectional": both, "layers": layers}
    for pooling in ("last", "mean", "attention")
    for both in (False, True)
    for layers in (1, 2)
] + [{"project": 3}]


def make_head(**options: Any) -> Head:
    """Of 4 features and 3 targets."""
    return Head([4], 3, TrialConfig.of(**options))


@pytest.fixture
def noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**16), clips=st.integers(3, 40), targets=st.integers(1, 7))
def test_losses_are_one_minus_the_metric(seed: int, clips: int, targets: int) -> None:
    rng = np.random.default_rng(seed)
    y, p = rng.random((2, clips, targets))
    assume(min(p.std(0).min(), y.std(0).min()) > 0.05)
    tensors = torch.tensor(p), torch.tensor(y)
    # The epsilon moves a loss by far less than this for ratings that vary.
    np.testing.assert_allclose(ccc_loss(*tensors), 1 - ccc(y, p), atol=2e-3)
    np.testing.assert_allclose(pcc_loss(*tensors), 1 - pcc(y, p), atol=2e-3)


@pytest.mark.parametrize("deviation", [1e-3, 3e-3, 0.3])
def test_the_scale_of_outputs_does_not_change_pcc(deviation: float, noise: torch.Generator) -> None:
    y = torch.rand(128, 1, generator=noise)
    p = 0.5 + deviation * (y + 0.3 * torch.randn(128, 1, generator=noise) - 0.5)
    expected = 1 - pcc(y.numpy(), p.numpy())[0]
    assert reduced_loss("pcc", "flat")(p, y).item() == pytest.approx(expected, abs=1e-3)


def test_reductions_differ_as_they_say(noise: torch.Generator) -> None:
    p, y = torch.rand(2, 20, 7, generator=noise)
    per_target, flat, both = (reduced_loss("ccc", r)(p, y) for r in ("per_target", "flat", "both"))
    assert torch.isclose(per_target, ccc_loss(p, y).mean())
    assert torch.isclose(flat, ccc_loss(p.reshape(-1, 1), y.reshape(-1, 1))[0])
    assert torch.isclose(both, (per_target + flat) / 2)


@pytest.mark.parametrize("loss", ["ccc", "pcc", "mse"])
@pytest.mark.parametrize("reduction", ["per_target", "flat", "both"])
@pytest.mark.parametrize("clips", [1, 5])
def test_gradients_are_finite_for_constant_outputs(loss: str, reduction: str, clips: int) -> None:
    prediction = torch.full((clips, 3), 0.5, requires_grad=True)
    reduced_loss(loss, reduction)(prediction, torch.rand(clips, 3)).backward()
    assert prediction.grad is not None
    assert torch.isfinite(prediction.grad).all()


def test_a_projection_is_a_linear_map_of_scaled_features(noise: torch.Generator) -> None:
    head = make_head(project=3, hidden=5).eval()
    head.scaler.fit(torch.randn(50, 4, generator=noise) * 3 + 1)
    x, lengths = torch.randn(2, 5, 4, generator=noise), torch.tensor([5, 3])
    weight, bias = head.project.weight, head.project.bias
    assert weight.shape == (3, 4)
    projected = ((x - head.scaler.mean) * head.scaler.scale) @ weight.T + bias
    expected = head.regressor(head.sequence(projected, lengths))
    torch.testing.assert_close(head(x, lengths), expected)
    assert not list(make_head().project.parameters())


@pytest.mark.parametrize("options", HEADS)
def test_padding_changes_nothing(options: dict[str, object], noise: torch.Generator) -> None:
    head = make_head(hidden=5, head_width=6, **options).eval()
    lengths = torch.tensor([2, 5, 1])
    x = torch.randn(3, 5, 4, generator=noise)
    expected = torch.cat([head(x[i : i + 1, :n], torch.tensor([n])) for i, n in enumerate(lengths)])
    for filler in (0.0, 1e6):
        padded = torch.full((3, 9, 4), filler)
        for i, n in enumerate(lengths):
            padded[i, :n] = x[i, :n]
        torch.testing.assert_close(head(padded, lengths), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", HEADS)
def test_row_order_changes_nothing(options: dict[str, object], noise: torch.Generator) -> None:
    head = make_head(hidden=5, head_width=6, **options).eval()
    x, lengths = torch.randn(6, 5, 4, generator=noise), torch.tensor([1, 2, 3, 4, 5, 5])
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(head(x[order], lengths[order]), head(x, lengths)[order])


def test_bidirectional_equals_torch_on_whole_sequences(noise: torch.Generator) -> None:
    head = make_head(layers=1, hidden=5, bidirectional=True, pooling="mean").eval()
    reference = torch.nn.LSTM(4, 5, batch_first=True, bidirectional=True)
    for suffix, part in (("", head.sequence.forwards[0]), ("_reverse", head.sequence.backwards[0])):
        for name, value in part.named_parameters():
            getattr(reference, name + suffix).data.copy_(value)
    x, lengths = torch.randn(2, 6, 4, generator=noise), torch.tensor([6, 6])
    pooled = torch.relu(reference(x)[0].mean(1))
    expected = torch.sigmoid(head.regressor.out(torch.relu(head.regressor.widen(pooled))))
    torch.testing.assert_close(head(x, lengths), expected)


def test_standardisation_is_part_of_the_head(noise: torch.Generator) -> None:
    head = make_head(layers=1, hidden=5).eval()
    x, lengths = torch.randn(3, 5, 4, generator=noise), torch.tensor([5, 5, 5])
    train = torch.randn(50, 4, generator=noise) * 3 + 1
    train[:, 3] = 2.0  # never varies
    deviation = train.std(0, unbiased=False)
    plain = head((x - train.mean(0)) / torch.where(deviation > 0, deviation, torch.inf), lengths)
    head.scaler.fit(train)
    torch.testing.assert_close(head(x, lengths), plain)


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("loss", ["ccc", "pcc"])
def test_groups_of_similar_length_change_nothing(
    pooling: str, bidirectional: bool, loss: str, noise: torch.Generator
) -> None:
    torch.manual_seed(0)
    head = make_head(layers=3, hidden=7, bidirectional=bidirectional, pooling=pooling)
    # Predictions that vary, since rounding rules the correlation of those that do not.
    for parameter in head.parameters():
        parameter.data.mul_(2.5)
    lengths = torch.tensor([400, 1, 9, 390, 2, 90, 6, 3])
    assert len(groups_of_similar_length(lengths, hidden=7)) > 1
    features = torch.randn(8, 400, 4, generator=noise, requires_grad=True)
    targets = torch.rand(8, 3, generator=noise)
    found = []
    for way in (head.sequence.together, head.sequence):
        head.zero_grad()
        features.grad = None
        predicted = head.regressor(way(features, lengths))
        value = reduced_loss(loss, "both")(predicted, targets)
        value.backward()  # type: ignore[no-untyped-call]
        assert features.grad is not None
        gradients = [features.grad, *(p.grad for p in head.parameters() if p.grad is not None)]
        gradient = torch.cat([part.flatten() for part in gradients])
        found.append([predicted.detach(), value.detach(), gradient])
    for together, grouped in zip(*found, strict=True):
        assert (grouped - together).norm() <= 1e-5 * together.norm()
