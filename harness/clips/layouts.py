"""Finds out which layout a data folder has and reads it into a ClipTable."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness.clips.labels import Labels, is_safe, labels_of, read_csv
from harness.clips.table import EMOTIONS, ClipTable, Kind, check_usable, some
from harness.errors import InputError

#: Present in the folder of synthetic clips; everything printed about them then says so.
SYNTHETIC_MARK = "demo.json"
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov")
FOLDS = 5


def read_clips(
    root: Path, layout: str | None = None, *, features: str | None = None, strict: bool = False
) -> ClipTable:
    """Reads a data folder.

    Args:
        root: the folder. layout: one of LAYOUTS; None: found out by what lies there.
        features: the feature set of MuSe's packaging, a folder's name under `feats`.
        strict: what can be borne is an error, too.

    Raises:
        InputError: no such folder, a layout that cannot be told, or bad labels; the message names
            file, line and column.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    return check_usable(root, _read(root, layout, features), strict)


def read_new_clips(
    root: Path, layout: str | None = None, *, features: str | None = None, strict: bool = False
) -> ClipTable:
    """Reads clips to be predicted: a folder of one of LAYOUTS, of which any clips will do, or
    nothing but videos, each named by its file.

    Raises:
        InputError: as `read_clips`, but for what only a search needs; no clip at all.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    videos = _entries(root, VIDEO_SUFFIXES)
    if layout is None and videos and not any(_signs(root).values()):
        if hidden := _hidden(root, VIDEO_SUFFIXES):
            raise InputError(f"{hidden[0]}: another video has the same name; rename one of them")
        ids = tuple(sorted(videos))
        for clip_id in ids:
            if not is_safe(clip_id):
                raise InputError(
                    f"{videos[clip_id]}: its name is no id such as 00042 "
                    "(letters, digits, '_', '-' and '.'); rename it"
                )
        return ClipTable(
            clip_ids=ids,
            splits=("test",) * len(ids),
            targets=np.empty((len(ids), 0), np.float32),
            target_names=(),
            paths=tuple(videos[i] for i in ids),
            kind="video",
        )
    clips = _read(root, layout, features)
    if strict and clips.notes:
        raise InputError(f"{clips.notes[0]} (--strict; leave it out to bear that)")
    if not any(clips.paths):
        raise InputError(
            f"{root}: none of {len(clips)} clips has a file; are names and ids the same?"
        )
    return clips


def _read(root: Path, layout: str | None, features: str | None) -> ClipTable:
    name = layout or _recognised(root)
    if name not in LAYOUTS:
        raise InputError(f"--layout {name}: choose of {', '.join(LAYOUTS)}")
    if features is not None and name != "muse":
        raise InputError(
            f"--features {features}: only the muse layout has feature sets (a network's features "
            "are outputs, shared or both: of extract, and of a search space)"
        )
    clips = LAYOUTS[name](root, features)
    return dataclasses.replace(clips, synthetic=(root / SYNTHETIC_MARK).is_file())


def _abaw5(root: Path, _: str | None) -> ClipTable:
    labels = _hume_labels(root / "data_info.csv")
    folders = {split: root / split / "mp4" for split in ("train", "val", "test")}
    return _table(root, labels, folders, "video", (".mp4",))


def _authors_crops(root: Path, _: str | None) -> ClipTable:
    labels = _hume_labels(root / "Data" / "data_info.csv")
    folders = {split: root / "Crop_data" / split for split in ("train", "val", "test")}
    return _table(root, labels, folders, "images", None)


def _authors_features(root: Path, _: str | None) -> ClipTable:
    labels = _hume_labels(root / "Data" / "data_info.csv")
    base = root / "MTL_features"
    folders = {split: base / split for split in ("train", "val", "test")}
    there = _folds(base / "5_fold_train")
    train = {s for s, split in zip(labels.stems, labels.splits, strict=True) if split == "train"}
    folds = {stem: found for stem, found in there.items() if stem in train}
    strangers = [path for stem, (_, path) in there.items() if stem not in train]
    spare = {stem: path for stem, (_, path) in folds.items()}
    clips = _table(root, labels, folders, "features", (".npy",), spare, strangers)
    numbers = np.array([folds.get(stem, (0, None))[0] for stem in labels.stems])
    return dataclasses.replace(clips, folds=numbers if folds else None)


def _muse(root: Path, features: str | None) -> ClipTable:
    home = root / "c2_muse_reaction" if (root / "c2_muse_reaction").is_dir() else root
    base = next((p for p in (home / "feats", root / "feats") if p.is_dir()), home / "feats")
    sets = sorted(path.name for path in base.iterdir() if path.is_dir()) if base.is_dir() else []
    if not sets:
        raise InputError(f"{base}: no feature sets; expected folders such as {base / 'FAUs'}")
    if features is None and len(sets) > 1:
        raise InputError(f"{base}: several feature sets; choose --features of {', '.join(sets)}")
    chosen = features or sets[0]
    if chosen not in sets:
        raise InputError(f"--features {chosen}: choose of {', '.join(sets)}")
    folder = base / chosen
    folders = dict.fromkeys(("train", "val", "test"), folder)
    return _table(root, _muse_labels(home), folders, "features", (".csv", ".npy"))


def _plain(root: Path, _: str | None) -> ClipTable:
    file = root / "clips.csv"
    table = read_csv(file)
    own = ("clip_id", "split", "group")
    names = [str(column) for column in table.columns if column not in own]
    if not names:
        raise InputError(
            f"{file}: no target column beside {', '.join(own)}; add one for each target"
        )
    labels = labels_of(
        file,
        table,
        id_column="clip_id",
        split_column="split",
        target_names=names,
        group_column="group",
    )
    kinds: list[tuple[str, Kind, tuple[str, ...] | None]] = [
        ("clips", "video", VIDEO_SUFFIXES),
        ("frames", "images", None),
        ("features", "features", (".npy", ".csv")),
    ]
    found = [(root / name, kind, ends) for name, kind, ends in kinds if (root / name).is_dir()]
    if len(found) != 1:
        have = ", ".join(folder.name for folder, *_ in found) or "none"
        raise InputError(
            f"{root}: expected one of clips/, frames/ and features/ beside clips.csv; found {have}"
        )
    folder, kind, ends = found[0]
    return _table(root, labels, dict.fromkeys(("train", "val", "test"), folder), kind, ends)


#: The layouts by name.
LAYOUTS: dict[str, Callable[[Path, str | None], ClipTable]] = {
    "abaw5": _abaw5,
    "authors-crops": _authors_crops,
    "authors-features": _authors_features,
    "muse": _muse,
    "plain": _plain,
}


def _signs(root: Path) -> dict[str, bool]:
    """Of each layout, whether what tells it from others is there."""
    return {
        "abaw5": (root / "data_info.csv").is_file(),
        "authors-crops": (root / "Crop_data").is_dir(),
        "authors-features": (root / "MTL_features").is_dir(),
        "muse": (root / "c2_muse_reaction").is_dir() or (root / "partition.csv").is_file(),
        "plain": (root / "clips.csv").is_file(),
    }


def _recognised(root: Path) -> str:
    found = [name for name, there in _signs(root).items() if there]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{root}: has the signs of several layouts; choose --layout of "
                         f"{', '.join(found)}")  # fmt: skip
    raise InputError(
        f"{root}: no known layout; expected data_info.csv (ABAW5), Crop_data or MTL_features "
        "(the authors'), c2_muse_reaction (MuSe), or clips.csv (your own)"
    )


def _hume_labels(file: Path) -> Labels:
    return labels_of(
        file,
        read_csv(file),
        id_column="File_ID",
        split_column="Split",
        target_names=EMOTIONS,
        raw_ratings=True,
    )


def _muse_labels(home: Path) -> Labels:
    """labels.csv and partition.csv: ids of the partition, ratings where there are some."""
    ratings, parts = read_csv(home / "labels.csv"), read_csv(home / "partition.csv")
    first, last = str(parts.columns[0]), str(parts.columns[-1])
    own = str(ratings.columns[0])
    names = [str(column) for column in ratings.columns[1:]]
    unknown = sorted(set(ratings[own]) - set(parts[first]))
    if unknown:
        raise InputError(
            f"{home / 'labels.csv'}, {own}: {len(unknown)} ids are not in partition.csv: "
            f"{some(unknown)}"
        )
    if ratings[own].duplicated().any():
        twice = sorted(set(ratings[own][ratings[own].duplicated()]))
        raise InputError(
            f"{home / 'labels.csv'}, {own}: ids stand there twice: {some(twice)}; keep one row each"
        )
    merged = pd.DataFrame({"id": parts[first], "split": parts[last]})
    by_id = ratings.set_index(own)
    for name in names:
        merged[name] = merged["id"].map(by_id[name]).fillna("")
    return labels_of(
        home / "labels.csv",
        merged,
        id_column="id",
        split_column="split",
        target_names=names,
        raw_ratings=tuple(names) == EMOTIONS,
    )


def _folds(base: Path) -> dict[str, tuple[int, Path]]:
    """The fold and the file of each clip, by the file's stem."""
    found: dict[str, tuple[int, Path]] = {}
    for number in range(1, FOLDS + 1):
        for path in sorted((base / f"fold{number}").glob("*.npy")):
            other = found.setdefault(path.stem, (number, path))
            if other[1] != path:
                raise InputError(
                    f"{path}: the clip is in fold {other[0]}, too; keep it in one of them"
                )
    return found


def _table(
    root: Path,
    labels: Labels,
    folders: dict[str, Path],
    kind: Kind,
    suffixes: Sequence[str] | None,
    spare: dict[str, Path] | None = None,
    strangers: Sequence[Path] = (),
) -> ClipTable:
    """Joins labels with what lies in a folder a split; suffixes None: a folder a clip.

    spare: by stem, for clips that the folders lack. strangers: files elsewhere that are no clip's.
    """
    there = {split: _entries(folder, suffixes) for split, folder in folders.items()}
    paths: list[Path | None] = []
    for stem, split in zip(labels.stems, labels.splits, strict=True):
        paths.append(there[split].get(stem) or (spare or {}).get(stem))
    notes = [*labels.notes]
    missing = [i for i, path in zip(labels.ids, paths, strict=True) if path is None]
    if missing:
        notes.append(
            f"{root}: {len(missing)} of {len(paths)} clips of the labels have no file: "
            f"{some(missing)}"
        )
    used = {path for path in paths if path}
    here = [path for entries in there.values() for path in entries.values()]
    # Splits may lie in one folder, which is looked through once.
    here += [path for folder in set(folders.values()) for path in _hidden(folder, suffixes)]
    extra = sorted({str(p.relative_to(root)) for p in (*here, *strangers) if p not in used})
    if extra:
        notes.append(f"{root}: {len(extra)} files belong to no clip of the labels: {some(extra)}")
    return ClipTable(
        clip_ids=labels.ids,
        splits=labels.splits,
        targets=labels.targets,
        target_names=labels.target_names,
        paths=tuple(paths),
        kind=kind,
        groups=labels.groups,
        notes=tuple(notes),
    )


def _entries(folder: Path, suffixes: Sequence[str] | None) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    entries = sorted(folder.iterdir())
    if suffixes is None:
        return {path.name: path for path in entries if path.is_dir()}
    # An earlier suffix goes before a later one.
    ranked = sorted(
        (p for p in entries if p.suffix.lower() in suffixes),
        key=lambda p: -suffixes.index(p.suffix.lower()),
    )
    return {path.stem: path for path in ranked}


def _hidden(folder: Path, suffixes: Sequence[str] | None) -> list[Path]:
    """Files whose place a file of the same name and another suffix takes."""
    if suffixes is None or not folder.is_dir():
        return []
    taken = set(_entries(folder, suffixes).values())
    entries = sorted(folder.iterdir())
    return [p for p in entries if p.suffix.lower() in suffixes and p not in taken]
