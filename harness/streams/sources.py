"""What a study reads: its clips, and what gives each stream of their features."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness.clips.demo import ensure_demo
from harness.clips.faces import crop_recipe
from harness.clips.layouts import read_clips, read_tables
from harness.clips.table import ClipTable
from harness.cores import cores
from harness.encoders.encoder import Encoder, EncoderOptions
from harness.encoders.registry import Wanted, encoder_of
from harness.errors import InputError
from harness.pretraining.demo_network import DemoNetwork
from harness.progress import Progress
from harness.streams.precomputed import set_name_of

#: How faces come out of frames: found in them, or not at all as the pictures are faces.
CROPS = ("detect", "none")
#: Joins the names of streams in the hyperparameter `streams`.
JOIN = "+"


class Source(NamedTuple):
    """What gives one stream: the clips, with their files, and the encoder of these; None where the
    files bring the features."""

    clips: ClipTable
    encoder: Encoder | None

    @property
    def name(self) -> str:
        """The name of the stream."""
        if self.encoder is None:
            return set_name_of(self.clips.paths)
        return self.encoder.label or self.encoder.name


def real_sources(
    data: Path,
    weights: Path | None,
    *,
    layout: str | None = None,
    features: Sequence[str] = (),
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
) -> list[Source]:
    """The user's clips and what gives each stream of their features; all have the same clips.

    Args:
        features: the feature sets, of layouts that have several.
        crop: one of CROPS; None: faces are looked for in videos, while images are taken for faces.
        precision, outputs: of an MTL-DAN (`harness.encoders.encoder.EncoderOptions`).
        allow_shared_groups: note persons with clips in several splits instead of refusing them.
        weights_key, encoder, encoder_output, encoder_input: `harness.encoders.registry.Wanted`.
        stored: number format of the feature store.

    Raises:
        InputError: bad clips, no weights where there is nothing but frames, or weights where there
            are none; no detector where faces are looked for; two streams of one name.
    """
    if crop not in (None, *CROPS):
        raise InputError(f"{crop!r} is not one of {', '.join(CROPS)}", "crop")
    tables = read_tables(
        data, layout, features=features, strict=strict, allow_shared_groups=allow_shared_groups
    )
    wanted = Wanted(weights, weights_key, encoder or (), encoder_output or (), encoder_input or ())
    frames = tables[0] if tables[0].kind != "features" else None
    sets = [Source(clips, None) for clips in tables if clips.kind == "features"]
    if frames is None:
        if wanted.is_given:
            name = "encoder" if encoder else "weights"
            raise InputError(f"{data} has precomputed features, which need no {name}", name)
        if crop == "detect":
            raise InputError(f"{data} has precomputed features, in which no face is", "crop")
        return told_apart(sets)
    if not wanted.is_given:
        if not sets:
            raise InputError(
                f"{data} holds {frames.kind}: give a published MTL-DAN checkpoint or one of your "
                "own, or an `encoder`",
                "weights",
            )
        return told_apart(sets)
    # Drawn faces fill their frames.
    raw = frames.kind == "video" and not frames.synthetic
    cropped = crop == "detect" if crop else raw
    found = crop_recipe() if cropped else "none"  # complains now where the detector is missing
    options = EncoderOptions(outputs, precision, found, stored=stored)
    return told_apart([*(Source(frames, one.load(options)) for one in wanted.each()), *sets])


def told_apart(sources: Sequence[Source]) -> list[Source]:
    """The sources, if their names can be used in `streams`.

    Raises:
        InputError: two streams of one name, or a name with the sign that joins names.
    """
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"two streams are named {name}; rename the folder of the feature set, or give the "
                "encoder another name: NAME=FILE"
            )
        if JOIN in name or not name.strip():
            raise InputError(
                f"stream {name!r}: a name must not be empty or contain {JOIN}, which joins names "
                "in `streams`; rename the folder of the feature set"
            )
    return list(sources)


def demo_sources(cache: Path, outputs: str, progress: Progress) -> list[Source]:
    """Synthetic clips and a small network trained on synthetic faces, made at the first use."""
    with DemoNetwork(progress) as network:
        # One core trains while the others draw.
        drawing = max(1, cores() - 1)
        demo = ensure_demo(cache, processes=drawing, progress=progress, on_faces=network.start)
        weights = network.weights()
    # The synthetic faces fill their frames.
    return [Source(read_clips(demo.root), encoder_of(weights, EncoderOptions(outputs)))]
