"""The multi-task loss of MTL-DAN: three tasks, each over its valid labels, and two partition
losses.

The terms are those of the authors' public code, which does not mask invalid labels; this does.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.correlation import EPSILON, ccc_loss
from harness.encoders.mtl_dan.network import ACTION_UNITS, EXPRESSIONS, Branches
from harness.pretraining.faces import Labels


@dataclass(frozen=True)
class LossWeights:
    """The factor of every term of the loss. The published factors are all 1.

    expression: cross-entropy. action_units: binary cross-entropy. valence, arousal: 1 - CCC.
    expression_heads, action_unit_heads: the partition losses.
    """

    expression: float = 1.0
    action_units: float = 1.0
    valence: float = 1.0
    arousal: float = 1.0
    expression_heads: float = 1.0
    action_unit_heads: float = 1.0


#: The terms in the order of `multi_task_terms`.
TERMS = tuple(field.name for field in fields(LossWeights))


@dataclass(frozen=True)
class ClassWeights:
    """expression: (8,), the weight of each class. action_units: (12,), the weight of a unit's
    presence relative to its absence."""

    expression: Tensor
    action_units: Tensor


class Seen(NamedTuple):
    """The outputs of a batch that the loss needs, float32: logits (batch, 8) and (batch, 12),
    valence and arousal (batch, 2), and the variance over the heads of each branch (batch, 2)."""

    expression: Tensor
    action_units: Tensor
    valence_arousal: Tensor
    variance: Tensor


def seen(out: Branches) -> Seen:
    """Converts outputs of any precision to float32."""
    heads = (out.expression_heads, out.action_unit_heads)
    return Seen(
        out.expression.float(),
        out.action_units.float(),
        out.valence_arousal.float(),
        torch.stack([head_variance(branch.float()) for branch in heads], dim=1),
    )


def multi_task_terms(out: Seen, labels: Labels, num_heads: int, weights: ClassWeights) -> Tensor:
    """The six terms, (6,), in the order of TERMS; a term without a valid label is zero."""
    labelled = labels.expression >= 0
    known = ~torch.isnan(labels.action_units)
    rated = ~torch.isnan(labels.valence_arousal).any(dim=1)
    concordance = _concordance(out.valence_arousal[rated], labels.valence_arousal[rated])
    return torch.stack(
        [
            _cross_entropy(
                out.expression[labelled], labels.expression[labelled], weights.expression
            ),
            _binary_cross_entropy(
                out.action_units[known],
                labels.action_units[known],
                weights.action_units.expand_as(known)[known],
            ),
            *concordance,
            *(partition_loss(variance, num_heads) for variance in out.variance.unbind(dim=1)),
        ]
    )


def head_variance(heads: Tensor) -> Tensor:
    """Variance over the heads, averaged over the width: (batch, H, 512) -> (batch,).

    Zero for a single head.
    """
    if heads.shape[1] == 1:
        return heads.new_zeros(len(heads))
    return heads.var(dim=1).mean(dim=1)


def partition_loss(variance: Tensor, num_heads: int) -> Tensor:
    """log(1 + H / mean variance over the heads), which makes heads differ (arXiv 2109.07270).

    variance: (batch,) of `head_variance`. Zero for a single head.
    """
    if num_heads == 1:
        return variance.sum()
    return torch.log1p(num_heads / (variance.mean() + EPSILON))


def class_weights(labels: Labels, expression: float, action_units: float) -> ClassWeights:
    """Weights of labels by their frequency among the valid ones; rare labels weigh more.

    Args:
        expression: exponent; class k with share p_k has the weight (1 / (8 p_k)) ** exponent.
        action_units: exponent; a unit that is present in the share q of faces has the weight
            ((1 - q) / q) ** exponent.

    A class or unit that never occurs has the weight 1.
    """
    chosen = labels.expression[labels.expression >= 0]
    share = torch.bincount(chosen, minlength=len(EXPRESSIONS)) / max(1, len(chosen))
    rarity = torch.where(share > 0, 1 / (len(EXPRESSIONS) * share), 1.0)
    present = torch.nan_to_num(torch.nanmean(labels.action_units, dim=0), nan=0.0)
    odds = torch.where((present > 0) & (present < 1), (1 - present) / present, 1.0)
    assert odds.shape == (len(ACTION_UNITS),)
    return ClassWeights(rarity.float() ** expression, odds.float() ** action_units)


# The sum of an empty selection is a zero that keeps its graph, as DistributedDataParallel needs.
def _cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return F.cross_entropy(logits, target, weight) if len(target) else logits.sum()


def _binary_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    if not len(target):
        return logits.sum()
    return F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)


def _concordance(prediction: Tensor, target: Tensor) -> Tensor:
    """1 - CCC for each column, (2,)."""
    return ccc_loss(prediction, target) if len(target) else prediction.sum(dim=0)
