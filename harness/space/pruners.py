"""Which trials are stopped early: Optuna's pruners, by name.

A pruner reads the study alone. So what it decides survives a restart, and several searches of one
study decide by the trials of all.
"""

from collections.abc import Callable

import optuna
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.trial import FrozenTrial, TrialState

from harness.choices import SCHEDULERS
from harness.errors import InputError
from harness.space.search_space import Budget

#: Before there is something to compare with, halving stops trials by the luck of their order.
FIRST = 5


def make_pruner(name: str, budget: Budget) -> BasePruner:
    """The pruner of a scheduler's name. InputError: no such scheduler."""
    if name not in SCHEDULERS:
        raise InputError(f"{name!r} is not one of {', '.join(SCHEDULERS)}", "scheduler")
    makers: dict[str, Callable[[], BasePruner]] = {
        "asha": lambda: _Halving(min_resource=budget.grace, reduction_factor=budget.reduction),
        "hyperband": lambda: HyperbandPruner(
            min_resource=budget.grace,
            max_resource=max(budget.epochs, budget.grace),
            reduction_factor=budget.reduction,
        ),
        "median": lambda: MedianPruner(n_startup_trials=FIRST, n_warmup_steps=budget.grace),
        "none": NopPruner,
    }
    return makers[name]()


class _Halving(SuccessiveHalvingPruner):
    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        stop = super().prune(study, trial)  # which also notes the trial's rung
        if not stop:
            return False
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return len(done) >= FIRST


def decisions(name: str, budget: Budget) -> frozenset[int]:
    """The epochs after which a trial may be stopped: it waits there for the word to go on."""
    if name == "none":
        return frozenset()
    if name == "median":
        return frozenset(range(budget.grace, budget.epochs + 1))
    rungs, rung = set(), budget.grace
    while rung < budget.epochs:
        rungs.add(rung)
        rung *= budget.reduction
    return frozenset(rungs)
