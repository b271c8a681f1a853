"""Scores of the trials by the streams that they read."""

from pathlib import Path

import numpy as np
import pytest

from harness.choices import METHODS
from harness.ensembles.by_streams import added_by_streams, by_streams
from harness.ensembles.construction import Construction, construct, nested_score
from harness.ensembles.library import load_library
from harness.ensembles.selection import Recipe
from tests.studies import make_index, make_study

# Fewer trials of a single stream than `mean` has members.
STREAMS = ("face+sound",) * 6 + ("face",) * 3 + ("sound",) * 3


def built(folder: Path, recipe: Recipe) -> Construction:
    make_study(folder, len(STREAMS), make_index(val=40), streams=STREAMS)
    return construct(load_library(folder), recipe)


@pytest.mark.parametrize("method", [*METHODS, "auto"])
def test_few_trials_of_a_stream_have_a_score(tmp_path: Path, method: str) -> None:
    made = built(tmp_path / "s", Recipe(method))
    found = {each.streams: each for each in by_streams(made)}
    assert {name: each.trials for name, each in found.items()} == {
        "face+sound": 6,
        "face": 3,
        "sound": 3,
    }
    assert np.isfinite([each.nested for each in found.values()]).all()
    assert {each.stream for each in added_by_streams(made)} == {"face", "sound"}


def test_few_trials_are_all_members(tmp_path: Path) -> None:
    made = built(tmp_path / "s", Recipe())
    found = {each.streams: each.nested for each in by_streams(made)}
    assert found["face"] == nested_score(made.library.matrix, [6, 7, 8], Recipe(top=3))


@pytest.mark.parametrize("method", ["greedy", "bagged"])
def test_few_trials_change_no_number_of_steps(tmp_path: Path, method: str) -> None:
    recipe = Recipe(method, top=20)
    made = built(tmp_path / "s", recipe)
    found = {each.streams: each.nested for each in by_streams(made)}
    assert found["face"] == nested_score(made.library.matrix, [6, 7, 8], recipe)


def test_a_limit_per_family_leaves_fewer_members(tmp_path: Path) -> None:
    made = built(tmp_path / "s", Recipe(per_family=2))
    found = {each.streams: each.nested for each in by_streams(made)}
    wanted = Recipe(top=2, per_family=2)
    assert found["face"] == nested_score(made.library.matrix, [6, 7, 8], wanted)


def test_the_choice_of_a_method_is_nested(tmp_path: Path) -> None:
    """Within each fold, as in the score of the ensemble itself: the best of the scores of all
    methods would be optimistic."""
    index = make_index(val=40, test=0)
    noise = np.random.default_rng(0).standard_normal((8, 40, 3))
    values = [(index.ratings + each).astype(np.float32) for each in noise]
    make_study(tmp_path / "s", 8, index, values=values)
    library = load_library(tmp_path / "s")
    estimate = construct(library, Recipe("auto")).ensemble.estimate
    assert estimate is not None
    assert estimate.methods is not None
    assert estimate.nested < max(estimate.methods.values()) - 0.001
    found = nested_score(library.matrix, range(8), Recipe("auto"))
    assert found == pytest.approx(estimate.nested)
