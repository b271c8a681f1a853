"""Each part that docs/extending.md adds, in a copy of the package, through the real commands."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from harness.models.model_file import read_model
from tests.documents import blocks
from tests.predictors import check_same
from tests.trees import plain_tree

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "extending.md"
COMMON = ["--trials", "2", "--scheduler", "none", "--study", "s"]

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a copy of the package."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "harness", tmp_path / "harness", ignore=ignored)
    (tmp_path / "data").mkdir()
    return tmp_path


def add(copy: Path, *files: str) -> None:
    """Adds the document's blocks of these files: new ones, or lines at the end of old ones."""
    found = {block.partition("\n")[0].removeprefix("# "): block
             for kind in ("python", "toml") for block in blocks(DOCUMENT, kind)}  # fmt: skip
    for file in files:
        path = copy / file
        before = path.read_text() if path.exists() else ""
        path.write_text(before + found[file])


def apply(copy: Path, difference: str) -> None:
    """Applies a difference whose hunks are found by their lines."""
    for part in re.split(r"^--- .*\n", difference, flags=re.M)[1:]:
        head, *hunks = re.split(r"^@@\n", part, flags=re.M)
        file = copy / head.strip().removeprefix("+++ b/")
        text = file.read_text()
        for hunk in hunks:
            lines = hunk.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if not line.startswith("+"))
            new = "".join(line[1:] for line in lines if not line.startswith("-"))
            assert text.count(old) == 1, f"{file}: {old}"
            text = text.replace(old, new)
        file.write_text(text)


def run(copy: Path, name: str, *arguments: object) -> str:
    line = [sys.executable, "-m", f"harness.{name}", *map(str, arguments)]
    done = subprocess.run(
        line, cwd=copy, capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"PYTHONPATH": str(copy)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def search(copy: Path, *arguments: object) -> None:
    """A search, an ensemble of its two trials, and the prediction of its clips by it."""
    run(copy, "search", *arguments, *COMMON)
    run(copy, "ensemble", "--top", 2, "--study", "s")
    folder = copy / "results" / "s" / "ensembles" / "mean-top2"
    pairs = dict(zip(arguments[::2], arguments[1::2], strict=True))
    data = [a for name in ("--data", "--weights") if name in pairs for a in (name, pairs[name])]
    run(copy, "predict", "--ensemble", folder, *data, "--out", "new.csv")
    stored, found = (
        pd.read_csv(file, index_col="File_ID")
        for file in (folder / "predictions.csv", copy / "new.csv")
    )
    check_same(found, stored)


def test_a_sequence_model_costs_one_file_and_one_entry(copy: Path) -> None:
    add(copy, "harness/models/families/gru.py", "harness/models/families/__init__.py", "gru.toml")
    search(copy, "--data", plain_tree(copy / "data", "features"), "--space", "gru.toml")
    model = (copy / "results" / "s" / "heads" / "00000.safetensors").read_bytes()
    assert b"gru.hidden" in model
    assert b"sequence.gru.weight_ih_l1" in model


def test_a_hyperparameter_costs_two_files(copy: Path) -> None:
    (difference,) = blocks(DOCUMENT, "diff")
    apply(copy, difference)
    add(copy, "noise.toml")
    search(copy, "--data", plain_tree(copy / "data", "features"), "--space", "noise.toml")


def test_an_encoder_costs_one_file_and_one_entry(copy: Path) -> None:
    add(copy, "harness/encoders/colour_grid.py", "harness/encoders/registry.py")
    grid = copy / "grid.safetensors"
    save_file({"none": np.zeros(1, np.float32)}, grid, {"kind": "colour-grid", "cells": "2"})
    data = plain_tree(copy / "data", "frames")
    search(copy, "--data", data, "--weights", grid, "--space", "smoke", "--crop", "none")
    model = read_model(copy / "results" / "s" / "heads" / "00000.safetensors")
    stream = model.streams["colour-grid"]
    assert stream.source == "colour-grid"
    assert stream.columns[0] == "red_0_0"
