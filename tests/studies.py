"""Small studies on disk, made through the real writers."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from harness.dataset import Dataset
from harness.metrics import mean_pcc
from harness.predictions import (
    PredictionInfo,
    trial_name,
    write_clips,
    write_predictions,
)
from harness.sealed import MANIFEST, write_sealed
from harness.study.trials import DRIVER, REASON

TARGETS = ("Joy", "Fear-of-Tests", "Awe")


def make_index(val: int = 12, test: int = 8, *, labelled_test: bool = True) -> Dataset:
    """Clips of two splits, interleaved, with random ratings."""
    rng = np.random.default_rng(0)
    splits = rng.permutation(["val"] * val + ["test"] * test).tolist()
    targets = rng.random((val + test, len(TARGETS))).astype(np.float32)
    if not labelled_test:
        targets[np.array(splits) == "test"] = np.nan
    ids = tuple(f"[{number:05d}]" for number in range(val + test))
    return Dataset(ids, tuple(splits), targets, TARGETS, synthetic=True)


def make_predictions(index: Dataset, seed: int) -> dict[str, NDArray[np.float32]]:
    """Ratings with noise; the higher the seed, the noisier."""
    rng = np.random.default_rng(seed)
    predictions = {}
    for split in ("val", "test"):
        truth = np.nan_to_num(index.ratings[index.rows(split)], nan=0.5)
        noise = (0.3 + 0.1 * seed) * rng.standard_normal(truth.shape)
        predictions[split] = (truth + noise).astype(np.float32)
    return predictions


def make_info(index: Dataset, number: int, val: NDArray[np.float32]) -> PredictionInfo:
    """What a trial's file says of itself."""
    ratings = index.ratings[index.rows("val")]
    rated = ~np.isnan(ratings).any(axis=1)
    return PredictionInfo(
        trial_id=trial_name(number),
        config={"loss": "ccc", "stride": 30, "layers": 2},
        seed=number,
        code_version="0",
        data_fingerprint="d" * 64,
        feature_fingerprint="f" * 64,
        targets=index.target_names,
        early_stop_split="val",
        best_epoch=3,
        val_pcc=mean_pcc(ratings[rated], val[rated]),
        created="2026-01-01T00:00:00+00:00",
    )


def write_manifest(folder: Path, **values: object) -> None:
    """What readers of predictions need of study.json."""
    write_sealed(folder / "study.json", MANIFEST, {"oracle": {}, "empty": [], **values})


def reordered(index: Dataset, order: NDArray[np.intp]) -> Dataset:
    """The same clips in another order."""
    return dataclasses.replace(
        index,
        clip_ids=tuple(index.clip_ids[row] for row in order),
        splits=tuple(index.splits[row] for row in order),
        targets=index.ratings[order],
        groups=index.groups and tuple(index.groups[row] for row in order),
    )


def make_study(
    folder: Path,
    trials: int,
    index: Dataset | None = None,
    *,
    base: Dataset | None = None,
    values: Sequence[NDArray[np.float32]] | None = None,
    streams: Sequence[str] = (),
) -> Dataset:
    """Writes a study folder with this number of finished trials.

    Args:
        base: the same clips in another order, in which the predictions are drawn.
        values: the val predictions of each trial; there is no test then.
        streams: those that each trial names, such as face+sound.
    """
    index = index or make_index()
    write_clips(folder / "clips.parquet", index)
    write_manifest(folder, oracle={"val": 0.9, "test": 0.9})
    for number in range(trials):
        if values is not None:
            predictions = {"val": values[number]}
        else:
            predictions = make_predictions(base or index, number)
        if base is not None:
            for split, rows in predictions.items():
                place = {clip: row for row, clip in enumerate(base.ids(split))}
                predictions[split] = rows[[place[clip] for clip in index.ids(split)]]
        info = make_info(index, number, predictions["val"])
        if streams:
            config = {**info.config, "streams": streams[number]}
            info = dataclasses.replace(info, config=config)
        path = folder / "predictions" / f"{trial_name(number)}.parquet"
        write_predictions(path, info, index, predictions)
    return index


def write_log(
    folder: Path,
    *states: TrialState,
    reason: str = "no reason",
    notes: dict[int, dict[str, object]] | None = None,
) -> None:
    """Writes a storage with one trial of each state; values follow the trial numbers. notes: more
    attributes of some trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    study = optuna.create_study(storage=storage, study_name=folder.name, direction="maximize")
    choices = optuna.distributions.CategoricalDistribution(("ccc", "pcc"))
    depth = optuna.distributions.IntDistribution(1, 3)
    for number, state in enumerate(states):
        failed = state == TrialState.FAIL
        score = number / 10 if state == TrialState.COMPLETE else None
        if state == TrialState.PRUNED:
            score = 0.05
        study.add_trial(
            create_trial(
                state=state,
                value=score,
                params={"loss": ("ccc", "pcc")[number % 2], "layers": number % 3 + 1},
                distributions={"loss": choices, "layers": depth},
                intermediate_values={1: 0.01, 2: 0.05} if score is not None else {},
                user_attrs={
                    "seconds": 1.5,
                    DRIVER: "search",
                    **({REASON: reason} if failed else {}),
                    **(notes or {}).get(number, {}),
                },
            )
        )


def make_fold_study(
    folder: Path, trials: int, *, train: int = 60, val: int = 40, invert_val: bool = False
) -> Dataset:
    """A study that was searched with folds: its files also predict train, out of fold."""
    index = make_index(val=train + val, test=8)
    places = index.rows("val")[:train]
    splits = tuple("train" if row in places else s for row, s in enumerate(index.splits))
    index = dataclasses.replace(index, splits=splits)
    write_clips(folder / "clips.parquet", index)
    write_manifest(folder, early_stop_split="folds")
    for number in range(trials):
        rng = np.random.default_rng(number)
        predictions = {
            split: (truth + (0.3 + 0.1 * number) * rng.standard_normal(truth.shape)).astype(
                np.float32
            )
            for split in ("val", "test", "train")
            for truth in [index.ratings[index.rows(split)]]
        }
        if invert_val:
            predictions["val"] = -predictions["val"]
        info = dataclasses.replace(
            make_info(index, number, predictions["val"]),
            early_stop_split="folds",
            optimism={"val": 0.0, "train": 0.01},
        )
        path = folder / "predictions" / f"{trial_name(number)}.parquet"
        write_predictions(path, info, index, predictions)
    return index
