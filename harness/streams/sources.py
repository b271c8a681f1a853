"""Where a study's numbers come from: clips, and the network that looks at them."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from harness.clips.demo import ensure_demo, read_oracles
from harness.clips.faces import crop_recipe
from harness.clips.layouts import read_clips
from harness.clips.table import ClipTable
from harness.encoders.mtl_dan.fused import PRECISIONS
from harness.errors import InputError
from harness.pretraining.demo_network import DemoNetwork

#: How faces come out of frames: found in them, or not at all as the pictures are faces.
CROPS = ("detect", "none")

#: Called with (what is going on, done, total).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Sources:
    """Where a study's numbers come from.

    weights: of the network; None where the clips bring their features. crop: whether faces are
    looked for in the frames. precision: of the network's convolutions. oracle: of synthetic clips,
    `oracle[split][target]` is the best PCC that their picture allows; empty for real clips.
    weights_key: which network of the weight file; None: the only one.
    """

    clips: ClipTable
    weights: Path | None
    crop: bool = False
    precision: str = "float32"
    oracle: dict[str, dict[str, float]] = field(default_factory=dict)
    weights_key: str | None = None


def real_sources(
    data: Path,
    weights: Path | None,
    layout: str | None = None,
    features: str | None = None,
    crop: str | None = None,
    precision: str = "float32",
    strict: bool = False,
    allow_shared_groups: bool = False,
    weights_key: str | None = None,
) -> Sources:
    """The user's clips and weights.

    Args:
        crop: one of CROPS; None: faces are looked for in videos, while images are taken for faces.
        precision: one of PRECISIONS.
        allow_shared_groups: note persons with clips in several splits instead of refusing them.
        weights_key: which network of the weight file, where it holds several.

    Raises:
        InputError: bad clips, no weights where there are frames, or weights where there are none;
            no detector where faces are looked for.
    """
    if crop not in (None, *CROPS):
        raise InputError(f"--crop {crop}: choose of {', '.join(CROPS)}")
    if precision not in PRECISIONS:
        raise InputError(f"--precision {precision}: choose of {', '.join(PRECISIONS)}")
    clips = read_clips(
        data, layout, features=features, strict=strict, allow_shared_groups=allow_shared_groups
    )
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
    oracle = read_oracles(data)["picture"] if clips.synthetic else {}
    return Sources(clips, weights, cropped, precision, oracle, weights_key)


def demo_sources(cache: Path, progress: Progress) -> Sources:
    """Synthetic clips and a small network trained on synthetic faces, made at the first use."""
    with DemoNetwork(progress) as network:
        # One core trains while the others draw.
        drawing = max(1, len(os.sched_getaffinity(0)) - 1)
        demo = ensure_demo(cache, processes=drawing, progress=progress, on_faces=network.start)
        weights = network.weights()
    # The synthetic faces fill their frames.
    return Sources(read_clips(demo.root), weights, oracle=demo.oracles["picture"])
