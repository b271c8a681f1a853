"""What Optuna has no call on a study for: closing a queued trial, and reading what it holds."""

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from harness.space.search_space import Point

#: Of a trial: why it failed.
REASON = "reason"


def queued(trial: FrozenTrial) -> Point:
    """The values that a trial was queued with; empty for one that was not."""
    # The attribute is public, its name is not documented: tests/test_optuna.py looks at it.
    point: Point = trial.system_attrs.get("fixed_params", {})
    return point


def close(study: optuna.Study, storage: BaseStorage, number: int, reason: str) -> None:
    """Closes a waiting or running trial as failed, unless it has ended.

    `Study.tell` takes no waiting one, and has no way to say why.

    Args:
        storage: that of the study, as we made it.
    """
    study_id = storage.get_study_id_from_name(study.study_name)
    trial = storage.get_trial_id_from_study_id_trial_number(study_id, number)
    try:
        storage.set_trial_user_attr(trial, REASON, reason)
        storage.set_trial_state_values(trial, TrialState.FAIL)
    except UpdateFinishedTrialError:
        return
