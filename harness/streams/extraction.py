"""Clips -> feature stores: decode in threads, run frozen networks on batches across clips.

All encoders of a run share the decoded frames and the faces in them.
"""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.clips.faces import TRACKING_GRID, Detector, followed
from harness.clips.images import timed_images
from harness.clips.passing import may_pass
from harness.clips.table import ClipTable
from harness.clips.video import timed_frames
from harness.cores import cores
from harness.errors import InputError, printable
from harness.sampling import Sampler, Samplers, Sampling, UntimedError
from harness.streams.contents import source_fingerprint, sources
from harness.streams.store import ClipFrames, FeatureStore

# Images that a decoder hands over at once; small, so that memory stays bounded for any clip.
CHUNK = 16
# Seconds of work that an interruption may cost.
FLUSH_SECONDS = 20.0


@dataclass(frozen=True)
class Extraction:
    """What a run did: `clips` and `frames` computed, `kept` clips found in the store, `seconds`.
    what: the name of a frame. done: what was done to the clips. compared: of the kept ones, those
    of which the contents had to be compared. gone: stored files that are no longer there."""

    clips: int
    frames: int
    kept: int
    seconds: float
    what: str = "frames"
    done: str = "computed"
    compared: int = 0
    gone: int = 0

    def __str__(self) -> str:
        speed = f", {self.frames / self.seconds:.0f} {self.what} a second" if self.frames else ""
        computed = f"{self.frames} {self.what}{speed}"
        compared = f" ({self.compared} compared by their contents)" if self.compared else ""
        gone = f", {self.gone} stored files are gone" if self.gone else ""
        return (
            f"{self.clips} clips {self.done} ({computed}), {self.kept} were stored{compared}{gone}"
        )


@dataclass(frozen=True)
class Need:
    """What an encoder lacks of a clip. encoder: its number among those of the run. samplings: those
    to complete. skip: the frames whose features it has."""

    encoder: int
    samplings: tuple[Sampling, ...]
    skip: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Work:
    """One clip to be read: its row in the table, the state of its file, and what each encoder that
    lacks features of it needs."""

    clip_id: str
    row: int
    source: str
    needs: tuple[Need, ...]


@dataclass(frozen=True)
class _Chunk:
    """Images of one clip for one encoder, of its network's size; `last` ends them, with a problem
    or without.

    frames, times, images: (n,) indices, (n,) seconds and (n, 3, size, size) uint8; images is None
    where n is 0.
    faceless: indices of frames without a face, with the last chunk. passing: the problem may be
    gone later.
    """

    work: Work
    need: Need
    frames: NDArray[np.int32]
    times: NDArray[np.float32]
    images: Tensor | None
    last: bool
    faceless: tuple[int, ...] = ()
    problem: str = ""
    passing: bool = False


@dataclass(frozen=True)
class Network:
    """A frozen network. name: that of its stream, for messages. module: what `Encoder.load` gives.
    resize: `Encoder.resize`."""

    name: str
    module: nn.Module
    resize: Callable[[Tensor], Tensor]


#: The number of an encoder, and its features of a clip.
Computed = tuple[int, ClipFrames]


@dataclass(frozen=True)
class Extractor:
    """Clips -> features on one device.

    networks: of the encoders, by the numbers of `Need.encoder`. detector: of faces, to which frames
    are cropped; None: frames are taken whole. batch_size: images. decoders: threads; None: one a
    core.
    """

    networks: Sequence[Network]
    device: torch.device
    detector: Detector | None = None
    batch_size: int = 64
    decoders: int | None = None

    def __call__(self, clips: ClipTable, work: Sequence[Work]) -> Iterator[Computed]:
        """The features of each piece of work, encoder by encoder, as they become ready."""
        if self.device.type == "cuda":
            # float32 is float32, as on a CPU, with whose features these are stored: cuDNN would
            # take TF32 for convolutions by itself.
            torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        batches = [_Batch(number, network, self.device)
                   for number, network in enumerate(self.networks)]  # fmt: skip

        def of_clip(item: Work) -> Iterator[_Chunk]:
            return _clip_chunks(clips, item, self.networks, self.detector)

        chunks = _decoded(work, of_clip, self.decoders or cores())
        yield from _through_networks(chunks, batches, self.batch_size)


#: Computes features: one extractor in this process, or several (`harness.streams.workers`).
Compute = Callable[[ClipTable, Sequence[Work]], Iterator[Computed]]


def extract(
    clips: ClipTable,
    compute: Callable[[], Compute],
    stores: Sequence[FeatureStore],
    samplings: Sequence[Sequence[Sampling]],
    *,
    progress: Callable[[int, int, int], None] = lambda clips, total, frames: None,
) -> list[Extraction]:
    """Computes every frame that `samplings` ask for and the stores lack; each clip is read once.

    Args:
        compute: returns what computes; called only if frames are missing.
        stores, samplings: of each encoder, in the order of `Need.encoder`.
        progress: called with (clips done, clips to do, frames done).

    A clip with missing frames does not stop the others: the store holds the reason beside its
    frames (`FeatureStore.problems`).

    Returns:
        what was done for each encoder.

    Raises:
        InputError: an interval is asked for, and the times of a clip's frames are not known.
    """
    begun = time.perf_counter()
    work = _missing(clips, stores, samplings)
    paths = dict(zip(clips.clip_ids, clips.paths, strict=True))
    left = {item.clip_id: len(item.needs) for item in work}
    done, frames = Counter[int](), Counter[int]()
    pending: list[list[ClipFrames]] = [[] for _ in stores]
    flushed = time.perf_counter()

    def flush() -> None:
        for store, computed in zip(stores, pending, strict=True):
            store.append(computed)
            computed.clear()

    try:
        for encoder, result in compute()(clips, work) if work else ():
            pending[encoder].append(_as_found(result, paths[result.clip_id], stores[encoder]))
            frames[encoder] += len(result.frames)
            done[encoder] += 1
            left[result.clip_id] -= 1
            if not left[result.clip_id]:
                del left[result.clip_id]
                progress(len(work) - len(left), len(work), frames.total())
            if time.perf_counter() - flushed > FLUSH_SECONDS:
                flush()
                flushed = time.perf_counter()
    finally:
        # Also when interrupted: what was computed is kept.
        flush()
    seconds = time.perf_counter() - begun
    needs = Counter(need.encoder for item in work for need in item.needs)
    return [
        Extraction(done[encoder], frames[encoder], len(clips) - needs[encoder], seconds)
        for encoder in range(len(stores))
    ]


def _as_found(result: ClipFrames, path: Path | None, store: FeatureStore) -> ClipFrames:
    """A clip with a problem that the next run may not have is read again by it. One whose file
    changed meanwhile, such as one that is still being copied, gets a source that no file has. After
    an error of the machine, no sampling is complete; a second error is one of the file."""
    if not result.problem:
        return result
    if source_fingerprint(path) != result.source:
        return replace(result, source="changed while it was read")
    if result.passing and store.problems([(result.clip_id, result.source)]):
        return replace(result, passing=False)
    return replace(result, samplings=()) if result.passing else result


def _missing(
    clips: ClipTable, stores: Sequence[FeatureStore], samplings: Sequence[Sequence[Sampling]]
) -> list[Work]:
    work = []
    for row, (clip_id, source) in enumerate(
        zip(clips.clip_ids, sources(clips, stores[0].root), strict=True)
    ):
        needs = tuple(
            Need(encoder, tuple(missing), store.known_frames(clip_id, source))
            for encoder, (store, wanted) in enumerate(zip(stores, samplings, strict=True))
            if (missing := store.missing(clip_id, source, wanted))
        )
        if needs:
            work.append(Work(clip_id, row, source, needs))
    return work


def _decoded(
    work: Sequence[Work], of_clip: Callable[[Work], Iterator[_Chunk]], decoders: int
) -> Iterator[_Chunk | None]:
    """Chunks of all clips; those of one clip in order, those of different clips interleaved.

    Yields None if no chunk is ready, so that the networks can process what is there.
    """
    ready: queue.Queue[_Chunk] = queue.Queue(maxsize=8 * decoders)
    stop = threading.Event()

    def put(chunk: _Chunk) -> None:
        while not stop.is_set():
            try:
                return ready.put(chunk, timeout=0.1)
            except queue.Full:
                continue
        raise _StoppedError

    def decode(item: Work) -> None:
        for chunk in of_clip(item):
            put(chunk)

    with ThreadPoolExecutor(decoders, initializer=_alone) as pool:
        futures: list[Future[None]] = [pool.submit(decode, item) for item in work]
        try:
            left = sum(len(item.needs) for item in work)
            while left:
                if ready.empty():
                    yield None
                chunk = _next_chunk(ready, futures)
                left -= chunk.last
                yield chunk
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            # Threads that start later would inherit the setting of a decoder.
            torch.set_num_threads(torch.get_num_threads())


def _alone() -> None:
    """Limits torch to the calling thread; further threads would compete with other decoders."""
    torch.set_num_threads(1)


class _StoppedError(Exception):
    """The consumer has stopped, so that decoders stop."""


def _next_chunk(ready: "queue.Queue[_Chunk]", futures: Sequence[Future[None]]) -> _Chunk:
    while True:
        try:
            return ready.get(timeout=1.0)
        except queue.Empty:
            for future in futures:
                if future.done():
                    future.result()  # raises the error of a decoder


class _Images:
    """Collects the resized pictures of one clip for one encoder, up to a chunk of them."""

    def __init__(self, work: Work, need: Need, network: Network) -> None:
        self.work, self.need, self.resize = work, need, network.resize
        self.faceless: list[int] = []
        self._clear()

    def _clear(self) -> None:
        self.index: list[int] = []
        self.times: list[float] = []
        self.images: list[Tensor] = []

    def add(self, number: int, second: float, picture: NDArray[np.uint8]) -> None:
        self.index.append(number)
        self.times.append(second)
        # Resized at once, so that frames of the original size are never collected.
        self.images.append(self.resize(torch.from_numpy(picture)[None]))

    def chunk(self, last: bool = False, problem: str = "", passing: bool = False) -> _Chunk:
        """What was collected since the last chunk."""
        images = torch.cat(self.images) if self.images else None
        frames, times = np.array(self.index, np.int32), np.array(self.times, np.float32)
        self._clear()
        faceless = tuple(self.faceless) if last else ()
        return _Chunk(self.work, self.need, frames, times, images, last, faceless, problem, passing)


def _clip_chunks(
    clips: ClipTable, item: Work, networks: Sequence[Network], detector: Detector | None
) -> Iterator[_Chunk]:
    collected = [_Images(item, need, networks[need.encoder]) for need in item.needs]
    problem, passing, path = "", False, clips.paths[item.row]
    try:
        for number, second, picture, wanted in _pictures(clips, item, detector):
            for images in (collected[place] for place in wanted):
                if picture is None:
                    images.faceless.append(number)
                    continue
                if len(images.index) == CHUNK:
                    yield images.chunk()
                images.add(number, second, picture)
    except UntimedError:  # the clip is intact: its features need a stride
        raise
    except InputError as error:
        problem, passing = str(error), path is not None and may_pass(error, path)
    for images in collected:
        yield images.chunk(last=True, problem=problem, passing=passing)


def _pictures(
    clips: ClipTable, item: Work, detector: Detector | None
) -> Iterator[tuple[int, float, NDArray[np.uint8] | None, list[int]]]:
    """Frames or faces: index, second, picture, and the places in `item.needs` that want it."""
    # Known frames of the grid are read again: the crops must not depend on what is stored.
    grid = TRACKING_GRID if detector else 0
    sampler = Samplers(
        [Sampler(need.samplings, need.skip, item.clip_id, grid) for need in item.needs]
    )
    times: dict[int, float] = {}
    pictures: Iterator[tuple[int, NDArray[np.uint8] | None]]
    pictures = frames = _frames(clips, item, sampler, times)
    if detector is not None:
        pictures = followed(frames, detector, lambda k: bool(sampler.wanted(k, times[k])))
    for number, picture in pictures:
        second = times.pop(number)
        wanted = sampler.wanted(number, second)
        if picture is not None:
            sampler.found(second)
        yield number, second, picture, wanted


def _frames(
    clips: ClipTable, item: Work, sampler: Samplers, times: dict[int, float]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Frames that are read; the second of each is entered into `times`."""
    path = clips.paths[item.row]
    if path is None:
        raise InputError("no file")
    read = timed_images if clips.kind == "images" else timed_frames
    for index, second, picture in read(path, sampler):
        times[index] = second
        yield index, picture


class _Batch:
    """The chunks that wait for one network; `count` images."""

    def __init__(self, number: int, network: Network, device: torch.device) -> None:
        self.number, self.network, self.device = number, network, device
        self.module = network.module.to(device)
        self.waiting: list[_Chunk] = []
        self.count = 0
        # By row, the chunks of a clip that are through, with their features.
        self.through: dict[int, list[tuple[_Chunk, NDArray[np.float32]]]] = {}

    def add(self, chunk: _Chunk) -> None:
        self.waiting.append(chunk)
        self.count += len(chunk.frames)

    def run(self, threads: int) -> Iterator[Computed]:
        """Computes what waits, and gives each clip whose last frame is through."""
        waiting, self.waiting, self.count = self.waiting, [], 0
        images = [chunk.images for chunk in waiting if chunk.images is not None]
        with _threads(threads):
            outputs = _outputs(self.module, images, self.device)
        start = 0
        for chunk in waiting:
            stop = start + len(chunk.frames)
            features = outputs[start:stop] if stop > start else np.empty((0, 0), np.float32)
            start = stop
            if not np.isfinite(features).all():
                raise InputError(
                    f"the network of {self.network.name} gave NaN or infinity for clip "
                    f"{printable(chunk.work.clip_id)}; check the weight file"
                )
            done = self.through.setdefault(chunk.work.row, [])
            done.append((replace(chunk, images=None), features))
            if chunk.last:
                yield self.number, _joined(self.through.pop(chunk.work.row))


def _joined(parts: Sequence[tuple[_Chunk, NDArray[np.float32]]]) -> ClipFrames:
    """The chunks of a clip, with their features."""
    last = parts[-1][0]
    filled = [features for chunk, features in parts if len(chunk.frames)]
    return ClipFrames(
        last.work.clip_id,
        last.work.source,
        last.need.samplings,
        np.concatenate([chunk.frames for chunk, _ in parts]),
        np.concatenate(filled or [np.empty((0, 0), np.float32)]),
        last.faceless,
        last.problem,
        np.concatenate([chunk.times for chunk, _ in parts]),
        last.passing,
    )


def _through_networks(
    chunks: Iterator[_Chunk | None], batches: Sequence[_Batch], batch_size: int
) -> Iterator[Computed]:
    """Fills the batches of each network across clips."""
    threads = torch.get_num_threads()
    for chunk in chunks:
        if chunk is not None:
            batches[chunk.need.encoder].add(chunk)
        for batch in batches:
            if batch.count >= batch_size:
                yield from batch.run(threads)
            elif chunk is None and batch.count:
                # Decoding is what the run waits for: the decoders need the cores.
                yield from batch.run(1)
    for batch in batches:
        yield from batch.run(threads)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Sets the number of threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def _outputs(
    model: nn.Module, images: Sequence[Tensor], device: torch.device
) -> NDArray[np.float32]:
    if not images:
        return np.empty((0, 0), np.float32)
    batch = torch.cat(list(images)).to(device, non_blocking=True)
    outputs: Tensor = model(batch)
    array: NDArray[np.float32] = outputs.float().cpu().numpy()
    return array
