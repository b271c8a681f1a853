"""What streams are worth: the scores of the trials that read them, and of those that do not."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.ensembles.construction import Construction, chooser_of, nested_score
from harness.ensembles.intervals import Interval, resample
from harness.ensembles.library import PredictionMatrix, Trial
from harness.ensembles.selection import Recipe

_JOIN = "+"


@dataclass(frozen=True)
class OfStreams:
    """The trials that read the same streams.

    best: mean PCC of the best of them on the clips that select, which is optimistic. nested: of an
    ensemble of them alone; NaN if it is undefined.
    """

    streams: str
    trials: int
    best: float
    nested: float


@dataclass(frozen=True)
class Added:
    """The nested PCC of the ensemble minus that of one of the trials that do not read a stream.

    target: "" for the mean over the targets. interval: what other clips would change, without the
    selection of trials; None if it is undefined.
    """

    stream: str
    target: str
    without: float
    difference: float
    interval: Interval | None


def streams_read(trial: Trial) -> tuple[str, ...]:
    """The names of the streams that a trial reads."""
    named = str(trial.info.config.get("streams") or "")
    return tuple(sorted(named.split(_JOIN))) if named else tuple(sorted(trial.study.streams))


def by_streams(built: Construction) -> list[OfStreams]:
    """The scores of the trials by the streams that they read, the best nested score first."""
    matrix, recipe = built.library.matrix, built.ensemble.recipe
    slots: dict[str, list[int]] = {}
    for slot, trial in enumerate(matrix.trials):
        slots.setdefault(_JOIN.join(streams_read(trial)), []).append(slot)
    ranking = built.chooser.moments.evidence().ranking
    found = []
    for name, own in slots.items():
        nested = nested_score(matrix, own, _fitting(recipe, matrix.of(own)))
        found.append(OfStreams(name, len(own), float(ranking[own].max()), nested))
    return sorted(found, key=lambda each: -np.nan_to_num(each.nested, nan=-1.0))


def added_by_streams(built: Construction) -> list[Added]:
    """What each stream adds to the mean PCC and to each target: paired differences on the same
    held-out clips, with their intervals. Streams that every trial reads are left out."""
    matrix = built.library.matrix
    read = [streams_read(trial) for trial in matrix.trials]
    found = []
    for stream in sorted({name for names in read for name in names}):
        others = [slot for slot, names in enumerate(read) if stream not in names]
        if others and built.ensemble.estimate is not None:
            found += _added(built, stream, others)
    return found


def _fitting(recipe: Recipe, matrix: PredictionMatrix) -> Recipe:
    """The recipe with no more members than these trials can give; steps stay as many."""
    if recipe.method == "auto":  # it limits each method itself
        return recipe
    sizes = Counter(trial.family for trial in matrix.trials).values()
    allowed = sum(min(size, recipe.per_family or size) for size in sizes)
    method = recipe.parametrised(recipe.method).limited(allowed)
    return replace(recipe, top=getattr(method, "top", None))


def _added(built: Construction, stream: str, others: Sequence[int]) -> list[Added]:
    whole, part = built.chooser, built.library.matrix.of(others)
    recipe = _fitting(built.ensemble.recipe, part)
    rest = chooser_of(part, recipe, built.groups)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        predictions = np.stack([each.pooled(recipe.method) for each in (whole, rest)])
        moments = whole.moments
        drawn = resample(moments.truth, predictions, built.groups[moments.order], recipe.seed)
    both = drawn.pcc
    rows = [("", both.mean(axis=1), drawn.difference())]
    rows += [(name, both[:, d], drawn.difference(d)) for d, name in enumerate(part.target_names)]
    return [
        Added(stream, target, float(pair[1]), float(pair[0] - pair[1]), interval)
        for target, pair, interval in rows
    ]
