"""Searches without Ray: a ledger on a real study, its trials done at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from harness.dataset import Dataset, Specification
from harness.metrics import pcc
from harness.models.config import TrialConfig
from harness.models.model import Model
from harness.models.training import Epoch
from harness.predictions import write_clips
from harness.space.file import read_space
from harness.space.pruners import decisions, make_pruner
from harness.space.samplers import make_sampler
from harness.space.search_space import SearchSpace
from harness.study.backend import open_backend
from harness.study.folder import StudyFolder
from harness.trials.trial import TrialResult
from harness.tuning.agenda import Agenda, SearchAgenda
from harness.tuning.driver import Driver
from harness.tuning.ledger import Ledger, Rules
from harness.tuning.results import save_trial
from tests.studies import make_index, make_predictions, write_manifest

INDEX = make_index()
SPACE = """
[budget]
trials = 8
epochs = 4
grace = 1
reduction = 2
[parameters.loss]
type = "categorical"
choices = ["ccc", "pcc"]
[parameters.layers]
type = "int"
low = 1
high = 3
[[start]]
loss = "pcc"
layers = 3
"""


def slow_space(folder: Path, epochs: int = 120) -> Path:
    """Of trials on features that take long enough to be killed: about half a second."""
    path = folder / "slow.toml"
    path.write_text(f"""
[budget]
trials = 8
epochs = {epochs}
[fixed]
stride = 1
batch_size = 4
hidden = 32
patience = {epochs}
[parameters.lr]
type = "float"
low = 0.0001
high = 0.001
""")
    return path


class Silent:
    """Watches and says nothing."""

    def counted(self, finished: int, running: int) -> None: ...
    def started(self, number: int, params: dict[str, Any]) -> None: ...
    def epochs(self, number: int, scores: list[tuple[int, float]]) -> None: ...
    def ended(self, number: int, state: str, score: float | None, reason: str) -> None: ...
    def notice(self, text: str) -> None: ...


def trials_of(results: Path, study: str) -> list[FrozenTrial]:
    """The trials of a study in a journal."""
    folder = StudyFolder(results, study)
    return folder.study(open_backend(folder.path).storage).get_trials(deepcopy=False)


def make_space(folder: Path, text: str = SPACE) -> SearchSpace:
    path = folder / "space.toml"
    path.write_text(text)
    return read_space(path)


def make_result(config: dict[str, Any]) -> TrialResult:
    """As a trial leaves it: predictions that depend on the seed alone."""
    predictions = make_predictions(INDEX, config["seed"] % 7)
    per_target = pcc(INDEX.targets[INDEX.rows("val")], predictions["val"])
    score = float(per_target.mean())
    return TrialResult(
        model=Model(
            name="",
            config=TrialConfig.from_dict(config),
            streams={"test": Specification("test", {}, (), 4)},
            targets=INDEX.target_names,
            early_stop_split="val",
            fill=np.zeros(len(INDEX.target_names), np.float32),
            weights=(
                {
                    "calibration.slope": np.ones(len(INDEX.target_names), np.float32),
                    "calibration.centre": np.zeros(len(INDEX.target_names), np.float32),
                    "calibration.level": np.zeros(len(INDEX.target_names), np.float32),
                },
            ),
        ),
        score=score,
        best=Epoch(1, 0.5, score),
        curve=(Epoch(1, 0.5, score),),
        per_target=per_target,
        predictions=predictions,
        seconds=0.1,
        steps=3,
        filled={},
        optimism={"val": 0.001},
        error=0.1,
    )


@contextmanager
def opened(
    results: Path,
    agenda: Agenda | None = None,
    *,
    space: SearchSpace | None = None,
    storage: str | None = None,
    sampler: str = "random",
    scheduler: str = "none",
    index: Dataset = INDEX,
    name: str = "s",
) -> Iterator[Ledger]:
    """A search of study `name`, as the command opens one."""
    folder = StudyFolder(results, name)
    folder.path.mkdir(parents=True, exist_ok=True)
    space = space or make_space(results)
    backend = open_backend(folder.path, storage)
    if not (folder.path / "study.json").exists():
        write_clips(folder.path / "clips.parquet", index)
        about = {"data": "d", "features": "f", "early_stop_split": "val"}
        write_manifest(folder.path, **about)
    study = folder.study(backend.storage)
    rules = Rules(
        space=space,
        agenda=agenda or SearchAgenda(space, None, sampler == "grid"),
        seed=0,
        sampler=lambda trials: make_sampler(sampler, 0, trials, bool(space.only_if)),
        pruner=make_pruner(scheduler, space.budget),
        decisions=decisions(scheduler, space.budget),
        targets=index.target_names,
        keep=lambda trial, result: save_trial(folder, trial.number, result, index),
    )
    with Driver(folder, backend, study) as driver:
        yield Ledger(study, driver, rules, Silent())


def finish(ledger: Ledger, at_most: int = 1000) -> list[dict[str, Any]]:
    """Completes trials one after another until none is left; their configurations."""
    configs: list[dict[str, Any]] = []
    while len(configs) < at_most and (asked := ledger.ask()):
        number, config = asked
        configs.append(config)
        ledger.complete(number, make_result(config))
    return configs
