"""The table of clips: what every layout is read into."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import InputError, printable

#: What a clip's path names: a video file, a folder of images, or a file of features.
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
    targets: (clips, targets) float32 in [0, 1], rows all NaN where a clip is unrated.
    paths: the file or folder of each clip, all of one kind; None where a clip has none.
    groups: the person of each clip, where the data says who. folds: (clips,) the authors' fold
    of each clip, from 1, 0 where it has none; None where the data has no folds.
    sounds: the sound file of each clip, where the data has such files; None where a clip has none.
    notes: recoverable problems, a line each.
    synthetic: True for generated clips, whose scores are no results on real data; oracles: what can
    be predicted of these, by stream. ceilings: `ceilings[split][target]`, the highest PCC that the
    agreement of the raters allows; empty if single ratings are not known.
    """

    clip_ids: tuple[str, ...]
    splits: tuple[str, ...]
    targets: NDArray[np.float32]
    target_names: tuple[str, ...]
    paths: tuple[Path | None, ...]
    kind: Kind
    groups: tuple[str, ...] | None = None
    folds: NDArray[np.int64] | None = None
    sounds: tuple[Path | None, ...] | None = None
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    oracles: Oracles = field(default_factory=dict)
    ceilings: dict[str, dict[str, float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.clip_ids)

    def heard(self) -> "ClipTable":
        """The same clips with `paths` to their sound: the sound file of a clip, else its film."""
        films = self.paths if self.kind == "video" else (None,) * len(self)
        sounds = self.sounds or (None,) * len(self)
        paths = tuple(own or film for own, film in zip(sounds, films, strict=True))
        return replace(self, paths=paths)


def check_usable(file: str | PathLike[str], clips: ClipTable, strict: bool) -> ClipTable:
    """Returns the table if a search can use it, with a note on the unrated clips that it skips.

    Raises:
        InputError: train or val has no rated clip or no clip with a file; or, with `strict`, the
            first of the notes.
    """
    rated = [not np.isnan(row).any() for row in clips.targets]
    notes = list(clips.notes)
    for split in ("train", "val"):
        rows = [row for row, name in enumerate(clips.splits) if name == split]
        unrated = [clips.clip_ids[row] for row in rows if not rated[row]]
        if unrated and len(unrated) < len(rows):
            notes.append(
                f"{file}: {len(unrated)} of {len(rows)} clips of {split} are unrated and skipped: "
                f"{some(unrated)}"
            )
    refuse_notes(notes, strict)
    for split in ("train", "val"):
        rows = [row for row, name in enumerate(clips.splits) if name == split]
        if not rows:
            raise InputError(f"{file}: no clip is in {split}; the search needs it")
        if not any(rated[row] for row in rows):
            raise InputError(f"{file}: no clip of {split} is rated; the search needs some")
        if not any(clips.paths[row] for row in rows):
            raise InputError(
                f"{file}: none of the {len(rows)} clips of {split} has a file; "
                f"are names and ids the same?{_found_instead(file, clips)}"
            )
    return replace(clips, notes=tuple(notes))


def _found_instead(file: str | PathLike[str], clips: ClipTable) -> str:
    """The notes of a table that tell why clips have no file, for a message."""
    notes = [note.removeprefix(f"{file}: ") for note in clips.notes if note.startswith(str(file))]
    return f" Found: {'; '.join(notes)}" if notes else ""


def check_any_file(file: str | PathLike[str], clips: ClipTable) -> None:
    """InputError if no clip has a file."""
    if not any(clips.paths):
        raise InputError(
            f"{file}: none of {len(clips)} clips has a file; are names and ids the same?"
            f"{_found_instead(file, clips)}"
        )


def check_groups(file: str | PathLike[str], clips: ClipTable, allow: bool = False) -> ClipTable:
    """Checks that no person has clips in several splits, where the data names persons.

    A model that has seen a person in train scores too well on other clips of that person.

    Args:
        allow: add a note instead of raising the error.

    Raises:
        InputError: some persons are in several splits; the message names some of them.
    """
    shared = shared_groups(clips)
    if not shared:
        return clips
    message = f"{file}: {len(shared)} persons have clips in several splits: {some(shared)}"
    if not allow:
        raise InputError(
            f"{message}; keep the clips of a person in one split, or give `allow_shared_groups`"
        )
    note = f"{message}; scores on new persons may be lower"
    return replace(clips, notes=(*clips.notes, note))


def in_order(clips: ClipTable) -> ClipTable:
    """The clips by their ids, without ratings, persons and folds."""
    rows = sorted(range(len(clips)), key=clips.clip_ids.__getitem__)
    return replace(
        clips,
        clip_ids=tuple(clips.clip_ids[row] for row in rows),
        splits=tuple(clips.splits[row] for row in rows),
        paths=tuple(clips.paths[row] for row in rows),
        sounds=clips.sounds and tuple(clips.sounds[row] for row in rows),
        targets=np.full_like(clips.targets, np.nan),
        groups=None,
        folds=None,
    )


def shared_groups(clips: ClipTable) -> list[str]:
    """The persons with clips in several splits, each with these splits."""
    splits: dict[str, set[str]] = {}
    for person, split in zip(clips.groups or (), clips.splits if clips.groups else (), strict=True):
        splits.setdefault(person, set()).add(split)
    return [
        f"{person} ({', '.join(name for name in SPLITS if name in found)})"
        for person, found in splits.items()
        if len(found) > 1
    ]


def refuse_notes(notes: Sequence[str], strict: bool) -> None:
    """InputError with the first of the notes, if `strict`."""
    if strict and notes:
        raise InputError(f"{notes[0]} (`strict`; without it this is a warning)")


def some(items: Sequence[str]) -> str:
    """The first few of many, for a message."""
    more = f" and {len(items) - _EXAMPLES} more" if len(items) > _EXAMPLES else ""
    return ", ".join(map(printable, items[:_EXAMPLES])) + more
