"""Results of a study as pandas data frames and plotly figures, for notebooks and scripts."""

import html
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.choices import DEFAULT_CHOOSE_ON, ChooseOn
from harness.earlier import completed
from harness.ensembles.comparison import Comparison, compare
from harness.ensembles.construction import Construction, construct, rebuilt
from harness.ensembles.ensemble import Ensemble
from harness.ensembles.files import write_ensemble
from harness.ensembles.library import Library, PredictionMatrix, load_library, load_members
from harness.ensembles.selection import Recipe
from harness.errors import InputError
from harness.sealed import MANIFEST, read_sealed

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from harness.reports.drawing import Drawing

# Trials in the table that a notebook shows.
_SHOWN = 5
# A smaller difference of two scores of the same predictions is rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True, repr=False, eq=False)
class StudyResults:
    """The results of one study or several. Scores are PCC in [-1, 1]; ratings are in [0, 1].

    Frames of clips have the index `clip_id` (text) and one column per target, so that pandas aligns
    them by name.
    """

    library: Library

    def __repr__(self) -> str:
        index, names = self.library.index, [study.folder.name for study in self.library.studies]
        return (
            f"StudyResults({', '.join(names)}: {len(self.matrix)} trials, "
            f"{len(index.clip_ids)} clips, {len(index.target_names)} targets)"
        )

    def _repr_html_(self) -> str:
        table = self.trials().iloc[:_SHOWN, :3].to_html(float_format="{:.4f}".format)
        return f"<p>{html.escape(repr(self))}; the best trials on val:</p>{table}"

    @property
    def matrix(self) -> PredictionMatrix:
        """The val predictions of all trials: (targets, trials, clips) float32."""
        return self.library.matrix

    def trials(self) -> pd.DataFrame:
        """One row per trial with predictions, index `trial` (text), the best first.

        Columns: `mean_pcc` (float64), mean PCC on val, optimistic if val chose the epoch;
        `mean_pcc_corrected` (float64), without this optimism, and `standard_error` (float64) of the
        mean PCC over clips or persons, both NaN where not known;
        `best_epoch` (int64), counted from 1; `family` (text); and one column per hyperparameter in
        the units of `TrialConfig`: `lr` per step, `stride` in decoded frames, `interval` in
        seconds, `hidden` in units. Hyperparameters that some trials lack are
        nullable (Int64, boolean, string), or NaN.
        """
        trials = self.matrix.trials
        columns: dict[str, list[Any]] = {
            "mean_pcc": [trial.info.val_pcc for trial in trials],
            "mean_pcc_corrected": [_known(trial.info.corrected) for trial in trials],
            "standard_error": [_known(trial.info.error) for trial in trials],
            "best_epoch": [trial.info.best_epoch for trial in trials],
            "family": [trial.family for trial in trials],
        }
        configs = [completed(trial.info.config) for trial in trials]
        names = dict.fromkeys(name for config in configs for name in config)
        settings = {name: [config.get(name) for config in configs] for name in names}
        table = pd.DataFrame({name: _typed(own) for name, own in (settings | columns).items()})
        table = table[[*columns, *(name for name in names if name not in columns)]]
        table.index = pd.Index([trial.id for trial in trials], name="trial")
        return table.sort_values("mean_pcc", ascending=False, kind="stable")

    def refused(self) -> pd.DataFrame:
        """One row per refused prediction file, with columns `path` and `reason`."""
        rows = [(str(each.path), each.reason) for each in self.library.refused]
        return pd.DataFrame(rows, columns=["path", "reason"])

    def failures(self) -> pd.DataFrame:
        """One row per failed trial, index `trial`, with the column `reason`.

        Raises:
            InputError: the storage of a study cannot be read.
        """
        from harness.study.trials import failures, read_study  # optuna is slow to import

        rows: dict[str, str] = {}
        for study in self.library.studies:
            prefix = f"{study.folder.name}/" if len(self.library.studies) > 1 else ""
            found = read_study(study.folder, read_sealed(study.folder / "study.json", MANIFEST))
            rows |= {f"{prefix}{n:05d}": reason for n, reason in failures(found).items()}
        return pd.DataFrame({"reason": rows}, dtype=str).rename_axis("trial")

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
            InputError: no such trial or split, an ensemble of another study (its name or the scores
                of its members differ), or a damaged file.
        """
        self._check(split)
        if isinstance(of, Ensemble):
            self._check_ensemble(of)
        elif not isinstance(of, str):
            raise InputError(f"{of!r}: expected the id of a trial, such as '00003', or an ensemble")
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

    def save(self, ensemble: Ensemble) -> Path:
        """Writes an ensemble of these trials, as `python -m harness.ensemble` does.

        Returns:
            its folder, which `harness.load_ensemble` reads.

        Raises:
            InputError: an ensemble of another study.
        """
        self._check_ensemble(ensemble)
        return write_ensemble(ensemble, self.library)[0].parent

    def compare(
        self, ensemble: Ensemble, other: "StudyResults", other_ensemble: Ensemble
    ) -> Comparison:
        """Computes the paired differences of an ensemble of these trials and one of other trials
        on the same clips. Its `frame()` is a data frame, its `latex()` a LaTeX table.

        Raises:
            InputError: the studies have different targets, rated clips or ratings, an ensemble is
                not of the trials of its study, or its study has changed since it was built.
        """
        return compare(self._built(ensemble), other._built(other_ensemble))

    def figures(self, ensemble: Ensemble | None = None) -> dict[str, str]:
        """The titles of the figures that `plot` can draw, by name."""
        return {each.key: each.title for each in self._drawings(ensemble)}

    def plot(self, name: str, ensemble: Ensemble | None = None) -> "go.Figure":
        """A figure of the report of the (first) study, as a plotly figure.

        Args:
            name: one of `figures`, such as importance, curves or targets.
            ensemble: the ensemble to show; None: the newest one that is stored.

        Raises:
            InputError: no such figure.
        """
        found = {each.key: each for each in self._drawings(ensemble)}
        if name not in found:
            raise InputError(f"{name!r}: no such figure; choose one of: {', '.join(found)}", "name")
        return found[name].titled()

    def _drawings(self, ensemble: Ensemble | None) -> "Sequence[Drawing]":
        # Imported only here, because optuna and plotly are slow to import.
        from harness.reports.evidence import gather
        from harness.reports.figures import drawings

        built = None if ensemble is None else self._built(ensemble)
        return drawings(gather(self.library.home, built=built))

    def _built(self, ensemble: Ensemble) -> Construction:
        self._check_ensemble(ensemble)
        return rebuilt(self._choosing(ensemble.recipe.choose_on), ensemble)

    def _choosing(self, split: ChooseOn) -> Library:
        """The predictions of the split that chooses."""
        if split == self.library.split:
            return self.library
        return load_library(*(study.folder for study in self.library.studies), split=split)

    def _check_ensemble(self, ensemble: Ensemble) -> None:
        if not isinstance(ensemble, Ensemble):
            raise InputError(f"{ensemble!r}: expected an Ensemble, as `ensemble` builds one")
        studies = tuple(study.folder.name for study in self.library.studies)
        if ensemble.studies != studies:
            raise InputError(
                f"ensemble {ensemble.name} is of study {', '.join(ensemble.studies)}; this is "
                f"{', '.join(studies)}"
            )
        # Another folder may have a study of the same name, with trials of the same numbers.
        split, reports = ensemble.recipe.choose_on, ensemble.member_reports
        matrix = self.matrix.of(self.matrix.slots([member.trial for member in reports]))
        if split != self.library.split:
            matrix = load_members(self.library, matrix.trials, split)
        for member, score in zip(reports, _scores(matrix), strict=True):
            if abs(score - member.pcc) > _ROUNDING:
                raise InputError(
                    f"ensemble {ensemble.name}: trial {member.trial} has mean PCC {score:.6f} on "
                    f"{split} here and {member.pcc:.6f} in the ensemble, which is of "
                    "another study of the same name, or the trial was trained again"
                )

    def _check(self, split: str) -> None:
        if not self.library.index.ids(split):
            raise InputError(
                f"{self.library.home}: no clips in split {split!r}; choose val or test"
            )

    def _frame(self, values: np.ndarray, split: str) -> pd.DataFrame:
        index = self.library.index
        names = pd.Index(index.ids(split), name="clip_id", dtype=str)
        return pd.DataFrame(values, index=names, columns=list(index.target_names))


def _scores(matrix: PredictionMatrix) -> list[float]:
    """The mean PCC of each trial, in which an undefined PCC counts as 0, as in `Member.pcc`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        each = [matrix.pcc_of(own.T) for own in matrix.predictions.swapaxes(0, 1).astype(float)]
    return [float(np.nan_to_num(pcc).mean()) for pcc in each]


def _known(value: float | None) -> float:
    return float("nan") if value is None else value


def _typed(values: list[Any]) -> "pd.Series[Any]":
    """A column of the type of its values. Whole numbers with missing ones are nullable."""
    column = pd.Series(pd.array(values))
    if None not in values and pd.api.types.is_integer_dtype(column):
        return column.astype(np.int64)
    return column.astype(np.float64) if pd.api.types.is_float_dtype(column) else column


def load_study(*folders: str | os.PathLike[str]) -> StudyResults:
    """Reads the finished trials of a study, such as `results/demo`, or of several studies of the
    same clips: `load_study("results/a", "results/b")`. Imports neither torch nor ray.

    Raises:
        InputError: no folder, no such study, no eligible prediction file (with the reason), or
            studies of different clips.
    """
    if not folders:
        raise InputError("expected the folder of a study, such as results/demo", "folders")
    for folder in folders:
        if not isinstance(folder, str | os.PathLike):
            raise InputError(
                f"{folder!r}: expected a path; give several studies as load_study(a, b)", "folders"
            )
    # Absolute, because predictions are read later, perhaps from another working directory.
    return StudyResults(load_library(*(Path(folder).expanduser().absolute() for folder in folders)))
