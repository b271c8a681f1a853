"""How hyperparameters are chosen: Optuna's samplers, by name."""

from collections.abc import Callable

import numpy as np
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler

from harness.choices import SAMPLERS
from harness.errors import InputError

#: Those that draw together only what had the same bounds in all trials.
BY_EQUAL_BOUNDS = ("gp", "cmaes")


def make_sampler(name: str, seed: int, trials: int, conditions: bool) -> BaseSampler:
    """The sampler that draws one trial; its name was checked.

    It is made anew for each, since Optuna's keep no state that is not in the study: so a study
    that goes on draws as one that was never broken off.

    Args:
        seed: the study's. trials: how many the study holds already.
        conditions: some hyperparameters are searched under a condition alone.
    """
    of_trial = int(np.random.SeedSequence([seed, trials, 2]).generate_state(1)[0])
    makers: dict[str, Callable[[], BaseSampler]] = {
        # Trials that run at once must not all be drawn to the same spot.
        "tpe": lambda: TPESampler(
            seed=of_trial, multivariate=True, group=conditions, constant_liar=True
        ),
        "gp": lambda: GPSampler(seed=of_trial, warn_independent_sampling=False),
        # It knows no categories; those are left to the trees of Parzen estimators.
        "cmaes": lambda: CmaEsSampler(
            seed=of_trial,
            independent_sampler=TPESampler(seed=of_trial),
            warn_independent_sampling=False,
        ),
        "random": lambda: RandomSampler(seed=of_trial),
        "grid": lambda: RandomSampler(seed=of_trial),
    }
    return makers[name]()


def check_sampler(name: str) -> None:
    """InputError where there is no such sampler."""
    if name not in SAMPLERS:
        raise InputError(f"{name!r} is not one of {', '.join(SAMPLERS)}", "sampler")
