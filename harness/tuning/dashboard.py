"""Optuna's dashboard, and what it shows of a study beside the trials."""

import json
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from harness.errors import InputError
from harness.interrupts import attended
from harness.study.backend import Backend

HOST = "127.0.0.1"
# The default of optuna-dashboard; if it is taken, a free port.
_PORT = 8080


class Artifacts(FileSystemArtifactStore):
    """Files of a study that the dashboard offers, as hard links."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder)
        self._folder = folder

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        target = self._folder / artifact_id
        try:
            os.link(content_body.name, target)
        except OSError:  # a file system without hard links
            with target.open("wb") as file:
                shutil.copyfileobj(content_body, file)


def attach(trial: optuna.Trial, file: Path, artifacts: Artifacts) -> None:
    """Offers a file in the dashboard's page of a trial that has not ended."""
    upload_artifact(artifact_store=artifacts, file_path=str(file), study_or_trial=trial)


def describe(study: optuna.Study, text: str) -> None:
    """Puts a note (Markdown) on the study."""
    # Imported here, because it takes a second.
    from optuna_dashboard import get_note, save_note

    if get_note(study) != text:
        save_note(study, text)


def show_figures(study: optuna.Study, figures: dict[str, Any]) -> None:
    """Puts plotly figures on the dashboard's page of the study; equal names are replaced."""
    from optuna_dashboard import save_plotly_graph_object

    for name, figure in figures.items():
        save_plotly_graph_object(study, figure, graph_object_id=name)


class Dashboard(ExitStack):
    """optuna-dashboard on the loopback interface, in a process of its own; a context manager.

    address: its URL, once entered. It ends with this process, however that ends.
    """

    def __init__(self, backend: Backend, artifacts: Path) -> None:
        super().__init__()
        # Through a pipe, because every user of the machine can see the arguments of a process.
        self._task = json.dumps(
            {
                "url": backend.url,
                "journal": str(backend.journal.path) if backend.journal else None,
                "artifacts": str(artifacts),
                "port": _free_port(),
            }
        )
        self.address = ""

    def __enter__(self) -> "Dashboard":
        # With this process's path, because -c searches the current folder first.
        serve = "from harness.tuning import dashboard; dashboard.serve()"
        line = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {serve}"]
        self._process = subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Ctrl-C ends the search, which ends the dashboard.
            start_new_session=True,
        )
        self.callback(self._stop)
        assert self._process.stdin  # both are pipes
        assert self._process.stdout
        self._process.stdin.write(self._task + "\n")
        self._process.stdin.flush()
        with attended("the dashboard, which starts"):
            self.address = self._process.stdout.readline().strip()
        if not self.address:
            raise InputError("--dashboard: it did not start; try optuna-dashboard by hand")
        return self

    def _stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def wait(self) -> None:
        """Waits for Ctrl-C, which is the intended end."""
        with suppress(KeyboardInterrupt):
            self._process.wait()


def serve() -> None:
    """The process of the dashboard: its task is a line on standard input."""
    from optuna_dashboard import wsgi

    task = json.loads(sys.stdin.readline())
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = (
        JournalStorage(JournalFileBackend(task["journal"]))
        if task["journal"]
        else RDBStorage(task["url"], skip_table_creation=True)
    )
    app = wsgi(storage, Artifacts(Path(task["artifacts"])))
    server = make_server(HOST, task["port"], cast(Any, app), _Threaded, _Silent)
    # The pipe ends with the search.
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    print(f"http://{HOST}:{server.server_port}/", flush=True)
    server.serve_forever()


class _Threaded(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def _free_port() -> int:
    for port in (_PORT, 0):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise InputError(f"`dashboard`: no port is free on {HOST}")
