"""A stored ensemble with its models, which predicts new clips."""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from harness.clips.faces import crop_recipe
from harness.clips.layouts import feature_sets, read_new_tables
from harness.clips.table import ClipTable, in_order, some
from harness.console import console
from harness.dataset import Dataset, Specification, Stream
from harness.encoders.encoder import Encoder, EncoderOptions
from harness.encoders.mtl_dan.encoder import MTL_DAN
from harness.encoders.registry import Wanted
from harness.encoders.sound.encoder import HEARD, SoundEncoder, sound_encoder_of
from harness.ensembles.ensemble import Ensemble
from harness.ensembles.files import read_ensemble
from harness.errors import InputError
from harness.models.model import Model
from harness.models.model_file import read_model
from harness.progress import Progress, Steps, silent
from harness.sampling import Sampling
from harness.streams.features import Found, Machines
from harness.streams.file_store import FILES
from harness.streams.precomputed import first_file, set_name_of
from harness.streams.sources import Source, read_all
from harness.study.folder import StudyFolder, specifications


@dataclass(frozen=True)
class Predictor:
    """An ensemble with its models, ready for new clips; `load` reads it."""

    ensemble: Ensemble
    models: tuple[Model, ...]

    @property
    def synthetic(self) -> bool:
        """Whether its models were trained on synthetic clips."""
        return self.ensemble.synthetic

    def __call__(
        self,
        data: str | PathLike[str] | Sequence[str | PathLike[str]],
        weights: str | PathLike[str] | None = None,
        *,
        layout: str | None = None,
        features: str | Sequence[str] | None = None,
        weights_key: str | None = None,
        encoder: str | PathLike[str] | Sequence[str] | None = None,
        encoder_output: str | Sequence[str] | None = None,
        encoder_input: Sequence[str] = (),
        strict: bool = False,
        cache: str | PathLike[str] = Path("results/.cache"),
        progress: Progress | None = None,
    ) -> pd.DataFrame:
        """Predicts clips.

        Args:
            data: a folder of one of the layouts, labelled or not, or of videos alone. Several, if
                the members read streams that are in different folders.
            weights: of the network that the ensemble was built on; None for precomputed features.
            features: the feature sets to read; None: those that the members read.
            weights_key: which network of the weight file, where it holds several.
            encoder: the ONNX file or module:function of the ensemble; of several, NAME=FILE each.
            encoder_output, encoder_input: as in the search; by default those of the ensemble.
            cache: holds the features, each frame of which is computed once.
            progress: called with (name of the step, done, total). None: progress is printed;
                `harness.progress.silent` prints nothing.

        Returns:
            one row per clip, index `clip_id` in order of ids, one column per target; the column
            `filled` is True for clips without any frame, which are predicted by the mean rating of
            train.

        Raises:
            InputError: bad clips; or weights or features other than the ensemble's.
        """
        folders = [data] if isinstance(data, str | PathLike) else data
        sets = [features] if isinstance(features, str) else features
        tables = self.read([Path(folder) for folder in folders], layout, sets, strict=strict)
        wanted = Wanted(
            None if weights is None else Path(weights),
            weights_key,
            _listed(encoder),
            _listed(encoder_output),
            tuple(encoder_input),
        )
        with Steps(console()) as steps:
            return self.predict(
                tables, wanted, strict=strict, cache=Path(cache), progress=progress or steps
            )

    def read(
        self,
        folders: Sequence[Path],
        layout: str | None = None,
        sets: Sequence[str] | None = None,
        *,
        strict: bool = False,
    ) -> list[ClipTable]:
        """The clips of some folders: a table of the frames of each, and of each feature set in it.

        Args:
            sets: the feature sets to read; None: those that the members read.

        Raises:
            InputError: bad clips, or no folder has one of `sets`.
        """
        wanted = [each for model in self.models for each in model.streams.values()]
        needed = dict.fromkeys(each.name for each in wanted if each.source == FILES)
        looks = any(each.source != FILES for each in wanted)
        there = {folder: feature_sets(folder, layout) for folder in folders}
        for name in sets or ():
            if not any(name in found for found in there.values()):
                known = ", ".join(dict.fromkeys(name for found in there.values() for name in found))
                raise InputError(
                    f"{name}: no such feature set; found {known or 'none'}", "features"
                )
        tables: list[ClipTable] = []
        for folder, found in there.items():
            names = [name for name in sets or needed if name in found]
            # Without a choice the layout reads its only set, or says what there is.
            given = read_new_tables(folder, layout, features=names, strict=strict)
            # Frames beside the sets that members read are none of their business.
            tables += [clips for clips in given if looks or clips.kind == "features" or not names]
        return tables

    def predict(
        self,
        tables: Sequence[ClipTable],
        wanted: Wanted = Wanted(),  # noqa: B008 - it is frozen
        *,
        strict: bool = False,
        cache: Path = Path("results/.cache"),
        progress: Progress = silent,
        on_found: Callable[[str, Found], None] = lambda name, found: None,
    ) -> pd.DataFrame:
        """The same of tables of the same clips; `on_found` gets each stream that the models read
        by its name in the first study, with what is to be said about it."""
        # Tables may have the clips in different orders.
        sources = self._sources([in_order(clips) for clips in tables], wanted)
        known: dict[str, Stream] = {}
        samplings: dict[str, set[Sampling]] = {}
        specifications: dict[str, Specification] = {}
        names: dict[str, str] = {}
        for model in self.models:
            for name, each in model.streams.items():
                specifications[each.fingerprint()] = each
                names.setdefault(each.fingerprint(), name)
                samplings.setdefault(each.fingerprint(), set()).add(model.config.sampling)
        machines = Machines(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        found = read_all(
            list(sources.values()), cache, [sorted(samplings[stream]) for stream in sources],
            machines, progress, [specifications[stream].columns or None for stream in sources],
            required=len(sources) == 1,
        )  # fmt: skip
        for fingerprint, of_stream in zip(sources, found, strict=True):
            if strict:
                of_stream.gaps.refuse()
            on_found(names[fingerprint], of_stream)
            known[fingerprint] = of_stream.stream
        clips = next(iter(sources.values())).clips
        pairs = [(model, self._dataset(model, clips, known)) for model in self.models]
        parts = [model.predict(data) for model, data in pairs]
        # After predict, which refuses a model whose weights are invalid.
        for model, data in pairs:
            if line := model.unlike(data):
                warnings.warn(line, UserWarning, stacklevel=2)
        seen = np.any([model.reads(data) for model, data in pairs], axis=0)
        table = pd.DataFrame(self._combined(parts), columns=list(self.ensemble.targets))
        table.insert(0, "filled", ~seen)
        table.index = pd.Index(clips.clip_ids, name="clip_id")
        return table

    def doubts(self, tables: Sequence[ClipTable]) -> list[str]:
        """What may be wrong with clips that are predicted all the same, a line each."""
        streams = [each for model in self.models for each in model.streams.values()]
        crops = {each.details.get("crop") for each in streams}
        films = any(clips.kind == "video" and not clips.synthetic for clips in tables)
        if not films or self.synthetic or "none" not in crops:
            return []
        return [
            "The ensemble takes whole frames for faces (`crop` none): no face is looked for in "
            "these videos"
        ]

    def _dataset(self, model: Model, clips: ClipTable, known: Mapping[str, Stream]) -> Dataset:
        """The clips with the streams that a model reads."""
        streams = {name: known[each.fingerprint()] for name, each in model.streams.items()}
        return unrated(clips, self.ensemble.targets, streams)

    def _combined(self, parts: list[NDArray[np.float32]]) -> NDArray[np.float64]:
        return self.ensemble.combine(np.stack(parts).transpose(2, 0, 1))

    def _sources(self, tables: Sequence[ClipTable], wanted: Wanted) -> dict[str, Source]:
        """What gives each stream that the models read, by its fingerprint.

        Raises:
            InputError: no table or encoder for one of them, or a table that no model reads.
        """
        needed: dict[str, _Need] = {}
        for model in self.models:
            for name, each in model.streams.items():
                needed.setdefault(each.fingerprint(), _Need(model, name, each))
        brought = [clips for clips in tables if clips.kind == "features"]
        framed = [clips for clips in tables if clips.kind != "features"]
        encoders = wanted.each()
        unread = list(encoders)
        sources: dict[str, Source] = {}
        given = (FILES, SoundEncoder.name)
        computed = {n.name for n in needed.values() if n.specification.source not in given}
        for stream, need in needed.items():
            if need.specification.source == FILES:
                sources[stream] = Source(_table_of(need, brought), None)
                continue
            if need.specification.source == SoundEncoder.name:
                sources[stream] = Source(_heard(tables), _sound_encoder(need))
                continue
            is_heard = need.specification.source in HEARD
            if not framed and not is_heard:
                raise InputError(
                    f"ensemble {self.ensemble.name} reads a network's features, these clips have "
                    "precomputed ones; give clips with frames, and the network's weights",
                    "data",
                )
            if len(framed) > 1 and not is_heard:
                raise InputError("expected one folder of videos or images", "data")
            one = _wanted(need, encoders, computed)
            unread = [other for other in unread if other is not one]
            clips = _heard(tables) if is_heard else framed[0]
            sources[stream] = Source(clips, _encoder(one, need))
        for one in unread:
            name = "encoder" if one.encoder else "weights"
            what = one.encoder[0] if one.encoder else one.weights
            raise InputError(f"no member reads features of {what}; remove it", name)
        used = [clips for clips, _ in sources.values()]
        for clips in tables:
            if not any(clips is other for other in used):
                what = f"set {set_name_of(clips.paths)}" if clips.kind == "features" else clips.kind
                raise InputError(f"no member reads the {what} of this folder", "data")
            _check_same_clips(used[0], clips)
        return sources


def _listed(given: str | PathLike[str] | Sequence[str] | None) -> tuple[str, ...]:
    """One value or several, as several."""
    if given is None:
        return ()
    return (str(given),) if isinstance(given, str | PathLike) else tuple(given)


def load(folder: str | PathLike[str]) -> Predictor:
    """Reads the ensemble in `results/<study>/ensembles/<name>/` with the models of its members.

    Raises:
        InputError: a file is missing or damaged, or belongs to something else.
    """
    folder = Path(folder).resolve()
    ensemble = read_ensemble(folder)
    results = folder.parent.parent.parent
    try:
        own = folder.parent.parent.name
        models = tuple(member(results, own, ensemble, name) for name in ensemble.members)
        check_told_apart(folder, [_home(results, own, ensemble, m) for m in ensemble.members])
    except InputError:
        raise
    # Seals are checksums, which anyone can make: what is said may be anything.
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: names no models of this harness ({error!r})") from error
    return Predictor(ensemble, models)


def member(results: Path, own: str, ensemble: Ensemble, name: str) -> Model:
    """The model of an ensemble's member.

    Args:
        own: the folder of the ensemble's first study, which may have been renamed since.

    Raises:
        InputError: its file is missing or damaged, or belongs to something else.
    """
    home, trial = _home(results, own, ensemble, name), name.rpartition("/")[2]
    file = home.model_file(int(trial))
    model = read_model(file)
    if model.name != trial:
        raise InputError(f"{file}: it is the model of trial {model.name}")
    if model.targets != ensemble.targets:
        raise InputError(
            f"{file}: its targets are {', '.join(model.targets)}; "
            f"the ensemble's are {', '.join(ensemble.targets)}"
        )
    known = specifications(home.manifest())
    for stream, read in model.streams.items():
        if stream not in known:
            raise InputError(f"{file}: reads the stream {stream}, which its study does not have")
        # A trial may read a part of its study's stream.
        own_stream = known[stream]
        if read.columns and set(read.columns) <= set(own_stream.columns):
            own_stream = own_stream.only(read.columns)
        if differences := own_stream.differences(read):
            raise InputError(
                f"{file}: was trained on other features than its study's: {'; '.join(differences)}"
            )
    return model


def _home(results: Path, own: str, ensemble: Ensemble, member: str) -> StudyFolder:
    """The study of a member, whose id has the study before it where there are several."""
    study = member.rpartition("/")[0]
    return StudyFolder(results, own if study in ("", ensemble.studies[0]) else study)


def check_told_apart(folder: Path, homes: Sequence[StudyFolder]) -> None:
    """InputError if members read different features which nothing tells apart: of one set name and
    width, without column names. One of them would be given the features of the other."""
    contents: dict[str, dict[str, str]] = {}
    for home in {home.name: home for home in homes}.values():
        for name, stream in specifications(home.manifest()).items():
            if stream.source != FILES or stream.columns:
                continue
            found, other = (
                home.contents().get(name, {}),
                contents.setdefault(stream.fingerprint(), {}),
            )
            different = [clip for clip in found if clip in other and other[clip] != found[clip]]
            if different:
                raise InputError(
                    f"{folder}: its studies read different features of the set {stream.name}, "
                    f"without column names, such as those of {different[0]}; new features cannot "
                    "be assigned to them: put each set into a folder of its own name, or save csv "
                    "files with names, and search again"
                )
            other.update(found)


def unrated(clips: ClipTable, targets: tuple[str, ...], streams: Mapping[str, Stream]) -> Dataset:
    """A data set of clips that are to be predicted."""
    return Dataset(clips.clip_ids, clips.splits, None, targets, streams=streams)


class _Need(NamedTuple):
    """A stream that a model reads, and its name in the study."""

    model: Model
    name: str
    specification: Specification


def _table_of(need: _Need, tables: Sequence[ClipTable]) -> ClipTable:
    """The table of precomputed features that a model reads.

    Raises:
        InputError: there is none, or several that cannot be told apart.
    """
    wanted, trial = need.specification.name, need.model.name
    found = [clips for clips in tables if set_name_of(clips.paths) == wanted]
    if not found:
        names = ", ".join(set_name_of(clips.paths) for clips in tables)
        raise InputError(
            f"trial {trial} reads the precomputed features {wanted}, found {names or 'none'}; "
            "give a folder that holds them as `data`"
        )
    if len(found) > 1:
        columns = set(map(str.casefold, need.specification.columns))
        files = [(clips, first_file(clips, columns)) for clips in found]
        width = need.specification.width
        found = [
            clips
            for clips, file in files
            if (file.names and columns and columns <= set(map(str.casefold, file.names)))
            or (not file.names and not columns and file.values.shape[1] == width)
        ]
        if len(found) != 1:
            raise InputError(
                f"{len(found)} of {len(files)} folders hold the features {wanted} that trial "
                f"{trial} reads; give each set of features a folder of its own name"
            )
    return found[0]


def _check_same_clips(one: ClipTable, other: ClipTable) -> None:
    """InputError if two tables have different clips."""
    if different := sorted(set(one.clip_ids) ^ set(other.clip_ids)):
        raise InputError(
            f"the folders hold different clips: {len(different)} are in one alone, such as "
            f"{some(different)}; expected the same clips in each",
            "data",
        )


def _wanted(need: _Need, encoders: Sequence[Wanted], computed: Collection[str]) -> Wanted:
    """Which of the encoders that a user gives is that of a stream: the one of its name, or the only
    one unless it has the name of another stream.

    Args:
        computed: the names of all streams that need an encoder.

    Raises:
        InputError: none is.
    """
    of_weights = need.specification.source == MTL_DAN.name
    found = [one for one in encoders if one.name == need.name]
    found = found or [one for one in encoders if of_weights and one.weights]
    only = encoders[0] if len(encoders) == 1 else None
    if only and (len(computed) == 1 or (only.encoder and not only.name)):
        found = [only]
    if not found:
        name = "weights" if of_weights else "encoder"
        form = "" if of_weights or not encoders else f", as {need.name}=FILE"
        raise InputError(
            f"missing: give the file that the ensemble was built on, for {need.name}{form}", name
        )
    return found[0]


def _heard(tables: Sequence[ClipTable]) -> ClipTable:
    """The table whose clips have sound files or tracks; any if none has."""
    return next((clips for clips in tables if any(clips.heard().paths)), tables[0])


def _sound_encoder(need: _Need) -> SoundEncoder:
    """The encoder of the sound that a model reads; its parameters are in the specification."""
    encoder = sound_encoder_of(need.specification)
    if differences := need.specification.differences(encoder.specification()):
        raise InputError(
            f"trial {need.model.name} reads other sound than this version of the harness computes: "
            f"{'; '.join(differences)}; search again, or predict with the version that trained it"
        )
    return encoder


def _encoder(wanted: Wanted, need: _Need) -> Encoder | SoundEncoder:
    """The encoder of a stream that a model reads.

    Raises:
        InputError: with this file, or in this version of the harness, it is another.
    """
    model, details = need.model, need.specification.details
    options = EncoderOptions(
        outputs=model.config.features,
        precision=str(details.get("precision", "float32")),
        crop="none" if details.get("crop", "none") == "none" else crop_recipe(),
        like=details,
        stored=str(details.get("stored", "float32")),
    )
    encoder = wanted.load(options)
    if differences := need.specification.differences(encoder.specification()):
        given = wanted.encoder[0] if wanted.encoder else wanted.weights
        raise InputError(
            f"{given}: trial {model.name} reads other features: {'; '.join(differences)}",
            "encoder" if wanted.encoder else "weights",
        )
    return encoder
