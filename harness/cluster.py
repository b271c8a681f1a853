"""Ray: a cluster that is joined, or one of our own on the loopback interface.

Names of Ray that are private or undocumented are used in this file alone. tests/tuning/test_ray.py
checks that they exist.
"""

import atexit
import logging
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle
from ray._private import ray_constants
from ray._private import worker as ray_worker
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import harness
from harness.cores import cores
from harness.errors import InputError
from harness.interrupts import (
    ENDING,
    Wait,
    end_now,
    heard,
    received,
    unchanged,
    uninterrupted,
)
from harness.processes import Process, descendants, kill

# Otherwise Ray reports usage to its maker and warns about future settings.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

_log = logging.getLogger(__name__)
# Ray's processes that it cannot work without. Ray itself reports their death a minute later, or
# never.
_VITAL = ("raylet", "gcs_server")
# Seconds between two looks at Ray; for joining or starting a cluster; for the main thread to end
# by itself after a signal; for the nodes of a cluster to tell their versions.
_LOOK, _JOINING, _ENDING, _ANSWERING = 0.5, 120.0, 6.0, 120.0
# Paths of sockets have at most 107 bytes, of which Ray's session and socket names take 70.
_LONGEST_FOLDER, _FOLDER = 30, "/tmp/ray"
# What is read of Ray's messages: the figures of its memory monitor, the node of an actor, lines
# that only identify the actor. And how much of a message is stored with its trial, in characters.
_MEMORY = re.compile(r"Memory on the node \(IP: ([^,)]+).*?\) was (.+? limit)")
_NODE = re.compile(r"^\s*ip: (\S+)$", re.MULTILINE)
_IDENTITY = re.compile(r"(class_name|actor_id|pid|name|namespace|ip): |Failure # \d+ ")
_LONGEST_REASON = 600
# Standard error; a line of the log of Ray's C++ code, and what it says of a wrong token.
_STDERR = 2
_LOGGED = re.compile(r"\[[-0-9]+ [:,0-9]+ [A-Z] \d+ \d+\] ")
_REFUSED = re.compile(r"InvalidAuthToken: [^\n]+")
_joining = threading.Lock()
# Where `join` last connected this process: an address, or "" for Ray of this machine.
_joined: str | None = None


def join(address: str | None) -> None:
    """Connects to the cluster at `address`, or starts one on this machine; once a process.

    Without an address, Ray is used as it runs already.

    Raises:
        InputError: no cluster answers at the address, it refuses us, or a node of it lacks this
            package or has another version; or this process has joined another one.
    """
    global _joined  # as Ray's own connection
    with _joining:
        if ray.is_initialized():
            # What the user connected is used whatever its address.
            if address is not None and _joined not in (None, address):
                raise InputError(
                    f"{address}: this process already uses Ray of {_joined or 'this machine'}; "
                    "restart it (a notebook: its kernel)",
                    "address",
                )
            return
        for text in (*sys.argv, str(Path.cwd())):
            if not text.isascii() and text != text.encode(errors="replace").decode():
                raise InputError(f"{text!r}: Ray needs names in UTF-8; rename it, or use a link")
        _joined = address or ""
        if address is None:
            _start()
        else:
            _connect(address)
            _check_versions(address)


def _start() -> None:
    # A cluster of our own stays on the loopback interface. Ray has no option for that: it replaces
    # 127.0.0.1 by the machine's address, unless it is told that there is only one machine.
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    _ensure_token()
    # Workers that Ray starts in advance have not the environment that Ray Tune gives to trials, so
    # that none would be used.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    try:
        # A signal within it could crash Ray's own code, and leave its processes behind.
        with (
            uninterrupted(),
            unchanged(),
            _inherited(signal.SIG_BLOCK, ENDING),
            _limited("Ray, which starts on this machine"),
        ):
            ray.init(address="local", num_cpus=cores(), _temp_dir=_folder(), **_options())
            atexit.register(_end, os.getpid(), _processes())
    except Exception as error:  # also those that Ray raises without a kind of their own
        if isinstance(error, OSError) and error.errno is not None:
            raise  # has a line of its own
        raise InputError(
            f"Ray does not start on this machine: {_one_line(error)}; are TMPDIR (its files) and "
            "/dev/shm writable, and does `ulimit -u` allow enough processes?"
        ) from error


@contextmanager
def _inherited(how: int, numbers: Iterable[int]) -> Iterator[None]:
    """Changes the signal mask of this thread, for processes that start in the block.

    Ray blocks SIGINT in its own. Another signal to the whole process group would end its raylet,
    and Ray's C++ code then ends this process within a second or two, without a word and with status
    1, whatever it is writing. Other threads of this process hear the signal.
    """
    before = signal.pthread_sigmask(how, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(owner: int, started: set[Process]) -> None:
    """Ends the Ray of our own with all its processes, when this process ends.

    Ray ends its first processes alone. The agents that these have started look now and then whether
    they still live, on a busy machine for a minute.

    Args:
        started: at first; a signal may have ended their parents before the others.
    """
    if os.getpid() == owner:  # not in a forked child
        started |= _processes()
        # Without its node, `shutdown` leaves the processes, which would hear no SIGTERM, to us.
        node: Any = ray_worker._global_node
        ray_worker._global_node = None
        ray.shutdown()
        if node:
            node.kill_all_processes(check_alive=False, allow_graceful=False)
        kill(started)


def _processes() -> set[Process]:
    """Those of the Ray of our own that its first processes, which are ours, have started."""
    node: Any = ray_worker._global_node
    return descendants(*(each.pid for _, each in node.live_processes())) if node else set()


def _connect(address: str) -> None:
    said: list[str] = []
    try:
        _knock(address)
        with (
            _collecting(said),
            unchanged(),
            _limited(f"the Ray cluster at {address}, which does not answer"),
        ):
            ray.init(address=address, **_options())
    except Exception as error:  # as above
        if "ersion mismatch" in str(error):
            raise InputError(
                f"`address` {address}: {_one_line(error)}; install the same Ray and Python on all "
                "nodes and here"
            ) from error
        if refused := _REFUSED.search("".join(said)):
            raise InputError(
                f"`address` {address}: the Ray cluster refuses us ({refused[0]}); set "
                "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN here as on its machines"
            ) from error
        raise InputError(
            f"`address` {address}: no Ray cluster lets us in there; expected HOST:PORT of one that "
            "ray start --head started, with the same RAY_AUTH_MODE and token here and there"
        ) from error


@contextmanager
def _collecting(said: list[str]) -> Iterator[None]:
    """Collects the lines that Ray's C++ code writes to standard error in the block.

    Ray repeats its reason each second until it fails. What Python writes to `sys.stderr` is printed
    at once. At the end, other lines are printed as well: all of them, or after an error those that
    are not of Ray's log. Ray's log lines are also in the log.
    """
    before = sys.stderr
    try:
        is_ours = before.fileno() == _STDERR
    except (AttributeError, OSError):  # closed, or a notebook's
        is_ours = False
    if not is_ours:
        yield
        return
    terminal = os.fdopen(
        os.dup(_STDERR), "w", buffering=1, encoding=before.encoding, errors=before.errors
    )
    collected = os.fdopen(os.memfd_create("ray"), "r+", errors="replace")
    is_done = False
    before.flush()
    os.dup2(collected.fileno(), _STDERR)
    sys.stderr = terminal
    try:
        yield
        is_done = True
    finally:
        os.dup2(terminal.fileno(), _STDERR)
        sys.stderr = before
        with terminal, collected:
            collected.seek(0)
            said += collected
        for line in said:
            if is_done or not _LOGGED.match(line):
                print(line, end="", file=sys.stderr)
            else:
                _log.info("Ray: %s", line.rstrip())
        before.flush()


def _options() -> dict[str, Any]:
    return {
        "include_dashboard": False,
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "runtime_env": _environment(),
    }


def _ensure_token() -> None:
    """Passes a token to Ray by the environment where it cannot write one to ~/.ray."""
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        return
    try:
        folder = Path.home() / ".ray"
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "auth_token").is_file() or os.access(folder, os.W_OK):
            return
    except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home
        _log.info("Ray's token is passed by the environment: %s", error)
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _folder() -> str | None:
    """Where Ray keeps its files; None: where it does so by default."""
    given = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR")
    if given is None or (given.startswith("/") and len(os.fsencode(given)) <= _LONGEST_FOLDER):
        return None
    _log.info("Ray's files are in %s, because of the length of %s", _FOLDER, given)
    return _FOLDER


def _check_versions(address: str) -> None:
    """InputError for a node of the cluster that lacks this package or has another version."""

    def version() -> str:  # pickled as code, so that it runs where the package is missing
        try:
            return f"harness {import_module('harness').__version__}"
        except ImportError as error:
            return f"no package harness ({error})"

    ask = ray.remote(num_cpus=0, max_retries=0)(version)
    nodes = {
        ask.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(): node["NodeManagerAddress"]
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    }
    wait, until, left = Wait(f"the nodes of the Ray cluster at {address}"), _ANSWERING, list(nodes)
    begun = time.monotonic()
    while left and time.monotonic() - begun < until:
        ready, left = ray.wait(left, timeout=1)
        wait.report()
        for each in ready:
            _check_version(address, nodes[each], each)
    if left:
        silent = ", ".join(nodes[each] for each in left)
        _log.warning("nodes that did not tell their version in %g s: %s", until, silent)


def _check_version(address: str, node: str, answer: Any) -> None:
    try:
        found = ray.get(answer)
    except ray.exceptions.RayError as error:  # the node was lost, which trials survive
        _log.warning("node %s did not tell its version: %s", node, reason(error))
        return
    if found != f"harness {harness.__version__}":
        raise InputError(
            f"`address` {address}: node {node} has {found}, here is harness "
            f"{harness.__version__}; install the same on all nodes, or submit the search with "
            "ray job submit --working-dir"
        )


@contextmanager
def _limited(what: str) -> Iterator[None]:
    """Limits the time of a call of Ray that may never return, and that hears no signal.

    After 30 s it is reported what is waited for. After `_JOINING` seconds, or `_ENDING` after a
    signal, the process ends with a line.
    """
    wait, begun = Wait(what), time.monotonic()
    asked: list[float] = []

    with heard() as signalled:

        def look() -> str:
            wait.report()
            now = time.monotonic()
            if (number := signalled()) is not None:
                asked.append(now)
                if now - asked[0] > _ENDING:
                    end_now("Ray did not answer; run the same command again", number)
            return f"waited {_JOINING:.0f} s for {what}" if now - begun > _JOINING else ""

        with _watching(look):
            yield


@contextmanager
def watched(last_words: Callable[[], str]) -> Iterator[None]:
    """Ends this process, with a line, when Ray of this machine is killed while it is used.

    A call that waits for Ray would wait forever. For a joined cluster, Ray itself reports its end
    after a minute.

    Args:
        last_words: tells what is kept and what to do.
    """
    since: list[float] = []

    def look() -> str:
        node: Any = ray_worker._global_node
        dead = [name for name, _ in node.dead_processes()] if node else []
        gone = [name for name in dead if name in _VITAL]
        if not gone:
            return ""
        since.append(time.monotonic())
        # A signal to the whole process group ends Ray, too, perhaps before this process hears it;
        # the main thread then ends by itself.
        if since[-1] - since[0] < (_LOOK if received() is None else _ENDING):
            return ""
        return f"Ray's {gone[0]} was killed; {last_words()}"

    with _watching(look):
        yield


@contextmanager
def _watching(look: Callable[[], str]) -> Iterator[None]:
    """Ends this process with the line that `look` returns; it is called twice a second."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK):
            if line := look():
                end_now(line, received())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def error_of(trial: Any) -> object:
    """What ended a trial of Ray Tune: an exception, its text, or None where neither is known."""
    pickled, text = trial.pickled_error_file, trial.error_file
    if pickled and Path(pickled).is_file():
        return cloudpickle.loads(Path(pickled).read_bytes())
    return Path(text).read_text(errors="replace") if text and Path(text).is_file() else None


def reason(error: object) -> str:
    """Ray's reason for the loss of a trial on one line, with its kind and the node.

    Args:
        error: an exception of Ray, the text of one, or None where Ray gave none.
    """
    if error is None:
        return "the worker was lost; Ray gave no reason"
    text = str(error)
    if memory := _MEMORY.search(text):
        return f"Ray killed the worker, as node {memory[1]} ran out of memory: {memory[2]}"
    node = _NODE.search(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "Traceback" in text:
        lines = lines[-1:]  # of an exception on the worker, such as a missing package
    kind = f"{type(error).__name__}: " if isinstance(error, BaseException) else ""
    where = f"on node {node[1]}: " if node else ""
    told = " ".join(line for line in lines if not _IDENTITY.match(line))
    return f"{kind}{where}{told}"[:_LONGEST_REASON]


def is_out_of_memory(error: object) -> bool:
    """Whether Ray's memory monitor killed the worker."""
    return _MEMORY.search(str(error)) is not None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _environment() -> dict[str, Any] | None:
    """The runtime environment of Ray's workers: None, unless the current folder holds another
    package of our name.

    Ray puts the current folder first in its workers' path, so that they would import that package.
    The environment makes them import this one first. Without need there is none, because workers
    that are started in advance have none.
    """
    found = PathFinder.find_spec(harness.__name__, [str(Path.cwd())])
    # A folder without an __init__.py has no origin and hides no package.
    if found is None or found.origin is None or Path(found.origin).samefile(str(harness.__file__)):
        return None
    place = str(Path(str(harness.__file__)).parent.parent)

    def import_ours() -> None:  # pickled as code, since its module cannot be imported yet
        sys.path.insert(0, place)
        import_module("harness")
        sys.path.remove(place)

    return {"worker_process_setup_hook": import_ours}


def _knock(address: str) -> None:
    """OSError where nothing listens, for which Ray would wait for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


@dataclass(frozen=True)
class Machine:
    """What a machine of the cluster offers: whole cores and whole GPUs."""

    cpus: int
    gpus: int


def machines() -> list[Machine]:
    """Those of the joined cluster that are alive."""
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return [Machine(int(each.get("CPU", 0)), int(each.get("GPU", 0))) for each in found]


def resource(name: str) -> float:
    """How much of a resource, such as "GPU", the joined cluster has."""
    return float(ray.cluster_resources().get(name, 0))  # type: ignore[no-untyped-call]


def free() -> dict[str, float]:
    """What nobody uses of the joined cluster's resources."""
    return dict(ray.available_resources())  # type: ignore[no-untyped-call]
