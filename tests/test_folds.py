"""Clips held out of train stop the heads, so that val only selects."""

import dataclasses

import numpy as np
import pytest

from harness.errors import InputError
from harness.metrics import mean_pcc
from harness.models.checkpoint import Head, read_head, write_head
from harness.trials.folds import check_scorable, fingerprint, hold_out
from harness.trials.trial import TrialData, predict_clips, run_trial
from tests.test_trial import CONFIG, make_data


def held(data: TrialData, **options: object) -> TrialData:
    options = {"folds": None, "fraction": None, "seed": 0} | options
    return hold_out(data, None, None, **options)[0]  # type: ignore[arg-type]


def test_folds_divide_the_labelled_clips_of_train() -> None:
    data = held(make_data(), folds=4)
    parts = np.concatenate(data.held_out)
    assert sorted(parts) == sorted(data.labelled(data.rows["train"]))
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
    given[data.rows["train"]] = np.arange(len(data.rows["train"])) % 5 + 1
    found, notes = hold_out(data, None, given, folds=5, fraction=None, seed=0)
    for fold, part in enumerate(found.held_out, start=1):
        assert (given[part] == fold).all()
    assert not notes
    _, (note,) = hold_out(data, None, given, folds=3, fraction=None, seed=0)
    assert note == "--folds 3: the data's own 5 folds are not used"


def test_clips_of_no_fold_leave_the_others_where_they_are() -> None:
    """One file that is missing is no reason to divide train anew."""
    data = make_data()
    train = data.labelled(data.rows["train"])
    given = np.zeros(60, np.int64)
    given[train] = np.arange(len(train)) % 5 + 1
    given[train[:3]] = 0
    found, (note,) = hold_out(data, None, given, folds=5, fraction=None, seed=0)
    assert "3 labelled clips of train are in none of the data's 5 folds" in note
    for fold, part in enumerate(found.held_out, start=1):
        assert set(given[part]) <= {0, fold}
    assert sorted(np.concatenate(found.held_out)) == sorted(train)


def test_what_cannot_score_is_said_before_a_trial_runs() -> None:
    data = make_data()
    check_scorable(data, (1,), ("joy", "awe"))
    val = data.labelled(data.rows["val"])
    one = dataclasses.replace(data, rows=data.rows | {"val": val[:1]})
    with pytest.raises(InputError, match="val: 1 labelled clips; a correlation needs at least 2"):
        check_scorable(one, (1,), ("joy", "awe"))
    equal = data.targets.copy()
    equal[val, 1] = 0.5
    with pytest.raises(InputError, match="val: all ratings of awe are equal"):
        check_scorable(dataclasses.replace(data, targets=equal), (1,), ("joy", "awe"))
    counts = np.diff(data.frames.offsets).copy()
    train = data.labelled(data.rows["train"])
    counts[train[:5]] = 0
    gone = dataclasses.replace(
        data.frames, offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    )
    held_out = (train[:5], train[5:])
    silent = dataclasses.replace(data, frames=gone, held_out=held_out)
    with pytest.raises(InputError, match=r"part 1 of 2 .* none of its 5 clips gave a frame"):
        check_scorable(silent, (1,), ("joy", "awe"))


def test_every_training_clip_is_predicted_by_the_head_that_did_not_see_it() -> None:
    data = held(make_data(), folds=3)
    result = run_trial(CONFIG, data)
    assert set(result.predictions) == {"train", "val", "test"}
    head = Head("0", CONFIG, ("a", "b", "c"), "", "folds", result.fill, result.weights)
    models = head.models()
    assert len(models) == 3
    for model, part in zip(models, data.held_out, strict=True):
        alone, _ = predict_clips([model], CONFIG, data, part, result.fill)
        places = np.searchsorted(data.rows["train"], part)
        np.testing.assert_allclose(result.predictions["train"][places], alone, atol=1e-6)
    val = data.rows["val"]
    mean, _ = predict_clips(models, CONFIG, data, val, result.fill)
    np.testing.assert_allclose(result.predictions["val"], mean, atol=1e-6)
    assert mean_pcc(data.targets[val], result.predictions["val"]) == pytest.approx(result.score)


def test_what_is_held_out_never_reaches_a_loss() -> None:
    data = held(make_data(), fraction=0.3)
    assert data.early_stop_split == "held-out"
    assert len(data.held_out) == 1
    spoiled = dataclasses.replace(data, targets=data.targets.copy())
    spoiled.targets[data.held_out[0]] = np.roll(spoiled.targets[data.held_out[0]], 1, axis=0)
    one, two = (run_trial(CONFIG, each) for each in (data, spoiled))
    assert [e.loss for e in one.curve] == [e.loss for e in two.curve]
    assert [e.score for e in one.curve] != [e.score for e in two.curve]


def test_val_does_not_stop_heads_that_clips_of_train_stop() -> None:
    data = held(make_data(), fraction=0.3)
    other = dataclasses.replace(data, targets=data.targets.copy())
    val = data.rows["val"]
    other.targets[val] = np.roll(other.targets[val], 1, axis=0)
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


def test_heads_of_folds_come_back_from_their_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    result = run_trial(CONFIG, held(make_data(), folds=2))
    head = Head("00003", CONFIG, ("a", "b", "c"), "f", "folds", result.fill, result.weights)
    write_head(tmp_path / "head.safetensors", head)
    again = read_head(tmp_path / "head.safetensors")
    assert (again.config, again.early_stop_split) == (CONFIG, "folds")
    assert [len(m.state_dict()) for m in again.models()] == [
        len(m.state_dict()) for m in head.models()
    ]
    np.testing.assert_array_equal(again.fill, result.fill)
