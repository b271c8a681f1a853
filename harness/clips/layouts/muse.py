"""The layout `muse`: Hume-Reaction as the MuSe challenge packs it, with its feature sets."""

from pathlib import Path

import pandas as pd

from harness.clips.csv_file import read_csv
from harness.clips.labels import Labels, labels_of
from harness.clips.layouts.files import join_files
from harness.clips.layouts.layout import Layout, LayoutOptions
from harness.clips.table import EMOTIONS, SPLITS, ClipTable, some
from harness.errors import InputError

_HOME = "c2_muse_reaction"


def _recognise(folder: Path) -> bool:
    return (folder / _HOME).is_dir() or (folder / "partition.csv").is_file()


def _read(folder: Path, options: LayoutOptions) -> ClipTable:
    home = folder / _HOME if (folder / _HOME).is_dir() else folder
    chosen = _feature_set(folder, home, options.features)
    labels = _read_labels(home / "labels.csv", home / "partition.csv")
    return join_files(folder, labels, dict.fromkeys(SPLITS, chosen), "features", (".csv", ".npy"))


def _feature_set(folder: Path, home: Path, name: str | None) -> Path:
    """The folder of the chosen feature set, or of the only one."""
    base = next((p for p in (home / "feats", folder / "feats") if p.is_dir()), home / "feats")
    sets = sorted(path.name for path in base.iterdir() if path.is_dir()) if base.is_dir() else []
    if not sets:
        raise InputError(f"{base}: no feature sets; expected folders such as {base / 'FAUs'}")
    if name is None and len(sets) > 1:
        raise InputError(f"{base}: several feature sets; choose --features of {', '.join(sets)}")
    chosen = name or sets[0]
    if chosen not in sets:
        raise InputError(f"--features {chosen}: choose of {', '.join(sets)}")
    return base / chosen


def _read_labels(file: Path, partition: Path) -> Labels:
    """The ids and splits of the partition, with the ratings of the clips that have some."""
    ratings, parts = read_csv(file), read_csv(partition)
    first, last = str(parts.columns[0]), str(parts.columns[-1])
    own = str(ratings.columns[0])
    names = [str(column) for column in ratings.columns[1:]]
    unknown = sorted(set(ratings[own]) - set(parts[first]))
    if unknown:
        raise InputError(
            f"{file}, {own}: {len(unknown)} ids are not in partition.csv: {some(unknown)}"
        )
    if ratings[own].duplicated().any():
        twice = sorted(set(ratings[own][ratings[own].duplicated()]))
        raise InputError(f"{file}, {own}: ids stand there twice: {some(twice)}; keep one row each")
    merged = pd.DataFrame({"id": parts[first], "split": parts[last]})
    by_id = ratings.set_index(own)
    for name in names:
        merged[name] = merged["id"].map(by_id[name]).fillna("")
    return labels_of(
        file,
        merged,
        id_column="id",
        split_column="split",
        target_names=names,
        raw_ratings=tuple(names) == EMOTIONS,
    )


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
    has_feature_sets=True,
)
