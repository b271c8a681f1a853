"""Clips -> feature store: decode in threads, run the frozen network on batches across clips."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from harness.clips.table import ClipTable
from harness.clips.video import timed_frames
from harness.cores import cores
from harness.errors import InputError
from harness.sampling import Sampler, Sampling, UntimedError
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
class Work:
    """One clip to be read: its row in the table, the state of its file, the samplings to
    complete and the frames that are known already."""

    clip_id: str
    row: int
    source: str
    samplings: tuple[Sampling, ...]
    skip: frozenset[int]


@dataclass(frozen=True)
class _Chunk:
    """Images of one clip, of the network's size; `last` ends it, with a problem or without.

    frames, times, images: (n,) indices, (n,) seconds and (n, 3, size, size) uint8; images is None
    where n is 0.
    faceless: indices of frames without a face, with the last chunk.
    """

    work: Work
    frames: NDArray[np.int32]
    times: NDArray[np.float32]
    images: Tensor | None
    last: bool
    faceless: tuple[int, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Extractor:
    """Clips -> features on one device.

    network: the frozen network of an encoder. resize: its `Encoder.resize`. detector: of faces, to
    which frames are cropped; None: frames are taken whole. batch_size: images. decoders: threads;
    None: one a core.
    """

    network: nn.Module
    resize: Callable[[Tensor], Tensor]
    device: torch.device
    detector: Detector | None = None
    batch_size: int = 64
    decoders: int | None = None

    def __call__(self, clips: ClipTable, work: Sequence[Work]) -> Iterator[ClipFrames]:
        """The features of each piece of work, as they become ready."""
        model = self.network.to(self.device)
        if self.device.type == "cuda":
            # float32 is float32, as on a CPU, with whose features these are stored: cuDNN would
            # take TF32 for convolutions by itself.
            torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]

        def of_clip(item: Work) -> Iterator[_Chunk]:
            return _clip_chunks(clips, item, self.resize, self.detector)

        chunks = _decoded(work, of_clip, self.decoders or cores())
        yield from _through_model(chunks, model, self.device, self.batch_size)


#: Computes features: one extractor in this process, or several (`harness.streams.workers`).
Compute = Callable[[ClipTable, Sequence[Work]], Iterator[ClipFrames]]


def extract(
    clips: ClipTable,
    compute: Callable[[], Compute],
    store: FeatureStore,
    samplings: Sequence[Sampling],
    *,
    progress: Callable[[int, int, int], None] = lambda clips, total, frames: None,
) -> Extraction:
    """Computes every frame that `samplings` ask for and the store lacks.

    Args:
        compute: returns what computes; called only if frames are missing.
        progress: called with (clips done, clips to do, frames done).

    A clip with missing frames does not stop the others: the store holds the reason beside its
    frames (`FeatureStore.problems`).

    Raises:
        InputError: an interval is asked for, and the times of a clip's frames are not known.
    """
    begun = time.perf_counter()
    work = _missing(clips, store, samplings)
    if not work:
        return Extraction(0, 0, len(clips), time.perf_counter() - begun)
    paths = dict(zip(clips.clip_ids, clips.paths, strict=True))
    done = frames = 0
    pending: list[ClipFrames] = []
    flushed = time.perf_counter()
    try:
        for result in compute()(clips, work):
            pending.append(_as_found(result, paths))
            frames += len(result.frames)
            done += 1
            progress(done, len(work), frames)
            if time.perf_counter() - flushed > FLUSH_SECONDS:
                store.append(pending)
                pending, flushed = [], time.perf_counter()
    finally:
        # Also when interrupted: what was computed is kept.
        store.append(pending)
    return Extraction(done, frames, len(clips) - len(work), time.perf_counter() - begun)


def _as_found(result: ClipFrames, paths: Mapping[str, Path | None]) -> ClipFrames:
    """A clip whose file changed while it was read, such as one that is still being copied, gets a
    fingerprint that no file has, so that the next run reads it again."""
    if not result.problem or source_fingerprint(paths[result.clip_id]) == result.source:
        return result
    return replace(result, source="changed while it was read")


def _missing(clips: ClipTable, store: FeatureStore, samplings: Sequence[Sampling]) -> list[Work]:
    work = []
    for row, (clip_id, source) in enumerate(
        zip(clips.clip_ids, sources(clips, store.root), strict=True)
    ):
        missing = store.missing(clip_id, source, samplings)
        if missing:
            skip = store.known_frames(clip_id, source)
            work.append(Work(clip_id, row, source, tuple(missing), skip))
    return work


def _decoded(
    work: Sequence[Work], of_clip: Callable[[Work], Iterator[_Chunk]], decoders: int
) -> Iterator[_Chunk | None]:
    """Chunks of all clips; those of one clip in order, those of different clips interleaved.

    Yields None if no chunk is ready, so that the network can process what is there.
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
            left = len(work)
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


def _clip_chunks(
    clips: ClipTable, item: Work, resize: Callable[[Tensor], Tensor], detector: Detector | None
) -> Iterator[_Chunk]:
    index: list[int] = []
    images: list[Tensor] = []
    faceless: list[int] = []
    times: dict[int, float] = {}
    problem = ""

    def chunk(last: bool) -> _Chunk:
        stacked = torch.cat(images) if images else None
        frames = np.array(index, np.int32)
        begun = np.array([times[number] for number in index], np.float32)
        return _Chunk(item, frames, begun, stacked, last, tuple(faceless) if last else (), problem)

    try:
        for number, picture in _pictures(clips, item, detector, times):
            if picture is None:
                faceless.append(number)
                continue
            if len(images) == CHUNK:
                yield chunk(last=False)
                index, images = [], []
            index.append(number)
            # Resized at once, so that frames of the original size are never collected.
            images.append(resize(torch.from_numpy(picture)[None]))
    except UntimedError:  # the clip is intact: its features need a stride
        raise
    except InputError as error:
        problem = str(error)
    yield chunk(last=True)


def _pictures(
    clips: ClipTable, item: Work, detector: Detector | None, times: dict[int, float]
) -> Iterator[tuple[int, NDArray[np.uint8] | None]]:
    """Frames or faces by index; the second of each frame is entered into `times`."""
    # Known frames of the grid are read again: the crops must not depend on what is stored.
    grid = TRACKING_GRID if detector else 0
    sampler = Sampler(item.samplings, item.skip, item.clip_id, grid)
    frames = _frames(clips, item, sampler, times)
    pictures: Iterator[tuple[int, NDArray[np.uint8] | None]] = frames
    if detector is not None:
        pictures = followed(frames, detector, lambda number: sampler.wanted(number, times[number]))
    for number, picture in pictures:
        if picture is not None:
            sampler.found(times[number])
        yield number, picture


def _frames(
    clips: ClipTable, item: Work, sampler: Sampler, times: dict[int, float]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    path = clips.paths[item.row]
    if path is None:
        raise InputError("no file")
    read = timed_images if clips.kind == "images" else timed_frames
    for index, second, picture in read(path, sampler):
        times[index] = second
        yield index, picture


def _through_model(
    chunks: Iterator[_Chunk | None], model: nn.Module, device: torch.device, batch_size: int
) -> Iterator[ClipFrames]:
    """Fills batches across clips; yields each clip when its last frame is through."""
    features: dict[int, list[NDArray[np.float32]]] = {}
    frames: dict[int, list[NDArray[np.int32]]] = {}
    times: dict[int, list[NDArray[np.float32]]] = {}
    waiting: list[_Chunk] = []
    count = 0

    threads = torch.get_num_threads()

    def run(behind: bool) -> Iterator[ClipFrames]:
        images = [chunk.images for chunk in waiting if chunk.images is not None]
        # While decoding is what the run waits for, the decoders need the cores.
        with _threads(1 if behind else threads):
            outputs = _outputs(model, images, device)
        start = 0
        for chunk in waiting:
            row = chunk.work.row
            stop = start + len(chunk.frames)
            frames.setdefault(row, []).append(chunk.frames)
            times.setdefault(row, []).append(chunk.times)
            if stop > start:
                features.setdefault(row, []).append(outputs[start:stop])
            start = stop
            if chunk.last:
                rows = features.pop(row, [np.empty((0, 0), np.float32)])
                yield ClipFrames(
                    chunk.work.clip_id,
                    chunk.work.source,
                    chunk.work.samplings,
                    np.concatenate(frames.pop(row)),
                    np.concatenate(rows),
                    chunk.faceless,
                    chunk.problem,
                    np.concatenate(times.pop(row)),
                )

    for chunk in chunks:
        if chunk is not None:
            waiting.append(chunk)
            count += len(chunk.frames)
        if count >= batch_size or (chunk is None and count):
            yield from run(behind=chunk is None)
            waiting, count = [], 0
    yield from run(behind=False)


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
    if not bool(torch.isfinite(outputs).all()):
        raise InputError("the network gave NaN or infinity; check the weight file")
    array: NDArray[np.float32] = outputs.float().cpu().numpy()
    return array
