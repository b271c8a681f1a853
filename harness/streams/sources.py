"""What a study reads: its clips, and the encoder that looks at them."""

from pathlib import Path

from harness.clips.demo import ensure_demo
from harness.clips.faces import crop_recipe
from harness.clips.layouts import read_clips
from harness.clips.table import ClipTable
from harness.cores import cores
from harness.encoders.encoder import Encoder
from harness.encoders.registry import encoder_of
from harness.errors import InputError
from harness.pretraining.demo_network import DemoNetwork
from harness.progress import Progress

#: How faces come out of frames: found in them, or not at all as the pictures are faces.
CROPS = ("detect", "none")

#: The clips, and their encoder; None where the clips bring their features.
Sources = tuple[ClipTable, Encoder | None]


def real_sources(
    data: Path,
    weights: Path | None,
    *,
    layout: str | None = None,
    features: str | None = None,
    crop: str | None = None,
    precision: str = "float32",
    outputs: str = "outputs",
    strict: bool = False,
    allow_shared_groups: bool = False,
    weights_key: str | None = None,
) -> Sources:
    """The user's clips and weights.

    Args:
        features: the feature set, of layouts that have several.
        crop: one of CROPS; None: faces are looked for in videos, while images are taken for faces.
        precision, outputs: of the network (`harness.encoders.registry`).
        allow_shared_groups: note persons with clips in several splits instead of refusing them.
        weights_key: which network of the weight file, where it holds several.

    Raises:
        InputError: bad clips, no weights where there are frames, or weights where there are none;
            no detector where faces are looked for.
    """
    if crop not in (None, *CROPS):
        raise InputError(f"{crop!r} is not one of {', '.join(CROPS)}", "crop")
    clips = read_clips(
        data, layout, features=features, strict=strict, allow_shared_groups=allow_shared_groups
    )
    if clips.kind == "features":
        if weights is not None:
            raise InputError(f"{data} has precomputed features, which need no weights", "weights")
        if crop == "detect":
            raise InputError(f"{data} has precomputed features, in which no face is", "crop")
        return clips, None
    if weights is None:
        raise InputError(
            f"{data} holds {clips.kind}: give a published MTL-DAN checkpoint or one of your own",
            "weights",
        )
    if not weights.is_file():
        raise InputError(f"{weights}: no such weight file", "weights")
    # Drawn faces fill their frames.
    raw = clips.kind == "video" and not clips.synthetic
    cropped = crop == "detect" if crop else raw
    found = crop_recipe() if cropped else "none"  # complains now where the detector is missing
    encoder = encoder_of(weights, outputs=outputs, precision=precision, crop=found, key=weights_key)
    return clips, encoder


def demo_sources(cache: Path, outputs: str, progress: Progress) -> Sources:
    """Synthetic clips and a small network trained on synthetic faces, made at the first use."""
    with DemoNetwork(progress) as network:
        # One core trains while the others draw.
        drawing = max(1, cores() - 1)
        demo = ensure_demo(cache, processes=drawing, progress=progress, on_faces=network.start)
        weights = network.weights()
    # The synthetic faces fill their frames.
    return read_clips(demo.root), encoder_of(weights, outputs=outputs)
