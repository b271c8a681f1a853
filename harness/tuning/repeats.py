"""Which points are retried: those that failed, but not too often, or whose files were lost."""

from collections import defaultdict
from collections.abc import Collection, Iterable

from optuna.trial import FrozenTrial, TrialState

from harness.study.trials import DRIVER, FINISHED, REASON, RETRY_OF
from harness.tuning.agenda import CONFIRMS, ITEM, OWN, REPEAT, Item
from harness.tuning.queue import queued

#: Retries of a point that fails by itself; and, in each search anew, of one that the machine fails.
MAX_RETRIES = 2
#: Retries of a point that was running whenever its search was cut off: it may be the cause.
MAX_CUT_OFFS = 10
#: The reason of a trial whose search ended before it.
CUT_OFF = "the search was cut off"
#: Attributes of a failed trial: whether it would fail again; whether the machine failed.
LASTING, MACHINE = "lasting", "machine"


def first_repeat(
    trials: Iterable[FrozenTrial], standing: Collection[int], keys: Collection[str], search: str
) -> Item | None:
    """The first point to be retried.

    Args:
        trials: of the agenda. standing: numbers of those that are finished and have their files.
        keys: of the agenda's items, which are tried even if no trial says what they hold.
        search: the token of the search that asks.
    """
    tries: dict[str, list[FrozenTrial]] = defaultdict(list)
    for trial in trials:
        tries[trial.user_attrs[ITEM]].append(trial)
    for key, attempts in tries.items():
        ended = all(t.state in (TrialState.FAIL, *FINISHED) for t in attempts)
        if not ended or any(t.number in standing for t in attempts):
            continue
        first = attempts[0]
        point = queued(first) | first.params
        if (point or key in keys) and not _is_abandoned(attempts, search):
            notes = {n: v for n, v in first.user_attrs.items() if n in (CONFIRMS, REPEAT, OWN)}
            root = first.user_attrs.get(RETRY_OF, first.number)
            return Item(key, point, notes | {RETRY_OF: root, "attempt": len(attempts)})
    return None


def _is_abandoned(attempts: list[FrozenTrial], search: str) -> bool:
    """Whether a point is retried no more: by no search, or not by this one."""
    ends = [trial.user_attrs for trial in attempts if trial.state == TrialState.FAIL]
    by_machine = [each for each in ends if each.get(MACHINE)]
    cut_off = [each for each in ends if each.get(REASON) == CUT_OFF]
    by_itself = [each for each in ends if each not in by_machine and each not in cut_off]
    now = [each for each in by_machine if each.get(DRIVER) == search]
    return (
        any(each.get(LASTING) for each in by_itself)
        or max(len(by_itself), len(now)) > MAX_RETRIES
        or len(cut_off) > MAX_CUT_OFFS
    )
