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

from harness.dataset import Dataset, Stream
from harness.errors import InputError
from harness.sampling import EVERY
from harness.study.folder import StudyFolder, specifications

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
    """A model, and where the features of each of its streams are stored."""

    model: "Model"
    stores: "Mapping[str, FeatureStore | None]"


def unfoldings(
    home: Path,
    ensemble: "Ensemble",
    clips: "ClipTable",
    rows: Sequence[int],
    cache: Path | None = None,
) -> list[Unfolding | None]:
    """The unfoldings of some clips, from stored features and models.

    None where the features of a clip are not stored (their cache may have been deleted), or where
    it has none.

    Args:
        home: the folder of the ensemble's first study.
        rows: of `clips`.
        cache: holds the features; None: the `.cache` beside the study.

    Raises:
        InputError: a model or a shard of features is missing or damaged.
    """
    root = (cache or home.parent / ".cache") / "features"
    opened: dict[str, FeatureStore | None] = {}
    sources = [_source(home, ensemble, name, root, opened) for name in ensemble.members]
    return [_of_clip(ensemble, sources, clips, row) for row in rows]


def _source(
    home: Path,
    ensemble: "Ensemble",
    name: str,
    root: Path,
    stores: "dict[str, FeatureStore | None]",
) -> _Source:
    from harness.models.model_file import read_model
    from harness.streams.store import FeatureStore, is_there

    # The id of a member begins with its study if there are several.
    study, _, trial = name.rpartition("/")
    own = study in ("", ensemble.studies[0])
    folder = StudyFolder(home.parent, home.name if own else study)
    model = read_model(folder.model_file(int(trial)))
    known = specifications(folder.manifest())
    for specification in (known[stream] for stream in model.streams):
        key = specification.fingerprint()
        if key not in stores:
            there = is_there(root, specification)
            stores[key] = FeatureStore(root, specification) if there else None
    return _Source(model, {stream: stores[known[stream].fingerprint()] for stream in model.streams})


def _of_clip(
    ensemble: "Ensemble", sources: Sequence[_Source], clips: "ClipTable", row: int
) -> Unfolding | None:
    from harness.streams.contents import source_fingerprint

    clip, path, sound = clips.clip_ids[row], clips.paths[row], clips.heard().paths[row]
    seen, heard = ((clip, source_fingerprint(file)) for file in (path, sound))
    found = [_streams(source, seen, heard) for source in sources]
    if any(each is None for each in found):
        return None
    streams = [each for each in found if each is not None]
    sampled = [stream for each in streams for stream in each.values() if stream.sampled]
    if not any(len(stream.positions) for stream in sampled):
        return None
    positions = np.concatenate([stream.positions for stream in sampled])
    moments, first = np.unique(positions, return_index=True)
    seconds = np.concatenate([_seconds(stream) for stream in sampled])[first]
    picks = np.unique(np.linspace(0, len(moments) - 1, min(_MOMENTS, len(moments))).astype(int))
    moments, seconds = moments[picks].astype(np.int64), seconds[picks]
    if np.isnan(seconds).any() and not all(s.sampled for each in streams for s in each.values()):
        return None  # nothing says which steps of the sound come before a frame
    parts = [
        source.model.predict(_beginnings(own, moments, seconds, ensemble.targets))
        for source, own in zip(sources, streams, strict=True)
    ]
    return Unfolding(moments, ensemble.combine(np.stack(parts).transpose(2, 0, 1)))


def _streams(
    source: _Source, seen: tuple[str, str], heard: tuple[str, str]
) -> dict[str, Stream] | None:
    """The stored streams of a clip that a model reads; None if one is not stored.

    Args:
        seen, heard: the clip as (clip id, source) of its frames and of its sound.
    """
    from harness.encoders.sound.encoder import HEARD

    found = {}
    for name, store in source.stores.items():
        is_sound = source.model.streams[name].source in HEARD
        key, steps = (heard, EVERY) if is_sound else (seen, (source.model.config.sampling,))
        if store is None or store.missing(*key, steps):
            return None
        try:
            stream = store.load([key], steps)
        except InputError:  # the clip has no frame or no sound; the study has reported it
            stream = Stream.without_steps(store.specification, 1)
        stream = replace(stream, sampled=not is_sound)
        found[name] = stream.select(source.model.streams[name].columns)
    return found


def _seconds(stream: Stream) -> NDArray[np.float32]:
    """(steps,) when each step begins; NaN where it is not known."""
    return np.full(len(stream.positions), np.nan) if stream.times is None else stream.times


def _beginnings(
    streams: Mapping[str, Stream],
    moments: NDArray[np.int64],
    seconds: NDArray[np.float32],
    targets: tuple[str, ...],
) -> Dataset:
    """A data set in which each beginning of a clip is a clip.

    Args:
        moments, seconds: (clips,) the last frame of each, and when it begins. All steps of other
            streams that begin by then are in it; in the last one all steps are.
    """
    names = tuple(map(str, range(len(moments))))
    cut = {name: _cut(stream, moments, seconds) for name, stream in streams.items()}
    return Dataset(names, ("test",) * len(names), None, targets, streams=cut)


def _cut(stream: Stream, moments: NDArray[np.int64], seconds: NDArray[np.float32]) -> Stream:
    if stream.sampled:
        counts = np.searchsorted(stream.positions, moments, side="right")
    else:
        counts = np.searchsorted(_seconds(stream), seconds, side="right")
        counts[-1] = len(stream.positions)
    return replace(
        stream,
        values=np.concatenate([stream.values[:n] for n in counts]),
        positions=np.concatenate([stream.positions[:n] for n in counts]),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        times=np.concatenate([_seconds(stream)[:n] for n in counts]),
    )
