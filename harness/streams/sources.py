"""What a study reads: its clips, and what gives each stream of their features."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from harness.choices import DEFAULT_SOUND_STEP
from harness.clips.demo import ensure_demo
from harness.clips.faces import crop_recipe
from harness.clips.layouts import read_clips, read_tables
from harness.clips.table import ClipTable
from harness.cores import cores
from harness.encoders.encoder import Encoder, EncoderOptions
from harness.encoders.registry import Wanted, encoder_of
from harness.encoders.sound.encoder import SoundEncoder, sound_encoder
from harness.errors import InputError
from harness.pretraining.demo_network import DemoNetwork
from harness.progress import Progress
from harness.sampling import EVERY, Sampling
from harness.streams.clip_issues import Gaps
from harness.streams.contents import sources
from harness.streams.extraction import Extraction
from harness.streams.features import Found, Machines, Stored, brought_features, compute_features
from harness.streams.precomputed import set_name_of
from harness.streams.sound import sound_stream

#: How faces come out of frames: found in them, or not at all as the pictures are faces.
CROPS = ("detect", "none")
#: Joins the names of streams in the hyperparameter `streams`.
JOIN = "+"


class Source(NamedTuple):
    """What gives one stream: the clips, with their files, and the encoder of their frames or of
    their sound; None where the files bring the features."""

    clips: ClipTable
    encoder: Encoder | SoundEncoder | None

    @property
    def name(self) -> str:
        """The name of the stream."""
        if self.encoder is None:
            return set_name_of(self.clips.paths)
        return self.encoder.stream

    @property
    def network(self) -> Encoder | None:
        """The encoder of frames, if it is one."""
        return self.encoder if isinstance(self.encoder, Encoder) else None

    def contents(self, root: Path) -> list[str]:
        """The fingerprint of each clip's file (`harness.streams.contents.sources`)."""
        heard = isinstance(self.encoder, SoundEncoder)
        return sources(self.clips.heard() if heard else self.clips, root)


def read_all(
    given: Sequence[Source],
    cache: Path,
    samplings: Sequence[Sequence[Sampling]],
    machines: Machines,
    progress: Progress,
    names: Sequence[Sequence[str] | None] | None = None,
    tell: Callable[[str], None] = lambda line: None,
    required: bool = True,
) -> list[Found]:
    """The stream of each source; what is not stored is computed, with one pass over the frames.

    Args:
        samplings: of each source; of frames alone.
        names: of each source, the columns that features which clips bring must have; None: any.
        tell: is given a line on what will be computed, before it is.
        required: refuse clips none of which has a frame, or sound; else they need a step of any
            stream.

    Raises:
        InputError: no clip has what is required.
    """
    stored = _stored(given, cache, samplings, machines, progress, tell)
    found = []
    for place, source in enumerate(given):
        here = partial(_tell_of, given, tell, place)
        if isinstance(source.encoder, Encoder):
            found.append(stored[place].found(required))
        elif isinstance(source.encoder, SoundEncoder):
            found.append(
                sound_stream(source.clips, source.encoder, cache, progress, here, required)
            )
        else:
            columns = names[place] if names else None
            found.append(brought_features(source.clips, cache, columns, here))
    if not required and not any(len(each.stream.positions) for each in found):
        reasons = [line for each in found for line in each.gaps.lines()]
        raise InputError(f"no clip has a step of any stream: {'; '.join(reasons)}")
    return found


def extract_all(
    given: Sequence[Source],
    cache: Path,
    samplings: Sequence[Sampling],
    machines: Machines,
    progress: Progress,
    tell: Callable[[str], None] = lambda line: None,
) -> list[tuple[Extraction, Gaps, tuple[str, ...]]]:
    """Computes what the stores lack in some samplings. Returns for each source what was done, the
    clips with problems, and what was read, a line each.

    Features that clips bring are read and checked.
    """
    stored = _stored(given, cache, [samplings] * len(given), machines, progress, tell)
    done: list[tuple[Extraction, Gaps, tuple[str, ...]]] = []
    for place, source in enumerate(given):
        if isinstance(source.encoder, Encoder):
            of_frames = stored[place]
            lines = tuple(source.encoder.describe())
            done.append((of_frames.extraction, of_frames.gaps(), lines))
            continue
        (found,) = read_all([source], cache, [EVERY], machines, progress,
                            tell=partial(_tell_of, given, tell, place))  # fmt: skip
        done.append((found.extraction, found.gaps, (*found.read, *found.notes)))
    return done


def _stored(
    given: Sequence[Source],
    cache: Path,
    samplings: Sequence[Sequence[Sampling]],
    machines: Machines,
    progress: Progress,
    tell: Callable[[str], None],
) -> dict[int, Stored]:
    """The features of the encoders of frames, by their places in `given`."""
    stored: dict[int, Stored] = {}
    framed = {place: source.network for place, source in enumerate(given) if source.network}
    for clips in {id(given[place].clips): given[place].clips for place in framed}.values():
        places = [place for place in framed if given[place].clips is clips]
        here = [partial(_tell_of, given, tell, place) for place in places]
        encoders = [framed[place] for place in places]
        wanted = [samplings[place] for place in places]
        computed = compute_features(clips, encoders, cache, wanted, machines, progress, here)
        stored |= zip(places, computed, strict=True)
    return stored


def _tell_of(given: Sequence[Source], tell: Callable[[str], None], place: int, line: str) -> None:
    """A line on one of the sources, which begins with its name if there are several."""
    tell(f"{given[place].name}: {line}" if len(given) > 1 else line)


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
    sound: str | None = None,
    sound_step: float = DEFAULT_SOUND_STEP,
) -> list[Source]:
    """The user's clips and what gives each stream of their features; all have the same clips.

    Args:
        features: the feature sets, of layouts that have several.
        crop: one of CROPS; None: faces are looked for in videos, while images are taken for faces.
        precision, outputs: of an MTL-DAN (`harness.encoders.encoder.EncoderOptions`); with
            `weights`, precision is not that of `encoder`.
        allow_shared_groups: note persons with clips in several splits instead of refusing them.
        weights_key, encoder, encoder_output, encoder_input: `harness.encoders.registry.Wanted`.
        stored: number format of the feature store.
        sound: `harness.encoders.sound.encoder.sound_encoder`; None: no sound but that of `encoder`.
        sound_step: seconds of each step of sound.

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
    others = [Source(clips, None) for clips in tables if clips.kind == "features"]
    if sound is not None:
        others.append(Source(tables[0], sound_encoder(sound, sound_step)))
    if frames is None and weights is not None:
        raise InputError(f"{data} has precomputed features, which need no weights", "weights")
    if frames is None and crop == "detect":
        raise InputError(f"{data} has precomputed features, in which no face is", "crop")
    if frames is not None and not wanted.is_given and not others:
        raise InputError(
            f"{data} holds {frames.kind}: give a published MTL-DAN checkpoint or one of your own, "
            "or an `encoder`",
            "weights",
        )
    options = EncoderOptions(outputs, precision, stored=stored, sound_step=sound_step)
    # Beside weights, the precision is theirs; other encoders have their own.
    other = replace(options, precision="float32") if weights is not None else options
    encoders = [one.load(options if one.weights else other) for one in wanted.each()]
    if any(isinstance(each, Encoder) for each in encoders):
        if frames is None:
            raise InputError(
                f"{data} has precomputed features, which need no encoder of frames", "encoder"
            )
        # Drawn faces fill their frames.
        raw = frames.kind == "video" and not frames.synthetic
        recipe = crop_recipe() if (crop == "detect" if crop else raw) else "none"
        encoders = [
            each.used_with(recipe, stored) if isinstance(each, Encoder) else each
            for each in encoders
        ]
    return told_apart([*(Source(tables[0], each) for each in encoders), *others])


def told_apart(given: Sequence[Source]) -> list[Source]:
    """The sources, if their names can be used in `streams`.

    Raises:
        InputError: two streams of one name, or a name with the sign that joins names.
    """
    names = [source.name for source in given]
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
    return list(given)


def demo_sources(
    cache: Path,
    outputs: str,
    progress: Progress,
    sound: str | None = None,
    sound_step: float = DEFAULT_SOUND_STEP,
) -> list[Source]:
    """Synthetic clips and a small network trained on synthetic faces, made at the first use; and
    their sound, if an encoder of it is named."""
    with DemoNetwork(progress) as network:
        # One core trains while the others draw.
        drawing = max(1, cores() - 1)
        demo = ensure_demo(cache, processes=drawing, progress=progress, on_faces=network.start)
        weights = network.weights()
    # The synthetic faces fill their frames.
    clips = read_clips(demo.root)
    heard = [] if sound is None else [Source(clips, sound_encoder(sound, sound_step))]
    return [Source(clips, encoder_of(weights, EncoderOptions(outputs))), *heard]
