"""A stored ensemble with its heads, which predicts new clips."""

from collections.abc import Callable
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
from harness.encoders.mtl_dan.checkpoints import weights_fingerprint
from harness.encoders.mtl_dan.preprocessing import PREPROCESSING
from harness.ensembles.ensemble import Ensemble
from harness.ensembles.files import read_ensemble
from harness.errors import InputError
from harness.models.checkpoint import Head, read_head
from harness.streams.clip_features import ClipFeatures, Machines, features_of
from harness.streams.clip_issues import Gaps
from harness.streams.sources import Sources
from harness.streams.store import Recipe
from harness.study.folder import StudyFolder
from harness.trials.trial import TrialData, predict_clips

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Member:
    """A trial of an ensemble. recipe: of the features it reads; None where clips bring them."""

    head: Head
    recipe: Recipe | None


@dataclass(frozen=True)
class Predictor:
    """An ensemble with its heads, ready for new clips; `load` reads it.

    synthetic: its heads were trained on synthetic clips.
    """

    ensemble: Ensemble
    members: tuple[Member, ...]

    @property
    def synthetic(self) -> bool:
        return self.ensemble.synthetic

    def __call__(
        self,
        data: str | PathLike[str],
        weights: str | PathLike[str] | None = None,
        *,
        layout: str | None = None,
        features: str | None = None,
        strict: bool = False,
        cache: str | PathLike[str] = Path("results/.cache"),
        progress: Progress = lambda what, done, total: None,
    ) -> pd.DataFrame:
        """Predicts clips.

        Args:
            data: a folder of one of the layouts, labelled or not, or of videos alone.
            weights: of the network that the ensemble was built on; None where clips bring features.
            cache: holds the features, each frame of which is computed once.
            progress: called with (what is going on, done, total).

        Returns:
            a row a clip, index `File_ID` in order of ids, a column a target; the column `filled` is
            True for clips without any frame, which are predicted by the mean rating of train.

        Raises:
            InputError: bad clips; or weights or features other than the ensemble's.
        """
        clips = read_new_clips(Path(data), layout, features=features, strict=strict)
        file = None if weights is None else Path(weights)
        return self.predict(clips, file, strict=strict, cache=Path(cache), progress=progress)

    def predict(
        self,
        clips: ClipTable,
        weights: Path | None = None,
        *,
        strict: bool = False,
        cache: Path = Path("results/.cache"),
        progress: Progress = lambda what, done, total: None,
        on_gaps: Callable[[Gaps], None] = lambda gaps: None,
    ) -> pd.DataFrame:
        """The same of a table of clips; `on_gaps` is told which did not give all, for each kind of
        features that the members read."""
        self._check(clips, weights)
        rows = np.arange(len(clips))
        targets = np.full((len(clips), len(self.ensemble.targets)), np.nan, np.float32)
        parts: list[NDArray[np.float32]] = []
        empty = np.ones(len(clips), dtype=bool)
        known: dict[Recipe | None, ClipFeatures] = {}
        for member in self.members:
            if member.recipe not in known:
                known[member.recipe] = self._features(clips, weights, member, cache, progress)
                if strict:
                    known[member.recipe].gaps.refuse()
                on_gaps(known[member.recipe].gaps)
            found = known[member.recipe]
            data = TrialData(found.frames, targets, {"test": rows}, found.columns)
            try:
                part, seen = predict_clips(
                    member.head.models(), member.head.config, data, rows, member.head.fill
                )
            except (KeyError, RuntimeError, ValueError) as error:
                raise InputError(
                    f"trial {member.head.trial}: cannot read these features: {error}"
                ) from error
            parts.append(part)
            empty &= ~seen
        combined = self.ensemble.combine(np.stack(parts).transpose(2, 0, 1))
        table = pd.DataFrame(combined, columns=list(self.ensemble.targets))
        table.insert(0, "filled", empty)
        table.index = pd.Index(clips.clip_ids, name="File_ID")
        return table.sort_index()

    def doubts(self, clips: ClipTable) -> list[str]:
        """What may be wrong with clips that are predicted all the same, a line each."""
        crops = {member.recipe.crop for member in self.members if member.recipe}
        if clips.kind != "video" or clips.synthetic or self.synthetic or "none" not in crops:
            return []
        return [
            "The ensemble takes whole frames for faces (--crop none): no face is looked for in "
            "these videos"
        ]

    def _check(self, clips: ClipTable, weights: Path | None) -> None:
        recipes = [member.recipe for member in self.members]
        if clips.kind == "features":
            if any(recipes):
                raise InputError(
                    f"ensemble {self.ensemble.name}: was built on a network's features; give clips "
                    "with frames and --weights"
                )
            if weights is not None:
                raise InputError(
                    "the clips bring features, for which there is no use of --weights; leave it out"
                )
            return
        if not all(recipes):
            raise InputError(
                f"ensemble {self.ensemble.name}: was built on features that clips bring; give such"
            )
        if weights is None:
            raise InputError("--weights FILE is needed: give those that the ensemble was built on")
        if not weights.is_file():
            raise InputError(
                f"{weights}: no such weight file; give the one that the ensemble was built on"
            )
        given = weights_fingerprint(weights)
        for member, recipe in zip(self.members, recipes, strict=True):
            assert recipe is not None  # checked above
            _check_recipe(weights, given, member.head.trial, recipe)

    def _features(
        self,
        clips: ClipTable,
        weights: Path | None,
        member: Member,
        cache: Path,
        progress: Progress,
    ) -> ClipFeatures:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        recipe = member.recipe
        configs = [m.head.config for m in self.members if m.recipe == recipe]
        strides = tuple(sorted({config.stride for config in configs}))
        given = Sources(
            clips,
            weights,
            crop=recipe is not None and recipe.crop != "none",
            precision=recipe.precision if recipe else "float32",
        )
        outputs = recipe.outputs if recipe else "outputs"
        return features_of(given, cache, strides, outputs, Machines(device), progress)


def load(folder: str | PathLike[str]) -> Predictor:
    """Reads the ensemble in `results/<study>/ensembles/<name>/` with the heads of its members.

    Raises:
        InputError: a file is missing or damaged, or belongs to something else.
    """
    folder = Path(folder).resolve()
    ensemble = read_ensemble(folder)
    results = folder.parent.parent.parent
    try:
        own = folder.parent.parent.name
        members = tuple(_member(results, own, ensemble, name) for name in ensemble.members)
    except InputError:
        raise
    # Seals are checksums, which anyone can make: what is said may be anything.
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: names no heads of this harness ({error!r})") from error
    return Predictor(ensemble, members)


def _member(results: Path, own: str, ensemble: Ensemble, name: str) -> Member:
    """own: the folder of the ensemble's first study, which may have been renamed since."""
    # A member's id has its study before it where there are several.
    study, _, trial = name.rpartition("/")
    home = StudyFolder(results, own if study in ("", ensemble.studies[0]) else study)
    manifest = home.manifest()
    file = home.head_file(int(trial))
    head = read_head(file)
    if head.trial != trial:
        raise InputError(f"{file}: it is the head of trial {head.trial}")
    if head.targets != ensemble.targets:
        raise InputError(
            f"{file}: its targets are {', '.join(head.targets)}; "
            f"the ensemble's are {', '.join(ensemble.targets)}"
        )
    if head.features != manifest["features"]:
        raise InputError(f"{file}: it was trained on other features than those of its study")
    values = manifest["recipe"]
    return Member(head, Recipe(**values) if values else None)


def _check_recipe(weights: Path, given: str, trial: str, recipe: Recipe) -> None:
    if given != recipe.weights:
        raise InputError(
            f"{weights}: other weights than those that trial {trial} was trained on "
            f"(sha256 {given[:12]}, expected {recipe.weights[:12]})"
        )
    if recipe.preprocessing != PREPROCESSING:
        raise InputError(
            f"trial {trial}: its features were preprocessed by {recipe.preprocessing!r}, "
            f"this harness has {PREPROCESSING!r}; use the version that the ensemble names"
        )
    if recipe.crop != "none" and recipe.crop != crop_recipe():
        raise InputError(
            f"trial {trial}: its faces were cut out by {recipe.crop!r}, this harness has "
            f"{crop_recipe()!r}; use the version that the ensemble names"
        )
