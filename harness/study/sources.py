"""Where a study's numbers come from: clips, and the network that looks at them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from harness.backbone.annotations import read_annotated_faces
from harness.backbone.augmentation import Augmentation
from harness.backbone.fused import PRECISIONS
from harness.backbone.initial import initial_network
from harness.backbone.pretrain_config import PretrainConfig
from harness.backbone.pretraining import pretrain
from harness.clips.demo import Demo, ensure_demo
from harness.clips.faces import crop_recipe
from harness.clips.layouts import read_clips
from harness.clips.table import ClipTable
from harness.errors import InputError

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
