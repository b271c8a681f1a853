"""Which trials of a study count, and the attributes that say so."""

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


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count against the budget."""
    void = study.user_attrs.get(VOID, {})
    trials = study.get_trials(deepcopy=False, states=FINISHED)
    return [trial for trial in trials if str(trial.number) not in void]


def complete(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that have a score and the files that go with it."""
    return [trial for trial in finished(study) if trial.state == TrialState.COMPLETE]
