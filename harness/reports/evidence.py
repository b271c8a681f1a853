"""Reads everything that the report of a study shows. Writes nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from harness.dataset import Dataset
from harness.ensembles.construction import Construction, rebuild
from harness.ensembles.ensemble import Ensemble
from harness.ensembles.files import read_ensemble
from harness.ensembles.intervals import Resamples, resample
from harness.ensembles.library import Library, Targets, load_library, prediction_files
from harness.errors import InputError
from harness.predictions import read_clips
from harness.sealed import MANIFEST, read_sealed
from harness.study.trials import COMMANDS, failures, read_study, standing

#: Bootstrap replicates of the intervals in the leaderboard.
REPLICATES = 2000


@dataclass(frozen=True)
class Evidence:
    """The content of a study.

    folder: of the study.
    manifest: the content of study.json.
    index: the clips.
    study: the Optuna study; None if its storage is elsewhere.
    library: the predictions of val; None if no trial has finished.
    ensembles: the shown one first, then the newest first.
    built: the shown ensemble with the data that explains it; None if there is no ensemble, or if
        it cannot be rebuilt.
    stale: the reason why the ensemble cannot be rebuilt.
    unreadable: a line for each stored ensemble that cannot be read, with the reason.
    """

    folder: Path
    manifest: dict[str, Any]
    index: Dataset
    study: optuna.Study | None
    library: Library | None
    ensembles: tuple[Ensemble, ...]
    built: Construction | None
    stale: str = ""
    unreadable: tuple[str, ...] = ()

    @property
    def synthetic(self) -> bool:
        return self.index.synthetic

    @property
    def shown(self) -> Ensemble | None:
        """The ensemble that the report describes."""
        return self.ensembles[0] if self.ensembles else None

    @property
    def ceilings(self) -> Targets:
        """By target: the highest possible PCC on the split that chose the shown ensemble; empty if
        it is not known."""
        library = self.built.library if self.built else self.library
        if library is None or self.shown is None or self.shown.recipe.choose_on != library.split:
            return {}
        return library.ceilings

    @property
    def commands(self) -> tuple[str, ...]:
        """The command lines of the searches of the study."""
        return tuple(self.study.user_attrs.get(COMMANDS, ())) if self.study else ()

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """Trials in some states, without invalidated trials (their files were lost) and those that
        a notebook ran to their end itself."""
        if self.study is None:
            return []
        return standing(self.study, self.study.get_trials(deepcopy=False, states=states or None))

    def failures(self) -> dict[int, str]:
        """The reason of each failed trial, by number."""
        return failures(self.study)

    def resamples(self, trials: list[int]) -> Resamples:
        """The PCC of some trials of the library on resampled groups of val."""
        assert self.library is not None  # checked by the callers
        matrix = self.library.matrix
        rated = matrix.labelled
        predictions = matrix.predictions[:, trials][:, :, rated].transpose(1, 0, 2)
        truth = matrix.truth[rated].T.astype(np.float64)
        groups = matrix.group_numbers()
        return resample(truth, predictions.astype(np.float64), groups, 0, REPLICATES)


def gather(
    folder: Path,
    *,
    ensemble: str | None = None,
    study: optuna.Study | None = None,
    storage: str | None = None,
    built: Construction | None = None,
) -> Evidence:
    """Reads the folder of a study.

    Args:
        ensemble: name of the ensemble to show; None: the newest.
        study: the Optuna study, if it is already open.
        storage: URL of the study's database, if it needs a user and password.
        built: the ensemble to show, if it is already in memory.

    Raises:
        InputError: no such study or ensemble, or a damaged file.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such study; run python -m harness.search first")
    manifest = read_sealed(folder / "study.json", MANIFEST)
    index = read_clips(folder / "clips.parquet")
    ensembles, unreadable = _ensembles(folder, ensemble, built.ensemble if built else None)
    stale = ""
    if built is None and ensembles:
        try:
            built = rebuild(folder, ensembles[0])
            # Trials that were added since change the estimates, though not the members.
            ensembles = (built.ensemble, *ensembles[1:])
        except InputError as error:
            stale = str(error)
    library = None
    if built is not None:
        library = built.library
        if library.split != "val":  # the report shows all trials on val
            library = load_library(*(each.folder for each in library.studies))
    elif prediction_files(folder):
        library = load_library(folder)
    study = study or read_study(folder, manifest, storage)
    return Evidence(folder, manifest, index, study, library, ensembles, built, stale, unreadable)


def _ensembles(
    folder: Path, first: str | None, built: Ensemble | None
) -> tuple[tuple[Ensemble, ...], tuple[str, ...]]:
    """Those that are stored, the newest first, but before them the shown one; and a line for each
    other one that cannot be read.

    Args:
        first: the folder's name of the shown one.
        built: the shown one, if it is in memory; another process may be replacing its file.
    """
    stored: dict[str, tuple[int, Ensemble]] = {}
    unreadable = {}
    for file in sorted((folder / "ensembles").glob("*/ensemble.json")):
        name = file.parent.name
        try:
            stored[name] = file.stat().st_mtime_ns, read_ensemble(file.parent)
        except (FileNotFoundError, InputError) as error:
            if not file.exists():  # it is being replaced
                continue
            if name == first and built is None:
                raise
            unreadable[name] = f"Ensemble {name} is not shown: {error}"
    if built is not None:
        stored[built.name] = 0, built
        unreadable.pop(built.name, None)
        first = built.name
    if first is not None and first not in stored:
        names = ", ".join(sorted(stored)) or "none"
        raise InputError(f"{folder}: no ensemble {first!r}; choose one of: {names}")
    order = sorted(stored, key=lambda name: (name != first, -stored[name][0]))
    return tuple(stored[name][1] for name in order), tuple(unreadable.values())
