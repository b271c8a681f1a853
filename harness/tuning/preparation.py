"""Clips, the sources of their streams and a space -> the data set that a study's trials read."""

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.clips.table import ClipTable, Oracles
from harness.dataset import Dataset, Stream, fingerprint_of
from harness.errors import InputError
from harness.models.alignment import check_fusion
from harness.models.config import TrialConfig
from harness.progress import Progress
from harness.sampling import EVERY
from harness.space.search_space import SearchSpace
from harness.streams.clip_issues import Gaps
from harness.streams.extraction import Extraction
from harness.streams.features import Machines
from harness.streams.sources import JOIN, Source, read_all
from harness.study.folder import Manifest
from harness.trials.folds import fingerprint

# Hyperparameters that only a choice among several streams has.
OF_SEVERAL = ("streams", "fusion", "clock", "stream_dropout")
# Times of two streams that end so many times apart have hardly one unit.
_OTHER_UNIT = 50


@dataclass(frozen=True)
class Prepared:
    """A data set, and what is to be said about it.

    space: of the search, without what the streams leave no choice of. contents: sha256 of
    ids, splits, ratings, persons and files. files: by stream, of each clip the fingerprint of its
    file, or of its precomputed features. gaps: by stream, the clips that did not give all.
    extractions: by stream, what was computed now. revealed: what these streams show of synthetic
    clips, `picture`, `sound` or `both`; oracles: `ClipTable.oracles`. read: what was read; notes:
    what was decided for the user, and what may be wrong; a line each. left_out: columns that are no
    features, with the reason. ceilings: those of the clips.
    """

    data: Dataset
    space: SearchSpace
    contents: str
    files: dict[str, dict[str, str]]
    gaps: dict[str, Gaps]
    extractions: dict[str, Extraction]
    revealed: str
    oracles: Oracles
    read: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    ceilings: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def oracle(self) -> dict[str, dict[str, float]]:
        """`oracle[split][target]` of what these streams show together."""
        return self.oracles.get(self.revealed, {})

    def oracle_means(self) -> dict[str, dict[str, float]]:
        """The mean PCC of each oracle on each split, by what it is shown."""
        known = self.oracles if self.revealed == "both" else {self.revealed: self.oracle}
        return {stream: _means(of_stream) for stream, of_stream in known.items()}

    @property
    def empty(self) -> tuple[str, ...]:
        """The ids of the clips without a step of any stream."""
        counts = np.sum([stream.counts for stream in self.data.streams.values()], axis=0)
        return tuple(self.data.clip_ids[row] for row in np.flatnonzero(counts == 0))

    def manifest(self, name: str, seed: int, storage: str) -> Manifest:
        """What the study's folder says about it."""
        data = self.data
        specifications = {name: s.specification for name, s in data.streams.items()}
        problems: dict[str, list[str]] = {}
        for stream, gaps in self.gaps.items():
            for gap in gaps.clips:
                if gap.problem:
                    said = f"{stream}: {gap.problem}" if len(self.gaps) > 1 else gap.problem
                    problems.setdefault(gap.clip_id, []).append(said)
        return Manifest(
            name=name,
            seed=seed,
            space=self.space.path.name,
            data=self.contents,
            features=fingerprint_of(specifications),
            streams={name: each.to_dict() for name, each in specifications.items()},
            early_stop_split=data.early_stop_split,
            held_out=fingerprint(data),
            storage=storage,
            targets=data.target_names,
            synthetic=data.synthetic,
            oracle=_means(self.oracle),
            oracle_by_target=self.oracle,
            oracles=self.oracle_means(),
            ceilings=self.ceilings,
            problems={clip: "; ".join(said) for clip, said in problems.items()},
            empty=self.empty,
            read=self.read,
            left_out=tuple(f"{column}: {why}" for column, why in self.left_out.items()),
            notes=self.notes,
        )


def prepare(
    given: Sequence[Source],
    cache: Path,
    space: SearchSpace,
    machines: Machines,
    progress: Progress,
    strict: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Prepared:
    """Computes the features that are missing and lays out what trials read.

    Args:
        given: of the same clips; those that the space does not name are not read.
        tell: is given a line on what will be computed, before it is.

    Raises:
        InputError: the space names other streams; no clip gave a step of some stream; or, with
            `strict`, a clip did not give all.
    """
    named = used_sources(given, space)
    space, notes = _fitted(space, named)
    clips = next(iter(named.values())).clips
    files: dict[str, list[str]] = {}
    wanted = [space.samplings()] * len(named)
    each = read_all(list(named.values()), cache, wanted, machines, progress, tell=tell)
    found = dict(zip(named, each, strict=True))
    if strict:
        for name in found:
            found[name].gaps.refuse()
    streams = {name: each.stream for name, each in found.items()}
    data = replace(bare_dataset(clips), streams=streams)
    _check_early(data, space)
    contents: list[str] = []
    for name, source in named.items():
        if source.encoder:
            files[name] = source.contents(cache / "features")
            contents += files[name]
        else:  # compared by their contents, which files of other names may hold
            files[name] = streams[name].digests()
            contents.append(streams[name].digest(clips.clip_ids))
    several = len(named) > 1
    heard = [bool(each.encoder and each.encoder.kind == "sound") for each in named.values()]
    revealed = "picture" if not any(heard) else "sound" if all(heard) else "both"
    return Prepared(
        data=data,
        space=space,
        contents=_fingerprint(data, contents),
        files={name: dict(zip(clips.clip_ids, each, strict=True)) for name, each in files.items()},
        gaps={name: each.gaps for name, each in found.items()},
        extractions={name: each.extraction for name, each in found.items()},
        revealed=revealed,
        oracles=clips.oracles,
        read=tuple(line for each in found.values() for line in each.read),
        notes=(*(f"{name}: {line}" if several else line
                 for name, each in found.items() for line in each.notes), *notes,
               *unit_notes(streams)),
        left_out={f"{name}: {column}" if several else column: why
                  for name, each in found.items() for column, why in each.left_out.items()},
        ceilings=clips.ceilings,
    )  # fmt: skip


def unit_notes(streams: Mapping[str, Stream]) -> list[str]:
    """A line if the times of two streams can hardly have one unit."""
    ends = {}
    for name, stream in streams.items():
        last = stream.offsets[1:][stream.counts > 0] - 1
        if stream.times is not None and not np.isnan(stream.times[last]).any() and len(last):
            ends[name] = float(np.median(stream.times[last]))
    if len(ends) < 2:
        return []
    first, longest = min(ends, key=lambda name: ends[name]), max(ends, key=lambda name: ends[name])
    if ends[longest] < _OTHER_UNIT * max(ends[first], 1.0):
        return []
    return [
        f"half of the clips end before {ends[first]:.4g} s by the times of {first}, and before "
        f"{ends[longest]:.4g} s by those of {longest}; early fusion puts them side by side: is one "
        "in milliseconds or a count? Save times in seconds"
    ]


def used_sources(given: Sequence[Source], space: SearchSpace) -> dict[str, Source]:
    """The sources of the streams that a space names, by name in alphabetical order; all of them if
    it names none.

    Raises:
        InputError: it names a stream that is not there, or the same streams twice.
    """
    there = {source.name: source for source in sorted(given, key=lambda source: source.name)}
    wanted = space.streams()
    names = {name for each in wanted for name in each.split(JOIN) if name}
    if unknown := sorted(names - set(there)):
        raise InputError(
            f"{space.path}, streams: {', '.join(unknown)} is none of the streams of these clips: "
            f"{', '.join(there)}; give what it is computed from (`weights`, `encoder`, `sound` or "
            "`features`), or choose another space"
        )
    return there if "" in wanted else {name: there[name] for name in there if name in names}


def _fitted(space: SearchSpace, named: Mapping[str, Source]) -> tuple[SearchSpace, tuple[str, ...]]:
    """The space without what these streams leave no choice of, and a line on that."""
    frames = [source.network for source in named.values() if source.network]
    fixed: dict[str, Any] = {}
    notes = []
    if not frames:
        # Each step of such a stream is used: there are no frames between them to choose.
        if space.samplings() != EVERY or space.features() != ("outputs",):
            notes.append(
                f"{space.path}: stride, interval and features are not searched, since there are no "
                f"frames to choose; each step of {', '.join(named)} is read"
            )
        fixed |= {"stride": 1, "interval": 0.0}
    elif not any(encoder.has_outputs for encoder in frames) and space.features() != ("outputs",):
        listed = ", ".join(encoder.name for encoder in frames)
        notes.append(f"{space.path}: features are not searched; {listed} has one set of them")
    if not any(encoder.has_outputs for encoder in frames):
        fixed["features"] = "outputs"
    if len(named) == 1:
        fixed |= {name: getattr(TrialConfig, name) for name in OF_SEVERAL}
    for name, value in fixed.items():
        space = space.without(name, value)
    return space, tuple(notes)


def _check_early(data: Dataset, space: SearchSpace) -> None:
    """InputError if a trial of the space could not combine its streams step by step."""
    if "early" not in (*space.values("fusion"), *(("early",) if "fusion" in space.only_if else ())):
        return
    for streams, clock, sampling in itertools.product(
        space.streams(), space.values("clock"), space.samplings()
    ):
        stride = sampling.stride or TrialConfig.stride
        config = TrialConfig(
            streams=streams, clock=str(clock), stride=stride, interval=sampling.interval
        )
        # Under a condition, the space itself keeps a clock from the streams that lack it.
        if "clock" not in space.only_if or clock in config.streams.split(JOIN):
            try:
                check_fusion(data, config)
            except InputError as error:
                raise InputError(f"{space.path}: {error}") from error


def bare_dataset(clips: ClipTable) -> Dataset:
    """The clips without features."""
    return Dataset(
        clip_ids=clips.clip_ids,
        splits=clips.splits,
        targets=clips.targets,
        target_names=clips.target_names,
        groups=clips.groups,
        synthetic=clips.synthetic,
    )


def outputs_of(space: SearchSpace) -> str:
    """What an encoder must give so that every trial of a space finds its features."""
    kinds = set(space.features())
    return kinds.pop() if len(kinds) == 1 else "both"


def _means(oracle: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean over the targets on each split."""
    return {split: float(np.mean(list(pcc.values()))) for split, pcc in oracle.items()}


def _fingerprint(data: Dataset, files: list[str]) -> str:
    digest = hashlib.sha256(repr((data.clip_ids, data.splits, files)).encode())
    digest.update(np.ascontiguousarray(data.ratings).tobytes())
    if data.groups is not None:  # what ensembles hold out together
        digest.update(repr(data.groups).encode())
    return digest.hexdigest()
