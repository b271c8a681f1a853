"""Clips and encoders -> the streams of their features, stored and computed."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from harness.clips.faces import load_detector
from harness.clips.table import ClipTable
from harness.dataset import Stream
from harness.encoders.encoder import Encoder
from harness.progress import Progress
from harness.sampling import Sampling
from harness.streams.clip_issues import Gaps
from harness.streams.contents import sources
from harness.streams.estimate import check_disk, estimate
from harness.streams.extraction import Compute, Extraction, Extractor, Network, extract
from harness.streams.file_store import FileStore
from harness.streams.precomputed import read_foreign
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


@dataclass(frozen=True)
class Stored:
    """The features of an encoder, all of which are in a store.

    keys: clip id and fingerprint of the file of each clip. store: of the encoder, or of a wider one
    of the same network. extraction: what was computed now.
    """

    encoder: Encoder
    keys: Sequence[tuple[str, str]]
    store: FeatureStore
    samplings: Sequence[Sampling]
    extraction: Extraction

    def found(self, required: bool = True) -> Found:
        """With the stream of all clips.

        Raises:
            InputError: no clip gave a frame, and it is required.
        """
        if required or any(len(self.store.known_frames(*key)) for key in self.keys):
            stream = self.store.load(self.keys, self.samplings)
        else:
            nothing = Stream.without_steps(self.store.specification, len(self.keys))
            stream = replace(nothing, times=np.empty(0, np.float32), sampled=True)
        if self.store.specification.columns != self.encoder.columns:
            stream = stream.select(self.encoder.columns)
        gaps = self._gaps(stream.counts.tolist())
        stream = replace(stream, parts=self.encoder.parts)
        return Found(stream, gaps, self.extraction, (*self.encoder.describe(), str(stream)))

    def gaps(self) -> Gaps:
        """The clips with problems; no stream is loaded."""
        return self._gaps([len(self.store.known_frames(*key)) for key in self.keys])

    def _gaps(self, counts: Sequence[int]) -> Gaps:
        clip_ids = [clip_id for clip_id, _ in self.keys]
        faceless = self.store.faceless(self.keys, self.samplings)
        return Gaps.of(clip_ids, counts, self.store.problems(self.keys), faceless)


def brought_features(
    clips: ClipTable,
    cache: Path,
    names: Sequence[str] | None,
    tell: Callable[[str], None],
) -> Found:
    """The features that clips bring. Files that were read before are taken from the cache.

    Args:
        names: the columns that they must have, in the wanted order; None: any.
        tell: is given a line if the cache cannot be used.
    """
    begun, files = time.perf_counter(), FileStore(cache / "features")
    stream, problems, columns = read_foreign(clips, names, files)
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
    gaps = Gaps.of(clips.clip_ids, stream.counts.tolist(), problems, {})
    read = (str(stream), *columns.left_out_lines())
    return Found(stream, gaps, done, read, columns.notes, columns.left_out)


def compute_features(
    clips: ClipTable,
    encoders: Sequence[Encoder],
    cache: Path,
    samplings: Sequence[Sequence[Sampling]],
    machines: Machines,
    progress: Progress,
    tell: Sequence[Callable[[str], None]],
) -> list[Stored]:
    """The features of clips by each encoder; those of frames that are not stored are computed. Each
    clip is read once, and faces are found in it once, for all encoders that lack some.

    Args:
        samplings: of each encoder.
        tell: of each encoder, is given a line on what will be computed, before it is.
    """
    keys = list(zip(clips.clip_ids, sources(clips, cache / "features"), strict=True))
    # Encoders may share a store; what any of them needs is computed once.
    jobs: dict[Path, _Job] = {}
    of_encoder = []
    for place, holder in enumerate(_holders(encoders, cache, keys, samplings)):
        store = feature_store(holder, cache)
        nothing = Extraction(0, 0, len(clips), 0.0)
        job = jobs.setdefault(store.folder, _Job(holder, store, tell[place], nothing))
        job.samplings = tuple(sorted({*job.samplings, *samplings[place]}))
        of_encoder.append(job)
    for crop in dict.fromkeys(job.encoder.crop for job in jobs.values()):
        alike = [job for job in jobs.values() if job.encoder.crop == crop]
        _extract(clips, keys, alike, machines, progress)
    return [
        Stored(encoder, keys, job.store, wanted, job.extraction)
        for encoder, job, wanted in zip(encoders, of_encoder, samplings, strict=True)
    ]


def feature_store(encoder: Encoder, cache: Path) -> FeatureStore:
    """The store of the features of an encoder."""
    return FeatureStore(cache / "features", encoder.specification())


@dataclass
class _Job:
    """A store that may lack features. encoder: that computes them. tell: of the first encoder that
    reads them. extraction: what was done."""

    encoder: Encoder
    store: FeatureStore
    tell: Callable[[str], None]
    extraction: Extraction
    samplings: tuple[Sampling, ...] = ()


def _holders(
    encoders: Sequence[Encoder],
    cache: Path,
    keys: Sequence[tuple[str, str]],
    samplings: Sequence[Sequence[Sampling]],
) -> list[Encoder]:
    """What computes the features of each encoder: itself, or the wider one if another encoder has
    the same or is it, or if every frame of it is stored already."""
    widest = [(each.wider or each).specification().fingerprint() for each in encoders]

    def holder(encoder: Encoder, wanted: Sequence[Sampling], several: bool) -> Encoder:
        if encoder.wider is None or several:
            return encoder.wider or encoder
        if is_there(cache / "features", encoder.wider.specification()):
            store = feature_store(encoder.wider, cache)
            if not any(store.missing(*key, wanted) for key in keys):
                return encoder.wider
        return encoder

    return [
        holder(encoder, wanted, widest.count(fingerprint) > 1)
        for encoder, wanted, fingerprint in zip(encoders, samplings, widest, strict=True)
    ]


def _extract(
    clips: ClipTable,
    keys: Sequence[tuple[str, str]],
    jobs: Sequence[_Job],
    machines: Machines,
    progress: Progress,
) -> None:
    """Computes what the stores of some jobs lack. Their encoders read the same crops."""
    rows = [
        [row for row, key in enumerate(keys) if job.store.missing(*key, job.samplings)]
        for job in jobs
    ]
    short = [job for job, missing in zip(jobs, rows, strict=True) if missing]

    def compute() -> Compute:  # only where a frame is missing
        needed = [
            estimate(clips, missing, job.samplings, job.store.specification)
            for job, missing in zip(jobs, rows, strict=True)
            if missing
        ]
        for job, each in zip(short, needed, strict=True):
            job.tell(str(each))
        check_disk(needed, short[0].store.folder)
        encoders = [job.encoder for job in short]
        if not machines.many():
            return extractor(encoders, machines.device)
        # Ray takes seconds to import and to start.
        from harness.streams.workers import Workers

        return Workers(partial(extractor, encoders), machines.address, machines.workers)

    def on_clips(done: int, total: int, frames: int) -> None:
        progress("features", done, total)

    stores, samplings = [job.store for job in short], [job.samplings for job in short]
    if short:
        computed = extract(clips, compute, stores, samplings, progress=on_clips)
        for job, each in zip(short, computed, strict=True):
            job.extraction = each


def extractor(encoders: Sequence[Encoder], device: torch.device | None = None) -> Extractor:
    """Computes the features of encoders that read the same crops, in the order of `Need.encoder`,
    on a device; None: a GPU if there is one."""
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = [Network(each.stream, each.load(), each.resize) for each in encoders]
    detector = None if encoders[0].crop == "none" else load_detector()
    return Extractor(networks, device, detector)
