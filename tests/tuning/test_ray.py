"""Private names of Ray are in harness/cluster.py alone, and Ray is as that file expects."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray import tune
from ray._private import node, ray_constants, worker
from ray.tune import constants
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

import harness
from harness import cluster
from harness.errors import InputError
from harness.tuning import engine

FILES = sorted(Path(harness.__file__).parent.rglob("*.py"))


def private_names(source: str) -> Iterator[str]:
    """Private modules and attributes of Ray."""
    for found in ast.walk(ast.parse(source)):
        if isinstance(found, ast.ImportFrom) and (found.module or "").split(".")[0] == "ray":
            yield from _private(f"{found.module}." + ".".join(each.name for each in found.names))
        elif isinstance(found, ast.Import):
            for each in found.names:
                if each.name.split(".")[0] == "ray":
                    yield from _private(each.name)
        elif isinstance(found, ast.Attribute):
            path = ast.unparse(found)
            if path.split(".")[0] in ("ray", "tune"):
                yield from _private(path)


def _private(path: str) -> Iterator[str]:
    if any(part.startswith("_") and not part.startswith("__") for part in path.split(".")):
        yield path


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if file.name != "cluster.py"],
    ids=lambda file: str(file.relative_to(FILES[0].parent)),
)
def test_private_names_of_ray_are_in_one_file(file: Path) -> None:
    assert not list(private_names(file.read_text()))


@pytest.mark.parametrize(
    "source",
    [
        "from ray._private import worker",
        "import ray._private.worker",
        "from ray.tune import _x",
        "ray._private.worker._global_node",
        "tune._x()",
    ],
)
def test_private_names_are_found(source: str) -> None:
    assert list(private_names(source))


def test_private_names_of_ray_exist() -> None:
    assert ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR == "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    assert isinstance(ray_constants.ENABLE_RAY_CLUSTER, bool)
    assert hasattr(worker, "_global_node")
    assert {"check_alive", "allow_graceful"} <= set(
        inspect.signature(node.Node.kill_all_processes).parameters
    )
    assert callable(node.Node.dead_processes)
    assert callable(node.Node.live_processes)
    assert '"_temp_dir"' in inspect.getsource(ray.init)
    # Processes that `watched` looks for, by the names that Ray gives them.
    names = {
        value for name, value in vars(ray_constants).items() if name.startswith("PROCESS_TYPE_")
    }
    assert set(cluster._VITAL) <= names


def test_what_ray_tune_reads_and_calls_exists() -> None:
    source = inspect.getsource(constants) + inspect.getsource(inspect.getmodule(tune.run))
    for name in ("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "TUNE_GLOBAL_CHECKPOINT_S"):
        assert name in source
    assert "TUNE_DISABLE_SIGINT_HANDLER" in source
    assert isinstance(Trial.pickled_error_file, property)
    assert isinstance(Trial.error_file, property)
    for mine, theirs in (
        (engine.StudySearch, Searcher),
        (engine.StudyScheduler, FIFOScheduler),
        (engine.Lookout, tune.Callback),
    ):
        names = ("suggest", "on_trial_complete", "on_trial_error", "on_trial_result")
        names += ("setup", "on_step_begin", "save", "restore")
        for name in names:
            assert name not in vars(mine) or hasattr(theirs, name), f"{mine.__name__}.{name}"


def test_trials_that_end_at_once_are_not_waited_for() -> None:
    lookout = engine.Lookout(engine.Resources(), {})
    lookout.on_step_begin(0, [])
    assert lookout._wait
    lookout.on_step_begin(1, [SimpleNamespace(status="ERROR")])
    assert lookout._wait is None
    lookout.on_step_begin(2, [SimpleNamespace(status="ERROR")])
    assert lookout._wait


MEMORY = """1 worker(s) were killed due to the node running low on memory.
Memory on the node (IP: 10.0.0.7, ID: c1089e) was 3.56GB used / 23.54GB limit (0.151120)
OOM kill reason: Memory usage 3738177536B exceeded threshold of 252765008B"""
DIED = """The actor died unexpectedly before finishing this task.
\tclass_name: HeadTrainable
\tactor_id: 1f2e
\tpid: 77
\tnamespace: 9b
\tip: 10.0.0.7
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"""
MISSING = """The actor died because of an error raised in its creation task, ray::HeadTrainable()
Traceback (most recent call last):
  File "x.py", line 1, in <module>
ModuleNotFoundError: No module named 'harness'"""
REASONS = [
    (MEMORY, "Ray killed the worker, as node 10.0.0.7 ran out of memory: 3.56GB used / 23.54GB"),
    (
        DIED,
        "on node 10.0.0.7: The actor died unexpectedly before finishing this task. The actor is",
    ),
    (MISSING, "ModuleNotFoundError: No module named 'harness'"),
    (ray.exceptions.NodeDiedError("gone"), "NodeDiedError: gone"),
    (None, "the worker was lost; Ray gave no reason"),
]


@pytest.mark.parametrize(("error", "expected"), REASONS)
def test_the_reason_of_ray_is_one_line(error: object, expected: str) -> None:
    found = cluster.reason(error)
    assert found.startswith(expected)
    assert "\n" not in found
    assert "class_name" not in found
    assert cluster.is_out_of_memory(error) is (error is MEMORY)


@pytest.mark.parametrize("folder", [None, "/tmp", "/scratch/user/job1"])
def test_short_absolute_folders_are_rays_own_choice(
    monkeypatch: pytest.MonkeyPatch, folder: str | None
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)
    if folder:
        monkeypatch.setenv("TMPDIR", folder)
    assert cluster._folder() is None


@pytest.mark.parametrize("folder", ["tmp", "/" + 99 * "x"])
def test_sockets_get_a_short_folder(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", folder)
    assert cluster._folder() == "/tmp/ray"


def test_a_second_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(cluster, "_joined", "head:6379")
    cluster.join("head:6379")
    cluster.join(None)
    with pytest.raises(InputError, match="other:6379: this process already uses Ray of head:6379"):
        cluster.join("other:6379")


def test_a_token_is_passed_where_the_home_is_not_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "restored after the test")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", "/proc")  # where nobody, root included, can make a folder
    cluster._ensure_token()
    assert len(cluster.os.environ["RAY_AUTH_TOKEN"]) == 64
