"""Trials that were ended because they could not recover, and what they have in common.

A dead trial is a pruned trial with a reason, such as "predicts a constant since epoch 2".
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from harness.study.trials import REASON, configuration, finished, short

# Shared settings that are named, the most telling ones first.
_NAMED = 3


def is_dead(trial: FrozenTrial) -> bool:
    """Whether a trial was ended because it could not recover."""
    return trial.state == TrialState.PRUNED and REASON in trial.user_attrs


def death_lines(study: optuna.Study) -> list[str]:
    """A line for each kind of death: the trials, and the settings that they share."""
    trials = finished(study)
    alive = [trial for trial in trials if not is_dead(trial)]
    kinds: dict[str, list[FrozenTrial]] = defaultdict(list)
    for trial in filter(is_dead, trials):
        kinds[_kind(str(trial.user_attrs[REASON]))].append(trial)
    lines = []
    for kind, dead in kinds.items():
        numbers = ", ".join(str(trial.number) for trial in dead[:10])
        more = ", ..." if len(dead) > 10 else ""
        line = f"{len(dead)} of {len(trials)} finished trials ended early, because each {kind}"
        line += f": {numbers}{more}"
        if shared := shared_settings(dead, alive):
            line += f". They share {', '.join(shared[:_NAMED])}"
        lines.append(line)
    return lines


def _kind(reason: str) -> str:
    """A reason without the targets and the epoch."""
    return reason.partition(" since ")[0].partition(" for ")[0]


def shared_settings(dead: Sequence[FrozenTrial], alive: Sequence[FrozenTrial]) -> list[str]:
    """The settings that all dead trials share and some living trials do not have.

    Returns:
        a phrase each, such as "layers=4 (1 of 9 others)"; first those that the fewest others have.
        Empty for a single dead trial, which shares everything with itself.
    """
    if len(dead) < 2 or not alive:
        return []
    settings = [configuration(trial) | trial.params for trial in (*dead, *alive)]
    found = []
    for name in sorted({name for each in settings[: len(dead)] for name in each}):
        values = [each.get(name) for each in settings]
        mine, others = values[: len(dead)], values[len(dead) :]
        what, count = _shared(name, mine, others)
        if what and count < len(others):
            found.append((count, f"{what} ({count} of {len(others)} others)"))
    return [text for _, text in sorted(found)]


def _shared(name: str, mine: list[Any], others: list[Any]) -> tuple[str, int]:
    """What all of `mine` have, and how many of the others have it, too; empty if nothing."""
    if all(value == mine[0] for value in mine):
        return f"{name}={short(mine[0])}", others.count(mine[0])
    if any(type(value) not in (int, float) for value in mine):
        return "", 0
    known = [value for value in others if type(value) in (int, float)]
    low, high = min(mine), max(mine)
    above = (sum(value >= low for value in known), f"{name} of at least {short(low)}")
    below = (sum(value <= high for value in known), f"{name} of at most {short(high)}")
    count, what = min(above, below)
    # Half of random values are on one side of a bound.
    return (what, count) if 4 * count < len(others) else ("", 0)
