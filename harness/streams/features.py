"""Clips and an encoder -> the stream of their features, stored and computed."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from harness.clips.faces import load_detector
from harness.clips.table import ClipTable
from harness.dataset import Stream
from harness.encoders.encoder import Encoder
from harness.progress import Progress
from harness.sampling import EVERY, Sampling
from harness.streams.clip_issues import Gaps
from harness.streams.contents import sources
from harness.streams.estimate import estimate
from harness.streams.extraction import Compute, Extraction, Extractor, extract
from harness.streams.file_store import FileStore
from harness.streams.precomputed import FeatureColumns, read_foreign
from harness.streams.store import FeatureStore, is_there


@dataclass(frozen=True)
class Machines:
    """Where features are computed. device: of this process. address: of a running Ray cluster.
    workers: processes; None: one a GPU. Ray is only started where there is more than one."""

    device: torch.device
    address: str | None = None
    workers: int | None = None

    def many(self) -> bool:
        """Whether several processes compute."""
        gpus = torch.cuda.device_count() if self.device.type == "cuda" else 0
        return self.address is not None or (self.workers or gpus) > 1


@dataclass(frozen=True)
class Found:
    """The features of clips.

    stream: of every clip. gaps: clips with problems. extraction: what was computed now, or read of
    precomputed features. read: what was read, notes: what may be wrong with it, a line each.
    left_out: columns that are no features, with the reason.
    """

    stream: Stream
    gaps: Gaps
    extraction: Extraction
    read: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


def features_of(
    clips: ClipTable,
    encoder: Encoder | None,
    cache: Path,
    samplings: Sequence[Sampling],
    machines: Machines,
    progress: Progress,
    names: Sequence[str] | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Found:
    """The features of clips in some samplings; those of frames that are not stored are computed.

    Args:
        encoder: None where the clips bring their features.
        names: the columns that such features must have, in the wanted order; None: any.
        tell: is given a line on what will be computed, before it is.
    """
    if encoder is None:
        stream, problems, columns, done = _brought(clips, cache, names, tell)
        gaps = Gaps.of(clips.clip_ids, stream.counts.tolist(), problems, {})
        read = (str(stream), *columns.left_out_lines())
        return Found(stream, gaps, done, read, columns.notes, columns.left_out)
    keys = _keys(clips, cache)
    holder = _holder(encoder, cache, keys, samplings)
    store = feature_store(holder, cache)
    extraction = _extract(clips, keys, holder, store, samplings, machines, progress, tell)
    stream = store.load(keys, samplings)
    if holder is not encoder:
        stream = stream.select(encoder.columns)
    gaps = Gaps.of(
        clips.clip_ids,
        stream.counts.tolist(),
        store.problems(keys),
        store.faceless(keys, samplings),
    )
    stream = replace(stream, parts=encoder.parts)
    return Found(stream, gaps, extraction, (*encoder.describe(), str(stream)))


def _brought(
    clips: ClipTable, cache: Path, names: Sequence[str] | None, tell: Callable[[str], None]
) -> tuple[Stream, dict[str, str], FeatureColumns, Extraction]:
    """What `read_foreign` returns, and how many files it read."""
    begun, files = time.perf_counter(), FileStore(cache / "features")
    found = read_foreign(clips, names, files)
    if files.problem:
        tell(files.problem)
    done = Extraction(
        clips=files.parsed,
        frames=files.steps,
        kept=files.compared + files.kept,
        seconds=time.perf_counter() - begun,
        what="steps",
        done="read",
        compared=files.compared,
        gone=files.gone,
    )
    return *found, done


def extract_features(
    clips: ClipTable,
    encoder: Encoder | None,
    cache: Path,
    samplings: Sequence[Sampling],
    machines: Machines,
    progress: Progress,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[Extraction, Gaps, tuple[str, ...]]:
    """Computes what the store lacks in some samplings; returns what was done, the clips with
    problems, and what was read, a line each.

    Precomputed features are read and checked.
    """
    if encoder is None:
        found = features_of(clips, None, cache, EVERY, machines, progress, tell=tell)
        return found.extraction, found.gaps, (*found.read, *found.notes)
    keys = _keys(clips, cache)
    holder = _holder(encoder, cache, keys, samplings)
    store = feature_store(holder, cache)
    wanted = tuple(sorted(set(samplings)))
    done = _extract(clips, keys, holder, store, wanted, machines, progress, tell)
    counts = [len(store.known_frames(*key)) for key in keys]
    faceless = store.faceless(keys, samplings)
    gaps = Gaps.of(clips.clip_ids, counts, store.problems(keys), faceless)
    return done, gaps, tuple(encoder.describe())


def feature_store(encoder: Encoder, cache: Path) -> FeatureStore:
    """The store of the features of an encoder."""
    return FeatureStore(cache / "features", encoder.specification())


def _keys(clips: ClipTable, cache: Path) -> list[tuple[str, str]]:
    """(clip id, fingerprint of its file) of all clips."""
    return list(zip(clips.clip_ids, sources(clips, cache / "features"), strict=True))


def _holder(
    encoder: Encoder, cache: Path, keys: Sequence[tuple[str, str]], samplings: Sequence[Sampling]
) -> Encoder:
    """The encoder itself, or the wider one where every frame of it is stored already."""
    wider = encoder.wider
    if wider and is_there(cache / "features", wider.specification()):
        store = feature_store(wider, cache)
        if not any(store.missing(*key, samplings) for key in keys):
            return wider
    return encoder


def _extract(
    clips: ClipTable,
    keys: Sequence[tuple[str, str]],
    encoder: Encoder,
    store: FeatureStore,
    samplings: Sequence[Sampling],
    machines: Machines,
    progress: Progress,
    tell: Callable[[str], None],
) -> Extraction:
    def compute() -> Compute:  # only where a frame is missing
        rows = [row for row, key in enumerate(keys) if store.missing(*key, samplings)]
        needed = estimate(clips, rows, samplings, store.specification)
        tell(str(needed))
        needed.check(store.folder)
        if not machines.many():
            return extractor(encoder, machines.device)
        # Ray takes seconds to import and to start.
        from harness.streams.workers import Workers

        return Workers(partial(extractor, encoder), machines.address, machines.workers)

    def on_clips(done: int, total: int, frames: int) -> None:
        progress("features", done, total)

    return extract(clips, compute, store, samplings, progress=on_clips)


def extractor(encoder: Encoder, device: torch.device | None = None) -> Extractor:
    """Computes the features of an encoder on a device; None: a GPU if there is one."""
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    detector = None if encoder.crop == "none" else load_detector()
    return Extractor(encoder.load(), encoder.resize, device, detector)
