"""The study's log: half lines are cut off, and its lock is taken from the dead alone."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from harness.errors import InputError
from harness.interrupts import Wait, uninterrupted
from harness.study import journal_lock
from harness.study.folder import StudyFolder
from harness.study.journal import Journal
from harness.study.journal_lock import JournalLock

HALF = b'{"op_code":8,"worker_id":"a'


def study_of(path: Path) -> optuna.Study:
    return optuna.create_study(storage=Journal(path).open(), study_name="s", load_if_exists=True)


def test_half_a_line_of_a_new_study_is_cut_off(tmp_path: Path) -> None:
    log = tmp_path / "study.log"
    study_of(log)
    whole = log.read_bytes()
    log.write_bytes(whole + HALF)  # as the power goes; there is no seal yet
    study_of(log).ask()
    assert log.read_bytes().startswith(whole)
    assert HALF not in log.read_bytes()


def test_half_a_line_of_another_writer_is_cut_off_before_anything_is_appended(
    tmp_path: Path,
) -> None:
    log = tmp_path / "study.log"
    study = study_of(log)
    with log.open("ab") as file:
        file.write(HALF * 500)  # longer than what is read at once
    study.ask()
    assert HALF not in log.read_bytes()
    assert len(study_of(log).trials) == 1


def test_a_disk_that_was_full_leaves_no_half_line(tmp_path: Path) -> None:
    log = tmp_path / "study.log"
    study = study_of(log)
    before = log.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="large"):
            study.ask()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert log.read_bytes() == before
    study.tell(study.ask(), 1.0)
    assert [trial.state for trial in study_of(log).trials] == [TrialState.COMPLETE]


def test_what_the_checksum_covers_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power loss would leave a shorter log, which the next search refuses."""
    journal, real, flushed = Journal(tmp_path / "study.log"), os.fsync, {}

    def fsync(number: int) -> None:
        found = os.fstat(number)
        flushed[found.st_ino] = found.st_size
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    study = optuna.create_study(storage=journal.open(), study_name="s")
    study.set_user_attr("commands", ["a"])  # which is not flushed by itself
    journal.seal()
    log = journal.path.stat()
    assert flushed[log.st_ino] == log.st_size


def test_a_lock_that_points_to_nothing_is_taken_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_lock, "_GRACE", 0.2)
    log = tmp_path / "study.log"
    (tmp_path / "study.log.lock").symlink_to("results/k/study.log")  # made from another folder
    study_of(log).ask()
    assert not (tmp_path / "study.log.lock").is_symlink()


def test_a_lock_of_a_killed_search_is_not_waited_for(tmp_path: Path) -> None:
    log = tmp_path / "study.log"
    lock = "from pathlib import Path; from harness.study.journal_lock import JournalLock as L\n"
    lock += f"import os; L(Path({str(log)!r})).acquire(); os._exit(9)"
    subprocess.run([sys.executable, "-c", lock], check=False)
    assert (tmp_path / "study.log.lock").is_symlink()
    study_of(log).ask()  # would wait for 30 s


def test_a_slow_writer_of_optunas_keeps_its_lock(tmp_path: Path) -> None:
    """Of one that still writes after more seconds than a search used to wait."""
    log = tmp_path / "study.log"
    study = study_of(log)
    stock = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(log))))
    slow, flushed, real = threading.Event(), threading.Event(), os.fsync

    def fsync(number: int) -> None:
        if threading.current_thread() is writer:
            slow.set()
            time.sleep(4)
            flushed.set()  # while it holds the lock
        real(number)

    writer = threading.Thread(target=stock.set_user_attr, args=("a", 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        writer.start()
        slow.wait()
        study.set_user_attr("b", 2)
        assert flushed.is_set(), "its lock was taken while it wrote"
        writer.join()
    assert study_of(log).user_attrs == {"a": 1, "b": 2}


def test_optunas_writers_wait_for_ours(tmp_path: Path) -> None:
    log = tmp_path / "study.log"
    study_of(log)
    stock = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(log))))
    writer = threading.Thread(target=stock.set_user_attr, args=("a", 1))
    with JournalLock(log).held():
        size = log.stat().st_size
        writer.start()
        writer.join(0.5)
        assert log.stat().st_size == size
    writer.join()
    assert study_of(log).user_attrs == {"a": 1}


def test_a_wait_is_reported_and_ended_by_ctrl_c_where_that_is_held_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wait = Wait("a friend", after=0.0)
    with pytest.raises(KeyboardInterrupt), uninterrupted(), uninterrupted():  # noqa: PT012
        wait.pause(0.01)
        assert "waiting for a friend" in capsys.readouterr().err
        signal.raise_signal(signal.SIGINT)
        wait.pause(0.01)
        pytest.fail("went on")


@pytest.mark.parametrize("directions", [["minimize"], ["maximize", "maximize"]])
def test_a_study_of_another_direction_is_refused(tmp_path: Path, directions: list[str]) -> None:
    storage = Journal(tmp_path / "s" / "study.log").open()
    optuna.create_study(storage=storage, study_name="s", directions=directions)
    with pytest.raises(InputError, match=rf"direction is {', '.join(directions)}"):
        StudyFolder(tmp_path, "s").study(storage)


def test_ctrl_c_within_two_that_hold_it_back_is_heard_at_the_end() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():  # noqa: PT012
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]
