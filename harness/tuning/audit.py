"""Compares the files of complete trials with the study."""

from concurrent.futures import ThreadPoolExecutor

import optuna
from optuna.trial import FrozenTrial

from harness.dataset import Dataset
from harness.errors import InputError
from harness.predictions import read_predictions
from harness.study.folder import StudyFolder
from harness.study.trials import VOID, complete
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
