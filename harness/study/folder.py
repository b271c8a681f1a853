"""A study's folder: its manifest, its clips, and where the files of its trials are.

`results/<study>/`: `study.json` (what the study is about), `study.log` (Optuna journal),
`clips.parquet`, `predictions/<trial>.parquet`, `heads/<trial>.safetensors`. Only the driver of a
search writes here. Neither torch nor ray is needed to read it.
"""

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

import harness
from harness.atomic import alone, locked, write_text
from harness.dataset import Dataset, Specification
from harness.errors import InputError
from harness.names import check_folder_name
from harness.predictions import read_clips, trial_name, write_clips
from harness.sealed import CONTENTS, MANIFEST, read_sealed, write_sealed
from harness.study.changes import changes

#: Of the study: what it is about, as in its manifest.
ABOUT = "about"
#: Of a manifest: what makes another study of it.
DECISIVE = ("features", "targets", "data", "seed", "early_stop_split", "held_out", "storage")
_CONTENTS = "contents.json"


@dataclass(frozen=True)
class Manifest:
    """What a study is about; a search on other data or features is another study.

    data: sha256 of clip ids, splits, ratings, persons and files. features: fingerprint of the
    specifications of all streams.
    early_stop_split: what stops heads. held_out: how many parts of train do, and their fingerprint.
    storage: where the study is kept: its name, without user, password and options of a database.
    streams: their specifications, by name.
    oracle: best possible mean PCC on each split, known for synthetic clips alone;
    oracle_by_target: the same for each target of a split; oracles: by stream, the means on each
    split. ceilings: `ceilings[split][target]`, the highest PCC that the agreement of the raters
    allows.
    problems: clips with missing frames or another problem, with the reason; empty: those without a
    frame, which are predicted by the mean rating of train.
    read: what was read, left_out: what was not and why, notes: what may be wrong; a line each.
    """

    name: str
    seed: int
    space: str
    data: str
    features: str
    streams: dict[str, dict[str, Any]]
    early_stop_split: str
    held_out: str
    storage: str
    targets: tuple[str, ...]
    synthetic: bool
    oracle: dict[str, float]
    problems: dict[str, str]
    empty: tuple[str, ...]
    oracle_by_target: dict[str, dict[str, float]] = field(default_factory=dict)
    oracles: dict[str, dict[str, float]] = field(default_factory=dict)
    ceilings: dict[str, dict[str, float]] = field(default_factory=dict)
    read: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    code_version: str = harness.__version__


class StudyFolder:
    """Reads and writes one study's folder."""

    def __init__(self, results: Path, name: str) -> None:
        check_folder_name("study", name)
        self.path = results / name
        self.name = name

    def prediction_file(self, number: int) -> Path:
        return self.path / "predictions" / f"{trial_name(number)}.parquet"

    def model_file(self, number: int) -> Path:
        return self.path / "heads" / f"{trial_name(number)}.safetensors"

    @property
    def study_name(self) -> str:
        """The study's name in its storage: the folder's when the study began, also if the folder
        was renamed or copied since."""
        has_manifest = (self.path / "study.json").exists()
        return str(self.manifest().get("name", self.name)) if has_manifest else self.name

    def identity(self) -> str:
        """A random name of the folder, made at the first call.

        It moves with the folder within a file system. A copy gets a name of its own, because its
        inode differs: its trials in a database must not be taken for those of the original.
        """
        file, here = self.path / "identity", str(self.path.stat().st_ino)
        with alone(self.path / ".identity.lock"):
            token, _, inode = file.read_text().partition(" ") if file.exists() else ("", "", "")
            # Earlier versions stored no inode.
            if not token or inode not in ("", here):
                token, inode = secrets.token_hex(8), ""
            if not inode:
                write_text(file, f"{token} {here}")
        return token

    @contextmanager
    def locked(self, shared: bool = False) -> Iterator[None]:
        """Keeps a second search out of the folder; `shared`: except those that share a database.

        The lock ends with the process.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as file:
            if not locked(file, self.path, shared=shared):
                raise InputError(
                    f"{self.path}: another search works on this study; "
                    "wait for it or choose another `study`"
                )
            yield

    def settle(
        self,
        manifest: Manifest,
        clips: Dataset,
        contents: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        """Writes the manifest and the clips of a new study, or checks that an old one agrees.

        Args:
            contents: by stream, the fingerprint of each clip's contents, with which changes are
                named.

        Raises:
            InputError: the study was made from other data or features; it is left untouched.
        """
        file = self.path / "study.json"
        if not file.exists():
            write_clips(self.path / "clips.parquet", clips)
            write_sealed(self.path / _CONTENTS, CONTENTS, {"streams": dict(contents or {})})
            # Last, so that a study with a manifest is whole.
            write_sealed(file, MANIFEST, asdict(manifest))
            return
        old, new = self.manifest(), json.loads(json.dumps(asdict(manifest)))
        if old["name"] != self.name and "://" in old["storage"]:
            raise InputError(
                f"{file}: this folder is a copy of study {old['name']}, or was renamed; the trials "
                f"are in {old['storage']} under that name; rename the folder to {old['name']}, or "
                "choose another `study`"
            )
        for name in DECISIVE:
            if old[name] != new[name]:
                raise InputError(
                    f"{file}, {name}: {self._change(name, old, new, clips, contents or {})}; "
                    "choose another `study`"
                )
        # Ratings of single raters change no trial, so they may be added later.
        if old.get("ceilings", {}) != new["ceilings"]:
            write_sealed(file, MANIFEST, old | {"ceilings": new["ceilings"]})

    def check_storage(self, name: str) -> None:
        """Checks, before a storage is opened and thereby made, that the study is kept there.

        Raises:
            InputError: the study is kept elsewhere.
        """
        file = self.path / "study.json"
        if file.exists() and (old := self.manifest()["storage"]) != name:
            raise InputError(
                f"{file}, storage: this study was begun with {old}, now it is {name}; give the "
                "same `storage` (none for study.log), or choose another `study`"
            )

    def contents(self) -> dict[str, dict[str, str]]:
        """By stream, the fingerprint of each clip's contents; empty if they are not known."""
        file = self.path / _CONTENTS
        return dict(read_sealed(file, CONTENTS)["streams"]) if file.exists() else {}

    def _change(
        self,
        name: str,
        old: Mapping[str, Any],
        new: Mapping[str, Any],
        clips: Dataset,
        contents: Mapping[str, Mapping[str, str]],
    ) -> str:
        """What differs in an entry of the manifest."""
        if name == "features":
            begun, now = (specifications(each) for each in (old, new))
            differing = [
                f"{stream}: {', '.join(begun[stream].differences(now[stream]))}"
                for stream in sorted(begun.keys() & now.keys())
                if begun[stream] != now[stream]
            ]
            if begun.keys() != now.keys():
                differing = [f"streams {', '.join(now)}, expected {', '.join(begun)}", *differing]
            return f"this study reads other features: {'; '.join(differing)}"
        if name == "data":
            known = read_clips(self.path / "clips.parquet")
            before = self.contents()
            # What differs in each stream; what differs in the clips themselves is said once.
            found = dict.fromkeys(
                line
                for stream in contents or [""]
                for line in changes(known, clips, before.get(stream, {}), contents.get(stream, {}))
            )
            if found:
                return f"the clips of this study have changed: {'; '.join(found)}"
        return f"this study was begun with {_short(old[name])}, now it is {_short(new[name])}"

    def manifest(self) -> dict[str, Any]:
        """The manifest as plain values."""
        return read_sealed(self.path / "study.json", MANIFEST)

    def study(self, storage: BaseStorage) -> optuna.Study:
        """Opens the study, which may be new.

        Raises:
            InputError: it exists with another direction.
        """
        study = optuna.create_study(
            storage=storage, study_name=self.study_name, direction="maximize", load_if_exists=True
        )
        if study.directions != [StudyDirection.MAXIMIZE]:
            directions = ", ".join(direction.name.lower() for direction in study.directions)
            raise InputError(
                f"`study` {self.study_name}: the storage has a study of this name whose direction "
                f"is {directions}; the mean PCC is maximised; choose another `study`"
            )
        return study

    @property
    def artifacts_path(self) -> Path:
        """Where the dashboard looks for files."""
        return self.path / "artifacts"

    def agree(self, study: optuna.Study) -> None:
        """Checks that this folder and the storage's study are about the same.

        A database's study may have been begun from another results folder.

        Raises:
            InputError: they are not, or the storage has lost the study.
        """
        mine = {name: self.manifest()[name] for name in DECISIVE}
        known = study.user_attrs.get(ABOUT)
        if known is None:
            files = len(list((self.path / "predictions").glob("[0-9]*.parquet")))
            if files:
                raise InputError(
                    f"{self.path}: holds predictions of {files} trials, but the storage knows of "
                    "no trial; put the storage back, or choose another `study`"
                )
            study.set_user_attr(ABOUT, mine)
            return
        for name, value in mine.items():
            if known.get(name) != value:
                raise InputError(
                    f"`storage`: its study {self.name}, {name}: was begun with "
                    f"{_short(known.get(name))}, now it is {_short(value)}; choose another `study`"
                )


def specifications(manifest: Mapping[str, Any]) -> dict[str, Specification]:
    """Of the streams of a study, by name. KeyError, TypeError or ValueError if it is no manifest of
    this version."""
    return {str(name): Specification.from_dict(each) for name, each in manifest["streams"].items()}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."
