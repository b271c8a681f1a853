"""`predictions/*.parquet` of studies -> one aligned PredictionMatrix, or a reason why not."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.dataset import Dataset
from harness.errors import InputError
from harness.metrics import pcc
from harness.predictions import PredictionInfo, read_clips, read_predictions
from harness.sealed import MANIFEST, read_sealed

#: The fields of a trial's configuration that make its family: what the paper compares.
FAMILY = ("loss", "reduction", "stride", "sequence", "layers")
# Decompression and checks release the interpreter for most of a file's time.
_READERS = 4


@dataclass(frozen=True)
class Study:
    """A study as ensembles see it.

    index: its own clips. order: split -> rows of its val or test predictions in the order of the
    library's first study. oracle: best possible mean PCC on each split, of synthetic clips
    alone; oracle_by_target: the same for each target.
    empty: ids of the clips without features, which every trial predicts by the mean of train.
    """

    folder: Path
    index: Dataset
    order: dict[str, NDArray[np.intp]]
    oracle: dict[str, float]
    oracle_by_target: dict[str, dict[str, float]]
    empty: frozenset[str]


@dataclass(frozen=True)
class Trial:
    """A trial of the library. id: the trial's, with its study before it where there are several.
    family: the values of `FAMILY`, such as ccc/per_target/30/full/2, and the beginning of the
    features' fingerprint where the library holds several."""

    id: str
    study: Study
    info: PredictionInfo
    family: str


@dataclass(frozen=True)
class Refusal:
    """A prediction file that was not used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class PredictionMatrix:
    """The predictions of many trials for one split, row for row of the same clips.

    predictions: (target, trial, clip) float32, so that the trials of one target lie side by side.
    truth: (clip, target), NaN where unlabelled. groups: (clip,) the person of each, if known.
    """

    trials: tuple[Trial, ...]
    predictions: NDArray[np.float32]
    truth: NDArray[np.float32]
    clip_ids: tuple[str, ...]
    target_names: tuple[str, ...]
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(clip,) True where a clip carries ratings."""
        return np.asarray(~np.isnan(self.truth).any(axis=1))

    def pcc_of(self, combined: NDArray[np.float64]) -> NDArray[np.float64]:
        """(target,) PCC of predictions (clip, target) on the labelled clips."""
        return pcc(self.truth[self.labelled], combined[self.labelled])


@dataclass(frozen=True)
class Library:
    """What was read: the val predictions of every trial that may be chosen, the refused files,
    and trials left out since they repeat another's predictions exactly, as (trial, the other)."""

    matrix: PredictionMatrix
    studies: tuple[Study, ...]
    refused: tuple[Refusal, ...]
    duplicates: tuple[tuple[str, str], ...]

    @property
    def index(self) -> Dataset:
        """The clips, in the order of the first study."""
        return self.studies[0].index

    @property
    def home(self) -> Path:
        """The folder of the first study: where ensembles are written."""
        return self.studies[0].folder

    @property
    def eligible(self) -> int:
        """How many files passed every check, repeated ones included."""
        return len(self.matrix) + len(self.duplicates)

    def filled(self, split: str) -> int:
        """How many clips of a split have no features in some study and are predicted by a mean."""
        empty = frozenset().union(*(study.empty for study in self.studies))
        return len(empty.intersection(self.index.ids(split)))


def newest_study(results: Path) -> Path:
    """The study whose predictions were written last.

    Raises:
        InputError: there is none.
    """
    folders = [path.parent for path in results.glob("*/predictions") if any(path.glob("*.parquet"))]
    if not folders:
        raise InputError(
            f"{results}: no study with finished trials; run python -m harness.search first"
        )
    return max(folders, key=lambda folder: (folder / "predictions").stat().st_mtime_ns)


def prediction_files(study: Path) -> list[Path]:
    """The prediction files of a study, in the order of their trials; temporary ones left out."""
    return sorted((study / "predictions").glob("[0-9]*.parquet"))


def load_library(*folders: Path) -> Library:
    """Reads the val predictions of every trial of some studies; what does not fit is refused.

    Raises:
        InputError: no such study, no eligible file, or studies of other clips or ratings.
    """
    studies = _studies(folders)
    files = [(study, path) for study in studies for path in prediction_files(study.folder)]
    index = studies[0].index
    rows = index.rows("val")
    predictions = np.empty((len(index.target_names), len(files), len(rows)), np.float32)

    def read(slot: int) -> tuple[PredictionInfo, str] | Refusal:
        study, path = files[slot]
        try:
            info, values = read_predictions(path, study.index, "val")
            if info.trial_id != path.stem:
                raise InputError(f"{path}: says it is trial {info.trial_id}")
        except InputError as error:
            return Refusal(path, str(error))
        predictions[:, slot] = values[study.order["val"]].T
        return info, hashlib.sha256(predictions[:, slot].tobytes()).hexdigest()

    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(read, range(len(files))))
    refused = tuple(item for item in found if isinstance(item, Refusal))
    read_slots = [slot for slot, item in enumerate(found) if not isinstance(item, Refusal)]
    if not read_slots:
        reason = f"; the first of {len(refused)} refused: {refused[0].reason}" if refused else ""
        where = ", ".join(map(str, folders))
        raise InputError(
            f"{where}: no eligible prediction file{reason}; python -m harness.search makes some"
        )
    several = len({item[0].feature_fingerprint for item in found if isinstance(item, tuple)}) > 1
    trials: dict[str, Trial] = {}
    kept, duplicates = [], []
    for slot, item in enumerate(found):
        if isinstance(item, Refusal):
            continue
        (study, _), (info, digest) = files[slot], item
        name = f"{study.folder.name}/{info.trial_id}" if len(studies) > 1 else info.trial_id
        if digest in trials:
            duplicates.append((name, trials[digest].id))
            continue
        trials[digest] = Trial(name, study, info, _family(info, several))
        kept.append(slot)
    matrix = PredictionMatrix(
        tuple(trials.values()),
        _compact(predictions, kept),
        index.ratings[rows],
        tuple(index.ids("val")),
        index.target_names,
        None if index.groups is None else tuple(index.groups[row] for row in rows),
    )
    return Library(matrix, studies, refused, tuple(duplicates))


def load_members(library: Library, trials: Sequence[Trial], split: str) -> PredictionMatrix:
    """Some trials' predictions for a split, clips in the order of the library's first study; of
    train, too, where heads were trained in folds.

    Raises:
        InputError: a member's file does not hold the split: no member is ever left out.
    """
    index = library.index
    rows = index.rows(split)
    predictions = np.empty((len(index.target_names), len(trials), len(rows)), np.float32)
    first = library.studies[0]
    orders = {
        study.folder: study.order[split]
        if split in study.order
        else _order(study.folder, study.index, None if study is first else first, split)
        for study in library.studies
    }
    for slot, trial in enumerate(trials):
        path = trial.study.folder / "predictions" / f"{trial.info.trial_id}.parquet"
        found, values = read_predictions(path, trial.study.index, split)
        if found != trial.info:
            raise InputError(f"{path}: changed while it was read; run again")
        predictions[:, slot] = values[orders[trial.study.folder]].T
    ids = tuple(index.ids(split))
    return PredictionMatrix(
        tuple(trials), predictions, index.ratings[rows], ids, index.target_names
    )


def _studies(folders: Sequence[Path]) -> tuple[Study, ...]:
    names = [folder.name for folder in folders]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(f"--study {', '.join(names)}: one is named twice; name each study once")
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"--study {twice[0]}: two studies have this name, by which their trials are told "
            "apart; rename the folder of one"
        )
    studies: list[Study] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such study; run python -m harness.search first, or give --results"
            )
        index = read_clips(folder / "clips.parquet")
        first = studies[0] if studies else None
        order = {split: _order(folder, index, first, split) for split in ("val", "test")}
        studies.append(Study(folder, index, order, *_manifest(folder)))
    return tuple(studies)


def _order(folder: Path, index: Dataset, first: Study | None, split: str) -> NDArray[np.intp]:
    """The rows of a split of `index` in the order of the first study, whose clips it must hold."""
    ids = index.ids(split)
    if first is None:
        return np.arange(len(ids))
    file = folder / "clips.parquet"
    wanted = first.index.ids(split)
    strangers = sorted(set(ids).symmetric_difference(wanted))
    if strangers:
        raise InputError(
            f"{file}: {split} has other clips than {first.folder.name}, {strangers[0]} for one; "
            "ensemble studies of the same data"
        )
    if index.target_names != first.index.target_names:
        raise InputError(
            f"{file}: targets are {', '.join(index.target_names)}; {first.folder.name} has "
            f"{', '.join(first.index.target_names)}"
        )
    place = {clip: row for row, clip in enumerate(ids)}
    order = np.array([place[clip] for clip in wanted], dtype=np.intp)
    ours = index.ratings[index.rows(split)][order]
    theirs = first.index.ratings[first.index.rows(split)]
    differs = ~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))
    if differs.any():
        row, column = np.argwhere(differs)[0]
        raise InputError(
            f"{file}: clip {wanted[row]}, {index.target_names[column]} is {ours[row, column]}; "
            f"{first.folder.name} has {theirs[row, column]}"
        )
    return order


def _manifest(
    folder: Path,
) -> tuple[dict[str, float], dict[str, dict[str, float]], frozenset[str]]:
    file = folder / "study.json"
    content = read_sealed(file, MANIFEST)
    try:
        oracle = {str(split): float(value) for split, value in content["oracle"].items()}
        by_target = {
            str(split): {str(target): float(value) for target, value in values.items()}
            for split, values in content.get("oracle_by_target", {}).items()
        }
        return oracle, by_target, frozenset(map(str, content["empty"]))
    # Its seal is a checksum, which anyone can make: what it says may be anything.
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file}: says not what a study is ({error!r})") from error


def _family(info: PredictionInfo, with_features: bool) -> str:
    parts = [str(info.config.get(name, "-")) for name in FAMILY]
    if with_features:
        parts.append(info.feature_fingerprint[:8])
    return "/".join(parts)


def _compact(predictions: NDArray[np.float32], kept: list[int]) -> NDArray[np.float32]:
    """The kept trials, moved to the front in place: the array is too large to be held twice."""
    for new, old in enumerate(kept):
        if new != old:
            predictions[:, new] = predictions[:, old]
    return predictions[:, : len(kept)]
