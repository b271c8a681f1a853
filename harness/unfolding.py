"""The predictions of an ensemble over the frames of a clip: after each sampled frame, from the
frames up to it.

A report shows them. They are computed here, because models need torch and reports do not; torch is
imported when clips are predicted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.dataset import Dataset, Specification, Stream
from harness.errors import InputError
from harness.study.folder import StudyFolder

if TYPE_CHECKING:
    from harness.clips.table import ClipTable
    from harness.ensembles.ensemble import Ensemble
    from harness.models.model import Model
    from harness.streams.store import FeatureStore

# Moments of a clip at which a curve is drawn.
_MOMENTS = 40
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Unfolding:
    """frames: (moments,) indices among the decoded frames of the clip. predicted: (moments,
    targets); the last row is the prediction for the whole clip."""

    frames: NDArray[np.int64]
    predicted: Floats


@dataclass(frozen=True)
class _Source:
    model: "Model"
    store: "FeatureStore | None"


def unfoldings(
    home: Path, ensemble: "Ensemble", clips: "ClipTable", rows: Sequence[int]
) -> list[Unfolding | None]:
    """The unfoldings of some clips, from stored features and models.

    None where the features of a clip are not stored (their cache may have been deleted), or where
    it has none.

    Args:
        home: the folder of the ensemble's first study; the `.cache` beside it holds the features.
        rows: of `clips`.

    Raises:
        InputError: a model or a shard of features is missing or damaged.
    """
    stores: dict[str, FeatureStore | None] = {}
    sources = [_source(home, ensemble, name, stores) for name in ensemble.members]
    return [_of_clip(ensemble, sources, clips, row) for row in rows]


def _source(
    home: Path, ensemble: "Ensemble", name: str, stores: "dict[str, FeatureStore | None]"
) -> _Source:
    from harness.models.model_file import read_model
    from harness.streams.store import FeatureStore, is_there

    # The id of a member begins with its study if there are several.
    study, _, trial = name.rpartition("/")
    own = study in ("", ensemble.studies[0])
    folder = StudyFolder(home.parent, home.name if own else study)
    specification = Specification.from_dict(folder.manifest()["stream"])
    key, root = specification.fingerprint(), home.parent / ".cache" / "features"
    if key not in stores:
        there = is_there(root, specification)
        stores[key] = FeatureStore(root, specification) if there else None
    return _Source(read_model(folder.model_file(int(trial))), stores[key])


def _of_clip(
    ensemble: "Ensemble", sources: Sequence[_Source], clips: "ClipTable", row: int
) -> Unfolding | None:
    from harness.streams.contents import source_fingerprint

    key = (clips.clip_ids[row], source_fingerprint(clips.paths[row]))
    found = [_stream(source, key) for source in sources]
    if any(each is None for each in found):
        return None
    streams = [each for each in found if each is not None]
    moments = np.unique(np.concatenate([each.positions for each in streams]))
    picks = np.unique(np.linspace(0, len(moments) - 1, min(_MOMENTS, len(moments))).astype(int))
    moments = moments[picks].astype(np.int64)
    parts = [
        source.model.predict(_beginnings(stream, moments, ensemble.targets))
        for source, stream in zip(sources, streams, strict=True)
    ]
    return Unfolding(moments, ensemble.combine(np.stack(parts).transpose(2, 0, 1)))


def _stream(source: _Source, key: tuple[str, str]) -> Stream | None:
    stride = source.model.config.stride
    if source.store is None or source.store.missing_strides(*key, [stride]):
        return None
    try:
        stream = source.store.load([key], [stride])
    except InputError:  # the clip has no frame; the study has reported it
        return None
    (specification,) = source.model.streams.values()
    return stream.select(specification.columns)


def _beginnings(stream: Stream, moments: NDArray[np.int64], targets: tuple[str, ...]) -> Dataset:
    """A data set in which each beginning of a clip is a clip."""
    counts = np.searchsorted(stream.positions, moments, side="right")
    times = stream.times
    beginnings = replace(
        stream,
        values=np.concatenate([stream.values[:n] for n in counts]),
        positions=np.concatenate([stream.positions[:n] for n in counts]),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        times=None if times is None else np.concatenate([times[:n] for n in counts]),
    )
    names = tuple(map(str, range(len(moments))))
    streams: Mapping[str, Stream] = {stream.specification.source: beginnings}
    return Dataset(names, ("test",) * len(names), None, targets, streams=streams)
