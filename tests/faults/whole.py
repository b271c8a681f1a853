"""Are the files whole? Every file that has its final name can be read to its end."""

import csv
import json
from pathlib import Path

import optuna
import pyarrow.parquet as pq
import torch
from optuna.trial import TrialState
from safetensors import safe_open

from harness.atomic import TEMPORARY_PREFIX
from harness.predictions import read_clips, read_predictions
from harness.study.backend import open_backend, quiet_optuna
from harness.study.folder import StudyFolder
from harness.study.trials import RETRY_OF, complete, finished


def check_whole(root: Path) -> None:
    """AssertionError, or a reader's own error, for the first file that is not."""
    for path in sorted(root.rglob("*")):
        if path.is_dir() or path.name.startswith(TEMPORARY_PREFIX):
            continue
        if path.suffix == ".parquet":
            pq.read_table(path, page_checksum_verification=True)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".safetensors":
            with safe_open(path, "np") as file:
                [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 - it is no dict
        elif path.suffix == ".pt":
            torch.load(path, weights_only=True)
        elif path.suffix == ".csv":
            rows = list(csv.reader(path.open()))
            assert {len(row) for row in rows} == {len(rows[0])}, path


def check_study(
    results: Path, name: str, budget: int, storage: str | None = None
) -> list[optuna.trial.FrozenTrial]:
    """The rules of a study that came to its end: nothing lost, nothing twice, nothing left open.

    storage: as `--storage` takes it. Returns the study's trials.
    """
    quiet_optuna()
    folder = StudyFolder(results, name)
    study = folder.study(open_backend(folder.path, storage).storage)
    trials = study.get_trials(deepcopy=False)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert TrialState.RUNNING not in {trial.state for trial in trials}
    assert len(finished(study)) == budget, f"{len(finished(study))} of {budget}"
    roots = [trial.user_attrs.get(RETRY_OF, trial.number) for trial in finished(study)]
    assert len(set(roots)) == len(roots), "a trial was finished twice"
    index = read_clips(folder.path / "clips.parquet")
    assert complete(study)
    for trial in complete(study):
        info, _ = read_predictions(folder.prediction_file(trial.number), index, "val")
        assert info.val_pcc == trial.value, f"trial {trial.number}"
        assert folder.model_file(trial.number).exists()
    for trial in trials:
        assert trial.state != TrialState.FAIL or trial.user_attrs["reason"], trial.number
    return trials


def contents(root: Path) -> dict[str, bytes]:
    """Every file with its final name, by its path below `root`; of weights what a reader finds,
    since the library writes their metadata in any order."""
    return {
        str(path.relative_to(root)): _weights(path)
        if path.suffix == ".safetensors"
        else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(TEMPORARY_PREFIX)
    }


def _weights(path: Path) -> bytes:
    with safe_open(path, "np") as file:
        arrays = {name: file.get_tensor(name).tobytes() for name in sorted(file.keys())}
        return repr((arrays, sorted((file.metadata() or {}).items()))).encode()
