"""A stored ensemble with its models, which predicts new clips."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from harness.clips.faces import crop_recipe
from harness.clips.layouts import feature_sets, read_new_clips
from harness.clips.table import ClipTable, some
from harness.console import console
from harness.dataset import Dataset, Specification, Stream
from harness.encoders.encoder import Encoder, EncoderOptions
from harness.encoders.registry import Wanted
from harness.ensembles.ensemble import Ensemble
from harness.ensembles.files import read_ensemble
from harness.errors import InputError
from harness.models.model import Model
from harness.models.model_file import read_model
from harness.progress import Progress, Steps, silent
from harness.streams.features import Found, Machines, extract_features, features_of
from harness.streams.precomputed import FILES, first_file, set_name_of
from harness.study.folder import StudyFolder

#: Clips, and the encoder of their frames; None where the clips bring their features.
Source = tuple[ClipTable, Encoder | None]


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
        encoder: str | PathLike[str] | None = None,
        encoder_output: str | None = None,
        encoder_input: Sequence[str] = (),
        strict: bool = False,
        cache: str | PathLike[str] = Path("results/.cache"),
        progress: Progress | None = None,
    ) -> pd.DataFrame:
        """Predicts clips.

        Args:
            data: a folder of one of the layouts, labelled or not, or of videos alone. Several, if
                the members read features that are in different folders.
            weights: of the network that the ensemble was built on; None where clips bring features.
            features: the feature sets to read; None: those that the members read.
            weights_key: which network of the weight file, where it holds several.
            encoder: instead of `weights`, the ONNX file or module:function of the ensemble.
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
            () if encoder is None else (str(encoder),),
            () if encoder_output is None else (encoder_output,),
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
        """The clips of some folders: one table of each folder, or of each feature set in it.

        Args:
            sets: the feature sets to read; None: those that the members read.

        Raises:
            InputError: bad clips, or no folder has one of `sets`.
        """
        members = [model for model in self.models if model.stream.source == FILES]
        needed = dict.fromkeys(str(model.stream.details["set"]) for model in members)
        there = {folder: feature_sets(folder, layout) for folder in folders}
        for name in sets or ():
            if not any(name in found for found in there.values()):
                known = ", ".join(dict.fromkeys(name for found in there.values() for name in found))
                raise InputError(
                    f"{name}: no such feature set; found {known or 'none'}", "features"
                )
        chosen: list[tuple[Path, str | None]] = []
        for folder, found in there.items():
            names = [name for name in sets or needed if name in found]
            # Without a choice the layout reads its only set, or says what there is.
            chosen += [(folder, name) for name in names] or [(folder, None)]
        return [
            read_new_clips(folder, layout, features=name, strict=strict) for folder, name in chosen
        ]

    def predict(
        self,
        tables: Sequence[ClipTable],
        wanted: Wanted = Wanted(),  # noqa: B008 - it is frozen
        *,
        strict: bool = False,
        cache: Path = Path("results/.cache"),
        progress: Progress = silent,
        on_found: Callable[[Found], None] = lambda found: None,
    ) -> pd.DataFrame:
        """The same of tables of the same clips; `on_found` gets each stream that the models read,
        with what is to be said about it."""
        sources = self._sources(tables, wanted)
        known: dict[str, Dataset] = {}
        strides = tuple(sorted({model.config.stride for model in self.models}))
        machines = Machines(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        encoders = [(clips, encoder) for clips, encoder in sources.values() if encoder]
        if len(encoders) > 1:  # several outputs of a network: each frame is computed once
            for clips, wider in {e.wider.specification().fingerprint(): (clips, e.wider)
                                 for clips, e in encoders if e.wider}.values():  # fmt: skip
                extract_features(clips, wider, cache, strides, machines, progress)
        columns = {m.stream.fingerprint(): m.stream.columns or None for m in self.models}
        for stream, (clips, encoder) in sources.items():
            found = features_of(clips, encoder, cache, strides, machines, progress, columns[stream])
            if strict:
                found.gaps.refuse()
            on_found(found)
            known[stream] = unrated(clips, self.ensemble.targets, found.stream)
        datasets = [known[model.stream.fingerprint()] for model in self.models]
        # Tables may have the clips in different orders.
        orders = [np.argsort(np.array(data.clip_ids)) for data in datasets]
        pairs = list(zip(self.models, datasets, orders, strict=True))
        parts = [model.predict(data)[order] for model, data, order in pairs]
        # After predict, which refuses a model whose weights are invalid.
        for model, data, _ in pairs:
            if line := model.unlike(data):
                warnings.warn(line, UserWarning, stacklevel=2)
        seen = np.any([model.reads(data)[order] for model, data, order in pairs], axis=0)
        table = pd.DataFrame(self._combined(parts), columns=list(self.ensemble.targets))
        table.insert(0, "filled", ~seen)
        table.index = pd.Index(sorted(datasets[0].clip_ids), name="clip_id")
        return table

    def doubts(self, tables: Sequence[ClipTable]) -> list[str]:
        """What may be wrong with clips that are predicted all the same, a line each."""
        crops = {model.stream.details.get("crop") for model in self.models}
        films = any(clips.kind == "video" and not clips.synthetic for clips in tables)
        if not films or self.synthetic or "none" not in crops:
            return []
        return [
            "The ensemble takes whole frames for faces (`crop` none): no face is looked for in "
            "these videos"
        ]

    def _combined(self, parts: list[NDArray[np.float32]]) -> NDArray[np.float64]:
        return self.ensemble.combine(np.stack(parts).transpose(2, 0, 1))

    def _sources(self, tables: Sequence[ClipTable], wanted: Wanted) -> dict[str, Source]:
        """What gives each stream that the models read, by its fingerprint.

        Raises:
            InputError: no table or encoder for one of them, or a table that no model reads.
        """
        streams = {model.stream.fingerprint(): model for model in self.models}
        brought = [clips for clips in tables if clips.kind == "features"]
        framed = [clips for clips in tables if clips.kind != "features"]
        sources: dict[str, Source] = {}
        for stream, model in streams.items():
            if model.stream.source == FILES:
                sources[stream] = _table_of(model, brought), None
            elif not framed:
                raise InputError(
                    f"ensemble {self.ensemble.name} reads a network's features, these clips bring "
                    "their own; give clips with frames, and the network's weights",
                    "data",
                )
            elif len(framed) > 1:
                raise InputError("expected one folder of videos or images", "data")
            elif not wanted.is_given:
                name = "weights" if model.stream.source == "mtl-dan" else "encoder"
                raise InputError("missing: give the file that the ensemble was built on", name)
            else:
                sources[stream] = framed[0], _encoder(wanted, model)
        if wanted.is_given and all(encoder is None for _, encoder in sources.values()):
            name = "encoder" if wanted.encoder else "weights"
            raise InputError("the members read precomputed features, which need none", name)
        used = [clips for clips, _ in sources.values()]
        for clips in tables:
            if not any(clips is other for other in used):
                what = f"set {set_name_of(clips.paths)}" if clips.kind == "features" else clips.kind
                raise InputError(f"no member reads the {what} of this folder", "data")
            _check_same_clips(used[0], clips)
        return sources


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
    # A trial may read a part of its study's stream.
    stream = Specification.from_dict(home.manifest()["stream"])
    columns = model.stream.columns
    if columns and set(columns) <= set(stream.columns):
        stream = stream.only(columns)
    if differences := stream.differences(model.stream):
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
        stream = Specification.from_dict(home.manifest()["stream"])
        if stream.source != FILES or stream.columns:
            continue
        found, other = home.contents(), contents.setdefault(stream.fingerprint(), {})
        different = [clip for clip in found if clip in other and other[clip] != found[clip]]
        if different:
            raise InputError(
                f"{folder}: its studies read different features of the set "
                f"{stream.details['set']}, without column names, such as those of "
                f"{different[0]}; new features cannot be assigned to them: put each set into a "
                "folder of its own name, or save csv files with names, and search again"
            )
        other.update(found)


def unrated(clips: ClipTable, targets: tuple[str, ...], stream: Stream) -> Dataset:
    """A data set of clips that are to be predicted."""
    streams = {stream.specification.source: stream}
    return Dataset(clips.clip_ids, clips.splits, None, targets, streams=streams)


def _table_of(model: Model, tables: Sequence[ClipTable]) -> ClipTable:
    """The table of precomputed features that a model reads.

    Raises:
        InputError: there is none, or several that cannot be told apart.
    """
    wanted = str(model.stream.details["set"])
    found = [clips for clips in tables if set_name_of(clips.paths) == wanted]
    if not found:
        names = ", ".join(set_name_of(clips.paths) for clips in tables)
        raise InputError(
            f"trial {model.name} reads the precomputed features {wanted}, found {names or 'none'}; "
            "give a folder that holds them as `data`"
        )
    if len(found) > 1:
        columns = set(map(str.casefold, model.stream.columns))
        files = [(clips, first_file(clips, columns)) for clips in found]
        found = [
            clips
            for clips, file in files
            if (file.names and columns and columns <= set(map(str.casefold, file.names)))
            or (not file.names and not columns and file.values.shape[1] == model.stream.width)
        ]
        if len(found) != 1:
            raise InputError(
                f"{len(found)} of {len(files)} folders hold the features {wanted} that trial "
                f"{model.name} reads; give each set of features a folder of its own name"
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


def _encoder(wanted: Wanted, model: Model) -> Encoder:
    """The encoder of the stream that a model reads.

    Raises:
        InputError: with this file, or in this version of the harness, it is another.
    """
    details = model.stream.details
    options = EncoderOptions(
        outputs=model.config.features,
        precision=str(details.get("precision", "float32")),
        crop="none" if details.get("crop") == "none" else crop_recipe(),
        like=details,
        stored=str(details.get("stored", "float32")),
    )
    encoder = wanted.load(options)
    if differences := model.stream.differences(encoder.specification()):
        given = wanted.encoder[0] if wanted.encoder else wanted.weights
        raise InputError(
            f"{given}: trial {model.name} reads other features: {'; '.join(differences)}",
            "encoder" if wanted.encoder else "weights",
        )
    return encoder
