"""Every example in Python of the README and of docs/ runs; every command explains itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.studies import make_study

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = [pytest.param(path, id=path.name) for path in DOCUMENTS]


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("path", PYTHON)
def test_examples_run(path: Path, tmp_path: Path) -> None:
    make_study(tmp_path / "results" / "demo", 6)
    for example in blocks(path, "python"):
        done = subprocess.run(
            [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True,
            check=False, env=_environment(), timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{example}\n{done.stderr}"
        assert done.stdout


def test_help_shows_an_example_and_defaults() -> None:
    for name in ("search", "ensemble", "extract", "pretrain", "predict", "report"):
        done = subprocess.run(
            [sys.executable, "-m", f"harness.{name}", "--help"], capture_output=True, text=True,
            check=True, env=_environment(),
        )  # fmt: skip
        assert f"Example: python -m harness.{name}" in " ".join(done.stdout.split()), name
        assert "default" in done.stdout.lower(), name


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100", "PYTHONWARNINGS": "ignore"}
