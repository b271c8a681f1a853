"""The lock under which a search takes a trial and ends one, so that searches keep one budget.

It is held for milliseconds. A killed process frees it; each class says what a stopped one does.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from sqlalchemy import Column, Connection, Integer, MetaData, Table, create_engine, insert, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError

from harness.atomic import alone
from harness.interrupts import Wait

_log = logging.getLogger(__name__)
#: Raises if the lock was lost since it was taken.
StillOurs = Callable[[], object]
_ROW = Table(
    "harness_lock",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),
    mysql_engine="InnoDB",  # the engine of MySQL that locks single rows
)
# The server ends a wait for the row after one second, so that Ctrl-C works, and the connection of
# a holder that is silent for 15 seconds, such as a stopped one. With 5 seconds, living searches on
# a busy disk lost their lock repeatedly.
_LIMITS = {
    "postgresql": "SELECT set_config('lock_timeout', '1s', true), "
    "set_config('idle_in_transaction_session_timeout', '15s', true)",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 1, wait_timeout = 15",
}
# Between two uses the connection may idle; PostgreSQL's limits end with their transaction.
_NO_LIMITS = {"mysql": "SET SESSION wait_timeout = DEFAULT"}
# The codes of a server when another search has the row: lock_not_available; lock wait timeout.
_IS_TAKEN = {"postgresql": "55P03", "mysql": 1205}
_TRIES = 5


class Lock(Protocol):
    """One holder at a time among all processes that work on a study. Not reentrant."""

    def held(self) -> AbstractContextManager[StillOurs]:
        """Waits for the lock, visibly and until Ctrl-C; leaving it never raises."""
        ...


class NoLock:
    """For a study that only one search can open."""

    @contextmanager
    def held(self) -> Iterator[StillOurs]:
        yield lambda: None


class FileLock:
    """A file beside that of an SQLite database. A stopped process keeps it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def held(self) -> Iterator[StillOurs]:
        with alone(self._path, "another search"):
            yield lambda: None


class RowLock:
    """A row of the table `harness_lock` in PostgreSQL or MySQL, on a connection of its own.

    The server takes it from a stopped process, and from every process when the server restarts.
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
        """Frees the row; a connection that is lost or unusable holds nothing."""
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
