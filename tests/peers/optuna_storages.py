"""A plugin of pytest: Optuna's own tests get the storages that the harness makes.

Only the tests that use such a storage are run. `PEERS_STORAGE` gives the kind of storage, and
`PEERS_SERVER` the URL of a server on which the plugin may make databases.
"""

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage, RDBStorage
from optuna.testing import storages as suppliers
from sqlalchemy import create_engine, make_url

from harness.study import backend, journal

KIND, SERVER = os.environ["PEERS_STORAGE"], os.environ.get("PEERS_SERVER", "")
MODE = f"harness_{KIND}"
_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
# Optuna's tables keep times in MySQL as DATETIME, which has whole seconds; its own storage fails
# these tests there, too.
_WHOLE_SECONDS = {
    "test_create_new_trial",
    "test_create_new_trial_with_template_trial",
    "test_get_trial",
    "test_get_all_trials",
}
_numbers = itertools.count()


def new_place() -> str:
    """Where an empty storage can be made, as `--storage` takes it."""
    if SERVER:
        url = make_url(SERVER)
        name = f"peers_{os.getpid()}_{next(_numbers)}"
        engine = create_engine(
            url.set(drivername=_DRIVERS[url.drivername]), isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        return url.set(database=name).render_as_string(hide_password=False)
    folder = tempfile.mkdtemp(prefix="peers-")
    return f"sqlite:///{folder}/studies.db" if KIND == "sqlite" else f"{folder}/study.log"


@contextmanager
def opened(place: str, **options: Any) -> Iterator[BaseStorage]:
    """The storage that a search opens. options: of `RDBStorage`, such as heartbeats."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "RDBStorage", partial(RDBStorage, **options))
        storage = backend.open_backend(Path("unused"), place).storage
    try:
        yield storage
    finally:
        if isinstance(storage, RDBStorage):
            storage.engine.dispose()


class Supplier(suppliers.StorageSupplier):
    """Makes ours where a test asks for `MODE`, and Optuna's own elsewhere."""

    def __enter__(self) -> Any:
        if self.storage_specifier != MODE:
            return super().__enter__()
        self._opened = opened(new_place(), **self.extra_args)
        return self._opened.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self.storage_specifier == MODE:
            self._opened.__exit__(*error)
        else:
            super().__exit__(*error)


class File(journal._File):
    """The journal's file, made as the tests of the journal make Optuna's."""

    def __init__(self, path: str, lock: Any = None) -> None:
        super().__init__(Path(path))


@cache
def shared_place() -> str:
    """One storage, which the tests with a server and their processes open again and again."""
    return new_place()


@contextmanager
def on_server() -> Iterator[BaseStorage]:
    if KIND == "journal":
        # A search opens a journal that it holds alone, and takes the lock of a dead search away.
        # Processes that share one, such as a notebook, open it so.
        yield journal.Journal(Path(shared_place())).read()
        return
    with opened(shared_place()) as storage:
        yield storage


suppliers.StorageSupplier = Supplier  # type: ignore[misc]
suppliers.STORAGE_MODES = [MODE]
suppliers.STORAGE_MODES_HEARTBEAT = [] if KIND == "journal" else [MODE]
if KIND == "journal":
    optuna.storages.journal.JournalFileBackend = File  # type: ignore[misc]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the tests that use a storage of ours, and passes it to those with a server."""
    kept = []
    for item in items:
        assert isinstance(item, pytest.Function)
        file, module = item.path.name, item.module
        if file == "test_with_server.py":
            shared_place()  # made before the processes that share it
            module.get_storage = on_server
        given = item.callspec.params if hasattr(item, "callspec") else {}
        is_file = KIND == "journal" and "file_with_open_lock" in given.values()
        if file == "test_with_server.py" or is_file or MODE in given.values():
            kept.append(item)
        if KIND == "mysql" and file == "test_storages.py" and item.originalname in _WHOLE_SECONDS:
            item.add_marker(pytest.mark.xfail(reason="MySQL's times are whole seconds"))
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
