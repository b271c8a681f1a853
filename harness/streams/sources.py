"""What a study reads: its clips, and the encoder that looks at them."""

from collections.abc import Sequence
from pathlib import Path

from harness.clips.demo import ensure_demo
from harness.clips.faces import crop_recipe
from harness.clips.layouts import read_clips
from harness.clips.table import ClipTable
from harness.cores import cores
from harness.encoders.encoder import Encoder, EncoderOptions
from harness.encoders.registry import Wanted, encoder_of
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
    encoder: Sequence[str] | None = None,
    encoder_output: Sequence[str] | None = None,
    encoder_input: Sequence[str] | None = None,
    stored: str = "float32",
) -> Sources:
    """The user's clips and weights, or another encoder.

    Args:
        features: the feature set, of layouts that have several.
        crop: one of CROPS; None: faces are looked for in videos, while images are taken for faces.
        precision, outputs: of an MTL-DAN (`harness.encoders.encoder.EncoderOptions`).
        allow_shared_groups: note persons with clips in several splits instead of refusing them.
        weights_key, encoder, encoder_output, encoder_input: `harness.encoders.registry.Wanted`.
        stored: number format of the feature store.

    Raises:
        InputError: bad clips, no weights where there are frames, or weights where there are none;
            no detector where faces are looked for.
    """
    if crop not in (None, *CROPS):
        raise InputError(f"{crop!r} is not one of {', '.join(CROPS)}", "crop")
    clips = read_clips(
        data, layout, features=features, strict=strict, allow_shared_groups=allow_shared_groups
    )
    wanted = Wanted(weights, weights_key, encoder or (), encoder_output or (), encoder_input or ())
    if clips.kind == "features":
        if wanted.is_given:
            name = "encoder" if encoder else "weights"
            raise InputError(f"{data} has precomputed features, which need no {name}", name)
        if crop == "detect":
            raise InputError(f"{data} has precomputed features, in which no face is", "crop")
        return clips, None
    if not wanted.is_given:
        raise InputError(
            f"{data} holds {clips.kind}: give a published MTL-DAN checkpoint or one of your own, "
            "or an `encoder`",
            "weights",
        )
    # Drawn faces fill their frames.
    raw = clips.kind == "video" and not clips.synthetic
    cropped = crop == "detect" if crop else raw
    found = crop_recipe() if cropped else "none"  # complains now where the detector is missing
    return clips, wanted.load(EncoderOptions(outputs, precision, found, stored=stored))


def demo_sources(cache: Path, outputs: str, progress: Progress) -> Sources:
    """Synthetic clips and a small network trained on synthetic faces, made at the first use."""
    with DemoNetwork(progress) as network:
        # One core trains while the others draw.
        drawing = max(1, cores() - 1)
        demo = ensure_demo(cache, processes=drawing, progress=progress, on_faces=network.start)
        weights = network.weights()
    # The synthetic faces fill their frames.
    return read_clips(demo.root), encoder_of(weights, EncoderOptions(outputs))
