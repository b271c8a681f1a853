"""The layout `muse`: Hume-Reaction as the MuSe challenge packs it, with its feature sets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness.clips.csv_file import index_notes, read_csv
from harness.clips.csv_form import UNNAMED
from harness.clips.folder import entries
from harness.clips.labels import Labels, labels_of, splits_of, stems_of
from harness.clips.layouts.files import join_files
from harness.clips.layouts.layout import Layout, LayoutOptions
from harness.clips.ratings import RAW_SCALE, check_target_names, divide_by_largest, read_ratings
from harness.clips.table import EMOTIONS, SPLITS, ClipTable, some
from harness.errors import InputError

# The folder's name begins so; the year may follow, as in c2_muse_reaction_2022.
_HOME = "c2_muse_reaction"
# Names of the columns of ids and of splits, in lower case.
_IDS = ("file_id", "id", "clip_id")
_PARTS = ("proposal", "partition", "split")


def _homes(folder: Path) -> list[Path]:
    """The folders of the challenge within a data folder."""
    return sorted(
        path for path in folder.iterdir() if path.name.lower().startswith(_HOME) and path.is_dir()
    )


def _recognise(folder: Path) -> bool:
    return bool(_homes(folder)) or (folder / "partition.csv").is_file()


def _read(folder: Path, options: LayoutOptions) -> ClipTable:
    home = _home(folder)
    chosen = _feature_set(folder, options.features)
    labels = _read_labels(home / "labels.csv", home / "partition.csv")
    homes = dict.fromkeys(SPLITS, chosen)
    sounds = [base / "raw" / "wav" for base in dict.fromkeys((home, folder))]
    suffixes = (".csv", ".npy", ".parquet")
    return join_files(folder, labels, homes, "features", suffixes, sounds=sounds)


def _home(folder: Path) -> Path:
    """The folder of the challenge, which may be the data folder itself."""
    homes = _homes(folder)
    if len(homes) > 1:
        names = ", ".join(home.name for home in homes)
        raise InputError(f"{folder}: holds {names}; give one of these folders as `data`")
    return homes[0] if homes else folder


def _feature_set(folder: Path, name: str | None) -> Path:
    """The folder of the chosen feature set, or of the only one."""
    base, sets = _base(folder), _feature_sets(folder)
    if not sets:
        raise InputError(f"{base}: no feature sets; expected folders such as {base / 'FAUs'}")
    if name is None and len(sets) > 1:
        raise InputError(
            f"{base}: several feature sets; `features`: choose one of {', '.join(sets)}"
        )
    chosen = name or sets[0]
    if chosen not in sets:
        raise InputError(f"`features` {chosen}: choose one of {', '.join(sets)}")
    return base / chosen


def _base(folder: Path) -> Path:
    """The folder of all feature sets."""
    home = _home(folder)
    return next((p for p in (home / "feats", folder / "feats") if p.is_dir()), home / "feats")


def _feature_sets(folder: Path) -> list[str]:
    base = _base(folder)
    found = entries(base) if base.is_dir() else []
    return sorted(path.name for path in found if path.is_dir())


def _read_labels(file: Path, partition: Path) -> Labels:
    """The ids and splits of the partition, with the ratings of the clips that have some."""
    ratings, parts = read_csv(file), read_csv(partition)
    own = _column(file, ratings, _IDS)
    first, last = _column(partition, parts, _IDS), _column(partition, parts, _PARTS)
    # Cells are checked before they are joined, so that a message names the file and the line.
    stems_of(partition, parts[first])
    splits_of(partition, parts[last])
    unknown = sorted(set(ratings[own]) - set(parts[first]))
    if unknown:
        raise InputError(
            f"{file}, {own}: {len(unknown)} ids are not in partition.csv: {some(unknown)}"
        )
    if ratings[own].duplicated().any():
        twice = sorted(set(ratings[own][ratings[own].duplicated()]))
        raise InputError(f"{file}, {own}: ids occur twice: {some(twice)}; keep one row each")
    ratings = ratings.rename(columns=_emotion)
    names, unused = _targets(ratings.drop(columns=own))
    raw = tuple(names) == EMOTIONS
    check_target_names(file, names)
    read = read_ratings(file, ratings, names, RAW_SCALE if raw else 1.0)
    if raw and np.nanmax(read, initial=0) > 1:
        divide_by_largest(file, ratings, read)
    by_id = ratings.set_index(own)
    merged = pd.DataFrame({"id": parts[first], "split": parts[last]})
    for name in names:
        merged[name] = merged["id"].map(by_id[name]).fillna("")
    notes = [*index_notes(file, ratings), *index_notes(partition, parts)]
    if unused:
        notes.append(f"{file}: columns that are no emotions are not used: {some(unused)}")
    return labels_of(
        file,
        merged,
        id_column="id",
        split_column="split",
        target_names=names,
        raw_ratings=raw,
        notes=notes,
    )


def _column(file: Path, table: pd.DataFrame, names: Sequence[str]) -> str:
    """The column that has one of the names; case is ignored."""
    found = [str(name) for name in table.columns if str(name).lower() in names]
    if len(found) != 1:
        raise InputError(
            f"{file}: expected one column named {', '.join(names[:-1])} or {names[-1]}; found "
            f"{', '.join(map(str, table.columns))}"
        )
    return found[0]


def _emotion(name: str) -> str:
    """The documented spelling of an emotion; other names as they are."""
    spellings = {emotion.lower(): emotion for emotion in EMOTIONS}
    return spellings.get(name.lower(), name)


def _targets(ratings: pd.DataFrame) -> tuple[tuple[str, ...], list[str]]:
    """The names of the targets, and the columns that are not used.

    The targets are the seven emotions in their documented order, or else every named column.
    """
    names = [str(name) for name in ratings.columns if name != UNNAMED]
    if set(EMOTIONS) <= set(names):
        return EMOTIONS, [name for name in names if name not in EMOTIONS]
    return tuple(names), []


MUSE = Layout(
    name="muse",
    description="the MuSe packaging of Hume-Reaction: labels, a partition and feature sets",
    form=(
        f"{_HOME}/labels.csv",
        f"{_HOME}/partition.csv",
        f"{_HOME}/feats/<set>/<id>.csv",
    ),
    sign=_HOME,
    origin="MuSe",
    recognise=_recognise,
    read=_read,
    feature_sets=_feature_sets,
)
