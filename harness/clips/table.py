"""The table of clips: what every layout is read into."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import InputError, printable

#: What lies behind a clip's path: a video file, a folder of images, or a file of features.
Kind = Literal["video", "images", "features"]
#: The splits, by the names that they have throughout the package.
SPLITS = ("train", "val", "test")
EMOTIONS = ("Adoration", "Amusement", "Anxiety", "Disgust", "Empathic-Pain", "Fear", "Surprise")
#: `oracles[stream][split][target]`: the PCC on val or test of the best prediction that knows
#: everything the picture, the sound, or both reveal.
Oracles = dict[str, dict[str, dict[str, float]]]
_EXAMPLES = 3


@dataclass(frozen=True)
class ClipTable:
    """The clips of a data set, row by row; ids are strings throughout.

    splits: "train", "val" or "test" for each clip.
    targets: (clips, targets) float32 in [0, 1], rows all NaN where a clip is unlabelled.
    paths: what lies behind each clip, of one kind; None where a clip of the labels has nothing.
    groups: the person of each clip, where the data says who. folds: (clips,) the authors' fold
    of each clip, from 1, 0 where it has none; None where the data has no folds.
    notes: what is not as it should be and can be borne, a line each.
    synthetic: True for generated clips, whose scores are no results on real data; oracles: what can
    be predicted of these, by stream.
    """

    clip_ids: tuple[str, ...]
    splits: tuple[str, ...]
    targets: NDArray[np.float32]
    target_names: tuple[str, ...]
    paths: tuple[Path | None, ...]
    kind: Kind
    groups: tuple[str, ...] | None = None
    folds: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    oracles: Oracles = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.clip_ids)


def check_usable(file: Path, clips: ClipTable, strict: bool) -> ClipTable:
    """The table, if a search could use it, with a note on clips that it will not learn from.

    Raises:
        InputError: train or val holds no labelled clip with something behind it; or, with
            `strict`, the first of the notes.
    """
    labelled = [not np.isnan(row).any() for row in clips.targets]
    notes = list(clips.notes)
    for split, use in (("train", "learnt from"), ("val", "scored")):
        ids = [i for i, name in zip(clips.clip_ids, clips.splits, strict=True) if name == split]
        bare = [
            i for i, name, rated in zip(clips.clip_ids, clips.splits, labelled, strict=True)
            if name == split and not rated
        ]  # fmt: skip
        if bare and len(bare) < len(ids):
            notes.append(
                f"{file}: {len(bare)} of {len(ids)} clips of {split} have no ratings and are not "
                f"{use}: {some(bare)}"
            )
    if strict and notes:
        raise InputError(f"{notes[0]} (--strict; leave it out to bear that)")
    for split in ("train", "val"):
        rows = [row for row, name in enumerate(clips.splits) if name == split]
        if not rows:
            raise InputError(f"{file}: no clip is in {split}; the search needs it")
        if not any(labelled[row] for row in rows):
            raise InputError(f"{file}: no clip of {split} is labelled; the search needs some")
        if not any(clips.paths[row] for row in rows):
            raise InputError(
                f"{file}: none of the {len(rows)} clips of {split} has a file; "
                "are names and ids the same?"
            )
    return replace(clips, notes=tuple(notes))


def some(items: Sequence[str]) -> str:
    """The first few of many, for a message."""
    more = f" and {len(items) - _EXAMPLES} more" if len(items) > _EXAMPLES else ""
    return ", ".join(map(printable, items[:_EXAMPLES])) + more
