"""Compares what a study holds with its files, and with the search that continues it."""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import optuna
from optuna.trial import FrozenTrial

from harness.dataset import Dataset
from harness.errors import InputError
from harness.models.config import defaults
from harness.predictions import read_predictions
from harness.space.search_space import SearchSpace
from harness.study.folder import StudyFolder
from harness.study.trials import VOID, complete, configuration, finished, short
from harness.tuning.agenda import CONFIRMS, OWN
from harness.tuning.driver import Driver

_READERS = 4


def audit(study: optuna.Study, folder: StudyFolder, clips: Dataset, driver: Driver) -> list[str]:
    """Reads the predictions of every complete trial and compares their score with the study's.

    A trial whose file is missing, damaged or has another score no longer counts, and its
    configuration is trained again with its seed. Returns a line for each such trial. Trials whose
    files are in another results folder are skipped.
    """
    trials = [trial for trial in complete(study) if driver.owns_files_of(trial)]
    with ThreadPoolExecutor(_READERS) as readers:
        reasons = list(readers.map(lambda trial: _reason(trial, folder, clips), trials))
    lost = {str(t.number): why for t, why in zip(trials, reasons, strict=True) if why}
    if not lost:
        return []
    with driver.backend.exclusive():
        study.set_user_attr(VOID, study.user_attrs.get(VOID, {}) | lost)
    return [f"trial {number} no longer counts and is trained again: {why}"
            for number, why in lost.items()]  # fmt: skip


def other_settings(study: optuna.Study, space: SearchSpace) -> str:
    """A line on the settings that this search does not search and that trials before it had
    otherwise, because the space was changed or an earlier version had other defaults; empty if
    there are none. What a start point set for its own trial is not meant, nor a confirmation."""
    values: dict[str, set[str]] = defaultdict(set)
    numbers: set[int] = set()
    trials = [trial for trial in finished(study) if CONFIRMS not in trial.user_attrs]
    for trial in trials:
        config = configuration(trial)
        now = defaults(config.get("family")) | space.fixed
        chosen = {*trial.params, *space.distributions, *trial.user_attrs.get(OWN, {})}
        for name in config.keys() & now.keys() - chosen:
            if config[name] != now[name]:
                values[f"{name} {short(now[name])}"].add(short(config[name]))
                numbers.add(trial.number)
    if not values:
        return ""
    lines = [f"{name} ({', '.join(sorted(were))} before)" for name, were in sorted(values.items())]
    return (
        f"Other settings than {len(numbers)} of {len(trials)} finished trials: {'; '.join(lines)}; "
        "the tables show both, a new `study` keeps them apart"
    )


def _reason(trial: FrozenTrial, folder: StudyFolder, clips: Dataset) -> str:
    file = folder.prediction_file(trial.number)
    try:
        info, _ = read_predictions(file, clips, "val")
        if len(clips.rows("test")):
            read_predictions(file, clips, "test")
    except InputError as error:
        return str(error)
    if info.val_pcc != trial.value:
        return f"{file}: its mean PCC is {info.val_pcc:.6f}, the study says {trial.value:.6f}"
    return ""
