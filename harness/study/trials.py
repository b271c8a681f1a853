"""Which trials of a study count, and the attributes that say so."""

from collections.abc import Collection, Iterable
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

#: Trials that count against the budget.
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
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


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count against the budget."""
    void = study.user_attrs.get(VOID, {})
    trials = study.get_trials(deepcopy=False, states=FINISHED)
    return [trial for trial in trials if str(trial.number) not in void]


def complete(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have a score and the files that go with it."""
    return [trial for trial in finished(study) if trial.state == TrialState.COMPLETE]


def changed_settings(trials: Iterable[FrozenTrial]) -> set[str]:
    """Hyperparameters that were not searched in some trial but differ between trials: a start point
    set them, or the search space was changed between two searches of the study."""
    known = [(config, t.params) for t in trials if (config := t.user_attrs.get(CONFIG))]
    fixed = {name for config, params in known for name in config if name not in params}
    # Where a configuration does not name it, the default holds.
    return {name for name in fixed if len({config.get(name) for config, _ in known}) > 1}


def shown_settings(trial: FrozenTrial, changed: Collection[str]) -> dict[str, Any]:
    """The searched hyperparameters of a trial, and those that `changed_settings` gives."""
    config = trial.user_attrs.get(CONFIG, {})
    return trial.params | {name: config[name] for name in changed if name in config}
