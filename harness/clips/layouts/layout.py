"""The record of a layout: how its folder is recognised, and how it is read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.clips.table import ClipTable


@dataclass(frozen=True)
class LayoutOptions:
    """What a user chooses within a folder."""

    #: The feature set, for layouts that have some; None: the frames, or else the only set.
    features: str | None = None


@dataclass(frozen=True)
class Layout:
    """A form that a data folder may have. `recognise` and `read` get the data folder."""

    #: The value of `--layout`.
    name: str
    #: One line: what the data is.
    description: str
    #: The files of the folder; `<id>` stands for a clip's id, braces for alternatives.
    form: tuple[str, ...]
    #: The file or folder that tells this layout from the others, for messages.
    sign: str
    #: Whose data it is, for messages; layouts of one origin follow each other in LAYOUTS.
    origin: str
    #: Whether the folder has this layout. It looks for names only and opens no file.
    recognise: Callable[[Path], bool]
    #: Reads the folder. Raises InputError, naming file, line and column, where it cannot.
    read: Callable[[Path, LayoutOptions], ClipTable]
    #: Lists the feature sets of a folder, of which `--features` chooses; None: it has no such sets.
    feature_sets: Callable[[Path], Sequence[str]] | None = None
    #: Whether a folder has frames beside its feature sets; None: it has one or the other.
    has_frames: Callable[[Path], bool] | None = None
