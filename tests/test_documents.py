"""Every fenced command and example of README.md and docs/ runs; every link leads somewhere.

Commands run in order, each document's in a folder of its own; the README's first runs as it stands,
the others with smaller budgets. Where they need licensed data, the names DIR, FILE, CLIPS, OWN and
HEAD stand for small things of the same form.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import pandas as pd
import pytest
import torch
import typer

from harness import ensemble, extract, predict, pretrain, report
from harness.clips.demo import Demo
from tests.browser import Browser
from tests.commands import command
from tests.documents import blocks
from tests.networks import make_dan, make_network
from tests.ports import free_port
from tests.studies import make_study
from tests.trees import add_sounds, plain_tree, release_tree

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "results" / "README.md"]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
COMMANDS = ("search", "ensemble", "extract", "pretrain", "predict", "report")
# Nine heads at 224 pixels train for hours on a CPU.
SMALLER = " --heads 1 --input-size 32 --batch-size 16 --epochs 1"


def lines(path: Path) -> list[str]:
    """The fenced commands of a document, in order."""
    return [line for block in blocks(path, "bash") for line in block.splitlines() if line]


def having(kind: str) -> list[object]:
    return [pytest.param(p, id=str(p.relative_to(ROOT))) for p in DOCUMENTS if blocks(p, kind)]


def environment() -> dict[str, str]:
    """As in an activated virtual environment where the harness is installed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    more = {"PYTHONPATH": str(ROOT), "COLUMNS": "100", "PYTHONWARNINGS": "ignore", "PATH": path}
    more["RAY_AUTH_MODE"] = "token"  # as the README's cluster has it
    return os.environ | more


def shorter(line: str) -> str:
    """A command with a budget that a test can wait for: eight trials, of which five are complete,
    and two repetitions of two trials."""
    line = re.sub(r"--trials \d+", "--trials 8", line)
    if "harness.search" in line and "--trials" not in line and "--confirm" not in line:
        line = re.sub(r"(harness\.search)", r"\1 --trials 8", line)
    return re.sub(r"--(confirm|seeds) \d+", r"--\1 2", line)


def run(line: str, folder: Path, timeout: int = 1800) -> str:
    done = subprocess.run(
        ["bash", "-euc", line], cwd=folder, capture_output=True, text=True, check=False,
        env=environment(), timeout=timeout,
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


# --- The first hour.


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the README's first command has run, and what it printed."""
    folder = tmp_path_factory.mktemp("first")
    first = lines(README)[0]
    install, *rest = first.split(" && ")
    assert install == "pip install -e ."
    return folder, run(" && ".join(rest), folder)


def form(text: str) -> str:
    """A text whose numbers are all the same."""
    return re.sub(r"\d+(\.\d+)?", "N", text)


@pytest.mark.slow
def test_the_first_command_ends_as_the_readme_says(demo: tuple[Path, str]) -> None:
    promised = next(b for b in blocks(README, "") if "Expected on new clips" in b).splitlines()
    files = ("Written: ", "Next: ")
    printed = [line for line in demo[1].splitlines() if not line.startswith(files)]
    assert [form(line) for line in printed[-len(promised) :]] == [form(line) for line in promised]
    (ensemble,) = (line for line in printed if line.startswith("Ensemble: mean PCC"))
    assert float(ensemble.split()[3]) > 0.5, "the demo learns"
    assert (demo[0] / "results" / "demo" / "report.html").is_file()


@pytest.mark.slow
def test_the_dashboard_starts(demo: tuple[Path, str]) -> None:
    line = next(line for line in lines(README) if line.startswith("optuna-dashboard"))
    port = free_port()
    with group(f"{line} --port {port}", folder=demo[0]):
        pass  # it listens


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ensembles", "search"])
def test_commands_on_a_study_run(demo: tuple[Path, str], name: str) -> None:
    for line in lines(ROOT / "docs" / f"{name}.md"):
        assert run(shorter(line), demo[0])


@pytest.mark.slow
def test_the_reference_run_is_remade(
    demo: tuple[Path, str], browser: Browser, tmp_path: Path
) -> None:
    first, second = lines(ROOT / "results" / "README.md")
    assert lines(README)[0].endswith(first)
    run(f"{second} --out {tmp_path}", demo[0])
    committed = {path.name for path in (ROOT / "results" / "reference").iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == committed
    for name in sorted(committed):
        assert (ROOT / "results" / "reference" / name).stat().st_size < 500_000, name
        if name.endswith(".csv"):
            ours, theirs = (pd.read_csv(f / name) for f in (tmp_path, ROOT / "results/reference"))
            assert list(ours.columns) == list(theirs.columns)
            assert set(theirs["data"]) == {"SYNTHETIC demo clips"}


# --- Licensed data, own data, a cluster.


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with DIR, FILE, OWN and CLIPS, as a user would have them."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "search_spaces").symlink_to(ROOT / "search_spaces")
    for name in ("DIR", "OWN", "CLIPS"):
        (folder / name).mkdir()
    add_sounds(release_tree(folder / "DIR"))
    plain_tree(folder / "OWN", "frames")
    for video in sorted((folder / "DIR" / "test" / "mp4").iterdir())[:3]:
        shutil.copy(video, folder / "CLIPS")
    # In the published form, of one head instead of nine.
    torch.save({"model_state_dict": make_network(1).state_dict()}, folder / "FILE")
    return folder


@pytest.mark.slow
def test_commands_of_the_readme_run_in_order(place: Path) -> None:
    port = free_port()
    elsewhere = ("pip install", "optuna-dashboard", "export RAY_AUTH_MODE", "ray ")
    of_demo, tests, *rest = lines(README)
    assert of_demo.endswith("harness.ensemble --top 5")
    assert tests == "pip install -e '.[test]' && pytest", "CI runs it as it stands"
    rest = [line.replace("HEAD:6379", f"127.0.0.1:{port}") for line in rest]
    run(next(line for line in rest if line.startswith("ray get-auth-token")), place)
    with group(*(f"{each.replace('6379', str(port))} --block" for each in rest
                 if each.startswith("ray start")), folder=place):  # fmt: skip
        for line in rest:
            if line.startswith("python -m harness."):
                run(shorter(line), place)
                if line.startswith("python -m harness.report"):
                    page = (place / "results/paper/report.html").read_text()
                    assert "Frame 0 of clip" in page
            else:
                assert line.startswith(elsewhere), line
    submission = pd.read_csv(place / "results/paper/ensembles/mean-top5/predictions.csv")
    assert list(submission["File_ID"]) == [f"[{n:05d}]" for n in range(16, 20)]
    assert len(pd.read_csv(place / "new.csv")) == 3
    search, predict = (block for block in blocks(README, "python") if '"FILE"' in block)
    run(f"python -c {shlex.quote(search + 'assert len(study.trials()) == 3')}", place)
    run(f"python -c {shlex.quote(predict + 'assert len(table) == 3')}", place)


@pytest.mark.slow
def test_commands_on_pretraining_run(tmp_path: Path, tiny_demo: Demo) -> None:
    (tmp_path / "DIR").symlink_to(tiny_demo.annotations)
    state = {"model_state_dict": make_dan(1).state_dict()}
    torch.save(state, tmp_path / "dan_affectnet8.pth")
    for line in lines(ROOT / "docs" / "pretraining.md"):
        if not line.startswith("pip install"):
            assert "P_MTL" in run(line + SMALLER, tmp_path)
    assert (tmp_path / "weights" / "mtl_dan.safetensors").is_file()


@pytest.mark.parametrize("path", having("bash"))
def test_every_command_is_known(path: Path) -> None:
    names = ("docs/ensembles.md", "docs/pretraining.md", "docs/search.md", "results/README.md")
    ran = (README, *(ROOT / name for name in names))
    # The checks of a checkout are what runs this test; tests/test_gpu_benchmark.py runs the last.
    checks = ("pip install", "python -m venv", "ruff check", "pytest", "python -m tests.benchmarks")
    for line in lines(path):
        if line.startswith(checks):
            continue
        assert path in ran, f"{path}: no test runs {line!r}"
        module = re.match(r"python -m harness\.(\w+)", line)
        assert module is None or module[1] in COMMANDS, line


def test_what_is_installed_exists() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for path in DOCUMENTS:
        for extra in re.findall(r"pip install -e '\.\[(\w+)\]'", path.read_text()):
            assert extra in declared["optional-dependencies"], f"{path}: {extra}"


@pytest.mark.slow
@pytest.mark.parametrize("path", having("python"))
def test_examples_run(path: Path, tmp_path: Path) -> None:
    make_study(tmp_path / "results" / "demo", 6)
    for example in blocks(path, "python"):
        # These run after the README's commands, in test_extending.py and in test_encoders.py.
        if '"FILE"' in example or example.startswith(("# harness/", "# my_encoders.py")):
            continue
        done = subprocess.run(
            [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True,
            check=False, env=environment(), timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, f"{example}\n{done.stderr}"
        assert done.stdout


# --- Words.


@pytest.mark.parametrize("path", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in DOCUMENTS])
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-")
               for h in re.findall(r"^#+ (.*)$", text, re.M)}  # fmt: skip
    for target in re.findall(r"\]\(([^)]+)\)", text):
        file, _, anchor = target.partition("#")
        assert not file or (path.parent / file).exists(), target
        assert not anchor or file or anchor in anchors, target


def test_files_that_are_named_exist() -> None:
    written_by_a_run = ("results/demo", "results/paper", "results/.cache", "results/<study>")
    for path in DOCUMENTS:
        text = path.read_text()
        for name in re.findall(r"`((?:harness|docs|tests|search_spaces|results)/[^`\s]+)`", text):
            if not name.startswith(written_by_a_run):
                assert any(ROOT.glob(name.rstrip("/"))), f"{path}: {name}"


def test_help_shows_an_example() -> None:
    for name in COMMANDS:
        done = command(name, "--help", environment={"COLUMNS": "100"})
        assert f"Example: python -m harness.{name}" in " ".join(done.stdout.split()), name


@pytest.mark.parametrize("module", [ensemble, extract, predict, pretrain, report])
def test_help_explains_every_option_and_its_default(module: object) -> None:
    found = typer.main.get_command(module.app)  # type: ignore[attr-defined]
    for option in found.params:
        assert isinstance(option, click.Option | typer.core.TyperOption)
        assert option.help, option.opts
        told = option.required or option.is_flag or option.default not in (None, ())
        assert told or "efault" in option.help, f"{option.opts}: what holds without it?"


# --- Processes.


def listens(port: int) -> None:
    """Waits until something listens on a port."""
    deadline = time.monotonic() + 600
    while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
        assert time.monotonic() < deadline, f"nothing listens on {port}"
        time.sleep(0.2)


@contextmanager
def group(*commands: str, folder: Path) -> Iterator[None]:
    """Runs commands that go on until they are ended, with all that they started; each begins once
    the one before it listens."""
    started = []
    try:
        for line in commands:
            started.append(
                subprocess.Popen(
                    ["bash", "-c", f"exec {line}"], cwd=folder, env=environment(),
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
                )
            )  # fmt: skip
            port = re.search(r"(?:--port |:)(\d+)", line)
            assert port is not None, line
            listens(int(port[1]))
        yield
    finally:
        for process in reversed(started):
            # Ray ends its servants when it is asked to, and not when it is killed.
            process.terminate()
            process.wait(300)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
