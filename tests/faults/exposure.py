"""Who can reach the harness, and what it tells: sockets, addresses, credentials."""

import os
import random
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from tests.faults import models
from tests.faults.commands import command, start
from tests.faults.fault import fault, turn
from tests.faults.meter import family
from tests.faults.surroundings import check_said
from tests.faults.whole import check_study

LISTENING = "0A"
SECRET = "tell-nobody-53c2"


def listening(group: int) -> set[str]:
    """Addresses at which processes of a process group, and their children, listen."""
    inodes = set()
    for pid in family(group):
        try:
            links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in Path(table).read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == LISTENING and fields[9] in inodes:
                found.add(_address(fields[1].rpartition(":")[0]))
    return found


def _address(text: str) -> str:
    """/proc's hexadecimal words, each in the machine's byte order."""
    raw = b"".join(bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def outside(address: str) -> bool:
    return not (address.removeprefix("::ffff:").startswith("127.") or address == "::1")


@fault("exposure", "a running search is probed from outside", 2, few=1)
def _(folder: Path, rng: random.Random) -> None:
    running = start(folder / "said.txt", "search", *models.searching(folder, 12))
    found: set[str] = set()
    while running.process.exitcode is None:
        found |= listening(running.process.pid)
        time.sleep(0.5)
    done = running.wait()
    assert done.code == 0, done
    assert found, "Ray listens somewhere"
    assert not [address for address in found if outside(address)], found


@fault("exposure", "a storage URL with a password cannot be opened", 3)
def _(folder: Path, rng: random.Random) -> None:
    kind = turn(("postgresql", "mysql", "nonsense"), "databases")
    url = f"{kind}://someone:{SECRET}@127.0.0.1:1/none"
    done = command(folder, "search", *models.searching(folder), "--storage", url)
    check_said(done, "--storage")
    _nowhere(folder, done.said)


@fault("exposure", "a storage URL with a password is used", 1)
def _(folder: Path, rng: random.Random) -> None:
    # SQLite knows no users, and leaves alone what it does not know of an address.
    url = f"sqlite:///file:{folder}/study.db?mode=rwc&uri=true&password={SECRET}"
    begun = time.time()
    done = command(folder, "search", *models.searching(folder), "--storage", url)
    assert done.code == 0, done
    assert (folder / "s" / "report.html").exists()
    assert (folder / "s" / "study.json").exists()
    assert "Look: " in done.said
    _nowhere(folder, done.said)
    # Ray keeps logs of its own, of everything that it was told.
    for session in Path("/tmp/ray").glob("session_*"):
        if not session.is_symlink() and session.stat().st_mtime > begun:
            _nowhere(session, "")


@fault("exposure", "a search with a password in its storage URL is interrupted", 1)
def _(folder: Path, rng: random.Random) -> None:
    url = f"sqlite:///file:{folder}/study.db?mode=rwc&uri=true&password={SECRET}"
    line = models.searching(folder, 500)
    running = start(folder / "said.txt", "search", *line, "--storage", url)
    while not list(folder.glob("s/predictions/0*")):
        assert running.process.exitcode is None, running.wait()
        time.sleep(0.05)
    os.kill(running.process.pid, signal.SIGINT)
    done = running.wait()
    assert done.code == 130, done
    assert "Continue: " in done.said
    _nowhere(folder, done.said)


def _nowhere(folder: Path, said: str) -> None:
    assert SECRET not in said, said
    for path in folder.rglob("*"):
        # Files of Ray's in other tests' runs come and go.
        with suppress(FileNotFoundError):
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


@fault("exposure", "a search writes only to its own folder", 1)
def _(folder: Path, rng: random.Random) -> None:
    results = folder / "results"
    before = {path: path.stat().st_mtime_ns for path in models.given_features().rglob("*")}
    done = command(folder, "search", *models.searching(results))
    assert done.code == 0, done
    check_study(results, "s", models.TRIALS)
    assert {p: p.stat().st_mtime_ns for p in models.given_features().rglob("*")} == before
    said = {"said-search.txt", "said-search.errors.txt"}
    assert {path.name for path in folder.iterdir()} == {"results", *said}
