"""The last lines of every command: what exists, and commands that work as they are printed.

Names and folders contain blanks and quotes, and the results are in another folder.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from harness.console import invocation
from tests.commands import command
from tests.faces import write_faces
from tests.networks import save_tiny
from tests.trees import plain_tree

pytestmark = pytest.mark.slow
SMALLER = ["--heads", "1", "--input-size", "32", "--batch-size", "16", "--epochs", "1"]


def ended(name: str, *arguments: object) -> str:
    done = command(name, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def line(said: str, label: str) -> str:
    """The last line of a label."""
    return re.findall(f"^{label}: (.*)$", said, flags=re.MULTILINE)[-1]


def pasted(said: str, label: str = "Next") -> str:
    """Runs a printed command as a shell would read it."""
    words = shlex.split(line(said, label))
    if words[:2] == ["python", "-c"]:
        return subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True,
                              text=True).stdout  # fmt: skip
    assert words[:2] == ["python", "-m"], invocation("search")
    return ended(words[2].removeprefix("harness."), *words[3:])


def test_from_features_to_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "Anna's place"
    data = place / "my clips"
    data.mkdir(parents=True)
    plain_tree(data, "features")
    results, study = place / "my results", "live study"
    said = ended("search", "--data", data, "--results", results, "--study", study, "--space",
                 "smoke", "--trials", 3, "--scheduler", "none")  # fmt: skip
    for label in ("Study", "Log", "Report"):
        assert Path(line(said, label)).exists()
    assert shlex.split(line(said, "Look"))[0] == "optuna-dashboard"
    assert Path(shlex.split(line(said, "Look"))[-1]).is_file()
    combined = pasted(said)
    for path in re.findall("^Written: (.*)$", combined, flags=re.MULTILINE):
        assert Path(path).is_file()
    monkeypatch.chdir(place)
    predicted = pasted(combined)
    assert (Path(line(predicted, "Written"))).is_file()
    assert "File_ID" in pasted(predicted, "Look")
    reported = ended("report", "--results", results, "--study", study)
    address = urlparse(line(reported, "Look"))
    assert Path(unquote(address.path)) == results / study / "report.html"


def test_from_faces_to_a_search(tmp_path: Path) -> None:
    place = tmp_path / "my place"
    faces, out = write_faces(place / "my faces"), place / "my network.safetensors"
    said = ended("pretrain", "--data", faces, "--out", out, *SMALLER)
    assert line(said, "Weights of epoch 1") == str(out)
    assert Path(line(said, "Page")).is_file()
    assert Path(shlex.split(line(said, "Curves"))[-1]).is_dir()
    assert "P_MTL" in pasted(said)
    data = place / "my clips"
    data.mkdir()
    plain_tree(data, "frames")
    extracted = ended("extract", "--data", data, "--results", place / "my results",
                      "--weights", save_tiny(out), "--stride", 5)  # fmt: skip
    assert Path(line(extracted, "Store")).is_dir()
    words = shlex.split(line(extracted, "Next"))
    assert words[:3] == ["python", "-m", "harness.search"]
    said = ended("search", *words[3:], "--space", "smoke", "--trials", 1, "--epochs", 1)
    assert line(said, "Study") == str(place / "my results" / "my clips")
