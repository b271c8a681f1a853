"""The study on disk: its Optuna storage, its manifest, and the files of its trials.

`results/<study>/`: `study.json` (what the study is about), `study.log` (Optuna journal),
`clips.parquet`, `predictions/<trial>.parquet`, `heads/<trial>.safetensors`. Only the driver of a
search writes here.
"""

import fcntl
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

import harness
from harness.errors import InputError
from harness.predictions import (
    ClipIndex,
    PredictionInfo,
    trial_name,
    write_clips,
    write_predictions,
)
from harness.sealed import MANIFEST, read_sealed, write_sealed
from harness.study.heads import Head, write_head
from harness.study.journal import Journal
from harness.study.trial import TrialResult

#: Trials that count against the budget.
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
RETRY_OF = "retry_of"
#: Of the study: numbers of trials whose files were lost, with the reason. They do not count.
VOID = "void"
# A point that killed its worker this often is the cause, not its victim.
MAX_RETRIES = 2


@dataclass(frozen=True)
class Manifest:
    """What a study is about; a search on other data or features is another study.

    data: sha256 of clip ids, splits, ratings and files. features: fingerprint of the recipe.
    early_stop_split: what stops heads. held_out: how many parts of train do, and their fingerprint.
    recipe: how features are computed, None where the clips bring theirs.
    oracle: best possible mean PCC per split, known for synthetic clips alone.
    problems: clips that gave nothing or not all, with the reason; empty: those that gave nothing,
    which are predicted by the mean rating of train.
    """

    name: str
    seed: int
    space: str
    data: str
    features: str
    recipe: dict[str, Any] | None
    early_stop_split: str
    held_out: str
    strides: tuple[int, ...]
    targets: tuple[str, ...]
    synthetic: bool
    oracle: dict[str, float]
    problems: dict[str, str]
    empty: tuple[str, ...]
    code_version: str = harness.__version__


class StudyFolder:
    """Reads and writes one study's folder."""

    def __init__(self, results: Path, name: str) -> None:
        if not name or name.startswith(".") or Path(name).name != name:
            raise InputError(f"--study {name!r}: expected a plain folder name")
        self.path = results / name
        self.name = name
        self.journal = Journal(self.path / "study.log")

    def prediction_file(self, number: int) -> Path:
        return self.path / "predictions" / f"{trial_name(number)}.parquet"

    def head_file(self, number: int) -> Path:
        return self.path / "heads" / f"{trial_name(number)}.safetensors"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second search out of the folder; the lock ends with the process."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f"{self.path}: another search works on this study; "
                    "wait for it or choose another --study"
                ) from error
            yield

    def settle(self, manifest: Manifest, index: ClipIndex) -> None:
        """Writes the manifest and the clips of a new study, or checks that an old one agrees.

        Raises:
            InputError: the study was made from other data or features; it is left untouched.
        """
        file = self.path / "study.json"
        if not file.exists():
            write_clips(self.path / "clips.parquet", index)
            # Last, so that a study with a manifest is whole.
            write_sealed(file, MANIFEST, asdict(manifest))
            return
        old, new = self.manifest(), json.loads(json.dumps(asdict(manifest)))
        for field in ("data", "features", "targets", "seed", "early_stop_split", "held_out"):
            if old[field] != new[field]:
                raise InputError(
                    f"{file}, {field}: this study was begun with {_short(old[field])}, "
                    f"now it is {_short(new[field])}; choose another --study"
                )

    def manifest(self) -> dict[str, Any]:
        """The manifest as plain values."""
        return read_sealed(self.path / "study.json", MANIFEST)

    def storage(self, url: str | None = None) -> BaseStorage:
        """The Optuna storage: the journal file, or a database by its URL."""
        if url is None:
            try:
                return JournalStorage(JournalFileBackend(str(self.journal.path)))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{self.journal.path}: not readable: {error!r}") from error
        try:
            return RDBStorage(url)
        except Exception as error:  # SQLAlchemy's and the drivers' own kinds
            raise InputError(f"--storage: cannot be opened ({type(error).__name__})") from error

    def study(self, storage: BaseStorage) -> optuna.Study:
        """Opens the study, which may be new."""
        return optuna.create_study(
            storage=storage, study_name=self.name, direction="maximize", load_if_exists=True
        )

    def save(self, number: int, result: TrialResult, index: ClipIndex) -> None:
        """Writes a trial's head and then its predictions; both are complete on return."""
        manifest = self.manifest()
        config = result.config.to_dict()
        write_head(
            self.head_file(number),
            Head(
                trial=trial_name(number),
                config=result.config,
                targets=index.target_names,
                features=manifest["features"],
                fill=result.fill,
                weights=result.weights,
            ),
        )
        info = PredictionInfo(
            trial_id=trial_name(number),
            config=config,
            seed=result.config.seed,
            code_version=harness.__version__,
            data_fingerprint=manifest["data"],
            feature_fingerprint=manifest["features"],
            targets=index.target_names,
            early_stop_split=manifest["early_stop_split"],
            best_epoch=result.best.number,
            val_pcc=result.score,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_predictions(self.prediction_file(number), info, index, result.predictions)


def quiet_optuna() -> None:
    """Leaves the terminal to the harness: no log lines, no notes on experimental samplers."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count against the budget."""
    void = study.user_attrs.get(VOID, {})
    trials = study.get_trials(deepcopy=False, states=FINISHED)
    return [trial for trial in trials if str(trial.number) not in void]


def complete(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have a score and the files that go with it."""
    return [trial for trial in finished(study) if trial.state == TrialState.COMPLETE]


def close_unfinished(study: optuna.Study) -> int:
    """Closes trials that a dead search left running as FAIL and queues their points again.

    Call it under the study's lock: a living search's trials must not be closed. Returns how many.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in running:
        storage_id = trial._trial_id
        study._storage.set_trial_user_attr(storage_id, "reason", "the search was cut off")
        study.tell(trial.number, state=TrialState.FAIL)
        retries = int(trial.user_attrs.get("retries", 0))
        if trial.params and retries < MAX_RETRIES:
            root = trial.user_attrs.get(RETRY_OF, trial.number)
            study.enqueue_trial(trial.params, user_attrs={RETRY_OF: root, "retries": retries + 1})
    return len(running)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:12] + "..."
