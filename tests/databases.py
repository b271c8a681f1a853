"""A real PostgreSQL on the loopback interface, started for the tests that ask for it."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

#: Where Debian puts the programs, which are not on the path.
_PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of an empty database, password included; skips where none is installed, not in CI."""
    found = shutil.which("initdb", path=os.pathsep.join(map(str, _PLACES)))
    if not found:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL is not installed (Debian's package postgresql)")
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    programs = Path(found).parent
    password, port = secrets.token_hex(8), _free_port()
    # Not in the tests' own folder, which other users may not enter.
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:
        owner = _owner()
        if owner:
            shutil.chown(folder, owner)
        word = Path(folder, "password")
        word.write_text(password)
        word.chmod(0o644)
        data = Path(folder, "data")
        _run(owner, programs / "initdb", "-D", data, "-U", "someone", "-A", "scram-sha-256",
             "--pwfile", word, "--no-sync")  # fmt: skip
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        line = ["-D", data, "-w", "-l", Path(folder, "log"), "-o", options]
        _run(owner, programs / "pg_ctl", *line, "start")
        try:
            yield f"postgresql://someone:{password}@127.0.0.1:{port}/postgres"
        finally:
            _run(owner, programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


def _owner() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.getuid():
        return None
    return pwd.getpwnam("postgres").pw_name


def _run(owner: str | None, *line: object) -> None:
    done = subprocess.run(
        list(map(str, line)), user=owner, capture_output=True, text=True, cwd="/", check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
