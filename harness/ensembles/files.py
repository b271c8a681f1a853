"""Reads and writes the files of an ensemble: `ensembles/<name>/` in its first study."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import harness
from harness.atomic import alone, remove, write_text
from harness.ensembles.ensemble import Ensemble
from harness.ensembles.library import Library, load_members
from harness.errors import InputError
from harness.metrics import mean_pcc
from harness.predictions import PredictionInfo, write_predictions
from harness.sealed import ENSEMBLE, read_sealed, write_sealed


def write_ensemble(
    ensemble: Ensemble, library: Library, say: Callable[[str], object] = print
) -> list[Path]:
    """Writes `predictions.parquet`, `predictions.csv` if there is a test split, and
    `ensemble.json`. The last one is written last, so that a folder with it is complete.

    Args:
        say: called with a line about the values that are clipped in `predictions.csv`.

    Returns:
        the paths.
    """
    folder = library.home / "ensembles" / ensemble.name
    # Two processes at once would mix their files.
    with alone(folder / ".lock"):
        return _written(ensemble, library, folder, say)


def _written(
    ensemble: Ensemble, library: Library, folder: Path, say: Callable[[str], object]
) -> list[Path]:
    matrix = library.matrix
    trials = [matrix.trials[slot] for slot in matrix.slots(ensemble.members)]
    found = {
        split: load_members(library, trials, split)
        for split in ("val", "test")
        if len(library.index.rows(split))
    }
    combined = {
        split: ensemble.combine(members.predictions).astype(np.float32)
        for split, members in found.items()
    }
    # An ensemble of the same name is removed first, so that its ensemble.json never accompanies
    # the predictions of other members. Comparisons stay if it is written again as it is.
    if not _is_stored(ensemble, folder):
        for file in folder.glob("against-*"):
            remove(file)
    remove(folder / "ensemble.json")
    written = [folder / "predictions.parquet"]
    if (test := found.get("test")) is not None:
        written.append(folder / "predictions.csv")
        made = submission(test.clip_ids, test.target_names, combined["test"])
        write_text(written[-1], made.text)
        for line in made.lines(written[-1]):
            say(line)
    info = _info(ensemble, [trial.info for trial in trials], library, combined["val"])
    write_predictions(written[0], info, library.index, combined)
    written.append(folder / "ensemble.json")
    write_sealed(written[-1], ENSEMBLE, ensemble.to_dict())
    return written


def _is_stored(ensemble: Ensemble, folder: Path) -> bool:
    """Whether the ensemble of a folder has the same members and weights."""
    try:
        stored = read_ensemble(folder)
    except InputError:
        return False
    return all(
        getattr(stored, name) == getattr(ensemble, name)
        for name in ("recipe", "studies", "members", "weights", "target_weights")
    )


def read_ensemble(folder: Path) -> Ensemble:
    """Reads the ensemble in `ensembles/<name>/`. InputError if it is missing or damaged."""
    file = folder / "ensemble.json"
    try:
        return Ensemble.from_dict(read_sealed(file, ENSEMBLE))
    except InputError:
        raise
    # The checksum only shows that the file is intact: its content may still be invalid.
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file}: is not a valid ensemble ({error!r}); run python -m harness.ensemble again"
        ) from error


def _info(
    ensemble: Ensemble,
    infos: list[PredictionInfo],
    library: Library,
    val: NDArray[np.float32],
) -> PredictionInfo:
    rows = library.index.rated(library.index.rows("val"))
    return PredictionInfo(
        trial_id=ensemble.name,
        config={"method": ensemble.method, "members": list(ensemble.members)},
        seed=ensemble.recipe.seed,
        code_version=harness.__version__,
        data_fingerprint="+".join(sorted({info.data_fingerprint for info in infos})),
        feature_fingerprint="+".join(sorted({info.feature_fingerprint for info in infos})),
        targets=ensemble.targets,
        early_stop_split="+".join(sorted({info.early_stop_split for info in infos})),
        best_epoch=0,
        # Computed from the float32 values that are stored, because readers check it on them.
        val_pcc=mean_pcc(
            library.index.ratings[rows], val[np.isin(library.index.rows("val"), rows)]
        ),
        # Not the current time, so that equal inputs give equal files.
        created=max(info.created for info in infos),
    )


@dataclass(frozen=True)
class Submission:
    """Predictions in the form of the challenge.

    text: csv, `File_ID` and the targets, one row per clip, sorted by id; all values in [0, 1].
    clipped: number of values that were outside [0, 1], of `values`.
    """

    text: str
    clipped: int
    values: int

    def lines(self, path: Path) -> list[str]:
        """What to print about clipped values; empty if there are none."""
        if not self.clipped:
            return []
        return [
            f"{self.clipped} of {self.values} values were outside [0, 1], the range of ratings, "
            f"and were clipped in {path.name}; scores are those of the values before clipping"
        ]


def submission(
    clip_ids: Sequence[str], targets: Sequence[str], values: NDArray[np.floating[Any]]
) -> Submission:
    """The predictions of some clips in the form of the challenge.

    Calibrated predictions have the mean and the standard deviation of the ratings, so that some are
    outside [0, 1], where no rating is. They are clipped here and nowhere else.

    Args:
        values: (clips, targets).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["File_ID", *targets])
    kept = np.clip(values, 0.0, 1.0)
    for row in sorted(range(len(kept)), key=lambda row: clip_ids[row]):
        writer.writerow([clip_ids[row], *(f"{value:.6f}" for value in kept[row])])
    return Submission(text.getvalue(), int((kept != values).sum()), values.size)
