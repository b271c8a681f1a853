"""Sources and a search space -> what a study's trials read."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.clips.table import ClipTable
from harness.predictions import ClipIndex
from harness.space.search_space import SearchSpace
from harness.streams.clip_features import Machines, features_of
from harness.streams.clip_issues import Gaps
from harness.streams.extraction import Extraction, sources
from harness.streams.sources import Progress, Sources
from harness.study.folder import Manifest
from harness.trials.folds import fingerprint
from harness.trials.trial import TrialData


@dataclass(frozen=True)
class Prepared:
    """data and index agree row by row; the fingerprints tell one study from another.

    gaps: clips that did not give all. extraction: what was computed now. space: of the search, its
    stride fixed where the clips bring their features. notes: what was settled for the user.
    """

    data: TrialData
    index: ClipIndex
    space: SearchSpace
    data_fingerprint: str
    feature_fingerprint: str
    recipe: dict[str, Any] | None
    gaps: Gaps
    extraction: Extraction | None
    oracle: dict[str, dict[str, float]]
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> tuple[str, ...]:
        """The clips that gave nothing."""
        counts = np.diff(self.data.frames.offsets)
        return tuple(i for i, n in zip(self.index.clip_ids, counts, strict=True) if n == 0)

    def oracle_means(self) -> dict[str, float]:
        """The oracle's mean PCC on each split."""
        return {split: float(np.mean(list(pcc.values()))) for split, pcc in self.oracle.items()}

    def manifest(self, name: str, seed: int, storage: str) -> Manifest:
        """What the study's folder says about it."""
        return Manifest(
            name=name,
            seed=seed,
            space=self.space.path.name,
            data=self.data_fingerprint,
            features=self.feature_fingerprint,
            recipe=self.recipe,
            early_stop_split=self.data.early_stop_split,
            held_out=fingerprint(self.data),
            storage=storage,
            strides=self.space.strides(),
            targets=self.index.target_names,
            synthetic=self.index.synthetic,
            oracle=self.oracle_means(),
            oracle_by_target=self.oracle,
            problems={gap.clip_id: gap.problem for gap in self.gaps.clips if gap.problem},
            empty=self.empty,
        )


def prepare(
    given: Sources,
    cache: Path,
    space: SearchSpace,
    machines: Machines,
    progress: Progress,
    strict: bool = False,
) -> Prepared:
    """Computes the features that are missing and lays out what trials read.

    Raises:
        InputError: no clip gave a frame, or, with `strict`, one gave none or not all.
    """
    clips = given.clips
    notes: tuple[str, ...] = ()
    if given.weights is None:
        # Steps of somebody else's making: there are no frames between them to choose.
        if space.strides() != (1,) or space.features() != ("outputs",):
            notes = (f"{space.path}: stride and features are not searched, since the clips bring "
                     "features, of which each row is a step",)  # fmt: skip
        space = space.without("stride", 1).without("features", "outputs")
    found = features_of(given, cache, space.strides(), _outputs(space), machines, progress)
    if strict:
        found.gaps.refuse()
    index = ClipIndex(
        clip_ids=clips.clip_ids,
        splits=clips.splits,
        targets=clips.targets,
        target_names=clips.target_names,
        groups=clips.groups,
        synthetic=clips.synthetic,
    )
    rows = {split: index.rows(split) for split in sorted(set(clips.splits))}
    return Prepared(
        data=TrialData(found.frames, clips.targets, rows, found.columns),
        index=index,
        space=space,
        data_fingerprint=_data_fingerprint(clips, sources(clips)),
        feature_fingerprint=found.fingerprint,
        recipe=found.recipe,
        gaps=found.gaps,
        extraction=found.extraction,
        oracle=given.oracle,
        notes=notes,
    )


def _outputs(space: SearchSpace) -> str:
    """What must be stored so that every trial of a space finds its features."""
    kinds = set(space.features())
    return kinds.pop() if len(kinds) == 1 else "both"


def _data_fingerprint(clips: ClipTable, states: list[str]) -> str:
    digest = hashlib.sha256()
    for row in zip(clips.clip_ids, clips.splits, states, strict=True):
        digest.update(repr(row).encode())
    digest.update(np.ascontiguousarray(clips.targets).tobytes())
    if clips.groups is not None:  # what ensembles hold out together
        digest.update(repr(clips.groups).encode())
    return digest.hexdigest()
