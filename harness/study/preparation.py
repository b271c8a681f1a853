"""Clips and weights -> what a study's trials read."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from harness.backbone.checkpoints import (
    load_mtl_dan,
    read_metadata,
    save_mtl_dan,
    weights_fingerprint,
)
from harness.backbone.fused import fuse
from harness.backbone.preprocessing import PREPROCESSING
from harness.backbone.pretraining import Scores, pretrain
from harness.clips.demo import Demo, ensure_demo
from harness.clips.layouts import ClipTable, read_clips
from harness.errors import InputError
from harness.features.extraction import Extraction, extract, sources
from harness.features.store import FeatureStore, Recipe
from harness.predictions import ClipIndex
from harness.study.space import SearchSpace
from harness.study.storage import Manifest
from harness.study.trial import TrialData

# What DAN was trained on; a weight file may name another size.
INPUT_SIZE = 224
# The demo's network: small, so that its training takes under two minutes on two cores.
DEMO_HEADS = 2
DEMO_INPUT_SIZE = 64
DEMO_EPOCHS = 6
DEMO_BATCH = 32
DEMO_LEARNING_RATE = 1e-3

#: Called with (what is going on, done, total).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Sources:
    """Where a study's numbers come from: clips, the network's weights, and the oracle's mean PCC
    for each split of synthetic clips (empty for real ones)."""

    clips: ClipTable
    weights: Path
    oracle: dict[str, float]


@dataclass(frozen=True)
class Prepared:
    """data and index agree row by row; the fingerprints tell one study from another."""

    data: TrialData
    index: ClipIndex
    data_fingerprint: str
    feature_fingerprint: str
    extraction: Extraction
    oracle: dict[str, float]

    def manifest(self, name: str, seed: int, space: SearchSpace) -> Manifest:
        """What the study's folder says about it."""
        return Manifest(
            name=name,
            seed=seed,
            space=space.path.name,
            data=self.data_fingerprint,
            features=self.feature_fingerprint,
            strides=space.strides(),
            targets=self.index.target_names,
            synthetic=self.index.synthetic,
            oracle=self.oracle,
        )


def real_sources(data: Path, weights: Path | None) -> Sources:
    """The user's clips and weights.

    Raises:
        InputError: bad clips, or no weights given.
    """
    if weights is None:
        raise InputError(
            "--data needs --weights FILE: a published MTL-DAN checkpoint or one of your own"
        )
    if not weights.is_file():
        raise InputError(f"{weights}: no such weight file")
    return Sources(read_clips(data), weights, {})


def demo_sources(cache: Path, progress: Progress) -> Sources:
    """Synthetic clips and a small network trained on synthetic faces, made at the first use."""
    demo = ensure_demo(cache, progress=progress)
    # Named by how it is trained, so that another recipe is another file.
    recipe = f"h{DEMO_HEADS}-s{DEMO_INPUT_SIZE}-e{DEMO_EPOCHS}-b{DEMO_BATCH}"
    weights = demo.root / f"mtl_dan-{recipe}.safetensors"
    if not weights.exists():
        _train_demo_network(demo, weights, progress)
    return Sources(read_clips(demo.root), weights, demo.oracle)


def prepare(
    given: Sources,
    cache: Path,
    strides: tuple[int, ...],
    device: torch.device,
    progress: Progress,
) -> Prepared:
    """Computes the features that are missing and lays out what trials read."""
    clips = given.clips
    store = feature_store(given.weights, cache)

    def network() -> nn.Module:  # loaded only when a frame is missing
        return fuse(load_mtl_dan(given.weights)).to(device)

    def on_clips(done: int, total: int, frames: int) -> None:
        progress("features", done, total)

    extraction = extract(clips, network, store, strides, device=device, progress=on_clips)
    states = sources(clips)
    index = ClipIndex(
        clip_ids=clips.clip_ids,
        splits=clips.splits,
        targets=clips.targets,
        target_names=clips.target_names,
        synthetic=clips.synthetic,
    )
    frames = store.load(list(zip(clips.clip_ids, states, strict=True)), strides)
    splits = sorted(set(clips.splits))
    data = TrialData(frames, clips.targets, {split: index.rows(split) for split in splits})
    return Prepared(
        data=data,
        index=index,
        data_fingerprint=_data_fingerprint(clips, states),
        feature_fingerprint=store.recipe.fingerprint(),
        extraction=extraction,
        oracle=given.oracle,
    )


def feature_store(weights: Path, cache: Path) -> FeatureStore:
    """The store of one weight file's features."""
    size = read_metadata(weights).get("input_size", str(INPUT_SIZE))
    recipe = Recipe(weights_fingerprint(weights), PREPROCESSING, int(size))
    return FeatureStore(cache / "features", recipe)


def _train_demo_network(demo: Demo, file: Path, progress: Progress) -> None:
    def on_step(done: int, total: int, _: Scores) -> None:
        progress("training the demo's face network", done, total)

    progress("training the demo's face network", 0, DEMO_EPOCHS)
    model, scores = pretrain(
        demo.annotations,
        num_heads=DEMO_HEADS,
        input_size=DEMO_INPUT_SIZE,
        epochs=DEMO_EPOCHS,
        batch_size=DEMO_BATCH,
        learning_rate=DEMO_LEARNING_RATE,
        seed=0,
        progress=on_step,
    )
    tags = {"input_size": str(DEMO_INPUT_SIZE), "trained_on": "synthetic faces"}
    save_mtl_dan(file, model, tags | {"p_mtl": f"{scores.p_mtl:.4f}"})


def _data_fingerprint(clips: ClipTable, states: list[str]) -> str:
    digest = hashlib.sha256()
    for row in zip(clips.clip_ids, clips.splits, states, strict=True):
        digest.update(repr(row).encode())
    digest.update(np.ascontiguousarray(clips.targets).tobytes())
    return digest.hexdigest()
