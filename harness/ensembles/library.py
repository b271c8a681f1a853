"""`predictions/*.parquet` of a study -> one aligned PredictionMatrix, or a reason why not."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import InputError
from harness.metrics import pcc
from harness.predictions import ClipIndex, PredictionInfo, read_clips, read_predictions


@dataclass(frozen=True)
class Refusal:
    """A prediction file that was not used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class PredictionMatrix:
    """The predictions of many trials for one split, row for row of the same clips.

    predictions: (member, clip, target) float32. truth: (clip, target), NaN where unlabelled.
    """

    infos: tuple[PredictionInfo, ...]
    predictions: NDArray[np.float32]
    truth: NDArray[np.float32]
    clip_ids: tuple[str, ...]
    target_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.infos)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(clip,) True where a clip carries ratings."""
        return np.asarray(~np.isnan(self.truth).any(axis=1))

    def member_pcc(self) -> NDArray[np.float64]:
        """(member, target) PCC of each trial on the labelled clips."""
        rows = self.labelled
        return np.stack([pcc(self.truth[rows], member[rows]) for member in self.predictions])

    def pcc_of(self, combined: NDArray[np.float64]) -> NDArray[np.float64]:
        """(target,) PCC of predictions (clip, target) on the labelled clips."""
        return pcc(self.truth[self.labelled], combined[self.labelled])


@dataclass(frozen=True)
class Library:
    """What was read of a study: the matrix, the refused files, and trials that repeat another's
    predictions exactly, as (trial, the one it repeats)."""

    matrix: PredictionMatrix
    index: ClipIndex
    refused: tuple[Refusal, ...]
    duplicates: tuple[tuple[str, str], ...]


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


def load_library(study: Path) -> Library:
    """Reads the val predictions of every trial; what does not fit is refused, by name.

    Raises:
        InputError: no such study, or no eligible file.
    """
    if not study.is_dir():
        raise InputError(f"{study}: no such study")
    index = read_clips(study / "clips.parquet")
    infos, arrays, refused = [], [], []
    for path in prediction_files(study):
        try:
            info, values = read_predictions(path, index, "val")
            if info.trial_id != path.stem:
                raise InputError(f"{path}: says it is trial {info.trial_id}")
        except InputError as error:
            refused.append(Refusal(path, str(error)))
            continue
        infos.append(info)
        arrays.append(values)
    if not infos:
        reason = f"; the first of {len(refused)} refused: {refused[0].reason}" if refused else ""
        raise InputError(f"{study}: no eligible prediction file{reason}")
    matrix = PredictionMatrix(
        tuple(infos),
        np.stack(arrays),
        index.targets[index.rows("val")],
        tuple(index.ids("val")),
        index.target_names,
    )
    return Library(matrix, index, tuple(refused), _duplicates(infos, arrays))


def load_members(
    study: Path, index: ClipIndex, infos: tuple[PredictionInfo, ...], split: str
) -> PredictionMatrix:
    """Some trials' predictions for another split.

    Raises:
        InputError: a member's file does not hold the split: no member is ever left out.
    """
    arrays = []
    for info in infos:
        path = study / "predictions" / f"{info.trial_id}.parquet"
        found, values = read_predictions(path, index, split)
        if found != info:
            raise InputError(f"{path}: changed while it was read; run again")
        arrays.append(values)
    return PredictionMatrix(
        infos,
        np.stack(arrays),
        index.targets[index.rows(split)],
        tuple(index.ids(split)),
        index.target_names,
    )


def _duplicates(
    infos: list[PredictionInfo], arrays: list[NDArray[np.float32]]
) -> tuple[tuple[str, str], ...]:
    first: dict[str, str] = {}
    found = []
    for info, values in zip(infos, arrays, strict=True):
        digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
        other = first.setdefault(digest, info.trial_id)
        if other != info.trial_id:
            found.append((info.trial_id, other))
    return tuple(found)
