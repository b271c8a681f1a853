"""A folder of nothing but videos: clips to be predicted, each named by its file."""

from pathlib import Path

import numpy as np

from harness.clips.folder import VIDEO_SUFFIXES
from harness.clips.labels import is_safe
from harness.clips.layouts.files import (
    SOUNDS,
    clip_files,
    shadowed_files,
    sound_files,
    unread_files,
)
from harness.clips.table import ClipTable
from harness.errors import InputError


def read_videos(folder: Path) -> ClipTable | None:
    """Reads the videos of a folder as clips of test without ratings; None if there are none.

    Notes list the other files and the subfolders.

    Raises:
        InputError: two videos with one id, or a name that cannot be an id.
    """
    videos = clip_files(folder, VIDEO_SUFFIXES)
    if not videos:
        return None
    if shadowed := shadowed_files(folder, VIDEO_SUFFIXES):
        raise InputError(f"{shadowed[0]}: another video has the same name; rename one of them")
    ids = tuple(sorted(videos))
    for clip_id in ids:
        if not is_safe(clip_id):
            raise InputError(
                f"{videos[clip_id]}: its name is not an id such as 00042 "
                "(letters, digits, '_', '-' and '.'); rename it"
            )
    sounds, notes = sound_files(folder, ids)
    # Sounds are no subfolder that is not read.
    others = unread_files(folder, VIDEO_SUFFIXES, known=(SOUNDS,) if sounds else ())
    return ClipTable(
        clip_ids=ids,
        splits=("test",) * len(ids),
        targets=np.empty((len(ids), 0), np.float32),
        target_names=(),
        paths=tuple(videos[i] for i in ids),
        kind="video",
        sounds=sounds,
        notes=(*others, *notes),
    )
