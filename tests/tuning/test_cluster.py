"""A search on a Ray cluster of several nodes: it is joined, and a node is lost in the middle."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import optuna
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray._private import ray_constants
from ray.cluster_utils import Cluster

import harness
from harness.encoders.mtl_dan.checkpoints import save_mtl_dan
from harness.spaces import SPACES
from harness.study.backend import open_backend
from harness.study.folder import StudyFolder
from tests.clusters import make_cluster
from tests.commands import HANGS, command
from tests.faults.whole import check_study
from tests.networks import make_network
from tests.ports import free_port
from tests.searches import slow_space
from tests.trees import plain_tree

# Holds the only core of a cluster, and says when.
HOLDER = """
import ray, sys, time
ray.init(sys.argv[1], log_to_driver=False)
class Holder:
    def ready(self): pass
holder = ray.remote(num_cpus=1)(Holder).remote()
ray.get(holder.ready.remote())
print("held", flush=True)
time.sleep(1000)
"""


@pytest.fixture(autouse=True)
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters are not limited to loopback, as those are that a search in this process starts."""
    monkeypatch.delenv(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, raising=False)
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without CPUs, so that trials run on other nodes, and two of those."""
    cluster = make_cluster(num_cpus=0)
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
def test_features_are_computed_on_every_node(tmp_path: Path, cluster: Cluster) -> None:
    data = plain_tree(tmp_path, "clips")
    weights = tmp_path / "m.safetensors"
    save_mtl_dan(weights, make_network(1), {"input_size": "32"})
    line = ["--data", data, "--crop", "none", "--weights", weights, "--stride", 4]
    done = command("extract", *line, "--results", tmp_path, "--address", cluster.address)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "60 frames" in done.stdout


def line(tmp_path: Path, address: str, *more: object) -> list[str]:
    data = plain_tree(tmp_path, "features")
    found = ["--data", data, "--space", slow_space(tmp_path, epochs=3), "--trials", 1]
    found += ["--results", tmp_path, "--study", "s", "--address", address, *more]
    return [sys.executable, "-m", "harness.search", *map(str, found)]


@pytest.mark.slow
def test_a_search_without_a_free_core_says_what_it_waits_for(tmp_path: Path) -> None:
    cluster = make_cluster(num_cpus=1)
    hold = [sys.executable, "-c", HOLDER, cluster.address]
    other = subprocess.Popen(hold, stdout=subprocess.PIPE, text=True)
    search = subprocess.Popen(
        ["sh", "-c", 'read held && exec "$@"', "sh", *line(tmp_path, cluster.address)],
        stdin=other.stdout, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert search.stderr
        said = search.stderr.readline()
        assert said.startswith("waiting for a trial to start: it needs 1 CPU (0 of 1 are free) (")
        other.kill()
        _, err = search.communicate(timeout=HANGS)
        assert search.returncode == 0, err
    finally:
        search.kill()
        other.kill()
        cluster.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("package", ["__version__ = '9'", "raise ImportError('broken')"])
def test_a_node_with_another_package_is_named(tmp_path: Path, package: str) -> None:
    (tmp_path / "other" / "harness").mkdir(parents=True)
    (tmp_path / "other" / "harness" / "__init__.py").write_text(package)
    cluster = make_cluster(num_cpus=1, env_vars={"PYTHONPATH": str(tmp_path / "other")})
    environment = os.environ | {"PYTHONPATH": str(Path(harness.__file__).parent.parent)}
    try:
        done = subprocess.run(
            line(tmp_path, cluster.address), cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        cluster.shutdown()
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    found = "harness 9" if "9" in package else "no package harness (broken)"
    assert f"has {found}, here is harness {harness.__version__}; install" in done.stderr


# Loaded by Python at its start.
OTHER_PYTHON = """
from ray._private import utils
utils.compute_version_info = lambda: (utils.ray.__version__, "3.99.1")
"""


@contextmanager
def started_head(environment: dict[str, str], *more: object) -> Iterator[str]:
    """The address of `ray start --head`, which is ended with the block."""
    port = free_port()
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    start += [f"--port={port}", "--num-cpus=1", *map(str, more)]
    head = subprocess.Popen(
        start, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert head.stdout
        said = ""
        while "Ray runtime started" not in said:
            more_said = head.stdout.readline()
            assert more_said, said
            said += more_said
        yield f"127.0.0.1:{port}"
    finally:
        head.terminate()
        head.wait(HANGS)


@pytest.mark.slow
def test_a_cluster_with_another_python_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(OTHER_PYTHON)
    open_to_all = os.environ | {"RAY_AUTH_MODE": "disabled"}
    other = open_to_all | {"PYTHONPATH": str(tmp_path)}
    with started_head(other, "--include-dashboard=false") as address:
        done = subprocess.run(
            line(tmp_path, address), env=open_to_all, capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Python: 3.99.1 This process on node" in done.stderr
    assert "install the same Ray and Python" in done.stderr


@pytest.mark.slow
def test_a_cluster_with_another_token_is_one_line(tmp_path: Path) -> None:
    closed = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 64}
    # Ray tries it again each second, by default twenty times.
    other = closed | {"RAY_AUTH_TOKEN": "b" * 64, "RAY_NUM_REDIS_GET_RETRIES": "2"}
    with started_head(closed, "--include-dashboard=false") as address:
        done = subprocess.run(
            line(tmp_path, address), env=other, capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"--address {address}: the Ray cluster refuses us (InvalidAuthToken: " in done.stderr


# Ray's C++ code, another library and Python write to standard error while a cluster is joined.
JOINING = """
import os, sys
from harness.cluster import _collecting
said = []
try:
    with _collecting(said):
        os.write(2, b"[2026-11-26 18:58:37,571 W 26 27] gcs.cc:210: Unauthenticated\\nother\\n")
        print("at once", file=sys.stderr)
        if len(sys.argv) > 1:
            raise OSError
except OSError:
    print(len(said), file=sys.stderr)
os.write(2, b"after")
"""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["at once", "[2026-11-26 18:58:37,571 W 26 27] gcs.cc:210: Unauthenticated",
              "other", "after"]),
        (["fail"], ["at once", "other", "2", "after"]),
    ],
    ids=["joined", "failed"],
)  # fmt: skip
def test_only_the_log_of_ray_is_withheld_if_a_cluster_does_not_let_us_in(
    arguments: list[str], expected: list[str]
) -> None:
    program = [sys.executable, "-c", JOINING, *arguments]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == expected


# Plays SLURM's srun on one machine: runs the command of a step, and notes its process.
SRUN = """#!/bin/bash
while [ "$1" != ray ]; do shift; done
echo $$ >> "$(dirname "$0")/steps"
exec "$@"
"""


@pytest.mark.slow
def test_the_slurm_script_of_several_nodes_runs(tmp_path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "search.md").read_text()
    (script,) = (s for s in re.findall(r"```sh\n(.*?)```", document, re.DOTALL) if "srun" in s)
    address = '"$head:6379"'
    begin = script.index("--address " + address + " --gpus-per-trial")
    options = shlex.join(line(tmp_path, "ADDRESS", "--concurrency", 2)[3:])
    job = script[:begin] + options.replace("ADDRESS", address)
    job += script[script.index(" &\nsearch=") :]
    (tmp_path / "job.sh").write_text(job.replace("6379", str(free_port())))
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "srun").write_text(SRUN)
    (programs / "srun").chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_NNODES": "2", "SLURMD_NODENAME": "127.0.0.1", "SLURM_JOB_ID": "77",
    }  # fmt: skip
    said = tmp_path / "said.txt"  # the steps that go on would keep a pipe open
    try:
        with said.open("w") as file:
            done = subprocess.run(
                ["bash", tmp_path / "job.sh"], env=environment, check=False, timeout=HANGS,
                stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
    finally:
        steps = [int(pid) for pid in (programs / "steps").read_text().split()]
        for pid in steps:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
    assert done.returncode == 0, said.read_text()
    assert len(steps) == 2
    check_study(tmp_path, "s", 1)


@pytest.mark.slow
def test_a_submitted_job_leaves_its_results_where_the_documents_say(tmp_path: Path) -> None:
    if find_spec("aiohttp") is None:
        pytest.skip("the extra `jobs` is not installed")
    job = tmp_path / "job"
    job.mkdir()
    data = plain_tree(job, "features")
    shutil.copytree(Path(harness.__file__).parent, job / "harness")
    shutil.copy(slow_space(tmp_path, epochs=2), job / "space.toml")
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    dashboard = free_port()
    with started_head(environment, "--include-dashboard=true", f"--dashboard-port={dashboard}"):
        submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit"]
        submit += ["--address", f"http://127.0.0.1:{dashboard}", "--working-dir", str(job), "--"]
        search = ["python", "-m", "harness.search", "--address", "auto", "--trials", "1"]
        search += ["--data", str(data.relative_to(job)), "--space", "space.toml", "--study", "s"]
        for where in (["--results", str(tmp_path / "volume")], []):
            done = subprocess.run(
                [*submit, *search, *where], env=environment, cwd=tmp_path,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr + done.stdout
            assert "succeeded" in done.stdout
    check_study(tmp_path / "volume", "s", 1)
    assert not list(job.rglob("study.log")), "a relative path is not in the submitted folder"


@pytest.mark.slow
def test_a_port_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        process = subprocess.Popen(line(tmp_path, address), stderr=subprocess.PIPE, text=True)
        assert process.stderr
        lines = iter(process.stderr.readline, "")
        assert any(said.startswith("waiting for the Ray cluster at") for said in lines)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted by SIGINT" in err


@pytest.mark.slow
def test_gpus_that_are_not_used_are_told_of(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine can measure what a trial needs of a GPU")
    cluster = make_cluster(num_cpus=1, num_gpus=2)
    try:
        line = ["--data", plain_tree(tmp_path, "features")]
        line += ["--space", SPACES / "smoke.toml", "--trials", 1, "--results", tmp_path]
        line += ["--study", "s", "--address", cluster.address]
        done = command("search", *line)
    finally:
        cluster.shutdown()
    assert done.returncode == 0, done.stderr + done.stdout
    assert "2 GPUs of the cluster are not used" in done.stdout


def in_work(study: Path) -> int:
    """How many trials have done epochs and are not at their end: on two nodes of one CPU each, 2
    say that both are at work."""
    storage = JournalStorage(JournalFileBackend(str(study / "study.log")))
    running = optuna.load_study(study_name=study.name, storage=storage).get_trials(
        deepcopy=False, states=(TrialState.RUNNING,)
    )
    return sum(bool(trial.intermediate_values) for trial in running)


@pytest.mark.slow
def test_a_node_is_lost_and_the_budget_kept(tmp_path: Path, cluster: Cluster) -> None:
    data = plain_tree(tmp_path, "features")
    arguments = ["--data", data, "--space", slow_space(tmp_path, epochs=150), "--trials", 12]
    # Pruned at their first epochs, all twelve could be done before the node is missed.
    arguments += ["--scheduler", "none"]
    arguments += ["--results", tmp_path, "--study", "s", "--address", cluster.address]
    line = [sys.executable, "-m", "harness.search", *map(str, arguments)]
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    deadline = time.monotonic() + HANGS
    predictions = tmp_path / "s" / "predictions"
    while len(list(predictions.glob("[0-9]*"))) < 3 or in_work(tmp_path / "s") < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no trial is finished"
        time.sleep(0.1)
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    out, err = process.communicate(timeout=HANGS)
    assert process.returncode == 0, err + out
    check_study(tmp_path, "s", 12)
    folder = StudyFolder(tmp_path, "s")
    trials = folder.study(open_backend(folder.path).storage).trials
    lost = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert lost, "a trial was on the node"
    for trial in lost:
        assert trial.user_attrs["machine"]
        assert trial.user_attrs["reason"].startswith(("ActorUnavailable", "ActorDied", "NodeDied"))
