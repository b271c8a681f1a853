"""Clips, their encoder and a search space -> the data set that a study's trials read."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from harness.clips.table import ClipTable
from harness.dataset import Dataset
from harness.encoders.encoder import Encoder
from harness.progress import Progress
from harness.space.search_space import SearchSpace
from harness.streams.clip_issues import Gaps
from harness.streams.contents import sources
from harness.streams.extraction import Extraction
from harness.streams.features import Machines, features_of
from harness.study.folder import Manifest
from harness.trials.folds import fingerprint


@dataclass(frozen=True)
class Prepared:
    """A data set, and what is to be said about it.

    space: of the search, its stride fixed where the clips bring their features. contents: sha256 of
    ids, splits, ratings, persons and files. files: of each clip the fingerprint of its file, or of
    its precomputed features. gaps: clips that did not give all. extraction: what was
    computed now. oracle: `oracle[split][target]` of synthetic clips. read: what was read;
    notes: what was decided for the user, and what may be wrong; a line each. left_out: columns that
    are no features, with the reason. ceilings: those of the clips.
    """

    data: Dataset
    space: SearchSpace
    contents: str
    files: dict[str, str]
    gaps: Gaps
    extraction: Extraction | None
    oracle: dict[str, dict[str, float]]
    read: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    ceilings: dict[str, dict[str, float]] = field(default_factory=dict)

    def oracle_means(self) -> dict[str, float]:
        """The oracle's mean PCC on each split."""
        return {split: float(np.mean(list(pcc.values()))) for split, pcc in self.oracle.items()}

    def manifest(self, name: str, seed: int, storage: str) -> Manifest:
        """What the study's folder says about it."""
        data, stream = self.data, self.data.features
        nothing = np.flatnonzero(stream.counts == 0)
        return Manifest(
            name=name,
            seed=seed,
            space=self.space.path.name,
            data=self.contents,
            features=stream.specification.fingerprint(),
            stream=stream.specification.to_dict(),
            early_stop_split=data.early_stop_split,
            held_out=fingerprint(data),
            storage=storage,
            strides=self.space.strides(),
            targets=data.target_names,
            synthetic=data.synthetic,
            oracle=self.oracle_means(),
            oracle_by_target=self.oracle,
            ceilings=self.ceilings,
            problems={gap.clip_id: gap.problem for gap in self.gaps.clips if gap.problem},
            empty=tuple(data.clip_ids[clip] for clip in nothing),
            read=self.read,
            left_out=tuple(f"{column}: {why}" for column, why in self.left_out.items()),
            notes=self.notes,
        )


def prepare(
    clips: ClipTable,
    encoder: Encoder | None,
    cache: Path,
    space: SearchSpace,
    machines: Machines,
    progress: Progress,
    strict: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Prepared:
    """Computes the features that are missing and lays out what trials read.

    Args:
        tell: is given a line on what will be computed, before it is.

    Raises:
        InputError: no clip gave a frame, or, with `strict`, one gave none or not all.
    """
    notes: tuple[str, ...] = ()
    if encoder is None:
        # Steps of precomputed features: there are no frames between them to choose.
        if space.strides() != (1,) or space.features() != ("outputs",):
            notes = (
                f"{space.path}: stride and features are not searched, since the clips bring "
                "features, of which each row is a step",
            )
        space = space.without("stride", 1)
    elif not encoder.has_outputs and space.features() != ("outputs",):
        notes = (f"{space.path}: features are not searched; {encoder.name} has one set of them",)
    if encoder is None or not encoder.has_outputs:
        space = space.without("features", "outputs")
    found = features_of(clips, encoder, cache, space.strides(), machines, progress, tell=tell)
    if strict:
        found.gaps.refuse()
    stream = found.stream
    data = replace(bare_dataset(clips), streams={stream.specification.source: stream})
    # Precomputed features are compared by their contents, which files of other names may hold.
    if encoder:
        files = each = sources(clips, cache / "features")
    else:
        files, each = [stream.digest(clips.clip_ids)], stream.digests()
    return Prepared(
        data=data,
        space=space,
        contents=_fingerprint(data, files),
        files=dict(zip(clips.clip_ids, each, strict=True)),
        gaps=found.gaps,
        extraction=found.extraction,
        oracle=clips.oracles.get("picture", {}),
        read=found.read,
        notes=(*found.notes, *notes),
        left_out=found.left_out,
        ceilings=clips.ceilings,
    )


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


def _fingerprint(data: Dataset, files: list[str]) -> str:
    digest = hashlib.sha256(repr((data.clip_ids, data.splits, files)).encode())
    digest.update(np.ascontiguousarray(data.ratings).tobytes())
    if data.groups is not None:  # what ensembles hold out together
        digest.update(repr(data.groups).encode())
    return digest.hexdigest()
