"""`ratings.csv`: the ratings of single raters -> the highest PCC that the targets allow.

The target of a clip is the mean of a few ratings, and other raters would give another mean. A
prediction of the expected rating of each clip has the PCC sqrt(reliability) with such means
(Spearman, 1904). The reliability is the generalisability coefficient of a clips x raters design,
var(clip) / (var(clip) + var(error of the mean)) (Cronbach et al., 1972; Brennan, 2001). It is
ICC(3,k) if all raters rated all clips, and ICC(1,k) if each clip has raters of its own (Shrout &
Fleiss, 1979). The variances are estimated by Henderson's method I (1953), so that some ratings may
be missing.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.clips.csv_file import line_of, read_csv, rename_columns
from harness.clips.csv_form import UNNAMED, csv_form
from harness.clips.ratings import RAW_SCALE, read_ratings
from harness.clips.table import SPLITS, ClipTable, some
from harness.errors import InputError, printable

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
#: The file, beside the labels of any layout.
RATINGS = "ratings.csv"
_OWN = ("clip_id", "rater")
# With fewer clips of two raters, the variances are too uncertain.
_FEWEST = 30
# A lower PCC of mean rating and target shows that the targets are something else.
_SAME = 0.99


@dataclass(frozen=True)
class _Ratings:
    """One row for each rating: values (ratings, targets), row of the clip, number of the rater."""

    values: Floats
    clips: Indices
    raters: Indices


def with_ceilings(root: Path, clips: ClipTable) -> ClipTable:
    """Adds the ceilings of `ratings.csv` to the clips, if the folder has this file.

    The variances are estimated on all clips of the file; the ceiling of a split follows from the
    numbers of raters of its clips. A split has none with fewer than 2 of these clips, and a target
    none if all ratings are equal.

    Raises:
        InputError: a missing column, a bad cell, a clip that a rater rated twice, no clip of the
            data, or fewer than 30 clips with two raters.
    """
    file = root / RATINGS
    if not file.is_file():
        return clips
    if clips.synthetic:
        note = f"{file}: not used, because the oracle of the synthetic clips is known"
        return replace(clips, notes=(*clips.notes, note))
    if "rater" not in map(str.casefold, csv_form(file).header):
        note = (
            f"{file}: not used as the ratings of single raters, because no column is called rater"
        )
        return replace(clips, notes=(*clips.notes, note))
    found, notes = _read(file, clips)
    ceilings = {}
    for split in SPLITS:
        rows = np.flatnonzero(np.array(clips.splits) == split)
        used = np.isin(found.clips, rows)
        rated = np.unique(found.clips[used])
        missing = np.flatnonzero(~np.isnan(clips.targets[rows]).any(axis=1) & ~np.isin(rows, rated))
        if 0 < len(missing) < len(rows):
            listed = some([clips.clip_ids[rows[row]] for row in missing])
            notes.append(f"{file}: {len(missing)} rated clips of {split} are missing: {listed}")
        if len(rated) > 1:
            highest = np.sqrt(reliability(found.values, found.clips, found.raters, used))
            of_targets = zip(clips.target_names, highest.tolist(), strict=True)
            ceilings[split] = {name: value for name, value in of_targets if np.isfinite(value)}
    notes += _other_targets(file, clips, found)
    return replace(clips, ceilings=ceilings, notes=(*clips.notes, *notes))


def reliability(
    values: Floats, clips: Indices, raters: Indices, used: NDArray[np.bool_] | None = None
) -> Floats:
    """(targets,) the reliability of the mean ratings of clips; NaN where all ratings are equal.

    Args:
        values: (ratings, targets).
        clips, raters: (ratings,) numbers; a rater rates a clip once. Some clip has two raters.
        used: the ratings of the clips in question, all of each; None: all. The variances are
            estimated on all ratings.
    """
    clip, rater = (np.unique(each, return_inverse=True)[1] for each in (clips, raters))
    # Centred, because the sums of squares would lose digits otherwise.
    y = values - values.mean(axis=0)
    per_clip, per_rater = np.bincount(clip), np.bincount(rater)
    n, n_clips, n_raters = len(y), len(per_clip), len(per_rater)
    squares = np.stack([
        (y**2).sum(axis=0),
        (_sums(y, clip) ** 2 / per_clip[:, None]).sum(axis=0),
        (_sums(y, rater) ** 2 / per_rater[:, None]).sum(axis=0),
    ])  # fmt: skip
    a, b = (per_clip**2).sum() / n, (per_rater**2).sum() / n
    expected = np.array(
        [
            [n - a, n - b, n - 1],
            [n - a, n_clips - b, n_clips - 1],
            [n_raters - a, n - b, n_raters - 1],
        ]
    )
    # Raters of a single clip cannot be told from the error; the least squares then divide the
    # variance between the two, and both enter the error of the mean alike.
    variances = np.linalg.lstsq(expected, squares, rcond=None)[0]
    of_clip, of_rater, residual = np.maximum(variances, 0.0)
    share_of_rater, share_of_residual = _shares(clip, rater, used)
    error = of_rater * share_of_rater + residual * share_of_residual
    with np.errstate(invalid="ignore"):
        return np.asarray(of_clip / (of_clip + error))


def _shares(clip: Indices, rater: Indices, used: NDArray[np.bool_] | None) -> tuple[float, float]:
    """The variance between the mean ratings of clips by a variance of 1 of raters, and of single
    ratings. That of raters is 0 if all raters rated all clips: each mean is shifted alike."""
    if used is not None:
        clip, rater = (np.unique(each[used], return_inverse=True)[1] for each in (clip, rater))
    count = np.bincount(clip)
    weight = 1 / count[clip]
    mean = np.bincount(rater, weight) / len(count)
    of_rater = ((weight**2).sum() - len(count) * (mean**2).sum()) / (len(count) - 1)
    return max(float(of_rater), 0.0), float((1 / count).mean())


def _sums(values: Floats, groups: Indices) -> Floats:
    return np.stack([np.bincount(groups, column) for column in values.T], axis=1)


def _read(file: Path, clips: ClipTable) -> tuple[_Ratings, list[str]]:
    """The ratings of the clips of the data, and notes on what is not used."""
    table = rename_columns(file, read_csv(file), (*_OWN, *clips.target_names))
    used = {*_OWN, *clips.target_names, UNNAMED}
    notes = [
        f"{file}: column {printable(name)} is not used; it is no target of the data"
        for name in map(str, table.columns) if name not in used
    ]  # fmt: skip
    values = read_ratings(file, table, clips.target_names, RAW_SCALE)
    key = table["clip_id"].map(_stem)
    _check_raters(file, table, key)
    place = {_stem(clip): row for row, clip in enumerate(clips.clip_ids)}
    known, empty = key.isin(list(place)).to_numpy(), np.isnan(values).any(axis=1)
    if not known.any():
        raise InputError(
            f"{file}, clip_id: no row is of a clip of the data; expected ids such as "
            f"{printable(clips.clip_ids[0])}, found {printable(table['clip_id'].iloc[0])}"
        )
    if not known.all():
        others = list(dict.fromkeys(table["clip_id"][~known]))
        notes.append(f"{file}: {len(others)} clips are not in the data: {some(others)}")
    if empty.any():
        lines = some([str(line_of(table, row)) for row in np.flatnonzero(empty).tolist()])
        notes.append(f"{file}: {empty.sum()} rows without ratings are not used: lines {lines}")
    kept = known & ~empty
    rows = np.array([place[clip] for clip in key[kept]], dtype=np.intp)
    if (several := int((np.bincount(rows) > 1).sum()) if len(rows) else 0) < _FEWEST:
        raise InputError(
            f"{file}: {several} clips have two or more raters; expected at least {_FEWEST}; add "
            "the ratings of each rater in a row of its own, or remove the file"
        )
    raters = np.unique(table["rater"][kept].to_numpy(str), return_inverse=True)[1]
    return _Ratings(values[kept], rows, raters.astype(np.intp)), notes


def _check_raters(file: Path, table: pd.DataFrame, key: "pd.Series[str]") -> None:
    """InputError if a row names no rater, or a rater rated a clip twice."""
    unnamed = np.flatnonzero(table["rater"] == "")
    if unnamed.size:
        line = line_of(table, unnamed[0])
        raise InputError(f"{file}, line {line}, rater: is empty; name the rater")
    twice = pd.DataFrame({"clip": key, "rater": table["rater"]}).duplicated().to_numpy()
    if twice.any():
        row = int(np.argmax(twice))
        rater, clip = (printable(table[name].iloc[row]) for name in ("rater", "clip_id"))
        raise InputError(
            f"{file}, line {line_of(table, row)}: rater {rater} has rated clip {clip} in an "
            "earlier line; keep one of the rows"
        )


def _other_targets(file: Path, clips: ClipTable, found: _Ratings) -> list[str]:
    """A note on targets that are not the mean ratings, for which the ceilings may not hold."""
    rows, number = np.unique(found.clips, return_inverse=True)
    means = _sums(found.values, number) / np.bincount(number)[:, None]
    truth = clips.targets[rows].astype(np.float64)
    rated = ~np.isnan(truth).any(axis=1)
    notes = []
    for name, a, b in zip(clips.target_names, means[rated].T, truth[rated].T, strict=True):
        if len(a) < 2 or not a.std() or not b.std():
            continue
        if (same := float(np.corrcoef(a, b)[0, 1])) < _SAME:
            notes.append(
                f"{file}, {name}: the targets are not the mean ratings (PCC {same:.2f}), so that "
                "the ceiling, which is that of mean ratings, may not hold"
            )
    return notes


def _stem(clip_id: str) -> str:
    return clip_id.removeprefix("[").removesuffix("]")
