"""Clips held out of train stop the heads, so that val only selects."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from harness.dataset import Dataset
from harness.errors import InputError
from harness.metrics import mean_pcc
from harness.models.model import predicted
from harness.models.model_file import read_model, write_model
from harness.sampling import EVERY, strides
from harness.trials.folds import check_scorable, fingerprint, hold_out
from harness.trials.trial import run_trial
from tests.datasets import CONFIG, make_data, make_fused, with_stream
from tests.predictors import ROUNDING


def held(data: Dataset, **options: object) -> Dataset:
    options = {"folds": None, "fraction": None, "seed": 0} | options
    return hold_out(data, None, None, **options)[0]  # type: ignore[arg-type]


def test_folds_divide_the_labelled_clips_of_train() -> None:
    data = held(make_data(), folds=4)
    parts = np.concatenate(data.held_out)
    assert sorted(parts) == sorted(data.rated(data.rows("train")))
    assert {len(part) for part in data.held_out} <= {7, 8}
    assert data.early_stop_split == "folds"


def test_a_person_is_in_one_fold() -> None:
    data = make_data()
    people = tuple(f"p{row // 3}" for row in range(60))
    found = hold_out(data, people, None, folds=3, fraction=None, seed=0)[0].held_out
    in_folds = [{people[row] for row in part} for part in found]
    assert len(set.union(*in_folds)) == sum(map(len, in_folds))


def test_the_datas_own_folds_are_taken() -> None:
    data = make_data()
    given = np.zeros(60, np.int64)
    given[data.rows("train")] = np.arange(len(data.rows("train"))) % 5 + 1
    found, notes = hold_out(data, None, given, folds=5, fraction=None, seed=0)
    for fold, part in enumerate(found.held_out, start=1):
        assert (given[part] == fold).all()
    assert not notes
    _, (note,) = hold_out(data, None, given, folds=3, fraction=None, seed=0)
    assert note == "`folds` 3: the data's own 5 folds are not used"


def test_clips_of_no_fold_leave_the_others_where_they_are() -> None:
    """One file that is missing is no reason to divide train anew."""
    data = make_data()
    train = data.rated(data.rows("train"))
    given = np.zeros(60, np.int64)
    given[train] = np.arange(len(train)) % 5 + 1
    given[train[:3]] = 0
    found, (note,) = hold_out(data, None, given, folds=5, fraction=None, seed=0)
    assert "3 rated clips of train are in none of the data's 5 folds" in note
    for fold, part in enumerate(found.held_out, start=1):
        assert set(given[part]) <= {0, fold}
    assert sorted(np.concatenate(found.held_out)) == sorted(train)


def test_what_cannot_score_is_said_before_a_trial_runs() -> None:
    data = make_data()
    check_scorable(data, EVERY)
    val = data.rated(data.rows("val"))
    splits = tuple("test" if row in val[1:] else s for row, s in enumerate(data.splits))
    one = dataclasses.replace(data, splits=splits)
    with pytest.raises(InputError, match="val: 1 rated clips; a correlation needs at least 2"):
        check_scorable(one, EVERY)
    equal = data.ratings.copy()
    equal[val, 1] = 0.5
    with pytest.raises(InputError, match="val: all ratings of B are equal"):
        check_scorable(dataclasses.replace(data, targets=equal), EVERY)
    counts = data.features.counts.copy()
    train = data.rated(data.rows("train"))
    counts[train[:5]] = 0
    gone = dataclasses.replace(
        data.features, offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    )
    held_out = (train[:5], train[5:])
    silent = dataclasses.replace(data, streams={"test": gone}, held_out=held_out)
    with pytest.raises(InputError, match=r"part 1 of 2 .* none of its 5 clips has a step"):
        check_scorable(silent, EVERY)


def test_each_choice_of_streams_must_be_scorable() -> None:
    data = make_fused()
    check_scorable(data, strides(1, 2), ("", "ear", "ear+eye"))
    ear = data.streams["ear"]
    late = dataclasses.replace(  # only the last clips have sound
        ear, offsets=np.where(np.arange(61) <= 45, 0, ear.offsets - ear.offsets[45])
    )
    data = dataclasses.replace(data, streams={**data.streams, "ear": late})
    check_scorable(data, EVERY, ("eye",))
    with pytest.raises(InputError, match="val: none of its 15 clips has a step of ear at"):
        check_scorable(data, EVERY, ("eye", "ear"))
    with pytest.raises(InputError, match="train: none of its 30 rated clips has a step of the st"):
        check_scorable(data, EVERY)


def test_every_training_clip_is_predicted_by_the_head_that_did_not_see_it() -> None:
    data = held(make_data(), folds=3)
    result = run_trial(CONFIG, data)
    assert set(result.predictions) == {"train", "val", "test"}
    heads, fill = result.model.heads(), result.model.fill
    assert len(heads) == 3
    for head, part in zip(heads, data.held_out, strict=True):
        alone = predicted([head], CONFIG, data, part, fill)
        places = np.searchsorted(data.rows("train"), part)
        np.testing.assert_allclose(result.predictions["train"][places], alone, atol=ROUNDING)
    val = data.rows("val")
    np.testing.assert_allclose(
        result.predictions["val"], result.model.predict(data, val), atol=1e-6
    )
    assert mean_pcc(data.ratings[val], result.predictions["val"]) == pytest.approx(result.score)


@pytest.mark.parametrize("loss", ["pcc", "ccc"])
def test_out_of_fold_predictions_may_be_pooled(loss: str) -> None:
    data = held(make_data(600), folds=5)
    found = run_trial(CONFIG.changed(loss=loss), data).predictions["train"]
    train = data.rows("train")
    within = [
        mean_pcc(data.ratings[part], found[np.searchsorted(train, part)]) for part in data.held_out
    ]
    assert mean_pcc(data.ratings[train], found) == pytest.approx(np.mean(within), abs=0.01)


def test_what_is_held_out_never_reaches_a_loss() -> None:
    data = held(make_data(), fraction=0.3)
    assert data.early_stop_split == "held-out"
    assert len(data.held_out) == 1
    spoiled = dataclasses.replace(data, targets=data.ratings.copy())
    spoiled.ratings[data.held_out[0]] = np.roll(spoiled.ratings[data.held_out[0]], 1, axis=0)
    one, two = (run_trial(CONFIG, each) for each in (data, spoiled))
    assert [e.loss for e in one.curve] == [e.loss for e in two.curve]
    assert [e.score for e in one.curve] != [e.score for e in two.curve]


def test_val_does_not_stop_heads_that_clips_of_train_stop() -> None:
    data = held(make_data(), fraction=0.3)
    other = dataclasses.replace(data, targets=data.ratings.copy())
    val = data.rows("val")
    other.ratings[val] = np.roll(other.ratings[val], 1, axis=0)
    one, two = (run_trial(CONFIG, each) for each in (data, other))
    assert one.curve == two.curve
    assert one.score != two.score


def test_the_same_seed_holds_out_the_same() -> None:
    data = make_data()
    assert fingerprint(held(data, folds=3)) == fingerprint(held(data, folds=3))
    assert fingerprint(held(data, folds=3)) != fingerprint(held(data, folds=3, seed=1))
    assert fingerprint(data) == ""


def test_what_cannot_be_held_out_is_said() -> None:
    with pytest.raises(InputError, match="choose one"):
        held(make_data(), folds=3, fraction=0.2)
    with pytest.raises(InputError, match="too few clips"):
        held(make_data(), folds=25)


def test_a_model_of_folds_comes_back_from_its_file(tmp_path: Path) -> None:
    data = held(make_data(), folds=2)
    model = run_trial(CONFIG, data).model
    write_model(tmp_path / "model.safetensors", model)
    again = read_model(tmp_path / "model.safetensors")
    assert (again.config, again.streams, again.targets) == (CONFIG, model.streams, model.targets)
    assert again.early_stop_split == "folds"
    np.testing.assert_array_equal(again.predict(data), model.predict(data))


def test_other_features_than_the_models_are_refused_by_name() -> None:
    data = make_data()
    model = run_trial(CONFIG, data).model
    stream = data.features
    names = stream.specification.columns
    reversed_ = with_stream(data, stream.select(names[::-1]))
    with pytest.raises(InputError, match="column 1 is c3, expected c0"):
        model.predict(reversed_)
    with pytest.raises(InputError, match="3 columns, expected 4"):
        model.predict(with_stream(data, stream.select(names[:3])))
    other = dataclasses.replace(stream.specification, details={"set": "B"})
    with pytest.raises(InputError, match="set B, expected none"):
        model.predict(with_stream(data, dataclasses.replace(stream, specification=other)))


def test_predicting_needs_no_ratings() -> None:
    data = make_data()
    model = run_trial(CONFIG, data).model
    unrated = dataclasses.replace(data, targets=None)
    np.testing.assert_array_equal(model.predict(unrated), model.predict(data))


def test_features_without_names_that_lie_far_from_train_are_reported() -> None:
    data = make_data()
    stream = data.features
    unnamed = dataclasses.replace(stream.specification, columns=())
    plain = with_stream(data, dataclasses.replace(stream, specification=unnamed))
    model = run_trial(CONFIG, plain).model
    assert model.unlike(plain) == ""
    grown = dataclasses.replace(plain.features, values=stream.values * 50)
    assert "4 of 4 features lie far from those of train" in model.unlike(with_stream(data, grown))


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (3, 2, 1, 0), (1, 2, 3, 0)])
@pytest.mark.parametrize("gap", [2.0, 8.0])
def test_permuted_columns_without_names_are_reported(order: tuple[int, ...], gap: float) -> None:
    """Where their means differ; nothing else tells columns of one file from each other."""
    data = make_data()
    stream = data.features
    unnamed = dataclasses.replace(stream.specification, columns=())
    values = stream.values + gap * np.arange(4, dtype=np.float32)
    plain = with_stream(data, dataclasses.replace(stream, specification=unnamed, values=values))
    model = run_trial(CONFIG.changed(epochs=1), plain).model
    assert model.unlike(plain) == ""
    drawn = values + np.float32(0.4)
    moved = with_stream(plain, dataclasses.replace(plain.features, values=drawn))
    assert model.unlike(moved) == "", "another camera, the same order"
    permuted = with_stream(plain, dataclasses.replace(plain.features, values=values[:, order]))
    assert "columns of these files permuted?" in model.unlike(permuted)
