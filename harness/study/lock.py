"""The lock under which a search takes a trial and ends one, so that searches keep one budget.

It is held for milliseconds. A process that is killed frees it; how one that is stopped does is said
at each kind.
"""

import fcntl
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from sqlalchemy import Column, Connection, Integer, MetaData, Table, create_engine, insert, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError

from harness.interrupts import Wait

_log = logging.getLogger(__name__)
#: Raises where the lock was lost since it was taken.
StillOurs = Callable[[], object]
_ROW = Table(
    "harness_lock",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    mysql_engine="InnoDB",  # the engine of MySQL that locks single rows
)
# Seconds between two attempts to lock a file: the first, and at most.
_POLL, _LONGEST_POLL = 0.001, 0.02
# The server ends a wait for the row after a second, so that Ctrl-C is heard; and the connection of
# a holder that says nothing for fifteen, such as one that was stopped. With five, a busy disk cost
# a living one its lock again and again.
_LIMITS = {
    "postgresql": "SELECT set_config('lock_timeout', '1s', true), "
    "set_config('idle_in_transaction_session_timeout', '15s', true)",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 1, wait_timeout = 15",
}
# Between two uses the connection may idle; PostgreSQL's limits end with their transaction.
_NO_LIMITS = {"mysql": "SET SESSION wait_timeout = DEFAULT"}
# What a server answers when somebody else has the row: lock_not_available; lock wait timeout.
_IS_TAKEN = {"postgresql": "55P03", "mysql": 1205}
_TRIES = 5


class Lock(Protocol):
    """One at a time, of all processes that work on a study. Not to be taken twice."""

    def held(self) -> AbstractContextManager[StillOurs]:
        """Waits for the lock, visibly and until Ctrl-C; leaving it never raises."""
        ...


class NoLock:
    """Of a study that one search has for itself."""

    @contextmanager
    def held(self) -> Iterator[StillOurs]:
        yield lambda: None


class FileLock:
    """A file beside that of an SQLite database. One who is stopped keeps it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def held(self) -> Iterator[StillOurs]:
        wait = Wait(f"another search, which holds {self._path} (is it stopped?)")
        poll = _POLL
        with self._path.open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    wait.pause(poll)
                    poll = min(2 * poll, _LONGEST_POLL)
            yield lambda: None


class RowLock:
    """A row of a table of ours in PostgreSQL or MySQL, on a connection of its own.

    The server takes it from one who is stopped, and from everybody when it is started anew.
    """

    def __init__(self, url: URL) -> None:
        self._kind = url.get_backend_name()
        self._engine = create_engine(url, pool_size=1, pool_pre_ping=True)
        self._is_made = False

    @contextmanager
    def held(self) -> Iterator[StillOurs]:
        connection = self._taken()
        try:
            yield lambda: connection.exec_driver_sql("SELECT 1")
        finally:
            self._free(connection)

    def _taken(self) -> Connection:
        if not self._is_made:
            self._make()
        wait = Wait("another search, which holds the lock of the database")
        while True:
            connection = self._engine.connect()
            try:
                connection.exec_driver_sql(_LIMITS[self._kind])
                connection.execute(select(_ROW.c.id).with_for_update()).one()
                return connection
            except DBAPIError as error:
                self._free(connection)
                if not self._is_taken(error):
                    raise
                wait.pause(0)
            except BaseException:
                self._free(connection)
                raise

    def _is_taken(self, error: DBAPIError) -> bool:
        codes = (getattr(error.orig, "sqlstate", None), *getattr(error.orig, "args", ()))
        return _IS_TAKEN[self._kind] in codes

    def _free(self, connection: Connection) -> None:
        """A connection that is gone, or not usable any more, holds nothing."""
        try:
            connection.rollback()
            if self._kind in _NO_LIMITS:
                connection.exec_driver_sql(_NO_LIMITS[self._kind])
            connection.close()
        except Exception as error:
            _log.info("the lock's connection is given up: %s", error)
            with suppress(Exception):
                connection.invalidate()
                connection.close()

    def _make(self) -> None:
        for again in range(_TRIES):
            try:
                _ROW.metadata.create_all(self._engine)
                break
            except DBAPIError:
                # Another search makes it at this moment.
                if again == _TRIES - 1:
                    raise
                Wait("the lock's table").pause(0.2)
        with suppress(IntegrityError), self._engine.begin() as connection:  # it is there already
            connection.execute(insert(_ROW).values(id=1))
        self._is_made = True
