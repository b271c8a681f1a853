"""The benchmark of a machine with a GPU: what it prints, on a bare machine too, and what a part
that hangs, crashes or is missing something costs."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.gpu.parts import PARTS, ROOT, command, run_part
from tests.benchmarks.gpu.tests import outcomes

#: What a machine with torch and numpy may lack.
LACKING = (
    "ray", "optuna", "av", "pandas", "pyarrow", "rich", "typer", "pydantic", "safetensors",
    "sqlalchemy", "cmaes", "plotly", "selenium", "hypothesis",
)  # fmt: skip
HIDING = """
from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec

def found(cls, name, path=None, target=None):
    return None if name.partition(".")[0] in {modules!r} else find_spec(name, path, target)

PathFinder.find_spec = classmethod(found)
"""


def without(folder: Path, *modules: str) -> dict[str, str]:
    """The environment of a Python that lacks some modules, and of all that it starts."""
    (folder / "sitecustomize.py").write_text(HIDING.format(modules=set(modules)))
    return os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def benchmark(*arguments: object, env: dict[str, str] | None = None) -> dict[str, Any]:
    line = [sys.executable, "-m", "tests.benchmarks.gpu", "--quick", "--device", "cpu", "--json"]
    done = subprocess.run(
        [*line, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=ROOT,
        env=env, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def check_rows(part: dict[str, Any], *names: str) -> None:
    """Each row has these figures, all finite and above zero."""
    rows = part["figures"]["rows"]
    assert rows
    for row in rows:
        assert all(math.isfinite(row[name]) and row[name] > 0 for name in names), row


NETWORK = ("batch", "images_a_second", "relative_error")
TRAINING = ("ours_s", "conventional_s", "throughput_ratio", "startup_s")
SHARING = ("trials", "trials_an_hour", "over_one")


@pytest.mark.slow
def test_every_part_gives_figures_or_its_reason(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    found = benchmark("--out", out)
    assert json.loads(out.read_text()) == found
    parts = found["parts"]
    assert list(parts) == [part.name for part in PARTS]
    # Compiling takes minutes on a busy machine.
    statuses = {name: part["status"] for name, part in parts.items()}
    assert statuses.pop("compiled").startswith(("done", "cut off after"))
    assert set(statuses.values()) == {"done"}, statuses
    card = parts["card"]["figures"]
    assert {"name", "driver", "cuda", "cudnn", "python", "torch", "torchvision", "ray", "optuna",
            "av", "cores"} <= card.keys()  # fmt: skip
    tests = parts["tests"]["figures"]
    assert (tests["failed"], tests["not_run"]) == (0, 0), tests
    assert tests["passed"] + tests["skipped"] >= 8
    check_rows(parts["extraction"], *NETWORK, "over_plain_float32")
    of = {(row["way"], row["precision"]): row for row in parts["extraction"]["figures"]["rows"]}
    assert {precision for _, precision in of} == {"float32", "tf32", "bf16"}
    for way in ("plain", "fused"):
        assert of[way, "float32"]["relative_error"] < 1e-4 < of[way, "bf16"]["relative_error"] < 0.2
    if parts["compiled"]["figures"].get("rows"):
        check_rows(parts["compiled"], "images_a_second", "over_fused", "relative_error")
    check_rows(parts["training"], *TRAINING)
    assert len(parts["training"]["figures"]["rows"]) >= 2
    check_rows(parts["sharing"], *SHARING)
    search = parts["search"]["figures"]
    assert search["trials"] == 3
    assert search["seconds"] > search["steps"]["features"] > 0


@pytest.mark.slow
def test_a_bare_machine_measures_what_it_can(tmp_path: Path) -> None:
    chosen = [f"--only={name}" for name in ("tests", "extraction", "training", "search")]
    parts = benchmark(*chosen, env=without(tmp_path, *LACKING))["parts"]
    assert parts["search"]["status"].startswith("skipped: needs ray, optuna, av")
    check_rows(parts["extraction"], *NETWORK)
    check_rows(parts["training"], *TRAINING)
    tests = parts["tests"]["figures"]
    assert tests["passed"] + tests["skipped"] >= 8, "those of heads run"
    assert "optuna" in "".join(tests["not_run_for"].values()), tests


def test_what_is_missing_is_said_where_it_is_needed(tmp_path: Path) -> None:
    env = without(tmp_path, "ray", "av")
    parts = benchmark("--only", "card", "--only", "search", env=env)["parts"]
    assert parts["search"]["status"] == "skipped: needs ray, av"
    card = parts["card"]["figures"]
    assert parts["card"]["status"] == "done"
    assert (card["ray"], card["av"]) == ("missing", "missing")
    assert card["optuna"] != "missing"


def test_what_is_measured_imports_torch_and_numpy_alone(tmp_path: Path) -> None:
    modules = ["harness.encoders.mtl_dan.fused", "harness.encoders.mtl_dan.network",
               "harness.models.training", "harness.trials.trial", "tests.benchmarks.training",
               "tests.benchmarks.gpu.__main__",
               *(f"tests.benchmarks.gpu.{part.name}" for part in PARTS)]  # fmt: skip
    program = f"import importlib\nfor each in {modules!r}: importlib.import_module(each)"
    env = without(tmp_path, *LACKING, "torchvision", "scipy", "PIL")
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr


def test_a_part_that_hangs_is_cut_off_with_all_that_it_started() -> None:
    program = (
        "import json, os, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        "print(json.dumps({'rows': [1], 'pids': [os.getpid(), child.pid]}))\n"
        "print('{\"rows\": [1, 2', end='')\n"
        "time.sleep(600)"
    )
    ended = run_part([sys.executable, "-c", program], 3)
    assert ended["status"] == "cut off after 3 s"
    assert ended["figures"]["rows"] == [1], "what it had printed stays"
    deadline = time.monotonic() + 60  # a killed process takes its time to disappear
    while running := [pid for pid in ended["figures"]["pids"] if is_running(pid)]:
        assert time.monotonic() < deadline, running
        time.sleep(0.05)


def test_a_part_that_crashes_says_how_and_keeps_its_figures() -> None:
    program = (
        "import os, sys\nprint('{\"rows\": [1]}', flush=True)\n"
        "print('the driver is gone', file=sys.stderr, flush=True)\nos.abort()"
    )
    ended = run_part([sys.executable, "-c", program], 60)
    assert ended["status"] == f"failed: exit code {-signal.SIGABRT}: the driver is gone"
    assert ended["figures"] == {"rows": [1]}


def test_a_part_without_a_gpu_says_so() -> None:
    hidden = ["env", "CUDA_VISIBLE_DEVICES=", *command("card", "cuda", True)]
    assert run_part(hidden, 300)["status"] == "skipped: needs a CUDA device"


def test_a_run_that_is_ended_keeps_the_parts_that_it_had(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    line = [sys.executable, "-m", "tests.benchmarks.gpu", "--device", "cpu", "--quick", "--out"]
    process = subprocess.Popen(
        [*line, str(out), "--only", "card", "--only", "training"], cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not out.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    assert list(json.loads(out.read_text())["parts"]) == ["card"]


def test_outcomes_of_tests_are_counted_with_their_reasons(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_passes(): pass\n"
        "def test_fails(): assert 1 == 2, 'not equal'\n"
        "@pytest.mark.skip(reason='no card')\n"
        "def test_is_skipped(): pass\n"
    )
    (tmp_path / "test_others.py").write_text("import no_such_module\n")
    report = tmp_path / "report.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--continue-on-collection-errors", "-c", os.devnull,
         "--rootdir", tmp_path, "--junitxml", report, tmp_path],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    found = outcomes(report)
    counts = [found[name] for name in ("passed", "failed", "skipped", "not_run")]
    assert counts == [1, 1, 1, 1]
    assert "not equal" in next(iter(found["failures"].values()))
    assert found["skipped_for"] == {"no card": 1}
    assert "no_such_module" in next(iter(found["not_run_for"].values()))
