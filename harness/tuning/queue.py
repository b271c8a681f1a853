"""Operations that Optuna's study lacks: closing a queued trial, and reading its point."""

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from harness.space.search_space import Point
from harness.study.trials import REASON


def queued(trial: FrozenTrial) -> Point:
    """The values that a trial was queued with; empty if it was not queued."""
    # The attribute is public but its name is not documented: tests/tuning/test_optuna.py checks it.
    point: Point = trial.system_attrs.get("fixed_params", {})
    return point


def close(study: optuna.Study, storage: BaseStorage, number: int, reason: str) -> None:
    """Closes a waiting or running trial as failed, unless it has ended.

    `Study.tell` accepts no waiting trial and no reason.

    Args:
        storage: of the study.
    """
    study_id = storage.get_study_id_from_name(study.study_name)
    trial = storage.get_trial_id_from_study_id_trial_number(study_id, number)
    try:
        storage.set_trial_user_attr(trial, REASON, reason)
        storage.set_trial_state_values(trial, TrialState.FAIL)
    except UpdateFinishedTrialError:
        return
