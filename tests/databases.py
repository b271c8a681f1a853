"""Real PostgreSQL and MySQL on the loopback interface, each started once, for the first test that
asks for it, and ended with the process; whoever asks has an empty database there."""

import atexit
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pymysql
import pytest

from tests.ports import free_port

#: Where Debian puts the programs, which are not on the path.
_PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of an empty database, password included; skips where none is installed, not in CI."""
    url, name = _at_first(_postgresql), f"studies_{next(_numbers)}"
    with psycopg.connect(f"{url}/postgres", autocommit=True) as owner:
        owner.execute(f"CREATE DATABASE {name}")
    yield f"{url}/{name}"


@contextmanager
def mysql() -> Iterator[str]:
    """The same of MySQL, in the form that Debian ships: MariaDB."""
    url, name = _at_first(_mysql), f"studies_{next(_numbers)}"
    at = urlsplit(url)
    assert at.hostname
    assert at.port
    with pymysql.connect(
        host=at.hostname, port=at.port, user=at.username, password=at.password or ""
    ) as owner:
        owner.cursor().execute(f"CREATE DATABASE {name}")
    yield f"{url}/{name}"


@cache
def _at_first(server: Callable[[], AbstractContextManager[str]]) -> str:
    """The URL of a server, which is started by the first call and ended with the process."""
    running = ExitStack()
    url = running.enter_context(server())
    # Registered late, because what is registered last is called first: before the end of the
    # server its temporary folder must not be removed.
    atexit.register(running.close)
    return url


_numbers = count()


@contextmanager
def _postgresql() -> Iterator[str]:
    programs = _program("initdb", "postgresql", os.pathsep.join(map(str, _PLACES))).parent
    password = secrets.token_hex(8)
    # Not in the tests' own folder, which other users may not enter.
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:
        owner = _owner("postgres")
        if owner:
            shutil.chown(folder, owner)
        word = Path(folder, "password")
        word.write_text(password)
        word.chmod(0o644)
        data = Path(folder, "data")
        _run(owner, programs / "initdb", "-D", data, "-U", "someone", "-A", "scram-sha-256",
             "--pwfile", word, "--no-sync")  # fmt: skip
        port = free_port()
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        line = ["-D", data, "-w", "-l", Path(folder, "log"), "-o", options]
        _run(owner, programs / "pg_ctl", *line, "start")
        try:
            yield f"postgresql://someone:{password}@127.0.0.1:{port}"
        finally:
            _run(owner, programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


@contextmanager
def _mysql() -> Iterator[str]:
    server = _program("mariadbd", "mariadb-server", os.environ["PATH"] + ":/usr/sbin")
    password = secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="mysql-") as folder:
        owner = _owner("mysql")
        if owner:
            shutil.chown(folder, owner)
        data, socket_file = Path(folder, "data"), Path(folder, "socket")
        install = shutil.which("mariadb-install-db")
        _run(owner, install, "--no-defaults", f"--datadir={data}",
             "--auth-root-authentication-method=normal", "--skip-test-db")  # fmt: skip
        port = free_port()
        line = [server, "--no-defaults", f"--datadir={data}", f"--socket={socket_file}",
                f"--port={port}", "--bind-address=127.0.0.1"]  # fmt: skip
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(list(map(str, line)), user=owner, stderr=log, stdout=log)
        try:
            with _connected(socket_file) as root:
                for command in (
                    f"CREATE USER someone@127.0.0.1 IDENTIFIED BY '{password}'",
                    "GRANT ALL ON *.* TO someone@127.0.0.1",
                ):
                    root.cursor().execute(command)
            yield f"mysql://someone:{password}@127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def _connected(socket_file: Path) -> pymysql.Connection:  # type: ignore[type-arg]
    """As root, by a socket that nobody else sees; a server takes seconds to begin."""
    for _ in range(1500):
        try:
            return pymysql.connect(unix_socket=str(socket_file), user="root")
        except pymysql.err.OperationalError:
            time.sleep(0.2)
    raise AssertionError("MariaDB does not answer")


def _program(name: str, package: str, path: str) -> Path:
    found = shutil.which(name, path=path)
    if not found:
        missing = f"{name} is not installed (Debian's package {package})"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return Path(found)


def _owner(user: str) -> str | None:
    """Who runs a server where this is root, as which they refuse to run."""
    return None if os.getuid() else pwd.getpwnam(user).pw_name


def _run(owner: str | None, *line: object) -> None:
    done = subprocess.run(
        list(map(str, line)), user=owner, capture_output=True, text=True, cwd="/", check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
