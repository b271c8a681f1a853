"""Studies that move: copied, renamed, without hidden files."""

import shutil
from pathlib import Path

import pytest
from optuna.trial import TrialState

from harness.errors import InputError
from harness.reports.evidence import gather
from harness.study.backend import open_backend, read_storage
from harness.study.folder import Manifest, StudyFolder
from harness.tuning.audit import audit
from tests.searches import INDEX, finish, opened, trials_of


def manifest(name: str, storage: str = "study.log") -> Manifest:
    """As a search of any data writes it."""
    return Manifest(
        name=name,
        seed=0,
        space="space.toml",
        data="d",
        features="f",
        stream={},
        early_stop_split="val",
        held_out="",
        storage=storage,
        strides=(1,),
        targets=INDEX.target_names,
        synthetic=False,
        oracle={},
        problems={},
        empty=(),
    )


def begin(results: Path) -> StudyFolder:
    """Study s with three of its eight trials."""
    folder = StudyFolder(results, "s")
    folder.settle(manifest("s"), INDEX)
    with opened(results) as ledger:
        finish(ledger, at_most=3)
    return folder


def copy_all(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def copy_visible(source: Path, target: Path) -> None:
    """`cp -r source/* target/`"""
    target.mkdir()
    for path in source.iterdir():
        if not path.name.startswith("."):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, target / path.name)


def rename(source: Path, target: Path) -> None:
    source.rename(target)


@pytest.mark.parametrize("move", [copy_all, copy_visible, rename])
def test_a_moved_study_continues_and_its_report_is_right(tmp_path: Path, move) -> None:
    move(begin(tmp_path).path, tmp_path / "moved")
    folder = StudyFolder(tmp_path, "moved")
    folder.settle(manifest("moved"), INDEX)
    evidence = gather(folder.path)
    assert len(evidence.trials(TrialState.COMPLETE)) == 3
    folder.prediction_file(1).unlink()
    with opened(tmp_path, name="moved") as ledger:
        (line,) = audit(ledger.study, folder, INDEX, ledger.driver)
        assert "trial 1 no longer counts" in line
        assert len(finish(ledger)) == 6
    assert len(trials_of(tmp_path, "moved")) == 9


def test_a_renamed_study_of_a_database_is_refused(tmp_path: Path) -> None:
    storage = "sqlite:////somewhere/studies.db"
    StudyFolder(tmp_path, "s").settle(manifest("s", storage), INDEX)
    (tmp_path / "s").rename(tmp_path / "other")
    before = sorted((tmp_path / "other").iterdir())
    with pytest.raises(InputError, match="is a copy of study s, or was renamed"):
        StudyFolder(tmp_path, "other").settle(manifest("other", storage), INDEX)
    assert sorted((tmp_path / "other").iterdir()) == before


def test_the_identity_of_a_folder_is_kept_from_earlier_versions(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / ".identity").write_text("0123456789abcdef")
    assert StudyFolder(tmp_path, "s").identity() == "0123456789abcdef"


def test_a_relative_sqlite_file_is_the_same_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    name = open_backend(tmp_path, "sqlite:///studies.db").name
    assert name == f"sqlite:///{tmp_path}/a/studies.db"
    monkeypatch.chdir(tmp_path / "b")
    assert read_storage(tmp_path, name, None) is not None
    assert read_storage(tmp_path, "sqlite:///studies.db", None) is None
    assert not list((tmp_path / "b").iterdir()), "nothing is created by reading"
