"""Scores of few clips, and undefined scores: what is printed, and what is not estimated."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from harness.dataset import Dataset
from harness.ensembles import intervals
from harness.ensembles.caveats import caveats
from harness.ensembles.construction import construct
from harness.ensembles.ensemble import Ensemble
from harness.ensembles.library import Library, load_library
from harness.ensembles.selection import Recipe
from harness.ensembles.table import effective, show
from tests.studies import make_index, make_study


def built(folder: Path, index: Dataset) -> tuple[Library, Ensemble]:
    make_study(folder, 3, index)
    library = load_library(folder)
    return library, construct(library, Recipe("mean", 2)).ensemble


def printed(library: Library, ensemble: Ensemble) -> list[str]:
    out = Console(file=io.StringIO(), width=200)
    show(out, library, ensemble)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().splitlines()


def line(lines: list[str], start: str) -> str:
    (found,) = (each for each in lines if each.startswith(start))
    return found


def rated(index: Dataset, split: str, count: int) -> Dataset:
    """The same clips, with ratings for the first ones of a split alone."""
    ratings = index.ratings.copy()
    ratings[index.rows(split)[count:]] = np.nan
    return dataclasses.replace(index, targets=ratings)


@pytest.mark.parametrize(
    ("val", "test", "warned"), [(20, 2, "VT"), (29, 40, "V"), (30, 29, "T"), (30, 30, "")]
)
def test_the_number_of_clips_is_beside_every_score(
    tmp_path: Path, val: int, test: int, warned: str
) -> None:
    index = rated(rated(make_index(val=val + 10, test=40), "val", val), "test", test)
    lines = printed(*built(tmp_path / "s", index))
    assert f" on {val} clips of val; best single trial " in line(lines, "Ensemble: ")
    assert f"nested, {val} clips, 5 times in 10 folds" in line(lines, "Expected on new clips: ")
    assert f" on {test} clips, scored once" in line(lines, "Test: ")
    assert any(f"Mean PCC on the {val} rated clips of val" in each for each in lines)
    few = [each[0] for each in lines if "unreliable" in each]
    assert "".join(few) == warned


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda index: rated(index, "test", 0), "0 of its 8 clips have ratings"),
        (lambda index: rated(index, "test", 1), "1 of its 8 clips have ratings"),
        (lambda index: flat(index, "test", 1), "all ratings of Fear-of-Tests are equal"),
    ],
)
def test_a_split_without_a_score_says_why(tmp_path: Path, change, reason: str) -> None:  # type: ignore[no-untyped-def]
    library, ensemble = built(tmp_path / "s", change(make_index(val=40)))
    assert ensemble.test is None
    assert reason in line(printed(library, ensemble), "Test: predicted but not scored: ")


def test_data_without_a_test_split_says_so(tmp_path: Path) -> None:
    lines = printed(*built(tmp_path / "s", make_index(val=40, test=0)))
    assert line(lines, "Test: ") == "Test: the data has no test split"


def flat(index: Dataset, split: str, target: int, others: int = 0) -> Dataset:
    """The same clips; all of a split but the first `others` have the rating 0 of a target."""
    ratings = index.ratings.copy()
    ratings[index.rows(split), target] = 0
    ratings[index.rows(split)[:others], target] = np.linspace(0.5, 1, others)
    return dataclasses.replace(index, targets=ratings)


@pytest.mark.parametrize(("clips", "persons"), [(3, None), (60, 1), (60, 3)])
def test_below_four_groups_there_is_no_estimate(
    tmp_path: Path, clips: int, persons: int | None
) -> None:
    index = make_index(val=clips, test=0)
    if persons:
        groups = tuple(f"p{row % persons}" for row in range(clips))
        index = dataclasses.replace(index, groups=groups)
    library, ensemble = built(tmp_path / "s", index)
    assert ensemble.estimate is None
    lines = printed(library, ensemble)
    assert line(lines, "No nested estimate and no interval: val has too few persons or clips")
    assert not any("95 %" in each or "Expected on new clips" in each for each in lines)


@pytest.mark.parametrize("others", [1, 2])
@pytest.mark.parametrize("clips", [40, 150])
def test_undefined_replicates_are_left_out_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clips: int, others: int
) -> None:
    """Where the jackknife is used, a target that is undefined without one clip has no interval; of
    a bootstrap, undefined replicates are skipped. Neither counts as a PCC of 0."""
    monkeypatch.setattr(intervals, "FEW_GROUPS", 100)
    _, ensemble = built(tmp_path / "s", flat(make_index(clips, 0), "val", 2, others))
    found = ensemble.estimate
    assert found is not None
    # Without one of two clips that differ, the PCC is still defined.
    defined = others == 2 or clips > 100
    assert (found.targets[2].interval is not None) == defined
    assert (found.interval is not None) == defined
    assert all(each.interval is not None for each in found.targets[:2])
    warnings = "\n".join(caveats(ensemble))
    assert ("No interval of the mean: without one of 1 of 40 clips" in warnings) == (not defined)
    assert ("bootstrap replicates were skipped" in warnings) == (clips > 100)
    if clips > 100:
        assert 0 < found.undefined < found.replicates
        # Of a bootstrap: the chance that none of the clips that differ is drawn.
        share = (1 - others / clips) ** clips
        assert found.undefined / found.replicates == pytest.approx(share, abs=0.02)


def test_one_person_with_another_rating_gives_no_interval(tmp_path: Path) -> None:
    index = make_index(40, 0)
    ratings = index.ratings.copy()
    ratings[:, 2] = 0
    ratings[::5, 2] = np.linspace(0.2, 1, 8)
    groups = tuple(f"p{row % 5}" for row in range(40))
    index = dataclasses.replace(index, targets=ratings, groups=groups)
    _, ensemble = built(tmp_path / "s", index)
    assert ensemble.estimate is not None
    assert ensemble.estimate.interval is None
    assert any("without one of 1 of 5 persons" in each for each in caveats(ensemble))


def test_nearly_equal_members_count_as_one(tmp_path: Path) -> None:
    index = make_index(60, 0)
    rng = np.random.default_rng(0)
    base = index.ratings + 0.3 * rng.standard_normal(index.ratings.shape)
    values = [(base + 1e-7 * k * rng.standard_normal(base.shape)).astype(np.float32)
              for k in range(3)]  # fmt: skip
    make_study(tmp_path / "s", 3, index, values=values)
    ensemble = construct(load_library(tmp_path / "s"), Recipe("mean", 3)).ensemble
    assert "3.0 of 3 by influence" in effective(ensemble)
    assert effective(ensemble).endswith(", 1.0 by influence and correlation")
