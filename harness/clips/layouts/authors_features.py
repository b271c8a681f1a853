"""The layout `authors-features`: features of Hume-Reaction as the authors of the method keep them.

The training clips are spread over five folders, one for each fold of their cross-validation.
"""

import dataclasses
from pathlib import Path

import numpy as np

from harness.clips.layouts.data_info import read_data_info
from harness.clips.layouts.files import clip_files, join_files
from harness.clips.layouts.layout import Layout, LayoutOptions
from harness.clips.table import SPLITS, ClipTable
from harness.errors import InputError

FOLDS = 5


def _recognise(folder: Path) -> bool:
    return (folder / "MTL_features").is_dir()


def _read(folder: Path, options: LayoutOptions) -> ClipTable:
    labels = read_data_info(folder / "Data" / "data_info.csv")
    base = folder / "MTL_features"
    found = _folds(base / "5_fold_train")
    train = {s for s, split in zip(labels.stems, labels.splits, strict=True) if split == "train"}
    folds = {stem: fold for stem, fold in found.items() if stem in train}
    clips = join_files(
        folder,
        labels,
        {split: base / split for split in SPLITS},
        "features",
        (".npy",),
        spare={stem: path for stem, (_, path) in folds.items()},
        strangers=[path for stem, (_, path) in found.items() if stem not in train],
    )
    numbers = np.array([folds.get(stem, (0, None))[0] for stem in labels.stems])
    return dataclasses.replace(clips, folds=numbers if folds else None)


def _folds(base: Path) -> dict[str, tuple[int, Path]]:
    """The fold and the file of each clip, by the stem of the file."""
    found: dict[str, tuple[int, Path]] = {}
    for number in range(1, FOLDS + 1):
        for stem, path in clip_files(base / f"fold{number}", (".npy",)).items():
            other = found.setdefault(stem, (number, path))
            if other[1] != path:
                raise InputError(
                    f"{path}: the clip is in fold {other[0]}, too; keep it in one of them"
                )
    return found


AUTHORS_FEATURES = Layout(
    name="authors-features",
    description="the authors' MTL-DAN features of Hume-Reaction, with their five folds",
    form=("Data/data_info.csv", "MTL_features/{train,val,test}/<id>.npy"),
    sign="MTL_features",
    origin="the authors'",
    recognise=_recognise,
    read=_read,
)
