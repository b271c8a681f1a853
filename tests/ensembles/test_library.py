"""Reading of trials: bad files are refused with a reason, studies are aligned by clip id."""

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import harness.predictions
from harness.dataset import Dataset
from harness.ensembles.construction import construct
from harness.ensembles.library import load_library, load_members
from harness.ensembles.selection import Recipe
from harness.errors import InputError
from harness.predictions import PredictionInfo, trial_name, write_predictions
from tests.studies import (
    make_index,
    make_info,
    make_predictions,
    make_study,
    reordered,
    write_manifest,
)


def write_trial(
    folder: Path, index: Dataset, number: int, values: np.ndarray | None = None, **changes: object
) -> Path:
    """Writes one more trial, with these val predictions if given."""
    predictions = make_predictions(index, number)
    info = make_info(index, number, predictions["val"])
    if values is not None:
        predictions["val"] = values
    info = PredictionInfo(**(vars(info) | changes))
    path = folder / "predictions" / f"{trial_name(number)}.parquet"
    write_predictions(path, info, index, predictions)
    return path


def damage(kind: str, folder: Path, index: Dataset) -> Path:
    """Writes a damaged prediction file as trial 7."""
    val = make_predictions(index, 7)["val"]
    if kind == "a permuted row":
        val[[0, 1]] = val[[1, 0]]
    elif kind == "a constant column":
        val[:, 1] = 0.5
    elif kind == "NaN":
        val[3, 2] = np.nan
    elif kind == "a foreign clip":
        row = index.rows("val")[0]
        ids = (*index.clip_ids[:row], "[99999]", *index.clip_ids[row + 1 :])
        return write_trial(folder, dataclasses.replace(index, clip_ids=ids), 7)
    elif kind == "a renamed target":
        return write_trial(folder, dataclasses.replace(index, target_names=("Joy", "Awe", "X")), 7)
    path = write_trial(folder, index, 7, val)
    if kind == "a truncated file":
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "a flipped bit":
        content = bytearray(path.read_bytes())
        column = pq.ParquetFile(path).metadata.row_group(0).column(3)
        # The last byte of a page: most other bytes of such a small file are not values.
        content[column.data_page_offset + column.total_compressed_size - 1] ^= 1
        path.write_bytes(content)
    return path


DAMAGES = {
    "a flipped bit": "damaged",
    "a truncated file": "damaged",
    "a permuted row": "recorded is",
    "a foreign clip": "other clips",
    "a renamed target": "targets are Joy, Awe, X",
    "a constant column": "Fear-of-Tests is constant",
    "NaN": "Awe holds NaN",
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_refused_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    index = make_study(tmp_path / "s", 3)
    monkeypatch.setattr(harness.predictions, "_check_complete", lambda *_: None)
    path = damage(kind, tmp_path / "s", index)
    library = load_library(tmp_path / "s")
    (refusal,) = library.refused
    assert refusal.path == path
    assert str(path) in refusal.reason
    assert DAMAGES[kind] in refusal.reason
    assert library.eligible == 3


def test_refused_trials_do_not_shift_the_others(tmp_path: Path) -> None:
    index = make_study(tmp_path / "s", 6)
    for number in (0, 3):
        (tmp_path / "s" / "predictions" / f"{trial_name(number)}.parquet").write_bytes(b"no")
    matrix = load_library(tmp_path / "s").matrix
    assert [trial.id for trial in matrix.trials] == ["00001", "00002", "00004", "00005"]
    for place, number in enumerate((1, 2, 4, 5)):
        expected = make_predictions(index, number)["val"].T
        np.testing.assert_array_equal(matrix.predictions[:, place], expected)


def test_duplicate_trials_are_listed_and_not_selected(tmp_path: Path) -> None:
    index = make_study(tmp_path / "s", 3)
    values = make_predictions(index, 1)["val"]
    score = make_info(index, 1, values).val_pcc
    write_trial(tmp_path / "s", index, 4, values, val_pcc=score)
    library = load_library(tmp_path / "s")
    assert library.duplicates == (("00004", "00001"),)
    assert (library.eligible, len(library.matrix)) == (4, 3)
    with pytest.raises(InputError, match="only 3 eligible trials"):
        construct(library, Recipe(top=4))


def test_studies_of_the_same_clips_are_aligned_by_id(tmp_path: Path) -> None:
    index = make_study(tmp_path / "a", 3)
    order = np.random.default_rng(5).permutation(len(index.clip_ids))
    turned = reordered(index, order)
    make_study(tmp_path / "b", 0, turned)
    place = {clip: row for row, clip in enumerate(index.ids("val"))}
    rows = [place[clip] for clip in turned.ids("val")]
    values = make_predictions(index, 1)["val"][rows]
    score = make_info(index, 1, make_predictions(index, 1)["val"]).val_pcc
    write_trial(tmp_path / "b", turned, 0, values, val_pcc=score)
    write_trial(tmp_path / "b", turned, 5)
    library = load_library(tmp_path / "a", tmp_path / "b")
    # Equal predictions in another row order are duplicates.
    assert library.duplicates == (("b/00000", "a/00001"),)
    ids = [trial.id for trial in library.matrix.trials]
    assert ids == ["a/00000", "a/00001", "a/00002", "b/00005"]
    last = library.matrix.trials[3]
    for split in ("val", "test"):
        read = load_members(library, [last], split).predictions[:, 0].T
        by_id = dict(zip(turned.ids(split), make_predictions(turned, 5)[split], strict=True))
        np.testing.assert_array_equal(read, [by_id[clip] for clip in index.ids(split)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"clip_ids": ("[77777]", *make_index().clip_ids[1:])},
            r"other clips than a, for example \[00000\]",
        ),
        ({"target_names": ("Joy", "Awe", "Fear-of-Tests")}, "a has Joy, Fear-of-Tests, Awe"),
        ({"targets": make_index().targets + np.float32(0.1)}, r"clip \[\d+\], Joy is"),
    ],
)
def test_studies_of_different_data_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    index = make_study(tmp_path / "a", 2)
    make_study(tmp_path / "b", 2, dataclasses.replace(index, **change))
    with pytest.raises(InputError, match=message):
        load_library(tmp_path / "a", tmp_path / "b")


def test_a_study_given_twice_is_refused(tmp_path: Path) -> None:
    make_study(tmp_path / "a", 2)
    with pytest.raises(InputError, match="is given twice"):
        load_library(tmp_path / "a", tmp_path / "a")


def test_two_studies_of_the_same_name_are_refused(tmp_path: Path) -> None:
    """Their trials would have the same ids."""
    for home in "xy":
        make_study(tmp_path / home / "demo", 2)
    with pytest.raises(InputError, match="rename one of the folders"):
        load_library(tmp_path / "x" / "demo", tmp_path / "y" / "demo")


def test_a_family_is_defined_by_the_hyperparameters_that_the_paper_compares(tmp_path: Path) -> None:
    index = make_study(tmp_path / "s", 0)
    base = {"loss": "ccc", "reduction": "flat", "stride": 30, "sequence": "full", "layers": 2}
    for number, config in enumerate([base, base | {"seed": 5}, base | {"stride": 15}]):
        write_trial(tmp_path / "s", index, number, config=config)
    write_trial(tmp_path / "s", index, 3, config=base, feature_fingerprint="e" * 64)
    first, second, third, fourth = load_library(tmp_path / "s").matrix.trials
    assert first.family == second.family
    assert len({first.family, third.family, fourth.family}) == 3
    assert third.family == f"ccc/flat/15/full/2/{'f' * 8}"


def with_persons(index: Dataset, persons: int) -> Dataset:
    """The clips divided among this number of persons."""
    groups = tuple(f"p{row % persons}" for row in range(len(index.clip_ids)))
    return dataclasses.replace(index, groups=groups)


@pytest.mark.parametrize("first", ["a", "b"])
def test_the_study_that_knows_the_persons_is_used(tmp_path: Path, first: str) -> None:
    """Also if its clips have another order."""
    index = make_index(val=40)
    order = np.random.default_rng(5).permutation(len(index.clip_ids))
    known = with_persons(index, 8)
    assert known.groups is not None
    groups = tuple(known.groups[row] for row in order)
    turned = dataclasses.replace(reordered(index, order), groups=groups)
    make_study(tmp_path / "a", 3, index)
    make_study(tmp_path / "b", 3, turned, base=index)
    library = load_library(tmp_path / first, tmp_path / "ab".replace(first, ""))
    own = dict(zip(known.clip_ids, known.groups, strict=True))
    assert library.matrix.groups == tuple(own[clip] for clip in library.matrix.clip_ids)
    estimate = construct(library, Recipe(top=2)).ensemble.estimate
    assert estimate is not None
    assert (estimate.grouped, estimate.groups) == (True, 8)


def test_studies_of_different_persons_are_refused(tmp_path: Path) -> None:
    index = make_index()
    for name, persons in (("none", 0), ("four", 4), ("five", 5)):
        make_study(tmp_path / name, 2, with_persons(index, persons) if persons else index)
    message = r"clip \[\d+\] is of person p\d; four has p\d"
    with pytest.raises(InputError, match=message):
        load_library(*(tmp_path / name for name in ("none", "four", "five")))


def test_best_scores_are_known_if_all_studies_have_the_same(tmp_path: Path) -> None:
    """Those of trials on pictures say nothing about trials on sound."""
    for name, best in (("picture", 0.6), ("sound", 0.7), ("again", 0.6)):
        make_study(tmp_path / name, 1)
        write_manifest(
            tmp_path / name, oracle={"val": best}, oracle_by_target={"val": {"Joy": best}}
        )
    same = load_library(tmp_path / "picture", tmp_path / "again")
    assert (same.oracle("val"), same.oracle("test")) == (0.6, None)
    assert same.ceilings == {"Joy": 0.6}
    different = load_library(tmp_path / "picture", tmp_path / "sound")
    assert (different.oracle("val"), different.ceilings) == (None, {})


def test_clips_without_features_are_counted_by_split(tmp_path: Path) -> None:
    index = make_study(tmp_path / "s", 1)
    empty = [*index.ids("test")[:2], index.ids("val")[0]]
    write_manifest(tmp_path / "s", empty=empty)
    library = load_library(tmp_path / "s")
    trials = library.matrix.trials
    assert (library.filled("test", trials), library.filled("val", trials)) == (2, 1)


def test_a_clip_is_filled_if_no_member_has_features_of_it(tmp_path: Path) -> None:
    index = make_index(val=40)
    make_study(tmp_path / "a", 1, index)
    make_study(tmp_path / "b", 0, index)
    write_trial(tmp_path / "b", index, 5)
    first, second, third = index.ids("test")[:3]
    write_manifest(tmp_path / "a", empty=[first, second])
    write_manifest(tmp_path / "b", empty=[second, third])
    library = load_library(tmp_path / "a", tmp_path / "b")
    assert construct(library, Recipe(top=2)).ensemble.filled == 1
    alone = construct(library, Recipe(top=1)).ensemble
    assert (alone.members, alone.filled) == (("a/00000",), 2)
