"""The command line before any work: list of commands, help, wrong usage, and what is imported."""

import dataclasses
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from harness import choices
from harness.clips.layouts import LAYOUTS
from harness.encoders.mtl_dan.fused import COLUMNS, PRECISIONS
from harness.encoders.mtl_dan.network import WIDTH
from harness.ensembles.selection import Recipe
from harness.interface import run_search
from harness.pretrain import main as pretrain
from harness.pretraining.config import PretrainConfig
from harness.search import main as search
from harness.space.pruners import make_pruner
from harness.space.samplers import make_sampler
from harness.space.search_space import Budget
from harness.tuning.options import DataOptions, RunOptions, SearchOptions

ROOT = Path(__file__).parent.parent
COMMANDS = ("search", "ensemble", "extract", "pretrain", "predict", "report")
#: What takes long to import, or much memory.
HEAVY = {"torch", "torchvision", "ray", "optuna", "pandas", "numpy", "pyarrow", "sqlalchemy"}
# Runs a module as the main program and then prints its exit code and what is imported.
WATCHED = """
import runpy, sys
try:
    runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
except SystemExit as end:
    print("exit", end.code)
print("imported", *sys.modules)
"""


def python(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)


def watched(module: str, *arguments: object) -> tuple[str, str, set[str]]:
    """The exit code of a module run as the main program, its errors, and HEAVY of its imports.

    `runpy` hands the arguments on: argv[0] is exchanged for the module's file.
    """
    code = WATCHED.replace("sys.argv[1]", repr(module))
    done = python("-c", code, *arguments)
    *_, code_line, imported = [line for line in done.stdout.splitlines() if line]
    return code_line.removeprefix("exit "), done.stderr, HEAVY & set(imported.split())


def test_the_package_lists_its_commands_with_a_line_each() -> None:
    for arguments in ([], ["--help"]):
        done = python("-m", "harness", *arguments)
        assert done.returncode == 0, done.stderr
        listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
        assert tuple(listed) == COMMANDS


def test_the_package_runs_a_command() -> None:
    done = python("-m", "harness", "report", "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage: python -m harness.report [OPTIONS]" in done.stdout


def test_an_unknown_command_is_one_line() -> None:
    done = python("-m", "harness", "serch")
    assert done.returncode == 2
    assert "did you mean search?" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_wrong_usage_import_nothing_heavy(name: str) -> None:
    code, _, heavy = watched(f"harness.{name}", "--help")
    assert (code, heavy) == ("0", set())
    code, said, heavy = watched(f"harness.{name}", "--nonsense")
    assert (code, heavy) == ("2", set())
    assert said.startswith("error: No such option: --nonsense")
    assert said.endswith(f"; see python -m harness.{name} --help\n")
    assert said.count("\n") == 1


WRONG = [
    ("search", ("--sampler", "bayes"), "2", "is not one of 'tpe'"),
    ("search", ("--scheduler", "best"), "2", "is not one of 'asha'"),
    ("search", ("--precision", "int8"), "2", "is not one of 'float32'"),
    ("search", ("--layout", "cinema"), "2", "is not one of 'abaw5'"),
    ("search", ("--crop", "face"), "2", "is not one of 'detect', 'none'"),
    ("search", ("--trials", "0"), "2", "'--trials'"),
    ("search", ("--trials",), "2", "'--trials' requires an argument"),
    ("search", ("--space", "nope"), "1", "choose one of demo, fusion, paper, smoke, wide"),
    ("search", ("--study", "../up"), "1", "expected a plain folder name"),
    ("extract", (), "2", "Missing option '--data'"),
    ("extract", ("--data", ".", "--layout", "cinema"), "2", "is not one of 'abaw5'"),
    ("predict", ("--data", "."), "2", "Missing option '--ensemble'"),
    ("pretrain", ("--data", ".", "--out", "o", "--schedule", "x"), "2", "'exponential'"),
    ("ensemble", ("--method", "median"), "2", "is not one of 'mean'"),
    ("ensemble", ("--name", "a/b"), "1", "expected a plain folder name"),
    ("report", ("--study", ""), "1", "expected a plain folder name"),
]


@pytest.mark.parametrize(("name", "arguments", "code", "message"), WRONG)
def test_wrong_values_are_refused_before_heavy_imports(
    name: str, arguments: tuple[str, ...], code: str, message: str
) -> None:
    found, said, heavy = watched(f"harness.{name}", *arguments)
    assert (found, heavy) == (code, set())
    assert message in said
    assert said.count("\n") == 1


def test_the_package_itself_is_light() -> None:
    done = python("-c", "import harness, sys; print(*sys.modules)")
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_shown_in_panels_and_in_full(name: str) -> None:
    shown = python("-m", f"harness.{name}", "--help").stdout
    assert "─ Data ─" in shown or name == "ensemble"
    assert "─ Output ─" in shown
    assert "…" not in shown, "a name is cut off at 80 columns"


def test_every_name_that_an_option_accepts_is_implemented() -> None:
    assert tuple(LAYOUTS) == choices.LAYOUTS
    assert tuple(PRECISIONS) == get_args(choices.Precision)
    assert tuple(COLUMNS) == choices.OUTPUTS
    for name in choices.SAMPLERS:
        assert make_sampler(name, 0, 0, False)
    for scheduler in choices.SCHEDULERS:
        assert make_pruner(scheduler, Budget(trials=1, epochs=1))
    for method in (*choices.METHODS, "auto"):
        assert Recipe(method)


def test_defaults_of_pretrain_are_those_of_its_configuration() -> None:
    config = PretrainConfig()
    told = {name: p.default for name, p in inspect.signature(pretrain).parameters.items()}
    flat = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    flat |= {f"weight_{name}": value for name, value in vars(flat.pop("loss")).items()}
    flat |= vars(flat.pop("augmentation"))
    assert flat.pop("width") == WIDTH, "the demo's own; the command trains networks as published"
    assert {name: told[name] for name in flat} == flat


def test_search_from_the_terminal_and_from_python_take_the_same_options() -> None:
    fields = {
        f.name: f.default
        for kind in (DataOptions, SearchOptions, RunOptions)
        for f in dataclasses.fields(kind)
    }
    command, function = (
        {name: p.default for name, p in inspect.signature(f).parameters.items()}
        for f in (search, run_search)
    )
    assert command == fields | {"quiet": False}
    fields.pop("dashboard")  # It waits for Ctrl-C.
    assert function == fields | {"quiet": False, "results": "results"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_has_replacements_where_the_terminal_has_no_utf8(encoding: str) -> None:
    program = """
import typer
from harness.console import run
app = typer.Typer()
@app.command()
def main() -> None:
    print("a \u00d7 b \u2026 \u2581")
run(app)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.stderr == b""
    expected = {"ascii": b"a x b ... ?\n", "latin-1": b"a \xd7 b ... ?\n"}
    assert done.stdout == expected[encoding]
