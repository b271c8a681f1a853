"""What an ensemble predicts of a clip as it goes on: after each sampled frame, of what came so far.

The one part of a report that runs heads, and so the only one that needs torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.clips.table import ClipTable
from harness.encoders.mtl_dan.fused import COLUMNS
from harness.ensembles.ensemble import Ensemble
from harness.errors import InputError
from harness.models.checkpoint import Head, read_head
from harness.streams.sequences import FrameFeatures
from harness.streams.store import FeatureStore, Recipe, source_fingerprint
from harness.study.folder import StudyFolder
from harness.trials.trial import TrialData, predict_clips

# Moments of a clip at which a curve is drawn.
_MOMENTS = 40
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Unfolding:
    """frames: (moments,) indices among the clip's decoded frames. predicted: (moments, targets);
    the last row is what the ensemble predicts of the whole clip."""

    frames: NDArray[np.int64]
    predicted: Floats


@dataclass(frozen=True)
class _Member:
    head: Head
    store: FeatureStore | None


def unfoldings(
    results: Path, ensemble: Ensemble, clips: ClipTable, rows: Sequence[int]
) -> list[Unfolding | None]:
    """Of some clips, from stored features and heads; None where features are not stored (they are
    of a cache that may have been deleted) or the clip has none.

    Args:
        results: the folder of studies, whose `.cache` holds the features.
        rows: of `clips`.

    Raises:
        InputError: a head or a shard of features is missing or damaged.
    """
    stores: dict[Recipe, FeatureStore | None] = {}
    members = [_member(results, ensemble, name, stores) for name in ensemble.members]
    return [_of_clip(ensemble, members, clips, row) for row in rows]


def _member(
    results: Path, ensemble: Ensemble, name: str, stores: dict[Recipe, FeatureStore | None]
) -> _Member:
    # A member's id has its study before it where there are several.
    study, _, trial = name.rpartition("/")
    home = StudyFolder(results, study or ensemble.studies[0])
    values = home.manifest().get("recipe")
    head = read_head(home.head_file(int(trial)))
    if values is None:
        return _Member(head, None)
    recipe = Recipe(**values)
    if recipe not in stores:
        there = (results / ".cache" / "features" / recipe.fingerprint()[:16]).is_dir()
        stores[recipe] = FeatureStore(results / ".cache" / "features", recipe) if there else None
    return _Member(head, stores[recipe])


def _of_clip(
    ensemble: Ensemble, members: Sequence[_Member], clips: ClipTable, row: int
) -> Unfolding | None:
    key = (clips.clip_ids[row], source_fingerprint(clips.paths[row]))
    found = [_frames(member, key) for member in members]
    moments = np.unique(np.concatenate([[], *(each.frames for each in found if each is not None)]))
    if not len(moments) or any(each is None for each in found):
        return None
    picks = np.unique(np.linspace(0, len(moments) - 1, min(_MOMENTS, len(moments))).astype(int))
    moments = moments[picks].astype(np.int64)
    parts = [
        _predicted(member, frames, moments, len(ensemble.targets))
        for member, frames in zip(members, found, strict=True)
        if frames is not None
    ]
    return Unfolding(moments, ensemble.combine(np.stack(parts).transpose(2, 0, 1)))


def _frames(member: _Member, key: tuple[str, str]) -> FrameFeatures | None:
    stride = member.head.config.stride
    if member.store is None or member.store.missing_strides(*key, [stride]):
        return None
    try:
        return member.store.load([key], [stride])
    except InputError:  # the clip gave no frame at all, as the study has said
        return None


def _predicted(
    member: _Member, frames: FrameFeatures, moments: NDArray[np.int64], targets: int
) -> NDArray[np.float32]:
    """(moments, targets): each of the clip's beginnings, taken for a clip of its own."""
    assert member.store is not None  # the caller has looked
    counts = np.searchsorted(frames.frames, moments, side="right")
    beginnings = FrameFeatures(
        features=np.concatenate([frames.features[:n] for n in counts]),
        frames=np.concatenate([frames.frames[:n] for n in counts]),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )
    columns = COLUMNS if member.store.recipe.outputs == "both" else {}
    rows = np.arange(len(moments))
    unrated = np.full((len(moments), targets), np.nan, np.float32)
    data = TrialData(beginnings, unrated, {"test": rows}, columns)
    return predict_clips(member.head.models(), member.head.config, data, rows, member.head.fill)[0]
