"""Results of a study as pandas data frames, for notebooks and scripts."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from harness.choices import DEFAULT_CHOOSE_ON, ChooseOn
from harness.ensembles.comparison import Comparison, compare
from harness.ensembles.construction import Construction, construct
from harness.ensembles.ensemble import Ensemble
from harness.ensembles.library import Library, PredictionMatrix, load_library, load_members
from harness.ensembles.selection import Recipe
from harness.errors import InputError


@dataclass(frozen=True, repr=False)
class StudyResults:
    """The results of one study or several. Scores are PCC in [-1, 1]; ratings are in [0, 1]."""

    library: Library

    def __repr__(self) -> str:
        index, names = self.library.index, [study.folder.name for study in self.library.studies]
        return (
            f"StudyResults({', '.join(names)}: {len(self.matrix)} trials, "
            f"{len(index.clip_ids)} clips, {len(index.target_names)} targets)"
        )

    @property
    def matrix(self) -> PredictionMatrix:
        """The val predictions of all trials: (targets, trials, clips) float32."""
        return self.library.matrix

    def trials(self) -> pd.DataFrame:
        """One row per trial, index `trial`, the best first.

        Columns: `mean_pcc` on val, which is optimistic if val chose the epoch;
        `mean_pcc_corrected`, without this optimism; `standard_error` of the mean PCC over clips or
        persons; best epoch, family, and each hyperparameter. None: not known.
        """
        rows = [
            {
                "trial": trial.id,
                "mean_pcc": trial.info.val_pcc,
                "mean_pcc_corrected": trial.info.corrected,
                "standard_error": trial.info.error,
                "best_epoch": trial.info.best_epoch,
                "family": trial.family,
                **trial.info.config,
            }
            for trial in self.matrix.trials
        ]
        table = pd.DataFrame(rows).set_index("trial")
        return table.sort_values("mean_pcc", ascending=False, kind="stable")

    def refused(self) -> pd.DataFrame:
        """One row per refused prediction file, with columns `path` and `reason`."""
        rows = [(str(each.path), each.reason) for each in self.library.refused]
        return pd.DataFrame(rows, columns=["path", "reason"])

    def ratings(self, split: str = "val") -> pd.DataFrame:
        """Ratings (clips, targets), index `clip_id`; NaN where a clip is unrated."""
        index = self.library.index
        self._check(split)
        return self._frame(index.ratings[index.rows(split)].astype(np.float64), split)

    def predictions(self, of: str | Ensemble, split: str = "val") -> pd.DataFrame:
        """Predictions (clips, targets) of a trial or an ensemble, index `clip_id`.

        Args:
            of: id of a trial, such as "00003", or an ensemble of these trials.
            split: val or test. A study searched with `--folds` also has train: each clip is
                predicted by the model of the fold that did not train on it.

        Raises:
            InputError: no such trial or split, an ensemble of another study, or a damaged file.
        """
        self._check(split)
        if isinstance(of, Ensemble):
            self._check_studies(of)
        wanted = of.members if isinstance(of, Ensemble) else (of,)
        trials = [self.matrix.trials[slot] for slot in self.matrix.slots(wanted)]
        found = load_members(self.library, trials, split).predictions
        values = of.combine(found) if isinstance(of, Ensemble) else found[:, 0].T
        return self._frame(np.asarray(values, np.float64), split)

    def ensemble(
        self,
        method: str = "mean",
        top: int | None = None,
        *,
        per_family: int | None = None,
        per_target: bool = False,
        seed: int = 0,
        choose_on: ChooseOn = DEFAULT_CHOOSE_ON,
    ) -> Ensemble:
        """Builds an ensemble of these trials with its estimates. Writes no files. The arguments
        are those of `python -m harness.ensemble`.

        Raises:
            InputError: an unknown method, or too few trials or clips for it.
        """
        recipe = Recipe(method, top, per_family, per_target, seed, choose_on=choose_on)
        return construct(self._choosing(choose_on), recipe).ensemble

    def compare(
        self, ensemble: Ensemble, other: "StudyResults", other_ensemble: Ensemble
    ) -> Comparison:
        """Computes the paired differences of an ensemble of these trials and one of other trials
        on the same clips. Its `frame()` is a data frame, its `latex()` a LaTeX table.

        Raises:
            InputError: the studies have different targets, rated clips or ratings, or an ensemble
                is not of the trials of its study.
        """
        return compare(self._built(ensemble), other._built(other_ensemble))

    def _built(self, ensemble: Ensemble) -> Construction:
        self._check_studies(ensemble)
        recipe = ensemble.recipe
        return construct(self._choosing(recipe.choose_on), recipe, ensemble.name)

    def _choosing(self, split: ChooseOn) -> Library:
        """The predictions of the split that chooses."""
        if split == self.library.split:
            return self.library
        return load_library(*(study.folder for study in self.library.studies), split=split)

    def _check_studies(self, ensemble: Ensemble) -> None:
        studies = tuple(study.folder.name for study in self.library.studies)
        if ensemble.studies != studies:
            raise InputError(
                f"ensemble {ensemble.name} is of study {', '.join(ensemble.studies)}; this is "
                f"{', '.join(studies)}"
            )

    def _check(self, split: str) -> None:
        if not self.library.index.ids(split):
            raise InputError(
                f"{self.library.home}: no clips in split {split!r}; choose val or test"
            )

    def _frame(self, values: np.ndarray, split: str) -> pd.DataFrame:
        index = self.library.index
        names = pd.Index(index.ids(split), name="clip_id")
        return pd.DataFrame(values, index=names, columns=list(index.target_names))


def load_study(*folders: str | os.PathLike[str]) -> StudyResults:
    """Reads the finished trials of a study, such as `results/demo`, or of several studies of the
    same clips. Imports neither torch nor ray.

    Raises:
        InputError: no such study, no eligible prediction file, or studies of different clips.
    """
    return StudyResults(load_library(*map(Path, folders)))
