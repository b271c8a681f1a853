"""Clips and weights -> what a study's trials read."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from harness.backbone.annotations import read_annotated_faces
from harness.backbone.augmentation import Augmentation
from harness.backbone.checkpoints import load_mtl_dan, read_metadata, weights_fingerprint
from harness.backbone.fused import COLUMNS, PRECISIONS, fuse
from harness.backbone.initial import initial_network
from harness.backbone.preprocessing import PREPROCESSING
from harness.backbone.pretrain_config import PretrainConfig
from harness.backbone.pretraining import pretrain
from harness.clips.demo import Demo, ensure_demo
from harness.clips.faces import crop_recipe, load_detector
from harness.clips.layouts import read_clips
from harness.clips.table import ClipTable
from harness.errors import InputError
from harness.features.extraction import Compute, Extraction, Extractor, extract, sources
from harness.features.foreign import read_foreign
from harness.features.sequences import FrameFeatures
from harness.features.store import FeatureStore, Recipe, is_there
from harness.predictions import ClipIndex
from harness.study.folds import fingerprint
from harness.study.gaps import Gaps
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

#: How faces come out of frames: found in them, or not at all as the pictures are faces.
CROPS = ("detect", "none")

#: Called with (what is going on, done, total).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Sources:
    """Where a study's numbers come from.

    weights: of the network; None where the clips bring their features. crop: whether faces are
    looked for in the frames. precision: of the network's convolutions. oracle: mean PCC a split of
    synthetic clips, empty for real ones.
    """

    clips: ClipTable
    weights: Path | None
    crop: bool = False
    precision: str = "float32"
    oracle: dict[str, float] = field(default_factory=dict)


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
    where the clips bring them. columns: of each kind, where there are several. gaps: as in
    Prepared. extraction: what was computed now."""

    frames: FrameFeatures
    fingerprint: str
    recipe: dict[str, Any] | None
    columns: dict[str, slice]
    gaps: Gaps
    extraction: Extraction | None


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
    oracle: dict[str, float]
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> tuple[str, ...]:
        """The clips that gave nothing."""
        counts = np.diff(self.data.frames.offsets)
        return tuple(i for i, n in zip(self.index.clip_ids, counts, strict=True) if n == 0)

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
            oracle=self.oracle,
            problems={gap.clip_id: gap.problem for gap in self.gaps.clips if gap.problem},
            empty=self.empty,
        )


def real_sources(
    data: Path,
    weights: Path | None,
    layout: str | None = None,
    features: str | None = None,
    crop: str | None = None,
    precision: str = "float32",
    strict: bool = False,
) -> Sources:
    """The user's clips and weights.

    Args:
        crop: one of CROPS; None: faces are looked for in videos, while images are taken for faces.
        precision: one of PRECISIONS.

    Raises:
        InputError: bad clips, no weights where there are frames, or weights where there are none;
            no detector where faces are looked for.
    """
    if crop not in (None, *CROPS):
        raise InputError(f"--crop {crop}: choose of {', '.join(CROPS)}")
    if precision not in PRECISIONS:
        raise InputError(f"--precision {precision}: choose of {', '.join(PRECISIONS)}")
    clips = read_clips(data, layout, features=features, strict=strict)
    if clips.kind == "features":
        if weights is not None:
            raise InputError(f"{data}: brings features, for which there is no use of --weights")
        if crop == "detect":
            raise InputError(f"{data}: brings features, in which there are no faces to --crop")
        return Sources(clips, None)
    if weights is None:
        raise InputError(
            "--data needs --weights FILE: a published MTL-DAN checkpoint or one of your own"
        )
    if not weights.is_file():
        raise InputError(f"{weights}: no such weight file")
    # Drawn faces fill their frames.
    raw = clips.kind == "video" and not clips.synthetic
    cropped = crop == "detect" if crop else raw
    if cropped:
        crop_recipe()  # complains now, and not after an hour, where the detector is missing
    return Sources(clips, weights, cropped, precision)


def demo_sources(cache: Path, progress: Progress) -> Sources:
    """Synthetic clips and a small network trained on synthetic faces, made at the first use."""
    demo = ensure_demo(cache, progress=progress)
    # Named by how it is trained, so that another recipe is another file.
    recipe = hashlib.sha256(repr(DEMO_TRAINING.flat()).encode()).hexdigest()[:8]
    weights = demo.root / f"mtl_dan-{recipe}.safetensors"
    if not weights.exists():
        _train_demo_network(demo, weights, progress)
    # The synthetic faces fill their frames.
    return Sources(read_clips(demo.root), weights, oracle=demo.oracle)


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
        frames, problems = read_foreign(clips)
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
        weights_fingerprint(given.weights),
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


def _outputs(space: SearchSpace) -> str:
    """What must be stored so that every trial of a space finds its features."""
    kinds = set(space.features())
    return kinds.pop() if len(kinds) == 1 else "both"


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
            load_mtl_dan(given.weights), PRECISIONS[given.precision], store.recipe.outputs
        )
        size = store.recipe.input_size
        if not machines.many():
            return _extractor(network, size, given.crop, machines.device)
        # Ray takes seconds to import and to start.
        from harness.features.workers import Workers

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
