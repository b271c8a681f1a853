"""Sources -> the features of their clips, stored and computed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from harness.clips.faces import crop_recipe, load_detector
from harness.encoders.mtl_dan.checkpoints import load_mtl_dan, read_metadata, weights_fingerprint
from harness.encoders.mtl_dan.fused import COLUMNS, PRECISIONS, fuse
from harness.encoders.mtl_dan.preprocessing import PREPROCESSING
from harness.errors import InputError
from harness.streams.clip_issues import Gaps
from harness.streams.extraction import Compute, Extraction, Extractor, extract, sources
from harness.streams.precomputed import read_foreign
from harness.streams.sequences import FrameFeatures
from harness.streams.sources import Progress, Sources
from harness.streams.store import FeatureStore, Recipe, is_there

# What DAN was trained on; a weight file may name another size.
INPUT_SIZE = 224


@dataclass(frozen=True)
class Machines:
    """Where features are computed. device: of this process. address: of a running Ray cluster.
    workers: processes; None: one a GPU. Ray is only started where there is more than one."""

    device: torch.device
    address: str | None = None
    workers: int | None = None

    def many(self) -> bool:
        """Whether the work is shared out."""
        gpus = torch.cuda.device_count() if self.device.type == "cuda" else 0
        return self.address is not None or (self.workers or gpus) > 1


@dataclass(frozen=True)
class ClipFeatures:
    """frames: of every clip. fingerprint, recipe: of the way they were computed; the recipe is None
    where the clips bring them. columns: of each kind, where there are several. gaps: clips
    that did not give all. extraction: what was computed now."""

    frames: FrameFeatures
    fingerprint: str
    recipe: dict[str, Any] | None
    columns: dict[str, slice]
    gaps: Gaps
    extraction: Extraction | None


def features_of(
    given: Sources,
    cache: Path,
    strides: tuple[int, ...],
    outputs: str,
    machines: Machines,
    progress: Progress,
) -> ClipFeatures:
    """The features of clips at some strides; those of frames that are not stored are computed."""
    clips = given.clips
    if given.weights is None:
        frames, problems, _ = read_foreign(clips)
        fingerprint = hashlib.sha256(frames.features.tobytes()).hexdigest()
        gaps = Gaps.of(clips.clip_ids, np.diff(frames.offsets).tolist(), problems, {})
        return ClipFeatures(frames, fingerprint, None, {}, gaps, None)
    keys = list(zip(clips.clip_ids, sources(clips), strict=True))
    store = _holding(given, cache, outputs, keys, strides)
    extraction = _extract(given, store, strides, machines, progress)
    frames = store.load(keys, strides)
    if store.recipe.outputs != outputs:
        own = np.ascontiguousarray(frames.features[:, COLUMNS[outputs]])
        frames = replace(frames, features=own)
    recipe = replace(store.recipe, outputs=outputs)
    counts = np.diff(frames.offsets).tolist()
    return ClipFeatures(
        frames=frames,
        fingerprint=recipe.fingerprint(),
        recipe=vars(recipe),
        columns=COLUMNS if outputs == "both" else {},
        gaps=Gaps.of(clips.clip_ids, counts, store.problems(keys), store.faceless(keys, strides)),
        extraction=extraction,
    )


def extract_features(
    given: Sources,
    cache: Path,
    strides: tuple[int, ...],
    outputs: str,
    machines: Machines,
    progress: Progress,
) -> tuple[Extraction, Gaps]:
    """Fills the store for some strides; gives what was done, and what clips did not give.

    Features that clips bring are read, so that their gaps are known; there is nothing to store.

    Raises:
        InputError: no such outputs.
    """
    if outputs not in COLUMNS:
        raise InputError(f"--features {outputs}: choose of {', '.join(COLUMNS)}")
    clips = given.clips
    if given.weights is None:
        found = features_of(given, cache, (1,), outputs, machines, progress)
        return Extraction(0, 0, len(clips), 0.0), found.gaps
    keys = list(zip(clips.clip_ids, sources(clips), strict=True))
    store = _holding(given, cache, outputs, keys, strides)
    done = _extract(given, store, tuple(sorted(set(strides))), machines, progress)
    counts = [len(store.known_frames(*key)) for key in keys]
    faceless = store.faceless(keys, strides)
    return done, Gaps.of(clips.clip_ids, counts, store.problems(keys), faceless)


def feature_store(given: Sources, cache: Path, outputs: str) -> FeatureStore:
    """The store of what the clips' network gives, in the way the sources say."""
    return FeatureStore(cache / "features", _recipe(given, outputs))


def _recipe(given: Sources, outputs: str) -> Recipe:
    assert given.weights is not None  # clips that bring features have no recipe
    return Recipe(
        weights_fingerprint(given.weights, given.weights_key),
        PREPROCESSING,
        _input_size(given.weights),
        outputs=outputs,
        precision=given.precision,
        crop=crop_recipe() if given.crop else "none",
    )


def _holding(
    given: Sources,
    cache: Path,
    outputs: str,
    keys: Sequence[tuple[str, str]],
    strides: tuple[int, ...],
) -> FeatureStore:
    """The store of some outputs; that of `both`, where it has every frame and need be read alone.

    keys: (clip id, state of its file) of all clips.
    """
    if outputs != "both" and is_there(cache / "features", _recipe(given, "both")):
        both = feature_store(given, cache, "both")
        if not any(both.missing_strides(*key, strides) for key in keys):
            return both
    return feature_store(given, cache, outputs)


def _extract(
    given: Sources,
    store: FeatureStore,
    strides: tuple[int, ...],
    machines: Machines,
    progress: Progress,
) -> Extraction:
    def compute() -> Compute:  # only where a frame is missing
        assert given.weights is not None  # only clips with frames are extracted
        network = fuse(
            load_mtl_dan(given.weights, given.weights_key),
            PRECISIONS[given.precision],
            store.recipe.outputs,
        )
        size = store.recipe.input_size
        if not machines.many():
            return _extractor(network, size, given.crop, machines.device)
        # Ray takes seconds to import and to start.
        from harness.streams.workers import Workers

        make = partial(_extractor, network, size, given.crop)
        return Workers(make, machines.address, machines.workers)

    def on_clips(done: int, total: int, frames: int) -> None:
        progress("features", done, total)

    return extract(given.clips, compute, store, strides, progress=on_clips)


def _extractor(
    network: nn.Module, size: int, crop: bool, device: torch.device | None = None
) -> Extractor:
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Extractor(network, size, device, load_detector() if crop else None)


def _input_size(weights: Path) -> int:
    told = read_metadata(weights).get("input_size", str(INPUT_SIZE))
    # The trunk divides a side by 32, and no camera gives more.
    if not (told.isascii() and told.isdecimal() and len(told) <= 4 and 32 <= int(told) <= 4096):
        raise InputError(f"{weights}: input_size is {told!r}; expected pixels a side, 32 to 4096")
    return int(told)
