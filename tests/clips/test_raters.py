"""Ceilings from the agreement of raters."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from harness.clips.layouts import read_clips
from harness.clips.raters import RATINGS, reliability
from harness.errors import InputError

# Shrout & Fleiss (1979), table 2: six targets rated by four judges.
JUDGES = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)
NAMES = ("Joy", "Awe")
RATERS = 3


def crossed(clips: int, raters: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Clip and rater numbers of all pairs."""
    return np.repeat(np.arange(clips), raters), np.tile(np.arange(raters), clips)


def test_the_reliability_is_the_published_icc() -> None:
    values, (clips, raters) = JUDGES.reshape(-1, 1), crossed(6, 4)
    # The published ICC(3,4) and ICC(1,4).
    assert reliability(values, clips, raters)[0] == pytest.approx(0.91, abs=0.005)
    assert reliability(values, clips, np.arange(24))[0] == pytest.approx(0.44, abs=0.005)


def test_complete_ratings_have_the_alpha_of_cronbach() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 1)) + rng.normal(size=5) + rng.normal(size=(40, 5))
    alpha = 5 / 4 * (1 - values.var(axis=0, ddof=1).sum() / values.sum(axis=1).var(ddof=1))
    found = reliability(values.reshape(-1, 1), *crossed(40, 5))
    assert found[0] == pytest.approx(alpha, abs=1e-9)


@pytest.mark.parametrize("rater_deviation", [0.0, 2.0])
@pytest.mark.parametrize("pool", [6, 60])
def test_the_ceiling_is_the_pcc_of_a_perfect_prediction(pool: int, rater_deviation: float) -> None:
    rng = np.random.default_rng(pool)
    truth = rng.normal(size=1000)
    # Each clip has two to five raters of the pool.
    chosen = [rng.choice(pool, rng.integers(2, 6), replace=False) for _ in truth]
    clips = np.repeat(np.arange(len(truth)), [len(each) for each in chosen])
    raters = np.concatenate(chosen)
    values = truth[clips] + rater_deviation * rng.normal(size=pool)[raters]
    values += rng.normal(size=len(clips))
    means = np.bincount(clips, values) / np.bincount(clips)
    # A pool of 6 raters differs from their population; the estimate follows the population.
    tolerance = 0.02 if rater_deviation == 0 or pool == 60 else 0.1
    found = np.sqrt(reliability(values[:, None], clips, raters))[0]
    assert found == pytest.approx(np.corrcoef(truth, means)[0, 1], abs=tolerance)


def test_raters_without_agreement_allow_nothing() -> None:
    values = np.array([[0.0], [1.0], [1.0], [0.0]])
    assert reliability(values, *crossed(2, 2))[0] == 0


def folder(
    root: Path, change: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table
) -> Path:
    """The layout `plain` with features, and `ratings.csv` after a change."""
    rng = np.random.default_rng(0)
    ids = [f"c{number:02d}" for number in range(40)]
    truth = rng.uniform(0.3, 0.7, (40, 1, 2))
    ratings = np.clip(truth + 0.1 * rng.standard_normal((40, RATERS, 2)), 0, 1)
    table = pd.DataFrame(ratings.mean(axis=1), columns=NAMES)
    table.insert(0, "clip_id", ids)
    table.insert(1, "split", ["train"] * 10 + ["val"] * 20 + ["test"] * 10)
    table.to_csv(root / "clips.csv", index=False)
    (root / "features").mkdir()
    for clip in ids:
        np.save(root / "features" / f"{clip}.npy", np.ones((2, 3), np.float32))
    rows = pd.DataFrame(ratings.reshape(-1, 2), columns=NAMES).astype(str)
    rows.insert(0, "clip_id", np.repeat(ids, RATERS))
    rows.insert(1, "rater", [f"r{number}" for number in range(RATERS)] * 40)
    change(rows).to_csv(root / RATINGS, index=False)
    return root


def test_each_split_and_target_has_a_ceiling(tmp_path: Path) -> None:
    clips = read_clips(folder(tmp_path))
    assert list(clips.ceilings) == ["train", "val", "test"]
    assert list(clips.ceilings["val"]) == list(NAMES)
    assert clips.ceilings["val"] == pytest.approx(clips.ceilings["test"])  # equal numbers of raters
    assert 0.8 < clips.ceilings["val"]["Joy"] < 0.95  # about sqrt(.0133 / (.0133 + .01 / 3))
    assert clips.notes == ()


def test_scale_order_and_brackets_change_no_ceiling(tmp_path: Path) -> None:
    def changed(table: pd.DataFrame) -> pd.DataFrame:
        table["Joy"] = (100 * table["Joy"].astype(float)).astype(str)
        table["clip_id"] = "[" + table["clip_id"] + "]"
        return table.sample(frac=1, random_state=0)[["Awe", "rater", "Joy", "clip_id"]]

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain, other = read_clips(folder(tmp_path / "a")), read_clips(folder(tmp_path / "b", changed))
    assert other.ceilings["val"] == pytest.approx(plain.ceilings["val"])


def test_a_file_of_this_name_without_raters_is_something_else(tmp_path: Path) -> None:
    clips = read_clips(folder(tmp_path, lambda table: table.drop(columns="rater")))
    assert clips.ceilings == {}
    (note,) = clips.notes
    assert "not used as the ratings of single raters" in note


def cell(row: int, column: str, value: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(table: pd.DataFrame) -> pd.DataFrame:
        table.loc[row, column] = value
        return table

    return change


BAD: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "no target": (lambda t: t.drop(columns="Awe"), "no column Awe"),
    "unnamed rater": (cell(4, "rater", ""), "line 6, rater: is empty"),
    "rated twice": (cell(4, "rater", "r0"), "line 6: rater r0 has rated clip c01"),
    "no number": (cell(4, "Joy", "much"), "line 6, Joy: 'much' is no rating"),
    "rated in part": (cell(4, "Joy", ""), "line 6: some ratings are empty"),
    "other clips": (lambda t: t.assign(clip_id="x" + t["clip_id"]), "no row is of a clip"),
    "one rater": (lambda t: t[t["rater"] == "r0"], "0 clips have two or more raters"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_ratings_are_refused(tmp_path: Path, kind: str) -> None:
    change, message = BAD[kind]
    with pytest.raises(InputError, match=message) as error:
        read_clips(folder(tmp_path, change))
    assert str(tmp_path / RATINGS) in str(error.value)


NOTED: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "unknown clip": (cell(0, "clip_id", "c99"), "1 clips are not in the data: c99"),
    "clip without ratings": (
        lambda t: t[t["clip_id"] != "c15"], "1 rated clips of val are missing: c15"
    ),
    "other column": (lambda t: t.assign(age="3"), "column age is not used"),
    "empty row": (
        lambda t: pd.concat([t, t.head(1).assign(rater="r9", Joy="", Awe="")]),
        "1 rows without ratings are not used: lines 122",
    ),
    "other targets": (lambda t: t.assign(Joy=t["Joy"].sample(frac=1, random_state=0).to_numpy()),
                      "Joy: the targets are not the mean ratings"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NOTED)
def test_what_is_not_used_is_noted(tmp_path: Path, kind: str) -> None:
    change, message = NOTED[kind]
    clips = read_clips(folder(tmp_path, change))
    assert clips.ceilings["val"]
    assert any(message in note for note in clips.notes), clips.notes
