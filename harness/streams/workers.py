"""Extraction on several GPUs or machines: an actor each, which takes clips and gives features.

Actors and not Ray Data's stages: between stages of decoding and computing every image (150 kB at
224 pixels a side) would pass through the object store, while between an actor and the driver only
a path goes one way and 88 bytes an image the other. tests/benchmarks/sharing.py runs both.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
import torch
from ray import cloudpickle

from harness import cluster
from harness.clips.table import ClipTable
from harness.errors import InputError
from harness.interrupts import Wait
from harness.streams.extraction import Computed, Extractor, Work

# Clips that an actor takes at once, at least and by its cores: enough to fill batches and to keep
# every core at work, few enough to end together.
PIECE, _CLIPS_A_CORE = 32, 8
# A piece waits at each actor while it computes another.
_AHEAD = 2


class Workers:
    """What computes on a cluster; files must lie under the same path on every machine.

    make: gives an actor's extractor, on the actor. count: actors; None: one a GPU, or one a machine
    where there is none. gpus: of each actor. cpus: of each, its share of its machine's.

    Raises:
        InputError: fewer GPUs than actors, or fewer cores.
    """

    def __init__(
        self, make: Callable[[], Extractor], address: str | None, count: int | None
    ) -> None:
        cluster.join(address)
        self.make = ray.put(cloudpickle.dumps(make))  # type: ignore[no-untyped-call]
        self.gpus, self.cpus = shares(cluster.machines(), count)

    def __call__(self, clips: ClipTable, work: Sequence[Work]) -> Iterator[Computed]:
        """The features of each piece of work, as they become ready."""
        actors = [
            _Worker.options(num_gpus=self.gpus, num_cpus=cpus).remote(  # type: ignore[attr-defined]
                self.make, ray.put(clips), max(cpus, 1)
            )
            for cpus in self.cpus
        ]
        # Each core decodes a clip of its own, and between pieces those that are done wait.
        size = max(PIECE, _CLIPS_A_CORE * max(self.cpus))
        pieces = iter([work[i : i + size] for i in range(0, len(work), size)])
        running = {}
        for actor, _ in itertools.product(actors, range(_AHEAD)):
            for piece in itertools.islice(pieces, 1):
                running[actor.compute.remote(piece)] = actor
        try:
            while running:
                ready = _first(list(running))
                actor = running.pop(ready)
                for piece in itertools.islice(pieces, 1):
                    running[actor.compute.remote(piece)] = actor
                computed = ray.get(ready)
                if isinstance(computed, InputError):
                    raise computed
                yield from computed
        finally:
            for actor in actors:
                ray.kill(actor)


def _first(running: list[Any]) -> Any:
    """The first piece of work that is ready, or failed."""
    wait = Wait(
        "a worker of the extraction: it computes, or waits for a core or a GPU (see `ray status`)"
    )
    while True:
        ready, _ = ray.wait(running, timeout=1)
        if ready:
            return ready[0]
        wait.report()


def shares(machines: Sequence[cluster.Machine], count: int | None) -> tuple[int, list[int]]:
    """GPUs of each actor, and the cores of each, such that all find a place: what fits no machine
    would be waited for without an end.

    Args:
        count: actors; None: one a GPU, or one a machine where there is none.

    Raises:
        InputError: fewer GPUs than actors, or fewer cores.
    """
    gpus = sum(machine.gpus for machine in machines)
    if gpus:
        if (count or 0) > gpus:
            raise InputError(f"`workers` {count}: the cluster has {gpus} GPUs; one a worker")
        of_gpus = min(machine.cpus // machine.gpus for machine in machines if machine.gpus)
        return 1, [of_gpus] * (count or gpus)
    # The largest first: a smaller one could take its place.
    cores = sorted((machine.cpus for machine in machines if machine.cpus), reverse=True)
    if count is None and cores:
        return 0, cores
    wanted = count or 1
    if sum(cores) < wanted:
        raise InputError(f"`workers` {wanted}: the cluster has {sum(cores)} CPUs; one a worker")
    most = max(n for n in range(1, max(cores) + 1) if sum(c // n for c in cores) >= wanted)
    return 0, [most] * wanted


@ray.remote
class _Worker:
    """An extractor, made with the first piece of work. An InputError is returned, not raised: Ray
    would add the traceback of the actor."""

    def __init__(self, make: bytes, clips: ClipTable, decoders: int) -> None:
        if not torch.cuda.is_available():
            torch.set_num_threads(decoders)
        self.make, self.clips, self.decoders = make, clips, decoders
        self.extractor: Extractor | None = None

    def compute(self, work: Sequence[Work]) -> list[Computed] | InputError:
        try:
            self.extractor = self.extractor or self._made()
            return list(self.extractor(self.clips, work))
        except InputError as error:
            return InputError(str(error))  # without its causes, which may not be pickled

    def _made(self) -> Extractor:
        try:
            make = cloudpickle.loads(self.make)
        except ImportError as error:
            raise InputError(
                f"a worker cannot import the encoder: {error}; install its module on each machine"
            ) from error
        extractor: Extractor = make()
        return dataclasses.replace(extractor, decoders=self.decoders)
