"""A study's folder -> everything that its report shows. Reads, and writes nothing."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from harness.ensembles.bootstrap import replicates
from harness.ensembles.construction import Construction, construct
from harness.ensembles.ensemble import Ensemble
from harness.ensembles.estimate import group_numbers
from harness.ensembles.files import read_ensemble
from harness.ensembles.library import Library, load_library, prediction_files
from harness.errors import InputError
from harness.names import STORAGE_VARIABLE
from harness.predictions import ClipIndex, read_clips
from harness.sealed import MANIFEST, read_sealed
from harness.study.backend import read_storage
from harness.study.trials import COMMANDS, VOID

#: Bootstrap replicates of the intervals that only the report shows.
REPLICATES = 2000


@dataclass(frozen=True)
class Evidence:
    """What is known of a study.

    study: None where its log lies elsewhere. library: None while no trial has ended with
    predictions. ensembles: the newest first. built: the ensemble shown, with what explains it; None
    where there is none, or where `stale` says why it cannot be made again.
    """

    folder: Path
    manifest: dict[str, Any]
    index: ClipIndex
    study: optuna.Study | None
    library: Library | None
    ensembles: tuple[Ensemble, ...]
    built: Construction | None
    stale: str = ""

    @property
    def synthetic(self) -> bool:
        return self.index.synthetic

    @property
    def shown(self) -> Ensemble | None:
        """The ensemble that the report is about."""
        if self.built is not None:
            return self.built.ensemble
        return self.ensembles[0] if self.ensembles else None

    @property
    def commands(self) -> tuple[str, ...]:
        """The searches that made the study, as they were typed."""
        return tuple(self.study.user_attrs.get(COMMANDS, ())) if self.study else ()

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Trials of some states, without those whose files were lost."""
        if self.study is None:
            return []
        void = self.study.user_attrs.get(VOID, {})
        found = self.study.get_trials(deepcopy=False, states=states or None)
        return [trial for trial in found if str(trial.number) not in void]

    def groups(self) -> NDArray[np.intp]:
        """(clips,) what the bootstrap draws together, of the rated clips of val."""
        assert self.library is not None  # callers have looked
        matrix = self.library.matrix
        rated = matrix.labelled
        persons = None if matrix.groups is None else np.array(matrix.groups)[rated].tolist()
        return group_numbers(persons, int(rated.sum()))

    def spread(self, trials: list[int]) -> NDArray[np.float64]:
        """(replicates, trials, targets) bootstrapped PCC on val of some trials of the library."""
        assert self.library is not None  # callers have looked
        matrix = self.library.matrix
        rated = matrix.labelled
        predictions = matrix.predictions[:, trials][:, :, rated].transpose(1, 0, 2)
        truth = matrix.truth[rated].T.astype(np.float64)
        return replicates(truth, predictions.astype(np.float64), self.groups(), REPLICATES, 0)


def gather(
    folder: Path,
    *,
    ensemble: str | None = None,
    study: optuna.Study | None = None,
    storage: str | None = None,
    library: Library | None = None,
    built: Construction | None = None,
) -> Evidence:
    """Reads a study's folder.

    Args:
        ensemble: the one to be shown; None: the newest. study: where it is open already.
        storage: of the study, where it is a database with users. library, built: what an ensemble
        command has at hand already.

    Raises:
        InputError: no such study or ensemble, or a damaged file.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such study; run python -m harness.search first")
    manifest = read_sealed(folder / "study.json", MANIFEST)
    index = read_clips(folder / "clips.parquet")
    ensembles = _ensembles(folder, ensemble)
    stale = ""
    if built is None and ensembles:
        library, built, stale = _rebuilt(folder, ensembles[0])
    if library is None and prediction_files(folder):
        library = load_library(folder)
    study = study or _study(folder, manifest, storage)
    return Evidence(folder, manifest, index, study, library, ensembles, built, stale)


def _ensembles(folder: Path, first: str | None) -> tuple[Ensemble, ...]:
    files = list((folder / "ensembles").glob("*/ensemble.json"))
    files.sort(key=lambda file: (file.parent.name != first, -file.stat().st_mtime_ns))
    if first is not None and (not files or files[0].parent.name != first):
        names = ", ".join(sorted(file.parent.name for file in files)) or "none"
        raise InputError(f"{folder}: no ensemble {first!r}; there are: {names}")
    return tuple(read_ensemble(file.parent) for file in files)


def _rebuilt(folder: Path, wanted: Ensemble) -> tuple[Library | None, Construction | None, str]:
    """The ensemble made again from its recipe, which gives what its file does not hold."""
    try:
        # The first is the folder's own study, whatever the folder is called now.
        others = (folder.parent / name for name in wanted.studies[1:])
        library = load_library(folder, *others)
        built = construct(library, wanted.recipe, wanted.name)
    except InputError as error:
        return None, None, str(error)
    if (built.ensemble.members, built.ensemble.weights) != (wanted.members, wanted.weights):
        again = wanted.command(folder.parent)
        return library, None, f"the study has changed since ensemble {wanted.name}: {again}"
    return library, built, ""


def _study(folder: Path, manifest: dict[str, Any], given: str | None) -> optuna.Study | None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name, study = manifest.get("storage", "study.log"), manifest.get("name", folder.name)
    storage = read_storage(folder, name, given or os.environ.get(STORAGE_VARIABLE))
    if storage is None:
        if given:
            raise InputError(f"--storage: is not that of this study, which is {name}")
        return None
    try:
        return optuna.load_study(study_name=study, storage=storage)
    except KeyError as error:
        raise InputError(f"{name}: holds no study {study!r}") from error
