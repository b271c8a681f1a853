"""Studies that move: copied, renamed, without hidden files."""

import multiprocessing
import shutil
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState

from harness.dataset import NOTHING, Dataset, Specification
from harness.errors import InputError
from harness.reports.evidence import gather
from harness.study.backend import open_backend, read_storage, storage_name
from harness.study.folder import ABOUT, Manifest, StudyFolder
from harness.tuning.audit import audit
from tests.searches import INDEX, finish, make_space, opened, trials_of


def manifest(name: str, storage: str = "study.log") -> Manifest:
    """As a search of any data writes it."""
    return Manifest(
        name=name,
        seed=0,
        space="space.toml",
        data="d",
        features="f",
        streams={},
        early_stop_split="val",
        held_out="",
        storage=storage,
        targets=INDEX.target_names,
        synthetic=False,
        oracle={},
        problems={},
        empty=(),
    )


def test_ceilings_may_be_added_later(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "s")
    folder.settle(manifest("s"), INDEX)
    ceilings = {"val": {INDEX.target_names[0]: 0.9}}
    folder.settle(replace(manifest("s"), ceilings=ceilings), INDEX)
    assert folder.manifest()["ceilings"] == ceilings


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


def test_the_identity_of_a_folder_moves_with_it_and_a_copy_has_its_own(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "s")
    folder.path.mkdir()
    (folder.path / "identity").write_text("0123456789abcdef")  # of an earlier version
    assert folder.identity() == "0123456789abcdef"
    rename(folder.path, tmp_path / "renamed")
    assert StudyFolder(tmp_path, "renamed").identity() == "0123456789abcdef"
    copy_all(tmp_path / "renamed", folder.path)
    assert folder.identity() != "0123456789abcdef"
    assert folder.identity() == folder.identity()


def test_searches_that_start_at_once_agree_on_the_identity_of_their_folder(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("fork")
    for number in range(5):
        folder = StudyFolder(tmp_path, str(number))
        folder.path.mkdir()
        gate, found = processes.Barrier(2), processes.SimpleQueue()

        def read(folder: StudyFolder = folder, gate: Barrier = gate, found=found) -> None:
            gate.wait(30)
            found.put(folder.identity())

        started = [processes.Process(target=read) for _ in range(2)]
        for process in started:
            process.start()
        for process in started:
            process.join(60)
        assert [process.exitcode for process in started] == [0, 0]
        assert found.get() == found.get()


def test_a_copy_leaves_the_trials_of_its_original_alone(tmp_path: Path) -> None:
    """Both search one database, each in its own results folder."""
    url, space = f"sqlite:///{tmp_path}/study.db", make_space(tmp_path)
    with opened(tmp_path / "a", storage=url, space=space) as first:
        finish(first, at_most=1)
        copy_all(tmp_path / "a", tmp_path / "b")
        finish(first, at_most=1)
        running, _ = first.ask() or (0, {})
        with opened(tmp_path / "b", storage=url, space=space) as second:
            copied = StudyFolder(tmp_path / "b", "s")
            assert not audit(second.study, copied, INDEX, second.driver)
            second.ask()
            assert second.study.trials[running].state == TrialState.RUNNING


def test_a_study_of_a_version_that_stored_less_is_refused_by_name(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "s")
    folder.settle(manifest("s"), INDEX)
    study = folder.study(open_backend(folder.path).storage)
    study.set_user_attr(ABOUT, {"features": "f", "targets": list(INDEX.target_names)})
    with pytest.raises(InputError, match="its study s, data: was begun with None, now it is d"):
        folder.agree(study)


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
    folder = StudyFolder(tmp_path, "s")
    folder.settle(manifest("s", name), INDEX)
    folder.check_storage(name)
    with pytest.raises(InputError, match=f"begun with {name}, now it is .*/b/studies.db; give"):
        folder.check_storage(storage_name("sqlite:///studies.db"))
    assert not list((tmp_path / "b").iterdir()), "nothing is created"


CLIPS = tuple(f"c{number}" for number in range(6))


def clips_of(
    ids: tuple[str, ...] = CLIPS,
    *,
    splits: dict[str, str] | None = None,
    ratings: dict[str, float] | None = None,
    persons: dict[str, str] | None = None,
) -> Dataset:
    """Clips whose ratings, splits and persons follow from their numbers, apart from some."""
    number = {clip: int(clip[1:]) for clip in ids}
    return Dataset(
        clip_ids=ids,
        splits=tuple((splits or {}).get(c, ("train", "val")[number[c] % 2]) for c in ids),
        targets=np.array([[(ratings or {}).get(c, number[c] / 10)] for c in ids], np.float32),
        target_names=("joy",),
        groups=tuple((persons or {}).get(c, f"p{number[c]}") for c in ids),
    )


CHANGES = {
    "contents": (clips_of(), {"c1": "new", "c4": "new"}, "2 clips with other contents: c1, c4"),
    "all": (clips_of(), dict.fromkeys(CLIPS, "new"), "6 clips with other contents: c0, c1, c2 and"),
    "added": (clips_of((*CLIPS, "c9")), {}, "1 clip added: c9"),
    "removed": (clips_of(CLIPS[1:]), {}, "1 clip removed: c0"),
    "renamed": (clips_of((*CLIPS[:5], "c7")), {"c7": "of-c5"}, "1 clip renamed: c5 is now c7"),
    "gone": (clips_of(), {"c2": NOTHING}, "1 clip without a file now: c2"),
    "came": (clips_of(), {"c0": "of-c0"}, "1 clip with a file now: c0"),
    "ratings": (clips_of(ratings={"c3": 0.9}), {}, "1 clip with other ratings: c3"),
    "unrated": (clips_of(ratings={"c3": np.nan}), {}, "1 clip with other ratings: c3"),
    "split": (clips_of(splits={"c3": "test"}), {}, "1 clip in another split: c3"),
    "person": (clips_of(persons={"c3": "p0"}), {}, "1 clip of another person: c3"),
    "order": (clips_of(CLIPS[::-1]), {}, "the clips are in another order"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_has_changed_is_named(tmp_path: Path, kind: str) -> None:
    new, contents, message = CHANGES[kind]
    before = {clip: f"of-{clip}" for clip in CLIPS}
    if kind == "came":
        before["c0"] = NOTHING
    folder = StudyFolder(tmp_path, "s")
    folder.settle(manifest("s"), clips_of(), {"FAUs": before})
    other = replace(manifest("s"), data="other")
    now = {clip: before.get(clip, f"of-{clip}") for clip in new.clip_ids} | contents
    with pytest.raises(InputError, match=rf"data: .*{message}.*; choose another `study`"):
        folder.settle(other, new, {"FAUs": now})
    assert folder.contents() == {"FAUs": before}, "nothing is written"


def test_other_features_are_named(tmp_path: Path) -> None:
    def of(name: str, columns: tuple[str, ...]) -> Manifest:
        stream = Specification("files", {"set": name}, columns, len(columns))
        streams = {name: stream.to_dict()}
        return replace(manifest("s"), features=stream.fingerprint(), streams=streams)

    folder = StudyFolder(tmp_path, "s")
    folder.settle(of("A", ("x", "y")), clips_of())
    with pytest.raises(InputError, match="features: this study reads other features: streams B"):
        folder.settle(of("B", ("x", "y")), clips_of())
    with pytest.raises(InputError, match="column 1 is y, expected x"):
        folder.settle(of("A", ("y", "x")), clips_of())
