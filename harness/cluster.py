"""Ray: a cluster that is joined, or one of our own on the loopback interface."""

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray._private import worker as ray_worker

import harness
from harness.errors import InputError
from harness.interrupts import uninterrupted

# Ray would otherwise report usage to its maker and warn about settings to come.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


# Of Ray's processes: without one of these nothing goes on, and its own words on that come a minute
# later, if they come at all.
_VITAL = ("raylet", "gcs_server")
_LOOK = 0.5
_joining = threading.Lock()


def join(address: str | None) -> None:
    """Connects to the cluster at `address`, or starts one on this machine; once a process.

    Raises:
        InputError: no cluster answers at the address, or it refuses us.
    """
    with _joining:
        if not ray.is_initialized():
            _join(address)


@contextmanager
def watched(last_words: Callable[[], str]) -> Iterator[None]:
    """Ends this process, with a line, when Ray of this machine is killed while it is worked with.

    Whoever waits for an answer of Ray's would wait for ever. Of a cluster that was joined Ray tells
    by itself, after a minute.

    Args:
        last_words: says what was kept and what to do.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK):
            node: Any = ray_worker._global_node
            dead = node.dead_processes() if node else []
            if gone := [name for name, _ in dead if name in _VITAL]:
                print(f"error: Ray's {gone[0]} was killed; {last_words()}", file=sys.stderr)
                sys.stderr.flush()
                node.kill_all_processes(check_alive=False, allow_graceful=False)
                # The threads of Ray's client never end.
                os._exit(1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _join(address: str | None) -> None:
    if address is None:
        # A cluster of our own stays on the loopback interface. Ray takes no address for that: it
        # exchanges 127.0.0.1 for the machine's own, unless told that there is but one machine.
        os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
        ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        _knock(address)
        # Ctrl-C within it could end in a crash of Ray's own code, and leave its processes behind.
        with uninterrupted() if address is None else nullcontext():
            ray.init(
                address=address or "local",
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
                runtime_env=_environment(),
            )
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        if address is None:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # what the system refused has a line of its own
            raise InputError(f"Ray does not start on this machine: {error}") from error
        raise InputError(
            f"--address {address}: no Ray cluster lets us in there; start one by ray start --head, "
            "with the same RAY_AUTH_MODE and token here and on its machines"
        ) from error


def _environment() -> dict[str, Any] | None:
    """What Ray's workers are started with: None, unless the current folder holds another package
    of our name.

    Ray puts the current folder first in its workers' path, where such a package would be found.
    They then import this one before that, and keep it. Without need it is left out, as workers
    that are started in advance have no environment of their own.
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


def _knock(address: str | None) -> None:
    """OSError where nothing listens, for which Ray would wait for minutes."""
    host, _, port = (address or "").rpartition(":")
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
