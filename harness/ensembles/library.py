"""Reads the prediction files of studies into one aligned PredictionMatrix."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.dataset import Dataset
from harness.errors import InputError
from harness.metrics import pcc
from harness.predictions import PredictionInfo, read_clips, read_predictions
from harness.sampling import shown
from harness.sealed import MANIFEST, read_sealed

Floats = NDArray[np.float64]
# A value of each target.
Targets = dict[str, float]
#: The hyperparameters that define the family of a trial: those that the paper compares.
FAMILY = ("loss", "reduction", "stride", "sequence", "layers")
# Threads: decompression and checks mostly release the interpreter lock.
_READERS = 4


@dataclass(frozen=True, eq=False)
class Study:
    """A study of a library.

    index: the clips of the study.
    order: by split, val or test: the rows of its predictions in the clip order of the first study.
    oracle: by split: the best possible mean PCC, known only for synthetic clips.
    oracle_by_target: the same for each target.
    ceilings: by split: the highest PCC of each target that the agreement of the raters allows;
        empty if single ratings are not known.
    empty: ids of the clips without features, which every trial predicts as the mean rating of
        train.
    streams: names of the streams of the study.
    """

    folder: Path
    index: Dataset = field(repr=False)
    order: dict[str, NDArray[np.intp]] = field(repr=False)
    oracle: dict[str, float]
    oracle_by_target: dict[str, Targets]
    ceilings: dict[str, Targets]
    empty: frozenset[str] = field(repr=False)
    streams: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Trial:
    """A trial of the library.

    id: of the trial, with the study as prefix if there are several studies.
    family: the values of `FAMILY`, such as ccc/per_target/30/full/2, followed by the streams that
        the trial names and, if the library has several, the start of the feature fingerprint.
    """

    id: str
    study: Study
    info: PredictionInfo
    family: str


@dataclass(frozen=True)
class Refusal:
    """A prediction file that was refused, with the reason."""

    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class PredictionMatrix:
    """The predictions of many trials for the clips of one split.

    predictions: (targets, trials, clips) float32.
    truth: (clips, targets) ratings, NaN where a clip is unrated.
    groups: (clips,) the person of each clip; None if not known.
    """

    trials: tuple[Trial, ...] = field(repr=False)
    predictions: NDArray[np.float32] = field(repr=False)
    truth: NDArray[np.float32] = field(repr=False)
    clip_ids: tuple[str, ...] = field(repr=False)
    target_names: tuple[str, ...]
    groups: tuple[str, ...] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(clips,) True where a clip is rated."""
        return np.asarray(~np.isnan(self.truth).any(axis=1))

    @property
    def calibration(self) -> tuple[Floats, Floats]:
        """(targets, trials) slopes and offsets: a prediction is slope x raw output + offset. 1
        and 0 for trials of earlier versions, which are not calibrated."""
        none = np.zeros(len(self.target_names))
        slopes = [trial.info.slope or none + 1 for trial in self.trials]
        return np.array(slopes).T, np.array([trial.info.offset or none for trial in self.trials]).T

    def group_numbers(self, *, grouped: bool = True) -> NDArray[np.intp]:
        """(rated clips,) group numbers from 0: of persons, or of single clips if persons are not
        known or `grouped` is False. The numbers follow the names, so that the order of the clips
        changes no estimate."""
        names = self.groups if self.groups is not None and grouped else self.clip_ids
        return np.unique(np.array(names)[self.labelled], return_inverse=True)[1].astype(np.intp)

    def of(self, slots: Sequence[int]) -> "PredictionMatrix":
        """The same of some trials alone."""
        trials = tuple(self.trials[slot] for slot in slots)
        return replace(self, trials=trials, predictions=self.predictions[:, list(slots)])

    def slots(self, trials: Sequence[str]) -> list[int]:
        """The places of the trials with these ids.

        Raises:
            InputError: there is no such trial.
        """
        places = {trial.id: place for place, trial in enumerate(self.trials)}
        if missing := [trial for trial in trials if trial not in places]:
            some = ", ".join(list(places)[:10])
            raise InputError(f"no eligible trial {missing[0]}; the first eligible ones are {some}")
        return [places[trial] for trial in trials]

    def pcc_of(self, combined: NDArray[np.float64]) -> NDArray[np.float64]:
        """(targets,) PCC of predictions (clips, targets) on the rated clips."""
        return pcc(self.truth[self.labelled], combined[self.labelled])


@dataclass(frozen=True, eq=False)
class Library:
    """The predictions that were read.

    split: that chooses, val or train.
    matrix: the predictions of every trial that can be selected for that split.
    studies: the first study defines the order of the clips. The persons of the clips are those of
        the studies that know them.
    refused: files that failed a check.
    duplicates: (trial, other) where a trial repeats the predictions of another trial exactly; only
        the other is in `matrix`.
    """

    matrix: PredictionMatrix
    studies: tuple[Study, ...]
    refused: tuple[Refusal, ...]
    duplicates: tuple[tuple[str, str], ...]
    split: str = "val"

    @property
    def index(self) -> Dataset:
        """The clips in the order of the first study."""
        return self.studies[0].index

    @property
    def home(self) -> Path:
        """The folder of the first study, in which ensembles are written."""
        return self.studies[0].folder

    def oracle(self, split: str) -> float | None:
        """The best possible mean PCC on a split; None if it is not known or differs between the
        studies, because some see only pictures, for example."""
        first, *others = (study.oracle.get(split) for study in self.studies)
        return first if all(other == first for other in others) else None

    @property
    def ceilings(self) -> Targets:
        """By target: the highest possible PCC on the split that chooses, of the oracle or, if that
        is not known, of the raters; empty if neither is known or the studies differ."""
        first, *others = (
            study.oracle_by_target.get(self.split) or study.ceilings.get(self.split, {})
            for study in self.studies
        )
        return first if all(other == first for other in others) else {}

    @property
    def eligible(self) -> int:
        """Number of files that passed every check, including duplicates."""
        return len(self.matrix) + len(self.duplicates)

    def filled(self, split: str, trials: Sequence[Trial]) -> int:
        """Number of clips of a split that all of these trials predict as the mean rating of train,
        because no study of them has features of the clip."""
        ids = frozenset(self.index.ids(split))
        return len(ids.intersection(*(trial.study.empty for trial in trials)))


def newest_study(results: Path) -> Path:
    """The folder of the study with the newest prediction file.

    Raises:
        InputError: no study has predictions.
    """
    folders = [path.parent for path in results.glob("*/predictions") if any(path.glob("*.parquet"))]
    if not folders:
        raise InputError(
            f"{results}: no study with finished trials; run python -m harness.search first"
        )
    return max(folders, key=lambda folder: (folder / "predictions").stat().st_mtime_ns)


def prediction_files(study: Path) -> list[Path]:
    """The prediction files of a study in the order of their trials, without temporary files."""
    return sorted((study / "predictions").glob("[0-9]*.parquet"))


def load_library(*folders: Path, split: str = "val") -> Library:
    """Reads the predictions of every trial of some studies. Files that fail a check are refused
    and listed.

    Args:
        split: val, or train, of which a study searched with `folds` has out-of-fold predictions.

    Raises:
        InputError: no such study, no eligible file, or studies of different clips, ratings or
            persons.
    """
    studies = _studies(folders)
    if split == "train":
        for study in studies:
            _check_folds(study.folder)
    files = [(study, path) for study in studies for path in prediction_files(study.folder)]
    index = studies[0].index
    rows = index.rows(split)
    predictions = np.empty((len(index.target_names), len(files), len(rows)), np.float32)
    orders = _orders(studies, split)

    def read(slot: int) -> tuple[PredictionInfo, str] | Refusal:
        study, path = files[slot]
        try:
            info, values = read_predictions(path, study.index, split)
            if info.trial_id != path.stem:
                raise InputError(f"{path}: is the file of trial {info.trial_id}, by its metadata")
        except InputError as error:
            return Refusal(path, str(error))
        predictions[:, slot] = values[orders[study.folder]].T
        return info, hashlib.sha256(predictions[:, slot].tobytes()).hexdigest()

    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(read, range(len(files))))
    refused = tuple(item for item in found if isinstance(item, Refusal))
    read_slots = [slot for slot, item in enumerate(found) if not isinstance(item, Refusal)]
    if not read_slots:
        where = ", ".join(map(str, folders))
        raise InputError(f"{where}: no eligible prediction file{_why_none(folders, refused)}")
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
    matrix = _matrix(tuple(trials.values()), _compact(predictions, kept), studies, split)
    return Library(matrix, studies, refused, tuple(duplicates), split)


def _why_none(folders: Sequence[Path], refused: Sequence[Refusal]) -> str:
    """Why some studies have no eligible file, and what to do."""
    if refused:
        return (
            f"; first of {len(refused)} refused files: {refused[0].reason}; run "
            "python -m harness.search again"
        )
    # Imported only here, because optuna and SQLAlchemy are slow to import.
    from harness.study.trials import failures, read_study

    failed: dict[int, str] = {}
    for folder in folders:
        try:
            failed |= failures(read_study(folder, read_sealed(folder / "study.json", MANIFEST)))
        except InputError as error:
            return f"; its trials cannot be read: {error}"
    if failed:
        last = list(failed)[-1]
        return (
            f"; {len(failed)} trials failed, the last is trial {last}: {failed[last]}; correct "
            "that and run python -m harness.search again"
        )
    return "; run python -m harness.search first"


def load_members(library: Library, trials: Sequence[Trial], split: str) -> PredictionMatrix:
    """Reads the predictions of some trials for a split, in the clip order of the first study.

    Args:
        split: val, test or, if the models were trained in folds, train.

    Raises:
        InputError: a file does not contain the split.
    """
    index = library.index
    rows = index.rows(split)
    predictions = np.empty((len(index.target_names), len(trials), len(rows)), np.float32)
    orders = _orders(library.studies, split)
    for slot, trial in enumerate(trials):
        path = trial.study.folder / "predictions" / f"{trial.info.trial_id}.parquet"
        found, values = read_predictions(path, trial.study.index, split)
        if found != trial.info:
            raise InputError(f"{path}: changed while it was read; run the command again")
        predictions[:, slot] = values[orders[trial.study.folder]].T
    return _matrix(tuple(trials), predictions, library.studies, split)


def _orders(studies: tuple[Study, ...], split: str) -> dict[Path, NDArray[np.intp]]:
    """By study: the rows of a split in the clip order of the first study."""
    first = studies[0]
    return {
        study.folder: study.order[split]
        if split in study.order
        else _order(study.folder, study.index, None if study is first else first, split)
        for study in studies
    }


def _check_folds(folder: Path) -> None:
    stopped = read_sealed(folder / "study.json", MANIFEST).get("early_stop_split")
    if stopped != "folds":
        raise InputError(
            f"`choose_on` train: study {folder.name} was stopped by {stopped or 'val'}, so that it "
            "has no out-of-fold predictions of train; search with `folds`"
        )


def _matrix(
    trials: tuple[Trial, ...],
    predictions: NDArray[np.float32],
    studies: tuple[Study, ...],
    split: str,
) -> PredictionMatrix:
    index = studies[0].index
    return PredictionMatrix(
        trials,
        predictions,
        index.ratings[index.rows(split)],
        tuple(index.ids(split)),
        index.target_names,
        _persons(studies, split),
    )


def _persons(studies: tuple[Study, ...], split: str) -> tuple[str, ...] | None:
    """(clips,) the person of each clip in the order of the first study; None if no study knows
    them. InputError if two studies differ."""
    orders = _orders(studies, split)
    found: tuple[str, ...] | None = None
    for study in studies:
        groups = study.index.groups
        if groups is None:
            continue
        own = tuple(groups[row] for row in study.index.rows(split)[orders[study.folder]])
        if found is None:
            found, first = own, study
        for clip, ours, theirs in zip(studies[0].index.ids(split), own, found, strict=True):
            if ours != theirs:
                raise InputError(
                    f"{study.folder / 'clips.parquet'}: clip {clip} is of person {ours}; "
                    f"{first.folder.name} has {theirs}"
                )
    return found


def _studies(folders: Sequence[Path]) -> tuple[Study, ...]:
    names = [folder.name for folder in folders]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(f"`study` {', '.join(names)}: a study is given twice; give each once")
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"`study` {twice[0]}: two studies have this name, and the ids of their trials need "
            "different ones; rename one of the folders"
        )
    studies: list[Study] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such study; run python -m harness.search first, or set --results"
            )
        index = read_clips(folder / "clips.parquet")
        first = studies[0] if studies else None
        order = {split: _order(folder, index, first, split) for split in ("val", "test")}
        studies.append(Study(folder, index, order, *_manifest(folder)))
    return tuple(studies)


def _order(folder: Path, index: Dataset, first: Study | None, split: str) -> NDArray[np.intp]:
    """The rows of a split of `index` in the clip order of the first study."""
    ids = index.ids(split)
    if first is None:
        return np.arange(len(ids))
    file = folder / "clips.parquet"
    wanted = first.index.ids(split)
    strangers = sorted(set(ids).symmetric_difference(wanted))
    if strangers:
        raise InputError(
            f"{file}: {split} has other clips than {first.folder.name}, for example "
            f"{strangers[0]}; combine studies of the same data"
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
) -> tuple[
    dict[str, float], dict[str, Targets], dict[str, Targets], frozenset[str], tuple[str, ...]
]:
    file = folder / "study.json"
    content = read_sealed(file, MANIFEST)
    try:
        oracle = {str(split): float(value) for split, value in content["oracle"].items()}
        by_target, ceilings = (
            {
                str(split): {str(target): float(value) for target, value in values.items()}
                for split, values in content.get(name, {}).items()
            }
            for name in ("oracle_by_target", "ceilings")
        )
        streams = tuple(map(str, content.get("streams", {})))
        return oracle, by_target, ceilings, frozenset(map(str, content["empty"])), streams
    # The checksum only shows that the file is intact: its content may still be invalid.
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file}: is not a valid manifest of a study ({error!r}); restore the file"
        ) from error


def _family(info: PredictionInfo, with_features: bool) -> str:
    parts = [str(shown(info.config).get(name, "-")) for name in FAMILY]
    if streams := info.config.get("streams"):
        parts.append(str(streams))
    if with_features:
        parts.append(info.feature_fingerprint[:8])
    return "/".join(parts)


def _compact(predictions: NDArray[np.float32], kept: list[int]) -> NDArray[np.float32]:
    """Moves the kept trials to the front, in place because the array is large."""
    for new, old in enumerate(kept):
        if new != old:
            predictions[:, new] = predictions[:, old]
    return predictions[:, : len(kept)]
