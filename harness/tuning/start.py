"""The start of a search: Ray starts while the other modules are imported.

Both take seconds. Ray mostly waits for its processes, in the main thread, where signals are
handled; the imports run in another thread.
"""

import importlib
import threading
import tomllib
from contextlib import suppress
from pathlib import Path

from harness.spaces import find_space
from harness.tuning.options import DataOptions, RunOptions, SearchOptions, study_name

_SESSION = "harness.tuning.session"


def start(clips: DataOptions, plan: SearchOptions, means: RunOptions) -> None:
    """Imports what a search needs, and starts Ray at the same time if trials will follow soon.

    Raises:
        InputError: Ray does not start, or the cluster does not answer.
    """
    if not _trials_follow(clips, plan, means):
        return
    # Ray's own imports come first: the two threads then share hardly any module.
    from harness import cluster

    importing = threading.Thread(target=_import_session, daemon=True)
    importing.start()
    try:
        cluster.join(means.address)
    finally:
        importing.join()


def _import_session() -> None:
    # The main thread imports the module again, and raises the error.
    with suppress(Exception):
        importlib.import_module(_SESSION)


def _trials_follow(clips: DataOptions, plan: SearchOptions, means: RunOptions) -> bool:
    """Whether trials start soon: without a long extraction before, in a study that is not complete.

    If that is not quickly known, Ray starts later.
    """
    if means.storage is not None and "://" in means.storage:
        return False
    if clips.data is not None and not clips.data.is_dir():
        return False
    folder = means.results / study_name(clips, means)
    if (folder / "study.json").is_file():
        journal = Path(means.storage) if means.storage else folder / "study.log"
        return plan.sampler != "grid" and _finished(journal, folder) < _total(clips, plan)
    # Without an encoder the clips have precomputed features.
    return clips.data is not None and clips.weights is None and not clips.encoder


def _total(clips: DataOptions, plan: SearchOptions) -> int:
    """The search's budget; 0 if its space is not readable, which the session reports."""
    if plan.trials is not None:
        return plan.trials
    try:
        path = plan.space or find_space("paper" if clips.data else "demo")
        return int(tomllib.loads(path.read_text(encoding="utf-8-sig"))["budget"]["trials"])
    except Exception:
        return 0


def _finished(journal: Path, folder: Path) -> float:
    """The number of trials that count against the budget, at most; infinite if the journal is
    damaged, which the session reports."""
    if not journal.is_file():
        return 0
    from optuna.trial import TrialState

    from harness.study.folder import StudyFolder
    from harness.study.journal import Journal

    try:
        name = StudyFolder(folder.parent, folder.name).study_name
        storage = Journal(journal).read()
        study = storage.get_study_id_from_name(name)
        done = (TrialState.COMPLETE, TrialState.PRUNED)
        return len(storage.get_all_trials(study, deepcopy=False, states=done))
    except Exception:
        return float("inf")
