"""Optuna is used by its public interface, and what is not documented there is as we take it."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import harness
from harness.study import journal
from harness.study.trials import REASON
from harness.tuning.queue import close, queued
from tests.searches import opened

FILES = sorted(Path(harness.__file__).parent.rglob("*.py"))


def private_names(source: str) -> Iterator[str]:
    """Private names of Optuna; where it is imported, of everybody whose they are not the file's."""
    tree = ast.parse(source)
    suspects = ALL if "import optuna" in source or "from optuna" in source else OPTUNAS
    own = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            own |= {node.attr} if _is_self(node.value) else set()
        if isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            own |= {t.id for t in targets if isinstance(t, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optuna"):
            parts = [*str(node.module).split("."), *(name.name for name in node.names)]
            yield from (part for part in parts if _is_private(part))
        elif isinstance(node, ast.Import):
            parts = [
                p for n in node.names if n.name.startswith("optuna") for p in n.name.split(".")
            ]
            yield from (part for part in parts if _is_private(part))
        elif isinstance(node, ast.Attribute) and _is_private(node.attr):
            # `other._name` within the class that has it, and `self._name`.
            is_own = node.attr in own and (node.attr not in OPTUNAS or _is_self(node.value))
            if not is_own and node.attr in suspects and node.attr != PUBLIC:
                yield node.attr
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("getattr", "setattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and _is_private(str(name.value)):
                yield str(name.value)


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _optunas_attributes() -> set[str]:
    study = optuna.create_study(storage=RDBStorage("sqlite://"))
    trial = study.ask()
    things: list[object] = [study, trial, study.get_trials()[0], optuna.samplers.TPESampler()]
    things += [study.sampler, study.pruner, JournalStorage, JournalFileBackend, RDBStorage]
    return {name for thing in things for name in dir(thing) if _is_private(name)}


class _All:
    def __contains__(self, name: object) -> bool:
        return True


OPTUNAS, ALL = _optunas_attributes(), _All()
#: Of `os`; documented.
PUBLIC = "_exit"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.name))
def test_nothing_private_of_optuna_is_used(file: Path) -> None:
    assert not list(private_names(file.read_text()))


@pytest.mark.parametrize(
    "source",
    [
        "study._storage.get_trial(0)",
        "number = trial._trial_id",
        "from optuna.storages.journal._file import get_lock_file",
        "from optuna.storages import _CachedStorage",
        "import optuna.study._tell",
        "import optuna\noptuna.study._optimize",
        "getattr(study, '_storage')",
        "class C:\n def __init__(self, s): self._storage = s\n def f(self): self.study._storage",
        "import optuna\nclass C(JournalFileBackend):\n def f(self): return self._file_path",
    ],
)
def test_what_is_private_is_found(source: str) -> None:
    assert list(private_names(source))


def test_a_queued_trial_says_what_it_was_queued_with() -> None:
    study = optuna.create_study()
    study.enqueue_trial({"x": 1.5})
    study.ask()
    assert [queued(trial) for trial in study.trials] == [{"x": 1.5}]


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_a_trial_is_closed_with_its_reason(tmp_path: Path, kind: str) -> None:
    file = str(tmp_path / "study")
    storage = (
        RDBStorage(f"sqlite:///{file}")
        if kind == "sqlite"
        else JournalStorage(JournalFileBackend(file))
    )
    study = optuna.create_study(storage=storage)
    study.ask()
    study.enqueue_trial({"x": 1.5})
    for number in (0, 1, 0):  # the last has ended
        close(study, storage, number, f"why {number}")
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 2
    assert [trial.user_attrs[REASON] for trial in study.trials] == ["why 0", "why 1"]


def test_the_numbers_of_the_journal_mean_what_we_think(tmp_path: Path) -> None:
    def is_lasting() -> bool:
        return journal._is_lasting(
            json.loads((tmp_path / "s/study.log").read_text().splitlines()[-1])
        )

    with opened(tmp_path) as ledger:
        first = (tmp_path / "s/study.log").read_text().splitlines()[0]
        assert journal._is_lasting(json.loads(first)), "a study was made"
        trial = ledger.study.ask()
        assert not is_lasting()
        trial.set_user_attr("a", 1)
        assert not is_lasting()
        ledger.study.tell(trial, 1.0)
        assert is_lasting()
