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
from harness.clips.layouts import read_new_clips
from harness.clips.table import ClipTable
from harness.dataset import Dataset, Specification, Stream
from harness.encoders.encoder import Encoder, EncoderOptions
from harness.encoders.registry import Wanted
from harness.ensembles.ensemble import Ensemble
from harness.ensembles.files import read_ensemble
from harness.errors import InputError
from harness.models.model import Model
from harness.models.model_file import read_model
from harness.progress import Progress, silent
from harness.streams.clip_issues import Gaps
from harness.streams.features import Machines, extract_features, features_of
from harness.study.folder import StudyFolder


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
        data: str | PathLike[str],
        weights: str | PathLike[str] | None = None,
        *,
        layout: str | None = None,
        features: str | None = None,
        weights_key: str | None = None,
        encoder: str | PathLike[str] | None = None,
        encoder_output: str | None = None,
        encoder_input: Sequence[str] = (),
        strict: bool = False,
        cache: str | PathLike[str] = Path("results/.cache"),
        progress: Progress = silent,
    ) -> pd.DataFrame:
        """Predicts clips.

        Args:
            data: a folder of one of the layouts, labelled or not, or of videos alone.
            weights: of the network that the ensemble was built on; None where clips bring features.
            weights_key: which network of the weight file, where it holds several.
            encoder: instead of `weights`, the ONNX file or module:function of the ensemble.
            encoder_output, encoder_input: as in the search; by default those of the ensemble.
            cache: holds the features, each frame of which is computed once.
            progress: called with (what is going on, done, total).

        Returns:
            a row a clip, index `File_ID` in order of ids, a column a target; the column `filled` is
            True for clips without any frame, which are predicted by the mean rating of train.

        Raises:
            InputError: bad clips; or weights or features other than the ensemble's.
        """
        clips = read_new_clips(Path(data), layout, features=features, strict=strict)
        wanted = Wanted(
            None if weights is None else Path(weights),
            weights_key,
            () if encoder is None else (str(encoder),),
            () if encoder_output is None else (encoder_output,),
            tuple(encoder_input),
        )
        return self.predict(clips, wanted, strict=strict, cache=Path(cache), progress=progress)

    def predict(
        self,
        clips: ClipTable,
        wanted: Wanted = Wanted(),  # noqa: B008 - it is frozen
        *,
        strict: bool = False,
        cache: Path = Path("results/.cache"),
        progress: Progress = silent,
        on_gaps: Callable[[Gaps], None] = lambda gaps: None,
    ) -> pd.DataFrame:
        """The same of a table of clips; `on_gaps` is told which did not give all, for each stream
        that the models read."""
        encoders = self._encoders(clips, wanted)
        known: dict[str, Dataset] = {}
        strides = tuple(sorted({model.config.stride for model in self.models}))
        machines = Machines(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        if len(encoders) > 1:  # several outputs of a network: each frame is computed once
            for wider in {e.wider.specification().fingerprint(): e.wider
                          for e in encoders.values() if e and e.wider}.values():  # fmt: skip
                extract_features(clips, wider, cache, strides, machines, progress)
        columns = {m.stream.fingerprint(): m.stream.columns or None for m in self.models}
        for stream, encoder in encoders.items():
            found = features_of(clips, encoder, cache, strides, machines, progress, columns[stream])
            if strict:
                found.gaps.refuse()
            on_gaps(found.gaps)
            known[stream] = unrated(clips, self.ensemble.targets, found.stream)
        datasets = [known[model.stream.fingerprint()] for model in self.models]
        parts = [m.predict(data) for m, data in zip(self.models, datasets, strict=True)]
        # After predict, which refuses a model whose weights are invalid.
        for model, data in zip(self.models, datasets, strict=True):
            if line := model.unlike(data):
                warnings.warn(line, UserWarning, stacklevel=2)
        seen = np.any([m.reads(data) for m, data in zip(self.models, datasets, strict=True)], 0)
        table = pd.DataFrame(self._combined(parts), columns=list(self.ensemble.targets))
        table.insert(0, "filled", ~seen)
        table.index = pd.Index(clips.clip_ids, name="File_ID")
        return table.sort_index()

    def doubts(self, clips: ClipTable) -> list[str]:
        """What may be wrong with clips that are predicted all the same, a line each."""
        crops = {model.stream.details.get("crop") for model in self.models}
        if clips.kind != "video" or clips.synthetic or self.synthetic or "none" not in crops:
            return []
        return [
            "The ensemble takes whole frames for faces (`crop` none): no face is looked for in "
            "these videos"
        ]

    def _combined(self, parts: list[NDArray[np.float32]]) -> NDArray[np.float64]:
        return self.ensemble.combine(np.stack(parts).transpose(2, 0, 1))

    def _encoders(self, clips: ClipTable, wanted: Wanted) -> dict[str, Encoder | None]:
        """What gives each stream that the models read, by its fingerprint; None where clips bring
        it."""
        streams = {model.stream.fingerprint(): model for model in self.models}
        if clips.kind == "features":
            if any(model.stream.source != "files" for model in self.models):
                raise InputError(
                    f"ensemble {self.ensemble.name} reads a network's features, these clips bring "
                    "their own; give clips with frames, and the network's weights",
                    "data",
                )
            if wanted.is_given:
                name = "encoder" if wanted.encoder else "weights"
                raise InputError("these clips bring precomputed features, which need none", name)
            return dict.fromkeys(streams)
        if any(model.stream.source == "files" for model in self.models):
            raise InputError(
                f"ensemble {self.ensemble.name} reads precomputed features; give clips with such",
                "data",
            )
        if not wanted.is_given:
            sources = {model.stream.source for model in self.models}
            name = "weights" if "mtl-dan" in sources else "encoder"
            raise InputError("missing: give the file that the ensemble was built on", name)
        return {stream: _encoder(wanted, model) for stream, model in streams.items()}


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
    # A member's id has its study before it where there are several.
    study, _, trial = name.rpartition("/")
    home = StudyFolder(results, own if study in ("", ensemble.studies[0]) else study)
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


def unrated(clips: ClipTable, targets: tuple[str, ...], stream: Stream) -> Dataset:
    """A data set of clips that are to be predicted."""
    streams = {stream.specification.source: stream}
    return Dataset(clips.clip_ids, clips.splits, None, targets, streams=streams)


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
