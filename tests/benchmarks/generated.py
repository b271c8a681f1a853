"""Generated clips of a real size: 12 steps of 22 features and seven ratings, as in Hume-Reaction.

Each rating follows a hidden intensity of its own. Of a share of the targets the features show it in
every step (`pooled`); of the others they show it with a sign that changes in the middle of the clip
(`ordered`), so that the mean over the steps has no information. Noise hides part of it. The ratings
of a clip are divided by their largest one, as the challenge does.

Synthetic data: no score on it is a result on Hume-Reaction.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from harness.clips.table import EMOTIONS
from harness.dataset import Dataset
from tests.datasets import make_dataset, make_stream

STEPS, FEATURES = 12, 22
#: Clips of train, val and test of Hume-Reaction.
HUME = {"train": 15_806, "val": 4_657, "test": 4_604}
#: Targets whose information is in the order of the steps.
ORDERED = {"pooled": 0, "mixed": 3, "ordered": 7}
_NOISE, _RATING_NOISE = 2.0, 0.6


def generated(
    clips: dict[str, int], information: str = "mixed", seed: int = 0, steps: int = STEPS
) -> Dataset:
    """A data set of so many clips of each split. information: a key of `ORDERED`."""
    rng = np.random.default_rng(seed)
    total, targets = sum(clips.values()), len(EMOTIONS)
    mixing = np.eye(targets) + 0.3 * rng.standard_normal((targets, targets))
    hidden = rng.standard_normal((total, targets)) @ mixing
    patterns = rng.standard_normal((targets, FEATURES)) / np.sqrt(targets)
    sign = np.where(np.arange(steps) < steps / 2, 1.0, -1.0)
    shown = np.ones((steps, targets))
    shown[:, targets - ORDERED[information] :] = sign[:, None]
    values = np.einsum("ck,sk,kf->csf", hidden, shown, patterns, optimize=True)
    values += _NOISE * rng.standard_normal(values.shape)
    raw = 1 / (1 + np.exp(-hidden - _RATING_NOISE * rng.standard_normal(hidden.shape)))
    ratings = raw / raw.max(axis=1, keepdims=True)
    bounds = np.cumsum(list(clips.values()))[:-1]
    rows = dict(zip(clips, np.split(np.arange(total), bounds), strict=True))
    stream = make_stream(
        values.reshape(-1, FEATURES),
        np.tile(np.arange(steps), total),
        np.arange(total + 1) * steps,
    )
    return make_dataset(stream, ratings, rows)


def write_authors_layout(root: Path, data: Dataset) -> Path:
    """Writes the clips as `Data/data_info.csv` and `MTL_features/<split>/<id>.npy`."""
    ids = [f"{number:05d}" for number in range(len(data))]
    table = pd.DataFrame(data.ratings, columns=list(EMOTIONS))
    table.insert(0, "File_ID", [f"[{each}]" for each in ids])
    table.insert(1, "Split", [split.capitalize() for split in data.splits])
    (root / "Data").mkdir(parents=True)
    table.to_csv(root / "Data" / "data_info.csv", index=False)
    stream = data.features
    for split in set(data.splits):
        (root / "MTL_features" / split).mkdir(parents=True)
    for number, split in enumerate(data.splits):
        steps = stream.values[stream.offsets[number] : stream.offsets[number + 1]]
        np.save(root / "MTL_features" / split / f"{ids[number]}.npy", steps)
    return root
