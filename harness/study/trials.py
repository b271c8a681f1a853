"""Which trials of a study count, and the attributes that say so."""

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from harness.earlier import completed
from harness.errors import InputError
from harness.names import STORAGE_VARIABLE
from harness.study.backend import quiet_optuna, read_storage

#: Trials that count against the budget.
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
#: Of a trial: the search that ran it. Those that a notebook runs itself (`study.ask`) have none.
DRIVER = "driver"
#: Of a trial: the number of the failed trial that it repeats.
RETRY_OF = "retry_of"
#: Of the study: numbers of trials whose files were lost, with the reason. They do not count.
VOID = "void"
#: Of the study: the command lines that searched it.
COMMANDS = "commands"
#: Of a trial: its whole configuration but the seed.
CONFIG = "config"
#: Of a trial: why it failed or, of a pruned one, why it could not recover.
REASON = "reason"
#: Of a finished trial: the seconds that it took in its worker.
SECONDS = "seconds"
#: Of a complete trial: mean PCC on val without the expected optimism of choosing its epoch on val,
#: and the standard error of the mean PCC over clips or persons.
CORRECTED, ERROR = "mean_pcc_corrected", "standard_error"


def read_study(
    folder: Path, manifest: Mapping[str, Any], storage: str | None = None
) -> optuna.Study | None:
    """The Optuna study of a folder, to be read; None if its storage cannot be reached.

    Args:
        manifest: the content of study.json. Its name of the study is that in the storage, also in a
            folder that was copied or renamed.
        storage: URL of a database that needs a user and a password; not used for a study in an
            SQLite file.

    Raises:
        InputError: `storage` is another storage, it has no such study, or it is damaged.
    """
    quiet_optuna()
    name = manifest.get("storage", "study.log")
    found = read_storage(folder, name, storage or os.environ.get(STORAGE_VARIABLE))
    if found is None:
        if storage:
            raise InputError(f"`storage`: the study is in another storage, {name}")
        return None
    names = optuna.get_all_study_names(found)
    study = manifest.get("name", folder.name)
    if study not in names and len(names) == 1 and "://" not in name:
        (study,) = names  # its own journal has one study, whatever the folder is called
    if study not in names:
        raise InputError(f"{name}: contains no study {study!r}; it has: {', '.join(names) or '-'}")
    return optuna.load_study(study_name=study, storage=found)


def failures(study: optuna.Study | None) -> dict[int, str]:
    """The reason of each failed trial, by number. Invalidated trials are not included."""
    if study is None:
        return {}
    void = study.user_attrs.get(VOID, {})
    return {
        trial.number: str(trial.user_attrs.get(REASON, "unknown"))
        for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        if str(trial.number) not in void
    }


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The finished trials of searches, without invalidated ones."""
    trials = study.get_trials(deepcopy=False, states=FINISHED)
    return standing(study, trials)


def standing(study: optuna.Study, trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Those that were not invalidated, and that no notebook ran to their end itself."""
    void = study.user_attrs.get(VOID, {})
    return [
        trial
        for trial in trials
        if str(trial.number) not in void
        and (trial.state not in FINISHED or DRIVER in trial.user_attrs)
    ]


def complete(study: optuna.Study) -> list[FrozenTrial]:
    """The trials of searches that have a score and the files that go with it."""
    return [trial for trial in finished(study) if trial.state == TrialState.COMPLETE]


def configuration(trial: FrozenTrial) -> dict[str, Any]:
    """The hyperparameters of a trial by name, without its seed; empty if no search ran it.

    Trials of earlier versions name only what was set; what they do not name had its default of that
    time.
    """
    return completed(trial.user_attrs.get(CONFIG, {}))


def changed_settings(trials: Iterable[FrozenTrial]) -> set[str]:
    """Hyperparameters that were not searched in some trial but differ between trials: a start point
    set them, or the search space was changed between two searches of the study."""
    known = [(config, t.params) for t in trials if (config := configuration(t))]
    fixed = {name for config, params in known for name in config if name not in params}
    return {n for n in fixed if len({config[n] for config, _ in known if n in config}) > 1}


def shown_settings(trial: FrozenTrial, changed: Collection[str]) -> dict[str, Any]:
    """The searched hyperparameters of a trial, and those that `changed_settings` gives."""
    config = configuration(trial)
    return trial.params | {name: config[name] for name in changed if name in config}


def short(value: Any) -> str:
    """The value of a hyperparameter as short text."""
    return f"{value:.2g}" if isinstance(value, float) else str(value)
