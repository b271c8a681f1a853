"""Compares two ensembles on the same clips."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.atomic import write_text
from harness.ensembles.construction import Construction, construct, rebuild
from harness.ensembles.ensemble import LONGEST
from harness.ensembles.files import read_ensemble
from harness.ensembles.intervals import Interval, resample
from harness.ensembles.library import PredictionMatrix, load_library, load_members
from harness.ensembles.selection import Recipe
from harness.errors import InputError

Floats = NDArray[np.float64]
#: The row of the mean over the targets.
MEAN = "mean"


@dataclass(frozen=True)
class Row:
    """The PCC of two ensembles on one target, or their mean over the targets.

    split: that chose the ensembles (nested scores), or a split that did not.
    target: name of the target, or `MEAN`.
    ours, theirs: PCC.
    difference: ours - theirs.
    interval: 95 % interval of the difference; None if it is undefined.
    clips: number of rated clips.
    """

    split: str
    target: str
    ours: float
    theirs: float
    difference: float
    interval: Interval | None
    clips: int


@dataclass(frozen=True)
class Comparison:
    """Paired differences of two ensembles, `<study>/<ensemble>` each.

    grouped: the intervals resample persons; otherwise clips.
    rows: of the split that chose, of val if train chose, and, if both ensembles have a score
        there, of test; of each target and then of their mean.
    """

    ours: str
    theirs: str
    grouped: bool
    rows: tuple[Row, ...]

    def frame(self) -> pd.DataFrame:
        """One row per split and target. Columns: split, target, the two ensembles, difference,
        low and high (limits of the 95 % interval), clips."""
        rows = [
            (row.split, row.target, row.ours, row.theirs, row.difference,
             *((row.interval.low, row.interval.high) if row.interval else (np.nan, np.nan)),
             row.clips)
            for row in self.rows
        ]  # fmt: skip
        columns = ["split", "target", self.ours, self.theirs, "difference", "low", "high", "clips"]
        return pd.DataFrame(rows, columns=columns)

    def latex(self) -> str:
        """The rows as a LaTeX table for the package booktabs."""
        rows = [
            (f"{row.split} ({row.clips} clips)", row.target, f"{row.ours:.4f}",
             f"{row.theirs:.4f}", f"{row.difference:+.4f}",
             f"[{row.interval.low:+.4f}, {row.interval.high:+.4f}]" if row.interval else "--")
            for row in self.rows
        ]  # fmt: skip
        columns = ["split", "target", self.ours, self.theirs, "difference", "95 % interval"]
        table = pd.DataFrame(rows, columns=columns)
        return table.to_latex(index=False, escape=True, column_format="llrrrr")

    def write(self, folder: Path) -> list[Path]:
        """Writes `against-<study>-<ensemble>.csv` and `.tex`. Returns the paths.

        The name ends with a digest if it would be too long, or if the study has a `-` in its name:
        `a-b/c` and `a/b-c` have different files.
        """
        stem = "against-" + self.theirs.replace("/", "-")
        if len(stem.encode()) > LONGEST or "-" in self.theirs.partition("/")[0]:
            digest = hashlib.sha256(self.theirs.encode()).hexdigest()[:8]
            stem = f"{stem.encode()[:LONGEST].decode(errors='ignore')}-{digest}"
        texts = {".csv": self.frame().to_csv(index=False), ".tex": self.latex()}
        for suffix, text in texts.items():
            write_text(folder / (stem + suffix), text)
        return [folder / (stem + suffix) for suffix in texts]


@dataclass(frozen=True)
class _Scored:
    """Predictions for the rated clips of a split.

    truth: (clips, targets). predicted: (divisions, clips, targets), of one or several divisions of
    the clips into folds; the scores are means over them. persons: number of each clip's person;
    None if they are unknown.
    """

    clip_ids: tuple[str, ...]
    truth: Floats
    predicted: Floats
    persons: NDArray[np.intp] | None

    def ordered(self, clip_ids: tuple[str, ...]) -> "_Scored":
        place = {clip: row for row, clip in enumerate(self.clip_ids)}
        rows = np.array([place[clip] for clip in clip_ids], dtype=np.intp)
        persons = None if self.persons is None else self.persons[rows]
        return _Scored(clip_ids, self.truth[rows], self.predicted[:, rows], persons)


def compare(ours: Construction, theirs: Construction) -> Comparison:
    """Computes the paired differences of two ensembles.

    On the split that chose, both are scored by nested cross-validation; elsewhere, as they are. The
    intervals resample persons if either study knows them and the recipe of `ours` allows it, and
    clips otherwise. They do not include the selection of the trials.

    Raises:
        InputError: the ensembles have different targets, rated clips or ratings, or val has too few
            clips or persons for a nested score.
    """
    targets, other = ours.ensemble.targets, theirs.ensemble.targets
    if targets != other:
        raise InputError(
            f"{_name(theirs)}: its targets are {', '.join(other)}; those of {_name(ours)} are "
            f"{', '.join(targets)}"
        )
    split = ours.ensemble.recipe.choose_on
    if theirs.ensemble.recipe.choose_on != split:
        raise InputError(
            f"{_name(theirs)}: {theirs.ensemble.recipe.choose_on} chose it, and {split} chose "
            f"{_name(ours)}; build both with the same `choose_on`"
        )
    rows = _rows(split, ours, _nested(ours), theirs, _nested(theirs))
    if split != "val":
        rows += _rows("val", ours, _tested(ours, "val"), theirs, _tested(theirs, "val"))
    if ours.ensemble.test is not None and theirs.ensemble.test is not None:
        rows += _rows("test", ours, _tested(ours, "test"), theirs, _tested(theirs, "test"))
    known = any(built.library.matrix.groups is not None for built in (ours, theirs))
    grouped = known and ours.ensemble.recipe.groups is not False
    return Comparison(_name(ours), _name(theirs), grouped, tuple(rows))


def other_ensemble(results: Path, name: str, recipe: Recipe) -> Construction:
    """The ensemble to compare with.

    Args:
        results: folder of the studies.
        name: `<study>/<ensemble>`, or `<study>`, of which an ensemble is built by the recipe.
    """
    study, _, ensemble = name.partition("/")
    home = results / study
    if ensemble:
        return rebuild(home, read_ensemble(home / "ensembles" / ensemble))
    return construct(load_library(home, split=recipe.choose_on), recipe)


def _name(built: Construction) -> str:
    return f"{built.library.home.name}/{built.ensemble.name}"


def _rows(
    split: str, ours: Construction, here: _Scored, theirs: Construction, there: _Scored
) -> list[Row]:
    if different := sorted(set(here.clip_ids).symmetric_difference(there.clip_ids)):
        raise InputError(
            f"{_name(theirs)}: its rated clips of {split} are not those of {_name(ours)}, for "
            f"example {different[0]}; compare ensembles of the same data"
        )
    there = there.ordered(here.clip_ids)
    if (differs := (here.truth != there.truth).any(axis=1)).any():
        raise InputError(
            f"{_name(theirs)}: clip {here.clip_ids[int(np.argmax(differs))]} has other ratings "
            f"than in {_name(ours)}; compare ensembles of the same data"
        )
    # One division counts as often as the several of the other.
    models = np.stack(np.broadcast_arrays(here.predicted, there.predicted)).swapaxes(2, 3)
    groups = _groups(ours, here, there)
    drawn = resample(here.truth.T, models, groups, ours.ensemble.recipe.seed)
    scores = drawn.pcc

    def row(target: str, scores: Floats, interval: Interval | None) -> Row:
        a, b = scores.tolist()
        return Row(split, target, a, b, a - b, interval, len(here.clip_ids))

    names = enumerate(ours.ensemble.targets)
    rows = [row(name, scores[:, d], drawn.difference(d)) for d, name in names]
    return [*rows, row(MEAN, scores.mean(axis=1), drawn.difference())]


def _groups(ours: Construction, here: _Scored, there: _Scored) -> NDArray[np.intp]:
    """(clips,) what the intervals resample: persons as either study knows them, or clips."""
    persons = there.persons if here.persons is None else here.persons
    if persons is None or ours.ensemble.recipe.groups is False:
        return np.unique(np.array(here.clip_ids), return_inverse=True)[1].astype(np.intp)
    return persons


def _persons(matrix: PredictionMatrix) -> NDArray[np.intp] | None:
    """Of the rated clips of a split."""
    return None if matrix.groups is None else matrix.group_numbers()


def _nested(built: Construction) -> _Scored:
    """The held-out predictions of val, up to scale and offset."""
    if built.ensemble.estimate is None:
        raise InputError(
            f"{_name(built)}: the split that chose has too few persons or clips for a nested score"
        )
    matrix, chooser = built.library.matrix, built.chooser
    order = chooser.moments.order
    rows = np.flatnonzero(matrix.labelled)[order]
    persons = _persons(matrix)
    return _Scored(
        tuple(matrix.clip_ids[row] for row in rows),
        matrix.truth[rows].astype(np.float64),
        chooser.pooled(chooser.recipe.method).swapaxes(1, 2),
        None if persons is None else persons[order],
    )


def _tested(built: Construction, split: str) -> _Scored:
    library = built.library
    slots = library.matrix.slots(built.ensemble.members)
    matrix = load_members(library, [library.matrix.trials[slot] for slot in slots], split)
    rows = np.flatnonzero(matrix.labelled)
    return _Scored(
        tuple(matrix.clip_ids[row] for row in rows),
        matrix.truth[rows].astype(np.float64),
        built.ensemble.combine(matrix.predictions)[None, rows],
        _persons(matrix),
    )
