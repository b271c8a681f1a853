"""File systems without locks, links or flushes of folders, played by a preloaded library."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.file_systems import compiled

SEARCH = """
import sys
from pathlib import Path
from harness.study.folder import StudyFolder
from tests.searches import finish, opened
with StudyFolder(Path(sys.argv[1]), "s").locked():
    with opened(Path(sys.argv[1])) as ledger:
        finish(ledger, at_most=int(sys.argv[2]))
        print(sum(trial.state.name == "COMPLETE" for trial in ledger.study.trials))
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = compiled(tmp_path_factory.mktemp("shim"))
    if found is None:
        pytest.skip("there is no C compiler")
    return found


def searched(
    shim: Path, results: Path, trials: int, *lacks: str
) -> subprocess.CompletedProcess[str]:
    """A search without Ray on a file system that lacks something."""
    environment = os.environ | {"LD_PRELOAD": str(shim), **dict.fromkeys(lacks, "1")}
    line = [sys.executable, "-c", SEARCH, str(results), str(trials)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("lacks", [("NO_SYMLINK",), ("NO_FOLDER_FSYNC",)])
def test_a_search_does_without(tmp_path: Path, shim: Path, lacks: tuple[str, ...]) -> None:
    assert searched(shim, tmp_path, 3, *lacks).stdout == "3\n"
    assert not (tmp_path / "s" / "study.log.lock").exists()
    if lacks == ("NO_SYMLINK",):
        (tmp_path / "s" / "study.log.lock").touch()  # as a search leaves it that is killed
    assert searched(shim, tmp_path, 9, *lacks).stdout == "8\n"


def test_a_file_system_without_locks_is_refused_with_advice(tmp_path: Path, shim: Path) -> None:
    done = searched(shim, tmp_path, 3, "NO_FLOCK")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"harness.errors.InputError: {tmp_path}/s: this file system does not")
    assert "choose a folder on another one" in last
    assert not (tmp_path / "s" / "study.json").exists()


def test_a_file_that_cannot_be_flushed_is_an_error(tmp_path: Path, shim: Path) -> None:
    assert "Input/output error" in searched(shim, tmp_path, 3, "NO_FSYNC").stderr
