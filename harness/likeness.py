"""How the features of some clips differ from those of the training clips, if they can hardly come
from the same tool."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import printable

Floats = NDArray[np.float32]
# In standard deviations of train: a mean this far off, or a deviation this much larger.
_FAR = 4.0
# Of equal samples, some features that are rarely not zero are so far off; in samples of few clips,
# up to a third of them. What is to be sure takes this share of the features.
_SHARE, _SHARE_OF_FEW, _LEAST = 0.25, 0.75, 3
# A deviation this much smaller, of most of those features that vary in both. If none varies, it
# takes so many values that one of a rare event would be among them.
_NARROW, _MANY = 0.125, 2_000
# Permuted columns: their means are off by half a standard deviation on average, and fit four times
# better in another order. To be sure, they are further off than so few clips give by chance.
_OFF, _BETTER, _BY_CHANCE = 0.5, 4.0, 2.5
# Means and deviations of fewer clips vary too much.
_FEWEST = 10
# Steps that are compared; more would need memory for their squares.
_COMPARED = 10_000


def unlike(
    values: Floats,
    mean: NDArray[np.floating],
    scale: NDArray[np.floating],
    clips: int,
    names: Sequence[str] = (),
    of: str = "",
    sure: bool = False,
) -> str:
    """How values (steps, features) of some clips differ from those of train; empty if they do not.

    Args:
        mean: of train, (features,). scale: inverse standard deviation, 0 of what never varies.
        names: of the features, if they have names; others may be in another order.
        of: the clips or the stream, for the line, such as " of val".
        sure: says nothing that two samples of one tool might show, too.
    """
    values = _evenly(values)
    found = values.mean(axis=0, dtype=np.float64)
    deviation = values.std(axis=0, dtype=np.float64)
    shift, spread = np.abs(found - mean) * scale, deviation * scale
    many = clips >= _FEWEST
    if many and not names:
        # The best order for the means themselves: the smallest belongs to the smallest.
        ours = np.argsort(mean)
        best = float((np.abs(np.sort(found) - mean[ours]) * scale[ours]).mean())
        by_chance = _BY_CHANCE * float(spread.mean()) / clips**0.5 if sure else 0.0
        if shift.mean() > max(_OFF, by_chance, _BETTER * best):
            return (
                f"the means of the {len(mean)} features{of} fit those of train better in another "
                f"order ({best:.2f} instead of {shift.mean():.2f} standard deviations off); are "
                "the columns of these files permuted?"
            )
    far = np.flatnonzero((shift > _FAR) | (spread > _FAR))
    wanted = max(_LEAST, len(mean) * (_SHARE if many else _SHARE_OF_FEW)) if sure else 1
    if len(far) >= min(wanted, len(mean)):
        example = printable(names[far[0]]) if names else f"column {far[0] + 1}"
        return (
            f"{len(far)} of {len(mean)} features{of} lie far from those of train, {example} for "
            "one; do these files come from the same tool?"
        )
    vary = spread[spread > 0]
    ask = "; do these files come from the same tool, on the same scale?"
    if many and len(vary) and (usual := float(np.median(vary))) < _NARROW:
        less = f"vary {1 / usual:.0f} times less than those of train"
        return f"the {len(mean)} features{of} {less}{ask}"
    if not deviation.any() and scale.any() and clips * len(mean) >= _MANY:
        return f"the {len(mean)} features{of} do not vary, unlike those of train{ask}"
    return ""


def unlike_splits(
    values: Floats,
    offsets: NDArray[np.int64],
    splits: Sequence[str],
    names: Sequence[str] = (),
) -> list[str]:
    """A line on each split whose features differ from those of train.

    Args:
        values: (steps, features), clip after clip; clip i has the steps offsets[i]:offsets[i + 1].
        splits: of each clip.
    """
    counts = np.diff(offsets)
    of_clip = np.array(splits)

    def steps(split: str) -> tuple[Floats, int]:
        rows = np.flatnonzero(np.repeat(of_clip == split, counts))
        return values[_evenly(rows)], int((counts[of_clip == split] > 0).sum())

    train, _ = steps("train")
    if len(train) < 2:
        return []
    deviation = train.std(axis=0, dtype=np.float64)
    scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    mean = train.mean(axis=0, dtype=np.float64)
    lines = []
    for split in dict.fromkeys(name for name in splits if name != "train"):
        found, clips = steps(split)
        if len(found) and (
            line := unlike(found, mean, scale, clips, names, f" of {split}", sure=True)
        ):
            lines.append(line)
    return lines


def _evenly(rows: NDArray[Any]) -> NDArray[Any]:
    """At most _COMPARED rows, evenly spread, not in step with the lengths of clips."""
    if len(rows) <= _COMPARED:
        return rows
    return rows[np.linspace(0, len(rows) - 1, _COMPARED).astype(np.int64)]
