"""Reads a data folder into a ClipTable, by the layout that is chosen or recognised.

Each layout has a file of its own, which ends with its record, and an entry in LAYOUTS.
"""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from harness.clips.folder import VIDEO_SUFFIXES
from harness.clips.layouts.abaw5 import ABAW5
from harness.clips.layouts.authors_crops import AUTHORS_CROPS
from harness.clips.layouts.authors_features import AUTHORS_FEATURES
from harness.clips.layouts.files import unread_files
from harness.clips.layouts.layout import Layout, LayoutOptions
from harness.clips.layouts.muse import MUSE
from harness.clips.layouts.plain import PLAIN
from harness.clips.layouts.videos import read_videos
from harness.clips.raters import with_ceilings
from harness.clips.table import (
    ClipTable,
    check_any_file,
    check_groups,
    check_usable,
    refuse_notes,
    some,
)
from harness.errors import InputError

__all__ = [
    "LAYOUTS",
    "SYNTHETIC_MARK",
    "Layout",
    "LayoutOptions",
    "feature_sets",
    "read_clips",
    "read_new_clips",
    "read_new_tables",
    "read_tables",
]

#: A file in the folder of synthetic clips. Everything printed about such clips says so.
SYNTHETIC_MARK = "demo.json"

#: The layouts by name. harness/choices.py lists the names, for commands that read no folder yet.
LAYOUTS: dict[str, Layout] = {
    layout.name: layout for layout in (ABAW5, AUTHORS_CROPS, AUTHORS_FEATURES, MUSE, PLAIN)
}


def read_clips(
    root: str | PathLike[str],
    layout: str | None = None,
    *,
    features: str | None = None,
    strict: bool = False,
    allow_shared_groups: bool = False,
) -> ClipTable:
    """The last table of `read_tables`: of the feature set, if one is given."""
    sets = () if features is None else (features,)
    return read_tables(
        root, layout, features=sets, strict=strict, allow_shared_groups=allow_shared_groups
    )[-1]


def read_tables(
    root: str | PathLike[str],
    layout: str | None = None,
    *,
    features: Sequence[str] = (),
    strict: bool = False,
    allow_shared_groups: bool = False,
) -> list[ClipTable]:
    """Reads a data folder: a table of its frames, if it has some, and one of each feature set.

    All tables have the same clips in the same order, and the same notes.

    Args:
        root: the folder.
        layout: a name of LAYOUTS; None: recognised by the names of files and folders.
        features: the feature sets; none: the frames, or else the only set.
        strict: treat recoverable problems as errors.
        allow_shared_groups: note persons with clips in several splits instead of refusing them.

    Raises:
        InputError: no such folder, no layout or several that it may have, bad labels, no such set,
            no clip of train or val has a file in any table, or a person in several splits; the
            message names file, line and column.
    """
    root = _folder(root)
    tables = _read(root, layout, features)
    joined = check_usable(root, with_ceilings(root, _joined(tables)), strict)
    joined = check_groups(root, joined, allow_shared_groups)
    return [
        dataclasses.replace(clips, notes=joined.notes, ceilings=joined.ceilings) for clips in tables
    ]


def read_new_clips(
    root: str | PathLike[str],
    layout: str | None = None,
    *,
    features: str | None = None,
    strict: bool = False,
) -> ClipTable:
    """The last table of `read_new_tables`: of the feature set, if one is given."""
    sets = () if features is None else (features,)
    return read_new_tables(root, layout, features=sets, strict=strict)[-1]


def read_new_tables(
    root: str | PathLike[str],
    layout: str | None = None,
    *,
    features: Sequence[str] = (),
    strict: bool = False,
) -> list[ClipTable]:
    """Reads clips to be predicted: a folder of one of LAYOUTS, with clips in any of the splits, or
    a folder of nothing but videos, each named by its file.

    Returns:
        tables as `read_tables` gives them.

    Raises:
        InputError: as `read_tables`, except for what only a search needs; no clip has a file.
    """
    root = _folder(root)
    videos = None
    if layout is None and not any(known.recognise(root) for known in LAYOUTS.values()):
        videos = read_videos(root)
        if videos is None and (others := unread_files(root, VIDEO_SUFFIXES)):
            raise InputError(f"{others[0]}; expected videos, {_signs()}")
    tables = _read(root, layout, features) if videos is None else [videos]
    joined = _joined(tables)
    refuse_notes(joined.notes, strict)
    check_any_file(root, joined)
    return [dataclasses.replace(clips, notes=joined.notes) for clips in tables]


def feature_sets(root: str | PathLike[str], layout: str | None = None) -> tuple[str, ...]:
    """The feature sets of a data folder; none if its layout has no such sets, or is not known."""
    root = _folder(root)
    known = [LAYOUTS[layout]] if layout in LAYOUTS else LAYOUTS.values()
    found = [each for each in known if each.feature_sets and each.recognise(root)]
    return tuple(found[0].feature_sets(root)) if len(found) == 1 and found[0].feature_sets else ()


def _folder(root: str | PathLike[str]) -> Path:
    if not Path(root).is_dir():
        raise InputError(f"{root}: no such folder")
    return Path(root)


def _read(root: Path, name: str | None, features: Sequence[str]) -> list[ClipTable]:
    layout = LAYOUTS.get(name) if name else _recognised(root)
    if layout is None:
        raise InputError(f"`layout` {name}: choose one of {', '.join(LAYOUTS)}")
    if features and layout.feature_sets is None:
        able = [known.name for known in LAYOUTS.values() if known.feature_sets]
        raise InputError(
            f"only the layouts {' and '.join(able)} have feature sets (what to keep of a network "
            "is chosen by `outputs` of extract, and by a search space)",
            "features",
        )
    has_frames = bool(layout.has_frames and layout.has_frames(root))
    wanted: list[str | None] = [*dict.fromkeys(features)]
    if has_frames or not wanted:
        wanted.insert(0, None)
    tables = [layout.read(root, LayoutOptions(each)) for each in wanted]
    for each, clips in zip(wanted, tables, strict=True):
        if len(tables) > 1 and not any(clips.paths):
            what = f"in the feature set {each}" if each else "of frames"
            raise InputError(
                f"{root}: no clip has a file {what}; are names and ids the same?", "features"
            )
    if has_frames and not features and layout.feature_sets and (sets := layout.feature_sets(root)):
        note = f"{root}: feature sets that are not read: {some(sets)}; `features` reads them"
        tables = [dataclasses.replace(tables[0], notes=(*tables[0].notes, note))]
    mark = root / SYNTHETIC_MARK
    if not mark.is_file():
        return tables
    oracles = _oracles(mark)
    if oracles is None:
        return tables
    return [dataclasses.replace(clips, synthetic=True, oracles=oracles) for clips in tables]


def _oracles(mark: Path) -> dict[str, Any] | None:
    """Those of the demo; None if the file is somebody's own."""
    try:
        found = json.loads(mark.read_bytes())
    except ValueError:
        return None
    return found.get("oracles") if isinstance(found, dict) else None


def _joined(tables: Sequence[ClipTable]) -> ClipTable:
    """The clips with any file that they have in some table, and all notes."""
    paths = zip(*(clips.paths for clips in tables), strict=True)
    return dataclasses.replace(
        tables[0],
        paths=tuple(next(filter(None, each), None) for each in paths),
        notes=tuple(dict.fromkeys(note for clips in tables for note in clips.notes)),
    )


def _recognised(root: Path) -> Layout:
    """The only layout that recognises a folder."""
    found = [layout for layout in LAYOUTS.values() if layout.recognise(root)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(layout.name for layout in found)
        raise InputError(
            f"{root}: has the signs of several layouts; `layout`: choose one of {names}"
        )
    raise InputError(f"{root}: no known layout; expected {_signs()}")


def _signs() -> str:
    """The files and folders that layouts are recognised by, for messages."""
    signs = [
        f"{' or '.join(layout.sign for layout in layouts)} ({origin})"
        for origin, layouts in itertools.groupby(LAYOUTS.values(), lambda layout: layout.origin)
    ]
    return f"{', '.join(signs[:-1])}, or {signs[-1]}"
