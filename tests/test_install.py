"""Source distribution and wheel: complete, and usable from any folder once installed."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.trees import plain_tree

ROOT = Path(__file__).parent.parent
SPACES = {path.name for path in (ROOT / "search_spaces").glob("*.toml")}
NOT_SOURCE = (".git", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", ".venv")
# The build backend by its public interface (PEP 517), so that nothing is downloaded.
BUILD = "from setuptools import build_meta; print(build_meta.build_{kind}({folder!r}))"

pytestmark = pytest.mark.slow


def run(
    line: Sequence[object], folder: Path, timeout: int = 300, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Runs a command outside this checkout: PYTHONPATH would lead back to it."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, line)), cwd=folder, env=env, capture_output=True, text=True, check=False,
        timeout=timeout,
    )  # fmt: skip
    assert done.returncode == code, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done


def build(kind: str, source: Path, folder: Path) -> Path:
    """Builds an `sdist` or a `wheel` of a source tree with the setuptools of this environment."""
    code = BUILD.format(kind=kind, folder=str(folder))
    return folder / run([sys.executable, "-c", code], source).stdout.split()[-1]


@dataclass(frozen=True)
class Installed:
    """sdist: its files by their path in the tree. wheels: from the checkout and from the sdist,
    contents by name. bin: of an environment that holds the second one."""

    sdist: dict[str, bytes]
    wheels: tuple[dict[str, bytes], dict[str, bytes]]
    bin: Path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("install")
    checkout = folder / "checkout"
    shutil.copytree(ROOT, checkout, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    sdist = build("sdist", checkout, folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    files = {str(path.relative_to(unpacked)): path.read_bytes()
             for path in unpacked.rglob("*") if path.is_file()}  # fmt: skip
    assert not any(path.is_symlink() for path in unpacked.rglob("*")), "real files"
    wheels = [build("wheel", source, folder / name)
              for name, source in (("first", checkout), ("second", unpacked))]  # fmt: skip
    environment = folder / "environment"
    venv.create(environment)
    python = environment / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    run([*pip, "--no-deps", "--no-index", "--no-cache-dir", wheels[1]], folder)
    # The dependencies are those of this environment. A folder that is added by a line of a .pth
    # file has its own .pth files ignored, among them that of an editable harness.
    (site,) = (environment / "lib").glob("python*/site-packages")
    others = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "dependencies.pth").write_text("\n".join(others) + "\n")
    return Installed(files, (contents(wheels[0]), contents(wheels[1])), environment / "bin")


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_holds_everything(installed: Installed) -> None:
    first, second = installed.wheels
    assert first.keys() == second.keys()
    # RECORD follows from the others; the metadata's order of fields is setuptools' affair.
    same = [name for name in first if ".dist-info/" not in name]
    assert {name: first[name] for name in same} == {name: second[name] for name in same}
    spaces = {Path(name).name for name in second if name.startswith("harness/search_spaces/")}
    assert spaces == SPACES
    assert {"harness/py.typed", "harness/reports/page.html"} <= second.keys()
    assert any(name.endswith("licenses/LICENSE") for name in second)
    assert not any(name.startswith(("tests/", "build/")) for name in second)
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "harness").rglob("*.py")}
    assert modules == {name for name in second if name.endswith(".py")}


def test_the_source_distribution_holds_everything(installed: Installed) -> None:
    kept = ("harness", "tests", "docs", "search_spaces")
    wanted = [path for name in kept for path in (ROOT / name).rglob("*")
              if path.is_file() and "__pycache__" not in path.parts]  # fmt: skip
    wanted += [ROOT / name for name in ("LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff")]
    missing = {str(path.relative_to(ROOT)) for path in wanted} - installed.sdist.keys()
    assert not missing
    for name in SPACES:
        original = (ROOT / "search_spaces" / name).read_bytes()
        assert installed.sdist[f"harness/search_spaces/{name}"] == original


def test_it_works_beside_another_folder_of_its_name(installed: Installed, tmp_path: Path) -> None:
    other = tmp_path / "harness"
    other.mkdir()
    (other / "__init__.py").write_text("raise RuntimeError('this is the other harness')\n")
    script = installed.bin / "harness"
    listed = run([script, "--help"], tmp_path).stdout
    assert "ensemble" in listed
    assert "Usage: harness search" in run([script, "search", "--help"], tmp_path).stdout
    wrong = run([script, "search", "--nonsense"], tmp_path, code=2).stderr
    assert wrong.endswith("; see harness search --help\n")

    (tmp_path / "own").mkdir()
    data = plain_tree(tmp_path / "own", "features")
    search = [script, "search", "--data", data, "--space", "smoke", "--scheduler", "none"]
    said = run([*search, "--study", "s", "--trials", 2, "--epochs", 3], tmp_path).stdout
    assert "Next: harness ensemble --top 2 --study s" in said
    run([script, "ensemble", "--study", "s", "--top", 2], tmp_path)
    built = tmp_path / "results" / "s" / "ensembles" / "mean-top2"
    assert (built / "predictions.csv").is_file()
    assert (tmp_path / "results" / "s" / "report.html").is_file()
    features = ["--data", data, "--out", "new.csv"]
    run([script, "predict", "--ensemble", built, *features], tmp_path)
    assert len((tmp_path / "new.csv").read_text().splitlines()) == 1 + 20


def test_the_module_works_from_an_empty_folder(installed: Installed, tmp_path: Path) -> None:
    where = "import harness; print(harness.__file__)"
    found = run([installed.bin / "python", "-c", where], tmp_path).stdout
    assert found.startswith(str(installed.bin.parent)), "the installed one, not the checkout's"
    (tmp_path / "own").mkdir()
    data = plain_tree(tmp_path / "own", "features")
    line = [installed.bin / "python", "-m", "harness.search", "--data", data, "--epochs", 2]
    run([*line, "--trials", 1, "--study", "s", "--scheduler", "none"], tmp_path)  # space: paper
    unknown = run([installed.bin / "harness", "search", "--space", "x"], tmp_path, code=1).stderr
    assert "choose one of demo, fusion, paper, smoke, wide" in unknown
