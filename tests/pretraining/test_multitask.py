"""The multi-task loss: its formulas, and that no invalid label reaches it."""

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.encoders.mtl_dan.network import Branches
from harness.metrics import ccc
from harness.pretraining.faces import Labels
from harness.pretraining.multitask import (
    TERMS,
    ClassWeights,
    Seen,
    class_weights,
    head_variance,
    multi_task_terms,
    partition_loss,
    seen,
)

PLAIN = ClassWeights(torch.ones(8), torch.ones(12))
FACES, HEADS = 9, 3


def labels() -> Labels:
    draw = torch.Generator().manual_seed(0)
    return Labels(
        torch.rand(FACES, 2, generator=draw) * 2 - 1,
        torch.randint(0, 8, (FACES,), generator=draw),
        torch.randint(0, 2, (FACES, 12), generator=draw).float(),
    )


def masked() -> Labels:
    """The first three faces have one invalid task each, the fourth one invalid unit."""
    some = labels()
    some.expression[0] = -1
    some.valence_arousal[1] = torch.nan
    some.action_units[2] = torch.nan
    some.action_units[3, 5] = torch.nan
    return some


def branches() -> Branches:
    draw = torch.Generator().manual_seed(1)
    parts = [torch.randn(FACES, width, generator=draw) for width in (8, 12, 2)]
    heads = [torch.randn(FACES, HEADS, 512, generator=draw) for _ in range(2)]
    return Branches(parts[0], parts[1], torch.tanh(parts[2]), heads[0], heads[1])


def terms(out: Seen, truth: Labels, weights: ClassWeights = PLAIN) -> Tensor:
    return multi_task_terms(out, truth, HEADS, weights)


def test_the_terms_are_their_formulas() -> None:
    out, truth = branches(), masked()
    found = dict(zip(TERMS, terms(seen(out), truth).tolist(), strict=True))
    logits, targets = out.expression[1:].double(), truth.expression[1:]
    entropy = -torch.log_softmax(logits, dim=1)[torch.arange(FACES - 1), targets].mean()
    assert found["expression"] == pytest.approx(entropy.item(), rel=1e-5)
    known = ~torch.isnan(truth.action_units)
    p, t = torch.sigmoid(out.action_units.double())[known], truth.action_units[known]
    binary = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
    assert found["action_units"] == pytest.approx(binary.item(), rel=1e-5)
    rated = torch.tensor([row for row in range(FACES) if row != 1])
    concordance = ccc(truth.valence_arousal[rated].numpy(), out.valence_arousal[rated].numpy())
    assert found["valence"] == pytest.approx(1 - concordance[0], rel=1e-4)
    assert found["arousal"] == pytest.approx(1 - concordance[1], rel=1e-4)
    for name, heads in (
        ("expression_heads", out.expression_heads),
        ("action_unit_heads", out.action_unit_heads),
    ):
        partition = np.log(1 + HEADS / heads.numpy().var(axis=1, ddof=1).mean())
        assert found[name] == pytest.approx(partition, rel=1e-4)


@pytest.mark.parametrize("marker", [-5.0, 1e30, torch.inf])
def test_what_the_network_says_of_an_invalid_label_changes_nothing(marker: float) -> None:
    def loss_and_gradients(change: bool) -> list[Tensor]:
        out = Seen(*(part.detach().clone() for part in seen(branches())))
        if change:
            out.expression[0], out.valence_arousal[1] = marker, marker
            out.action_units[2], out.action_units[3, 5] = marker, marker
        leaves = [part.requires_grad_() for part in out]
        found = terms(out, masked())
        return [found.detach(), *torch.autograd.grad(found.sum(), leaves)]

    plain, changed = loss_and_gradients(False), loss_and_gradients(True)
    for a, b in zip(plain, changed, strict=True):
        assert torch.equal(a, b)
        assert torch.isfinite(b).all()
    _, expression, units, ratings, _ = changed
    assert (expression[0] == 0).all()
    assert (ratings[1] == 0).all()
    assert (units[2] == 0).all()
    assert units[3, 5] == 0
    for gradient in (expression[1:], ratings[2:], units[4:]):
        assert (gradient.abs().sum(dim=1) > 0).all(), "valid labels do reach the loss"


@pytest.mark.parametrize("marker", [-1.0, 1e30, torch.nan])
def test_the_markers_themselves_change_nothing(marker: float) -> None:
    out, kept = seen(branches()), masked()
    # A pair of ratings is invalid with either of the two.
    kept.valence_arousal[1] = torch.tensor([torch.nan, marker])
    assert torch.equal(terms(out, kept), terms(out, masked()))
    kept.valence_arousal[1] = torch.tensor([marker, torch.nan])
    assert torch.equal(terms(out, kept), terms(out, masked()))
    assert not torch.equal(terms(out, labels()), terms(out, masked()))


def test_a_batch_without_valid_labels_is_a_zero_with_a_gradient() -> None:
    out = Seen(*(part.clone().requires_grad_() for part in seen(branches())))
    nothing = Labels(
        torch.full((FACES, 2), torch.nan),
        torch.full((FACES,), -1),
        torch.full((FACES, 12), torch.nan),
    )
    found = terms(out, nothing)
    assert found[:4].tolist() == [0, 0, 0, 0]
    gradients = torch.autograd.grad(found.sum(), list(out))
    assert all((gradient == 0).all() for gradient in gradients[:3])


def test_partition_loss_of_one_head_is_zero() -> None:
    heads = torch.rand(4, 1, 512)
    assert partition_loss(head_variance(heads), 1).item() == 0


def test_losses_are_float32_whatever_the_network_ran_in() -> None:
    half = Branches(*(part.bfloat16() for part in branches()))
    assert {part.dtype for part in seen(half)} == {torch.float32}


def test_class_weights_are_inverse_frequencies() -> None:
    truth = masked()
    weights = class_weights(truth, 1.0, 1.0)
    valid = truth.expression[truth.expression >= 0]
    counts = torch.bincount(valid, minlength=8).float()
    present = counts > 0
    expected = len(valid) / (8 * counts[present])
    torch.testing.assert_close(weights.expression[present], expected)
    assert (weights.expression[~present] == 1).all()
    known = truth.action_units[:, 0][~torch.isnan(truth.action_units[:, 0])]
    expected_odds = (known == 0).sum() / (known == 1).sum()
    assert weights.action_units[0] == pytest.approx(expected_odds.item())
    plain = class_weights(truth, 0.0, 0.0)
    assert (plain.expression == 1).all()
    assert (plain.action_units == 1).all()
    roots = class_weights(truth, 0.5, 0.5)
    torch.testing.assert_close(roots.expression, weights.expression.sqrt())


def test_class_weights_reach_the_loss() -> None:
    out, truth = seen(branches()), labels()
    weights = ClassWeights(torch.arange(1.0, 9.0), torch.full((12,), 3.0))
    expression, units = terms(out, truth, weights)[:2]
    w = weights.expression[truth.expression]
    each = -torch.log_softmax(out.expression, dim=1)[torch.arange(FACES), truth.expression]
    torch.testing.assert_close(expression, (w * each).sum() / w.sum())
    p, t = torch.sigmoid(out.action_units), truth.action_units
    torch.testing.assert_close(units, -(3 * t * p.log() + (1 - t) * (1 - p).log()).mean())
