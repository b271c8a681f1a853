"""Reads a data folder into a ClipTable, by the layout that is chosen or recognised.

Each layout has a file of its own, which ends with its record, and an entry in LAYOUTS.
"""

import dataclasses
import itertools
import json
from os import PathLike
from pathlib import Path

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
from harness.clips.table import ClipTable, check_groups, check_usable, refuse_notes
from harness.errors import InputError

__all__ = [
    "LAYOUTS",
    "SYNTHETIC_MARK",
    "Layout",
    "LayoutOptions",
    "feature_sets",
    "read_clips",
    "read_new_clips",
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
    """Reads a data folder.

    Args:
        root: the folder.
        layout: a name of LAYOUTS; None: recognised by the names of files and folders.
        features: the feature set, for layouts that have several.
        strict: treat recoverable problems as errors.
        allow_shared_groups: note persons with clips in several splits instead of refusing them.

    Raises:
        InputError: no such folder, no layout or several that it may have, bad labels, or a person
            in several splits; the message names file, line and column.
    """
    root = _folder(root)
    clips = with_ceilings(root, _read(root, layout, features))
    clips = check_usable(root, clips, strict)
    return check_groups(root, clips, allow_shared_groups)


def read_new_clips(
    root: str | PathLike[str],
    layout: str | None = None,
    *,
    features: str | None = None,
    strict: bool = False,
) -> ClipTable:
    """Reads clips to be predicted: a folder of one of LAYOUTS, with clips in any of the splits, or
    a folder of nothing but videos, each named by its file.

    Raises:
        InputError: as `read_clips`, except for what only a search needs; no clip has a file.
    """
    root = _folder(root)
    videos = None
    if layout is None and not any(known.recognise(root) for known in LAYOUTS.values()):
        videos = read_videos(root)
        if videos is None and (others := unread_files(root, VIDEO_SUFFIXES)):
            raise InputError(f"{others[0]}; expected videos, {_signs()}")
    clips = _read(root, layout, features) if videos is None else videos
    refuse_notes(clips.notes, strict)
    if not any(clips.paths):
        raise InputError(
            f"{root}: none of {len(clips)} clips has a file; are names and ids the same?"
        )
    return clips


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


def _read(root: Path, name: str | None, features: str | None) -> ClipTable:
    layout = LAYOUTS.get(name) if name else _recognised(root)
    if layout is None:
        raise InputError(f"`layout` {name}: choose of {', '.join(LAYOUTS)}")
    if features is not None and layout.feature_sets is None:
        able = [known.name for known in LAYOUTS.values() if known.feature_sets]
        raise InputError(
            f"`features` {features}: only the {' or '.join(able)} layout has feature sets (a "
            "network's features are outputs, shared or both: of extract, and of a search space)"
        )
    clips = layout.read(root, LayoutOptions(features))
    mark = root / SYNTHETIC_MARK
    if not mark.is_file():
        return clips
    oracles = json.loads(mark.read_text())["oracles"]
    return dataclasses.replace(clips, synthetic=True, oracles=oracles)


def _recognised(root: Path) -> Layout:
    """The only layout that recognises a folder."""
    found = [layout for layout in LAYOUTS.values() if layout.recognise(root)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(layout.name for layout in found)
        raise InputError(f"{root}: has the signs of several layouts; choose `layout` of {names}")
    raise InputError(f"{root}: no known layout; expected {_signs()}")


def _signs() -> str:
    """The files and folders that layouts are recognised by, for messages."""
    signs = [
        f"{' or '.join(layout.sign for layout in layouts)} ({origin})"
        for origin, layouts in itertools.groupby(LAYOUTS.values(), lambda layout: layout.origin)
    ]
    return f"{', '.join(signs[:-1])}, or {signs[-1]}"
