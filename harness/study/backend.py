"""Where the study is kept: a journal file, or a database that several searches may share."""

import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, OperationalError, ProgrammingError

from harness.atomic import locked
from harness.errors import InputError
from harness.interrupts import attended, uninterrupted
from harness.study.journal import Journal
from harness.study.lock import FileLock, Lock, NoLock, RowLock, StillOurs

# Seconds: a reader such as the dashboard may hold SQLite's lock for long; for a connection.
_SQLITE_WAIT, _CONNECTING = 60, 15
# Attempts to make the tables, which several searches may do at once.
_TRIES = 5
# MySQL's codes of it: table exists, lock wait, deadlock, and two of a changed table definition.
_RACES = (1050, 1205, 1213, 1412, 1684)
# The drivers of the extra `databases`, instead of SQLAlchemy's defaults.
_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}


@dataclass(frozen=True)
class Backend:
    """An opened storage.

    journal: its file; None for a database. name: safe to print and store, without user, password
    and options. url: of a database, with all of these.
    """

    storage: BaseStorage
    journal: Journal | None
    name: str
    url: str | None = None
    lock: Lock = field(default_factory=NoLock)

    @property
    def shared(self) -> bool:
        """Whether several searches may work on the study at once."""
        return self.journal is None

    @contextmanager
    def exclusive(self) -> Iterator[StillOurs]:
        """Holds the lock of the study while a search takes a trial or ends one.

        A long wait is reported and ends at Ctrl-C; the block itself is not interrupted.
        """
        with self.lock.held() as still_ours, uninterrupted():
            yield still_ours

    def seal(self) -> None:
        """Stores a checksum of the journal, to detect damage."""
        if self.journal:
            self.journal.seal()


@contextmanager
def held_journal(given: str | None) -> Iterator[None]:
    """Keeps a second search, from another results folder, out of a journal at `given`.

    To be entered before the journal is opened: a line that is being written would look broken.

    Raises:
        InputError: another search works on the journal.
    """
    if given is None or "://" in given:  # a study's own journal is under its folder's lock
        yield
        return
    path = Path(given).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.search").open("w") as file:
        if not locked(file, path):
            raise InputError(
                f"{path}: another search works on this journal; wait for it, or share a database "
                "(`storage` sqlite:///FILE)"
            )
        yield


def open_backend(folder: Path, given: str | None = None) -> Backend:
    """Opens a study's storage.

    Args:
        folder: of the study, where its journal is by default.
        given: the path of another journal, or the URL of a database.

    Raises:
        InputError: it cannot be opened, or the journal was damaged. No part of a URL that may be
            secret is in the message.
    """
    name = storage_name(given)
    if given is None or "://" not in given:
        journal = Journal(Path(given) if given else folder / "study.log")
        return Backend(journal.open(), journal, name)
    url = _absolute(_url(given))
    try:
        with attended(f"the database {name}, which does not answer"):
            storage = _open(url)
    except ImportError as error:
        raise InputError(
            f"`storage` {name}: its driver is missing ({error.name}): "
            "pip install 'reaction-harness[databases]'"
        ) from error
    except Exception as error:  # SQLAlchemy's and the drivers' own kinds
        raise InputError(
            f"`storage` {name}: cannot be opened ({type(error).__name__}); is it running, and "
            "does the database exist?"
        ) from error
    return Backend(storage, None, name, url.render_as_string(hide_password=False), _lock(url))


def storage_name(given: str | None) -> str:
    """`Backend.name` of the storage that `open_backend` opens, which is not opened here.

    Raises:
        InputError: the URL is of no database.
    """
    if given is None or "://" not in given:
        return str(Path(given).resolve()) if given else "study.log"
    url = _absolute(_url(given))
    return f"{url.get_backend_name()}://{_place(url)}/{url.database or ''}"


def read_storage(folder: Path, name: str, given: str | None) -> BaseStorage | None:
    """The storage of a study for reading alone, or None where it cannot be reached.

    Args:
        name: of the storage, from the study's manifest. given: the URL, needed for a database with
            users.
    """
    if "://" in name:
        if name.startswith("sqlite:///"):
            given = name  # the name is the whole URL; `given` may be that of another study
            if not _is_file(_url(given)):
                return None  # opening it would create it
        # Opening another database would make tables in it.
        if not given or storage_name(given) != name:
            return None
        return open_backend(folder, given).storage
    journal = Journal(folder / name)  # an absolute path stays what it is
    return journal.read() if journal.path.is_file() else None


def _open(url: URL) -> RDBStorage:
    for again in range(_TRIES):
        try:
            return RDBStorage(
                url.render_as_string(hide_password=False),
                engine_kwargs={"connect_args": _arguments(url), "pool_pre_ping": True},
            )
        except (IntegrityError, ProgrammingError, OperationalError) as error:
            # Another search makes the tables at this moment.
            is_race = not isinstance(error, OperationalError) or _is_file(url)
            code = next(iter(error.orig.args), None) if error.orig else None
            if not (is_race or code in _RACES) or again == _TRIES - 1:
                raise
            time.sleep(1)
    raise AssertionError("unreachable")


def _is_file(url: URL) -> bool:
    is_sqlite = url.get_backend_name() == "sqlite"
    return is_sqlite and bool(url.database) and Path(str(url.database)).is_file()


def _absolute(url: URL) -> URL:
    """An SQLite file by its full path: from another folder a relative one would be another file."""
    file = url.database
    if url.get_backend_name() != "sqlite" or not file or file.startswith((":memory:", "file:")):
        return url
    return url.set(database=str(Path(file).absolute()))


def _lock(url: URL) -> Lock:
    if url.get_backend_name() != "sqlite":
        return RowLock(url)
    # SQLite says where its file is, however the URL does.
    engine = create_engine(url)
    with engine.connect() as connection:
        file = connection.exec_driver_sql("PRAGMA database_list").all()[0][2]
    engine.dispose()
    return FileLock(Path(f"{file}.lock")) if file else NoLock()  # a database in memory has none


def _url(given: str) -> URL:
    try:
        url = make_url(given)
        if url.drivername in _DRIVERS:
            url = url.set(drivername=_DRIVERS[url.drivername])
        url.get_dialect()
    except ImportError as error:
        raise InputError(
            f"`storage`: the driver of {given.partition(':')[0]} is missing ({error.name}): "
            "pip install 'reaction-harness[databases]'"
        ) from error
    except (ArgumentError, ValueError) as error:
        raise InputError(
            "`storage`: expected the path of a journal file or the URL of a database: "
            "sqlite:///FILE, postgresql://USER@HOST/NAME, mysql://USER@HOST/NAME"
        ) from error
    return url


def _place(url: URL) -> str:
    port = f":{url.port}" if url.port else ""
    return f"{url.host or ''}{port}"


def _arguments(url: URL) -> dict[str, Any]:
    if url.get_backend_name() != "sqlite":
        # Else a connection to a host that drops packets waits for minutes.
        return {} if "connect_timeout" in url.query else {"connect_timeout": _CONNECTING}
    # A transaction that will write locks the file when it begins, so that none of two is aborted.
    return {"timeout": _SQLITE_WAIT, "isolation_level": "IMMEDIATE", "factory": _WriteAhead}


class _WriteAhead(sqlite3.Connection):
    """Readers do not stop the writer, and a commit is one flush."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


def quiet_optuna() -> None:
    """Leaves the terminal to the harness: no log lines, no notes on experimental samplers."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
