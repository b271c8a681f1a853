"""How many trials share a GPU: from the memory that the largest of a space needs."""

import gc
import itertools
from typing import Any

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.dataset import Dataset
from harness.errors import InputError
from harness.models.config import TrialConfig, accepted, memory
from harness.models.families import DEFAULT
from harness.space.search_space import SearchSpace
from harness.trials.trial import Trial

# Of a process on a GPU, beside what torch counts: the driver's context and the libraries' kernels.
CONTEXT = 700 * 2**20
# Allocators round up, and a sequence may be longer than those that were measured.
MARGIN = 1.3
#: More trials than this do not make a GPU faster: their launches wait for each other.
MOST = 16


def largest(space: SearchSpace) -> list[TrialConfig]:
    """The configuration of a space that needs the most memory, of each family of models."""
    families = dict.fromkeys(map(str, space.values("family")))
    if "family" in space.only_if:  # where it is not searched, it keeps its default
        families[DEFAULT] = None
    return [_largest(space.without("family", family), family) for family in families]


def _largest(space: SearchSpace, family: str) -> TrialConfig:
    known = {n: each for n, each in accepted().items() if each.family in ("", family)}
    values = {name: value for name, value in space.fixed.items() if name in known}
    for name in space.distributions.keys() & known:
        extremes = _extremes(space.distributions[name])
        if name in space.only_if:
            extremes.append(known[name].default)
        if (most := memory(name, extremes)) is not None:
            values[name] = most
    for name, value in (item for point in space.start for item in space.parts(point)[1].items()):
        if name not in known:
            continue
        if (most := memory(name, [values.get(name, known[name].default), value])) is not None:
            values[name] = most
    return TrialConfig.from_dict(values)


def measured_need(space: SearchSpace, data: Dataset) -> int:
    """Bytes of GPU memory that a trial of the space needs at most; trains two epochs of it.

    Raises:
        InputError: it does not fit.
    """
    # What this process held before, the network that extracts say, is none of a trial's.
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        return _peak(space, data)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"{space.path}: the largest trial of the space does not fit this GPU ({error}); make "
            "the space smaller, or give `gpus_per_trial`, where such trials then fail"
        ) from error


def by_streams(space: SearchSpace, data: Dataset) -> list[TrialConfig]:
    """The largest configurations of a space with each choice of streams and clock: only the data
    tell which needs the most memory."""
    found = []
    for config, streams, clock in itertools.product(
        largest(space), space.streams(), map(str, space.values("clock"))
    ):
        names = list(data.only(streams).streams)
        if not clock or clock in names or len(names) == 1:
            found.append(config.changed(streams=streams, clock=clock if len(names) > 1 else ""))
    return list(dict.fromkeys(found))


def _peak(space: SearchSpace, data: Dataset) -> int:
    for config in by_streams(space, data):
        trial = Trial(config.changed(epochs=2), data, torch.device("cuda"))
        while not trial.finished:
            trial.step()
        del trial
        torch.cuda.empty_cache()
    return int(torch.cuda.max_memory_reserved())


def fraction(need: int, total: int) -> tuple[float, str]:
    """The share of a GPU with `total` bytes for a trial that needs `need`, and a line on why."""
    with_margin = need * MARGIN + CONTEXT
    trials = max(1, min(MOST, int(total // with_margin)))
    told = (
        f"{trials} trials share a GPU: the largest of the space needs {need / 2**20:.0f} MiB, with "
        f"context and margin {with_margin / 2**20:.0f} of {total / 2**20:.0f}; "
        "`gpus_per_trial` changes it"
    )
    return 1 / trials, told


def _extremes(distribution: object) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)  # there are no others
    return [distribution.low, distribution.high]
