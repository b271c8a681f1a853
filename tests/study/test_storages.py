"""Where a study is kept: journal, SQLite, PostgreSQL, MySQL; the commands on each."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import urlopen

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import DBAPIError

from harness.errors import InputError
from harness.names import STORAGE_VARIABLE
from harness.search import continuing
from harness.spaces import SPACES
from harness.study.backend import Backend, held_journal, open_backend
from harness.study.folder import StudyFolder
from harness.study.trials import read_study
from harness.tuning.dashboard import Dashboard
from tests.databases import mysql, postgresql
from tests.searches import finish, opened
from tests.trees import plain_tree


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_tree(tmp_path_factory.mktemp("data"), "features")


def line(data: Path, results: Path, trials: int) -> list[str]:
    arguments = ["--data", data, "--space", SPACES / "smoke.toml", "--scheduler", "none"]
    arguments += ["--trials", trials, "--results", results, "--study", "s"]
    return [sys.executable, "-m", "harness.search", *map(str, arguments)]


def command(arguments: list[str], storage: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({STORAGE_VARIABLE: storage} if storage else {})
    return subprocess.run(
        arguments, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


def study_of(backend: Backend) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=backend.storage)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_study_lies_where_it_is_told_to(tmp_path: Path, data: Path, kind: str) -> None:
    storage = {"journal": f"{tmp_path}/elsewhere/my.log", "sqlite": f"sqlite:///{tmp_path}/my.db"}
    search = [*line(data, tmp_path, 2), "--storage", storage[kind]]
    done = command(search)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "s" / "study.log").exists()
    found = study_of(open_backend(tmp_path / "s", storage[kind])).trials
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 2
    assert "The study is complete" in command(search).stdout
    other = command(line(data, tmp_path, 3))
    assert other.returncode == 1
    assert "storage: this study was begun with" in other.stderr, "numbers would begin anew"


@pytest.mark.slow
@pytest.mark.parametrize("server", [mysql, postgresql])
def test_searches_may_make_the_tables_of_a_database_at_once(
    tmp_path: Path, server: Callable[[], AbstractContextManager[str]]
) -> None:
    with server() as url, ThreadPoolExecutor() as pool:
        opening = [pool.submit(open_backend, tmp_path, url) for _ in range(4)]
        assert all(each.result().shared for each in opening)


@pytest.mark.slow
def test_two_searches_share_a_study_in_postgresql(
    tmp_path: Path, data: Path, database: str
) -> None:
    environment = os.environ | {STORAGE_VARIABLE: database}
    running = [
        subprocess.Popen(
            [*line(data, tmp_path / name, 10), "--concurrency", "1"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    for process in running:
        out, err = process.communicate(timeout=600)
        assert process.returncode == 0, err + out
        secret = urlsplit(database).password or ""
        assert secret not in out + err
    backend = open_backend(tmp_path / "a" / "s", database)
    found = study_of(backend).trials
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 10
    for name in "ab":
        home = StudyFolder(tmp_path / name, "s")
        mine = [t for t in found if t.user_attrs["home"] == home.identity()]
        files = {path.stem for path in (home.path / "predictions").glob("*.parquet")}
        assert files == {f"{trial.number:05d}" for trial in mine}
        for path in home.path.rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path


@pytest.mark.slow
@pytest.mark.parametrize("make", [postgresql, mysql])
def test_the_ledger_keeps_its_word_in_a_database(
    tmp_path: Path, make: Callable[[], AbstractContextManager[str]]
) -> None:
    with make() as storage:
        killed_and_continued(tmp_path, storage)
        backend = open_backend(tmp_path / "s", storage)
        with Dashboard(backend, tmp_path / "artifacts") as dashboard:
            assert b"Optuna Dashboard" in urlopen(dashboard.address).read()


@pytest.mark.slow
@pytest.mark.parametrize("make", [postgresql, mysql])
def test_the_lock_of_a_database_is_lost_by_one_who_is_silent(
    tmp_path: Path, make: Callable[[], AbstractContextManager[str]]
) -> None:
    with make() as storage:
        first, second = (open_backend(tmp_path / "s", storage) for _ in range(2))
        order: list[str] = []

        def work() -> None:
            with second.exclusive() as still_ours:
                still_ours()
                order.append("second")

        for limit, expected in ((2, ["first", "second"]), (30, ["second", "first"])):
            order.clear()
            other = Thread(target=work)
            with first.exclusive() as still_ours:
                other.start()
                other.join(limit)  # as if it were stopped
                order.append("first")
                if expected[0] == "second":
                    with pytest.raises(DBAPIError):
                        still_ours()
                else:
                    still_ours()
            other.join()
            assert order == expected


def test_an_sqlite_file_is_locked_beside_it(tmp_path: Path) -> None:
    plain = open_backend(tmp_path, f"sqlite:///{tmp_path}/study.db")
    by_uri = open_backend(tmp_path, f"sqlite:///file:{tmp_path}/study.db?uri=true")
    with (
        plain.exclusive(),
        (tmp_path / "study.db.lock").open() as file,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert vars(plain.lock) == vars(by_uri.lock)
    open_backend(tmp_path, "sqlite://")  # in memory, where nobody else is


def test_a_journal_has_one_search_at_a_time_whatever_its_results_folder(tmp_path: Path) -> None:
    (tmp_path / "link.log").symlink_to(tmp_path / "j.log")
    with held_journal(str(tmp_path / "j.log")):
        for name in ("j.log", "link.log"):
            with (
                pytest.raises(InputError, match=r"j\.log: another search works on this journal"),
                held_journal(str(tmp_path / name)),
            ):
                pass
    with held_journal(str(tmp_path / "j.log")):
        pass


def killed_and_continued(tmp_path: Path, storage: str) -> None:
    with opened(tmp_path, storage=storage) as killed:
        finish(killed, at_most=3)
        killed.ask()
    with opened(tmp_path, storage=storage) as again:
        finish(again)
        states = [trial.state for trial in again.study.trials]
    assert states.count(TrialState.COMPLETE) == 8
    assert states.count(TrialState.FAIL) == 1


BAD = [
    ("postgresql://someone:hush@127.0.0.1:1/none", "postgresql://127.0.0.1:1/none: cannot be"),
    ("mysql://someone:hush@127.0.0.1:1/none", "mysql://127.0.0.1:1/none: cannot be opened"),
    ("nonsense://someone:hush@host/none", "expected the path of a journal file or the URL"),
    ("://", "expected the path of a journal file or the URL"),
    ("sqlite:////nowhere/at/all.db", "sqlite:////nowhere/at/all.db: cannot be opened"),
]


@pytest.mark.parametrize(("url", "message"), BAD)
def test_what_cannot_be_opened_is_said_without_its_password(
    tmp_path: Path, url: str, message: str
) -> None:
    with pytest.raises(InputError) as error:
        open_backend(tmp_path, url)
    assert message in str(error.value)
    assert "hush" not in str(error.value)


@pytest.mark.parametrize("other", ["sqlite:///{0}/b.db", "postgresql://u:hush@127.0.0.1:1/x"])
def test_a_study_is_read_whatever_database_is_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    backend = open_backend(tmp_path, f"sqlite:///{tmp_path}/a.db")
    optuna.create_study(storage=backend.storage, study_name="s")
    monkeypatch.setenv(STORAGE_VARIABLE, other.format(tmp_path))
    assert read_study(tmp_path, {"storage": backend.name, "name": "s"}) is not None
    assert read_study(tmp_path, {"storage": "mysql://host/x", "name": "s"}) is None
    assert not (tmp_path / "b.db").exists(), "nothing is created"


def test_the_line_that_continues_has_no_password() -> None:
    url = "postgresql://someone:hush@host/studies"
    said = continuing(["--storage", url, "--trials", "9"], url)
    assert said == 'python -m harness.search --storage "$HARNESS_STORAGE" --trials 9'
    assert continuing(["--storage=" + url], url).endswith('"--storage=$HARNESS_STORAGE"')
    assert continuing(["--storage", "sqlite:///a.db"], "sqlite:///a.db").endswith("sqlite:///a.db")
