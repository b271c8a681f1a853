"""Which sequences are computed together."""

from itertools import combinations

import pytest
import torch

from harness.models.alike import groups_of_similar_length

HIDDEN = 1000
COST = 10  # of a group, in steps, at HIDDEN units


def cost(lengths: torch.Tensor, groups: list[torch.Tensor]) -> int:
    return sum(int(lengths[rows].max()) * len(rows) + COST for rows in groups)


def least_cost(lengths: torch.Tensor) -> int:
    """Of all ways to cut the sequences in order of their length."""
    ordered, clips = torch.argsort(lengths), len(lengths)
    cuts = (cut for n in range(clips) for cut in combinations(range(1, clips), n))
    return min(cost(lengths, list(torch.tensor_split(ordered, cut))) for cut in cuts)


@pytest.mark.parametrize("seed", range(10))
def test_groups_cost_least(seed: int) -> None:
    lengths = torch.randint(1, 30, (9,), generator=torch.Generator().manual_seed(seed))
    groups = groups_of_similar_length(lengths, HIDDEN)
    assert sorted(torch.cat(groups).tolist()) == list(range(9))
    assert cost(lengths, groups) == least_cost(lengths)


def test_sequences_of_one_length_are_one_group() -> None:
    (rows,) = groups_of_similar_length(torch.full((5,), 12), HIDDEN)
    assert rows.tolist() == [0, 1, 2, 3, 4]
