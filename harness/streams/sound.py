"""Clips and a sound encoder -> the stream of their sound, stored and computed in threads."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.clips.passing import may_pass
from harness.clips.sound import sound_blocks, stated_seconds
from harness.clips.table import ClipTable
from harness.cores import cores
from harness.dataset import Stream
from harness.encoders.sound.encoder import SoundEncoder
from harness.encoders.sound.spectrum import Array
from harness.errors import InputError, printable
from harness.progress import Progress, silent
from harness.sampling import EVERY
from harness.streams.clip_issues import Gaps
from harness.streams.contents import sources
from harness.streams.estimate import Estimate, check_disk, looked_at
from harness.streams.extraction import Compute, Computed, Work, extract
from harness.streams.features import Found
from harness.streams.store import ClipFrames, FeatureStore


def sound_stream(
    clips: ClipTable,
    encoder: SoundEncoder,
    cache: Path,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda line: None,
    required: bool = True,
) -> Found:
    """The sound of clips; what is not stored under `cache` is computed.

    A clip whose sound is missing or damaged has no steps, or fewer, and a gap with the reason.

    Args:
        tell: is given a line on what will be computed, before it is.
        required: refuse clips none of which has sound.

    Raises:
        InputError: no clip has sound, and it is required.
    """
    heard = clips.heard()
    store = FeatureStore(cache / "features", encoder.specification())
    keys = list(zip(heard.clip_ids, sources(heard, store.root), strict=True))

    def compute() -> Compute:  # only where sound is missing
        rows = [row for row, key in enumerate(keys) if store.missing(*key, EVERY)]
        needed = _estimate(heard, rows, encoder)
        tell(str(needed))
        check_disk([needed], store.folder)
        return Listener(encoder)

    def on_clips(done: int, total: int, steps: int) -> None:
        progress(encoder.stream, done, total)

    (extraction,) = extract(heard, compute, [store], [EVERY], progress=on_clips)
    counts = [len(store.known_frames(*key)) for key in keys]
    gaps = Gaps.of(clips.clip_ids, counts, store.problems(keys), {}, "sound")
    if any(counts):
        stream = replace(store.load(keys, EVERY), sampled=False)
    elif required:
        raise InputError(f"none of the clips has sound: {'; '.join(gaps.lines())}")
    else:
        stream = Stream.without_steps(store.specification, len(clips))
    extraction = replace(extraction, what="steps of sound")
    return Found(stream, gaps, extraction, (*encoder.describe(), str(stream)))


class Listener:
    """Computes the sound of clips in threads, a clip each. threads: None: one a core."""

    def __init__(self, encoder: SoundEncoder, threads: int | None = None) -> None:
        self.encoder, self.listening = encoder, encoder.load()
        self.threads = threads or cores()
        self.stopped = threading.Event()

    def __call__(self, clips: ClipTable, work: Sequence[Work]) -> Iterator[Computed]:
        """The steps of each piece of work, as they become ready. Paths are those of the sound."""
        self.stopped.clear()
        pool = ThreadPoolExecutor(self.threads)
        try:
            futures = [pool.submit(self.listen, item, clips.paths[item.row]) for item in work]
            for future in as_completed(futures):
                yield 0, future.result()
        finally:
            self.stopped.set()
            pool.shutdown(cancel_futures=True)

    def listen(self, item: Work, path: Path | None) -> ClipFrames:
        """The steps of one clip, with the reason why some are missing."""
        problem, passing, samples = "", False, 0

        def blocks() -> Iterator[Array]:
            nonlocal problem, passing, samples
            try:
                if path is None:
                    raise InputError("no sound file")
                for block in sound_blocks(path, self.encoder.rate):
                    if self.stopped.is_set():  # what is read of this clip is not used
                        return
                    samples += len(block)
                    yield block
            except InputError as error:
                problem = str(error)
                passing = path is not None and may_pass(error, path)

        steps = self.listening(blocks())
        if not np.isfinite(steps).all():
            raise InputError(
                f"the network of {self.encoder.stream} gave NaN or infinity for clip "
                f"{printable(item.clip_id)}; check the weight file"
            )
        seconds = samples / self.encoder.rate
        if 0 < seconds < self.encoder.window:
            short = (
                f"{seconds:.3g} s of sound, less than the window of {self.encoder.window:g} s, "
                "which zeros fill"
            )
            problem = f"{problem}; {short}" if problem else f"{path}: {short}"
        places = np.arange(len(steps), dtype=np.int32)
        times = (places * self.encoder.step).astype(np.float32)
        return ClipFrames(
            item.clip_id, item.source, EVERY, places, steps, (), problem, times, passing
        )


def _estimate(clips: ClipTable, rows: Sequence[int], encoder: SoundEncoder) -> Estimate:
    """Of what some clips will take, from what some of their files state."""
    steps = [_steps(clips.paths[row], encoder.step) for row in looked_at(rows)]
    return Estimate.of(
        round(float(np.mean(steps)) * len(rows)), encoder.specification(), "steps of sound"
    )


def _steps(path: Path | None, step: float) -> float:
    try:
        return max(1.0, stated_seconds(path) / step) if path else 0.0
    except InputError:  # reported when the file is read
        return 0.0
