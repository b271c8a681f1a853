"""What is tried again: points that failed, but not too often, or whose files were lost."""

from collections import defaultdict
from collections.abc import Collection, Iterable

from optuna.trial import FrozenTrial, TrialState

from harness.study.trials import FINISHED, RETRY_OF
from harness.tuning.agenda import CONFIRMS, ITEM, REPEAT, Item
from harness.tuning.queue import REASON, queued

#: A point that failed this often after its first try is the cause, not the victim.
MAX_RETRIES = 2
#: One that was at work so often when its search was cut off may be what cut it off.
MAX_CUT_OFFS = 10
#: Why a trial failed that is no fault of its own.
CUT_OFF = "the search was cut off"
# The same, in studies of version 0.1: two searches had taken one.
_GIVEN_BACK = "another search was faster"
#: Of a failed trial: whether it would fail again.
LASTING = "lasting"


def first_repeat(
    trials: Iterable[FrozenTrial], standing: Collection[int], keys: Collection[str]
) -> Item | None:
    """The first point that is to be tried again.

    Args:
        trials: of the agenda. standing: numbers of those that are finished and have their files.
        keys: of the agenda's items, which are tried even if no trial says what they hold.
    """
    tries: dict[str, list[FrozenTrial]] = defaultdict(list)
    for trial in trials:
        if trial.user_attrs.get(REASON) != _GIVEN_BACK:
            tries[_key(trial)].append(trial)
    for key, attempts in tries.items():
        ended = all(t.state in (TrialState.FAIL, *FINISHED) for t in attempts)
        if not ended or any(t.number in standing for t in attempts):
            continue
        first = attempts[0]
        point = queued(first) | first.params
        if (point or key in keys) and not _is_abandoned(attempts):
            notes = {n: v for n, v in first.user_attrs.items() if n in (CONFIRMS, REPEAT)}
            root = first.user_attrs.get(RETRY_OF, first.number)
            return Item(key, point, notes | {RETRY_OF: root, "attempt": len(attempts)})
    return None


def _key(trial: FrozenTrial) -> str:
    """What a trial and those that repeat it share."""
    # Version 0.1 gave none to what was drawn, but this one to its repetitions.
    key = trial.user_attrs.get(ITEM)
    return str(key or f"trial {trial.user_attrs.get(RETRY_OF, trial.number)}")


def _is_abandoned(attempts: list[FrozenTrial]) -> bool:
    ends = [trial for trial in attempts if trial.state == TrialState.FAIL]
    # That a search was cut off is no fault of the trial's, unless it always is.
    failed = [trial for trial in ends if trial.user_attrs.get(REASON) != CUT_OFF]
    lasting = any(trial.user_attrs.get(LASTING) for trial in failed)
    return lasting or len(failed) > MAX_RETRIES or len(ends) > MAX_CUT_OFFS
