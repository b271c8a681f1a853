"""Searching, combining and predicting from Python, without a command."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import harness
from harness.interface import _call
from harness.progress import Steps
from harness.reports.commands import _arguments
from tests.trees import plain_tree

SPACE = """
[budget]
trials = 2
epochs = 2
[fixed]
hidden = 8
head_width = 8
[parameters.lr]
type = "float"
low = 0.001
high = 0.01
"""


@pytest.mark.parametrize(
    ("arguments", "argument", "message"),
    [
        ({"crop": "face"}, "crop", "'face' is not one of detect, none"),
        ({"data": "nowhere"}, None, "nowhere: no such folder"),
        ({"weights": "net.pth"}, "weights", "need no weights"),
        ({"space": "none.toml"}, "space", "none.toml: no such search space"),
        ({"study": "../up"}, "study", "../up"),
        ({"sampler": "oracle"}, "sampler", "'oracle' is not one of"),
        ({"scheduler": "oracle"}, "scheduler", "'oracle' is not one of"),
        ({"trials": 0}, "trials", "0: expected at least 1"),
        ({"epochs": 0}, "epochs", "0: expected at least 1"),
        ({"concurrency": -1}, "concurrency", "-1: expected at least 1"),
        ({"folds": 1}, "folds", "1: expected at least 2"),
        ({"gpus_per_trial": -0.5}, "gpus_per_trial", "-0.5: expected at least 0"),
        ({"seeds": 3}, "seeds", "has no effect without `confirm`"),
        ({"data": None, "weights": "net.pth"}, "weights", "give `data`"),
        ({"data": None, "precision": "bf16"}, "precision", "give `data`"),
    ],
    ids=str,
)
def test_errors_name_the_argument(
    tmp_path: Path, arguments: dict[str, object], argument: str | None, message: str
) -> None:
    given = {"data": plain_tree(tmp_path, "features"), "results": tmp_path, "quiet": True}
    with pytest.raises(harness.InputError) as refused:
        harness.run_search(**(given | arguments))  # type: ignore[arg-type]
    assert refused.value.argument == argument
    assert message in str(refused.value)
    assert "--" not in str(refused.value), "options are the command's"


def test_the_call_that_continues_has_no_password() -> None:
    url = "postgresql://someone:hush@host/studies"
    said = _call({"data": Path("clips"), "storage": url, "trials": 9})
    assert said == "harness.run_search(data='clips', storage=..., trials=9)"
    assert _arguments(said)["data"] == ["clips"], "the report reads it"
    assert "sqlite:///a.db" in _call({"storage": "sqlite:///a.db"})


@pytest.mark.slow
def test_a_search_in_a_running_event_loop(tmp_path: Path) -> None:
    """As in a notebook, whose cells run in one."""
    data = plain_tree(tmp_path, "features")
    (tmp_path / "space.toml").write_text(SPACE)
    script = tmp_path / "cell.py"
    script.write_text(f"""
import asyncio
import harness

async def cell():
    study = harness.run_search(
        data={str(data)!r}, space={str(tmp_path / "space.toml")!r}, study="s",
        results={str(tmp_path)!r}, scheduler="none", seed=3,
    )
    assert len(study.trials()) == 2
    ensemble = study.ensemble(top=2)
    assert study.predictions(ensemble, "test").shape == (4, 2)
    try:
        study.ensemble(top=99)
    except harness.InputError as error:
        print(error)

if __name__ == "__main__":
    asyncio.run(cell())
""")
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("`top` 99")
    page = (tmp_path / "s" / "report.html").read_text()
    assert "harness.run_search(data=" in page, "what continues it"


def test_long_steps_print_lines_where_there_is_no_terminal() -> None:
    """In a pipe and in a notebook; silence would look like a hang."""
    output = io.StringIO()
    with Steps(Console(file=output), every=0) as steps:
        for done in range(3):
            steps("decoding clips", done, 2)
    lines = output.getvalue().splitlines()
    assert lines[0] == "decoding clips: 0 of 2"
    assert lines[1] == "decoding clips: 1 of 2"
    assert lines[2].startswith("decoding clips: 2 in ")
