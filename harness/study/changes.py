"""What differs between the clips of a study and those that it is to continue with."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from harness.dataset import NOTHING, Dataset
from harness.errors import printable

_EXAMPLES = 3
#: The fingerprint of each clip's contents, by clip.
Contents = Mapping[str, str]


def changes(
    old: Dataset, new: Dataset, old_contents: Contents, new_contents: Contents
) -> list[str]:
    """The kinds of change with the clips that they concern, a phrase each.

    Args:
        old_contents, new_contents: fingerprints; a clip that a mapping lacks is not compared.
    """
    before, after = _places(old), _places(new)
    added = [clip for clip in after if clip not in before]
    removed = [clip for clip in before if clip not in after]
    renamed = _renamed(removed, added, old_contents, new_contents)
    both = [clip for clip in before if clip in after]
    compared = [c for c in both if c in old_contents and c in new_contents]
    differ = [c for c in compared if old_contents[c] != new_contents[c]]
    with_file = [c for c in differ if NOTHING not in (old_contents[c], new_contents[c])]

    def changed(values: Callable[[Dataset, int], object]) -> list[str]:
        return [c for c in both if values(old, before[c]) != values(new, after[c])]

    listed: dict[str, Iterable[str]] = {
        "renamed": [f"{a} is now {b}" for a, b in renamed.items()],
        "added": [clip for clip in added if clip not in renamed.values()],
        "removed": [clip for clip in removed if clip not in renamed],
        "with other contents": with_file,
        "without a file now": [c for c in differ if new_contents[c] == NOTHING],
        "with a file now": [c for c in differ if old_contents[c] == NOTHING],
        "with other ratings": changed(_ratings),
        "in another split": changed(lambda data, row: data.splits[row]),
        "of another person": changed(lambda data, row: data.groups and data.groups[row]),
    }
    found = [_phrase(what, list(clips)) for what, clips in listed.items() if clips]
    if not found and old.clip_ids != new.clip_ids:
        found = ["the clips are in another order"]
    return found


def _places(data: Dataset) -> dict[str, int]:
    return {clip: row for row, clip in enumerate(data.clip_ids)}


def _ratings(data: Dataset, row: int) -> bytes:
    ratings: bytes = np.nan_to_num(data.ratings[row], nan=-1.0).tobytes()
    return ratings


def _renamed(
    removed: Sequence[str], added: Sequence[str], old: Contents, new: Contents
) -> dict[str, str]:
    """Removed clips whose contents an added clip has, by their old name."""
    by_content = {new[clip]: clip for clip in added if clip in new}
    return {clip: by_content[old[clip]] for clip in removed if old.get(clip) in by_content}


def _phrase(what: str, clips: Sequence[str]) -> str:
    more = f" and {len(clips) - _EXAMPLES} more" if len(clips) > _EXAMPLES else ""
    noun = "clip" if len(clips) == 1 else "clips"
    return f"{len(clips)} {noun} {what}: {', '.join(map(printable, clips[:_EXAMPLES]))}{more}"
