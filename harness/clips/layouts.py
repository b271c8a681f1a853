"""Finds out which layout a data folder has and reads it into a ClipTable."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.errors import InputError

EMOTIONS = ("Adoration", "Amusement", "Anxiety", "Disgust", "Empathic-Pain", "Fear", "Surprise")
SPLITS = {"train": "train", "val": "val", "devel": "val", "test": "test"}
#: Present in the folder of synthetic clips; everything printed about them then says so.
SYNTHETIC_MARK = "demo.json"
# A path component and nothing else: no separator, no leading dot, no control character.
_SAFE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_EXAMPLES = 3


@dataclass(frozen=True)
class ClipTable:
    """The clips of a data set, row by row; ids are strings throughout.

    targets: (clips, targets) float32 in [0, 1], rows all NaN where a clip is unlabelled.
    splits: "train", "val" or "test" for each clip.
    paths: the video file of each clip.
    synthetic: True for generated clips, whose scores are no results on real data.
    """

    clip_ids: tuple[str, ...]
    splits: tuple[str, ...]
    targets: NDArray[np.float32]
    target_names: tuple[str, ...]
    paths: tuple[Path, ...]
    synthetic: bool = False

    def __len__(self) -> int:
        return len(self.clip_ids)


def read_clips(root: Path) -> ClipTable:
    """Reads the ABAW5 release: `data_info.csv` and `{train,val,test}/mp4/<id>.mp4` under `root`.

    Raises:
        InputError: no such folder or csv, an unreadable csv, missing columns, a bad or duplicate
            id, an unknown split, a label that is no number in [0, 1], or a missing video; the
            message names file, row and field.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds data_info.csv")
    file = root / "data_info.csv"
    table = _read_csv(file)
    _require_columns(file, table, ("File_ID", "Split", *EMOTIONS))
    names = _stems(file, table["File_ID"])
    splits = _splits(file, table["Split"])
    paths = tuple(
        root / split / "mp4" / f"{name}.mp4" for name, split in zip(names, splits, strict=True)
    )
    _require_videos(root, paths)
    return ClipTable(
        clip_ids=tuple(table["File_ID"]),
        splits=splits,
        targets=_targets(file, table),
        target_names=EMOTIONS,
        paths=paths,
        synthetic=(root / SYNTHETIC_MARK).is_file(),
    )


def _read_csv(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise InputError(f"{file}: missing; expected the ABAW5 label file with a row a clip")
    try:
        # Everything as text: an id read as a number would lose its padding.
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise InputError(f"{file}: not a readable csv: {error}") from error
    if table.empty:
        raise InputError(f"{file}: has no rows")
    return table


def _require_columns(file: Path, table: pd.DataFrame, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise InputError(
            f"{file}: no column {', '.join(missing)}; found {', '.join(map(str, table.columns))}"
        )


def _stems(file: Path, ids: "pd.Series[str]") -> list[str]:
    """File names of ids: `[00042]` names 00042.mp4. Checked, since they become paths."""
    names = []
    for row, clip_id in enumerate(ids, start=2):  # the header is line 1
        name = clip_id.removeprefix("[").removesuffix("]")
        if not _SAFE_ID.fullmatch(name):
            raise InputError(
                f"{file}, line {row}, File_ID: {clip_id!r} is not an id such as [00042] "
                "(letters, digits, '_', '-' and '.' inside the brackets)"
            )
        names.append(name)
    repeated = sorted(ids[ids.duplicated()].unique())
    if repeated:
        raise InputError(
            f"{file}, File_ID: {len(repeated)} ids stand there more than once: {_some(repeated)}"
        )
    return names


def _splits(file: Path, column: "pd.Series[str]") -> tuple[str, ...]:
    splits = []
    for row, value in enumerate(column, start=2):
        split = SPLITS.get(value.strip().lower())
        if split is None:
            raise InputError(
                f"{file}, line {row}, Split: {value!r} is none of Train, Val (Devel), Test"
            )
        splits.append(split)
    for needed in ("train", "val"):
        if needed not in splits:
            raise InputError(f"{file}, Split: no clip is in {needed}; the search needs it")
    return tuple(splits)


def _targets(file: Path, table: pd.DataFrame) -> NDArray[np.float32]:
    columns = []
    for name in EMOTIONS:
        text = table[name].str.strip()
        values = pd.to_numeric(text.where(text != ""), errors="coerce").to_numpy(np.float64)
        with np.errstate(invalid="ignore"):
            bad = np.flatnonzero(
                ((text != "").to_numpy() & ~np.isfinite(values)) | (values < 0) | (values > 1)
            )
        if bad.size:
            raise InputError(
                f"{file}, line {bad[0] + 2}, {name}: {table[name].iloc[bad[0]]!r} is no intensity "
                f"in [0, 1] ({bad.size} such cells in this column)"
            )
        columns.append(values)
    targets = np.stack(columns, axis=1).astype(np.float32)
    unlabelled = np.isnan(targets)
    partly = np.flatnonzero(unlabelled.any(axis=1) & ~unlabelled.all(axis=1))
    if partly.size:
        raise InputError(
            f"{file}, line {partly[0] + 2}: some intensities are empty and some are not "
            f"({partly.size} such rows); give all or none"
        )
    return targets


def _require_videos(root: Path, paths: Sequence[Path]) -> None:
    missing = [str(path.relative_to(root)) for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"{root}: {len(missing)} of {len(paths)} clips of data_info.csv have no video: "
            f"{_some(missing)}"
        )


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _EXAMPLES} more" if len(items) > _EXAMPLES else ""
    return ", ".join(items[:_EXAMPLES]) + more
