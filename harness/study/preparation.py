"""Clips and weights -> what a study's trials read."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from harness.backbone.annotations import read_annotated_faces
from harness.backbone.augmentation import Augmentation
from harness.backbone.checkpoints import load_mtl_dan, read_metadata, weights_fingerprint
from harness.backbone.fused import fuse
from harness.backbone.initial import initial_network
from harness.backbone.preprocessing import PREPROCESSING
from harness.backbone.pretrain_config import PretrainConfig
from harness.backbone.pretraining import pretrain
from harness.clips.demo import Demo, ensure_demo
from harness.clips.layouts import read_clips
from harness.clips.table import ClipTable, some
from harness.errors import InputError
from harness.features.extraction import Extraction, extract, sources
from harness.features.foreign import read_foreign
from harness.features.store import FeatureStore, Recipe
from harness.predictions import ClipIndex
from harness.study.space import SearchSpace
from harness.study.storage import Manifest
from harness.study.trial import TrialData

# What DAN was trained on; a weight file may name another size.
INPUT_SIZE = 224
# The demo's network: small, so that its training takes under two minutes on two cores.
DEMO_TRAINING = PretrainConfig(
    heads=2,
    input_size=64,
    epochs=6,
    batch_size=32,
    learning_rate=1e-3,
    schedule="one-cycle",
    augmentation=Augmentation(flip=0.5, crop=1, jitter=0, erase=0),
)

#: Called with (what is going on, done, total).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Sources:
    """Where a study's numbers come from: clips, the network's weights (None where the clips bring
    their features), and the oracle's mean PCC a split of synthetic clips (empty for real ones)."""

    clips: ClipTable
    weights: Path | None
    oracle: dict[str, float]


@dataclass(frozen=True)
class Prepared:
    """data and index agree row by row; the fingerprints tell one study from another.

    problems: clips that gave nothing or not all, with the reason. space: of the search, its
    stride fixed where the clips bring their features.
    """

    data: TrialData
    index: ClipIndex
    space: SearchSpace
    data_fingerprint: str
    feature_fingerprint: str
    problems: dict[str, str]
    extraction: Extraction | None
    oracle: dict[str, float]

    @property
    def empty(self) -> tuple[str, ...]:
        """The clips that gave nothing."""
        counts = np.diff(self.data.frames.offsets)
        return tuple(i for i, n in zip(self.index.clip_ids, counts, strict=True) if n == 0)

    def manifest(self, name: str, seed: int) -> Manifest:
        """What the study's folder says about it."""
        return Manifest(
            name=name,
            seed=seed,
            space=self.space.path.name,
            data=self.data_fingerprint,
            features=self.feature_fingerprint,
            strides=self.space.strides(),
            targets=self.index.target_names,
            synthetic=self.index.synthetic,
            oracle=self.oracle,
            problems=self.problems,
            empty=self.empty,
        )

    def summary(self) -> list[str]:
        """What a person should know of the clips, a line each."""
        if not self.problems:
            return []
        empty = set(self.empty)
        broken = [f"{i} ({why})" for i, why in self.problems.items() if i not in empty]
        lines = []
        if empty:
            told = [f"{i} ({self.problems.get(i, 'no frame')})" for i in sorted(empty)]
            lines.append(
                f"{len(empty)} clips gave nothing and are predicted by train's mean: {some(told)}"
            )
        if broken:
            lines.append(f"{len(broken)} clips gave a part of their frames: {some(broken)}")
        return lines


def real_sources(
    data: Path,
    weights: Path | None,
    layout: str | None = None,
    features: str | None = None,
    strict: bool = False,
) -> Sources:
    """The user's clips and weights.

    Raises:
        InputError: bad clips, no weights where there are frames, or weights where there are none.
    """
    clips = read_clips(data, layout, features=features, strict=strict)
    if clips.kind == "features":
        if weights is not None:
            raise InputError(f"{data}: brings features, for which there is no use of --weights")
        return Sources(clips, None, {})
    if weights is None:
        raise InputError(
            "--data needs --weights FILE: a published MTL-DAN checkpoint or one of your own"
        )
    if not weights.is_file():
        raise InputError(f"{weights}: no such weight file")
    return Sources(clips, weights, {})


def demo_sources(cache: Path, progress: Progress) -> Sources:
    """Synthetic clips and a small network trained on synthetic faces, made at the first use."""
    demo = ensure_demo(cache, progress=progress)
    # Named by how it is trained, so that another recipe is another file.
    recipe = hashlib.sha256(repr(DEMO_TRAINING.flat()).encode()).hexdigest()[:8]
    weights = demo.root / f"mtl_dan-{recipe}.safetensors"
    if not weights.exists():
        _train_demo_network(demo, weights, progress)
    return Sources(read_clips(demo.root), weights, demo.oracle)


def prepare(
    given: Sources,
    cache: Path,
    space: SearchSpace,
    device: torch.device,
    progress: Progress,
    strict: bool = False,
) -> Prepared:
    """Computes the features that are missing and lays out what trials read.

    Raises:
        InputError: no clip gave a frame, or, with `strict`, one gave none or not all.
    """
    clips = given.clips
    states = sources(clips)
    extraction = None
    if given.weights is None:
        # Steps of somebody else's making: there are no frames between them to choose.
        space = space.without("stride", 1)
        frames, problems = read_foreign(clips)
        fingerprint = hashlib.sha256(frames.features.tobytes()).hexdigest()
    else:
        store = feature_store(given.weights, cache)
        extraction = _extract(given, store, space.strides(), device, progress)
        keys = list(zip(clips.clip_ids, states, strict=True))
        frames, problems = store.load(keys, space.strides()), store.problems(keys)
        fingerprint = store.recipe.fingerprint()
    if strict and problems:
        raise InputError(f"{some([f'{i}: {why}' for i, why in problems.items()])} (--strict)")
    index = ClipIndex(
        clip_ids=clips.clip_ids,
        splits=clips.splits,
        targets=clips.targets,
        target_names=clips.target_names,
        groups=clips.groups,
        synthetic=clips.synthetic,
    )
    splits = sorted(set(clips.splits))
    return Prepared(
        data=TrialData(frames, clips.targets, {split: index.rows(split) for split in splits}),
        index=index,
        space=space,
        data_fingerprint=_data_fingerprint(clips, states),
        feature_fingerprint=fingerprint,
        problems=problems,
        extraction=extraction,
        oracle=given.oracle,
    )


def extract_features(
    given: Sources,
    cache: Path,
    strides: tuple[int, ...],
    device: torch.device,
    progress: Progress,
) -> tuple[Extraction, list[str]]:
    """Fills the store for some strides; gives what was done, and a line of what gave nothing.

    Raises:
        InputError: the clips bring features, so that there is nothing to extract.
    """
    if given.weights is None:
        raise InputError("these clips bring their features; there is nothing to extract")
    store = feature_store(given.weights, cache)
    done = _extract(given, store, tuple(sorted(set(strides))), device, progress)
    keys = list(zip(given.clips.clip_ids, sources(given.clips), strict=True))
    problems = [f"{i} ({why})" for i, why in store.problems(keys).items()]
    told = f"{len(problems)} clips gave nothing or a part of their frames: {some(problems)}"
    return done, [told] if problems else []


def _extract(
    given: Sources,
    store: FeatureStore,
    strides: tuple[int, ...],
    device: torch.device,
    progress: Progress,
) -> Extraction:
    weights = given.weights
    assert weights is not None  # only clips with frames are extracted

    def network() -> nn.Module:  # loaded only when a frame is missing
        return fuse(load_mtl_dan(weights)).to(device)

    def on_clips(done: int, total: int, frames: int) -> None:
        progress("features", done, total)

    return extract(given.clips, network, store, strides, device=device, progress=on_clips)


def feature_store(weights: Path, cache: Path) -> FeatureStore:
    """The store of one weight file's features."""
    size = read_metadata(weights).get("input_size", str(INPUT_SIZE))
    recipe = Recipe(weights_fingerprint(weights), PREPROCESSING, int(size))
    return FeatureStore(cache / "features", recipe)


def _train_demo_network(demo: Demo, file: Path, progress: Progress) -> None:
    step = "training the demo's face network"
    progress(step, 0, DEMO_TRAINING.epochs)
    pretrain(
        read_annotated_faces(demo.annotations),
        initial_network(None, DEMO_TRAINING.heads, DEMO_TRAINING.seed),
        DEMO_TRAINING,
        file,
        device=torch.device("cpu"),
        tags={"trained_on": "synthetic faces"},
        on_epoch=lambda epoch: progress(step, epoch.number, DEMO_TRAINING.epochs),
    )


def _data_fingerprint(clips: ClipTable, states: list[str]) -> str:
    digest = hashlib.sha256()
    for row in zip(clips.clip_ids, clips.splits, states, strict=True):
        digest.update(repr(row).encode())
    digest.update(np.ascontiguousarray(clips.targets).tobytes())
    return digest.hexdigest()
