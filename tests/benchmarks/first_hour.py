"""How long a new user waits: the first command, help, and the first trial of a search.

    python -m tests.benchmarks.first_hour [--json] [--skip-first-command]

first_command_s: `harness.search` without data and `harness.ensemble --top 5`, in a fresh results
folder, with its parts as the progress steps report them: drawing of clips and faces, training of
the network, features; search is the rest of the search command, ensemble the second command.
help_s: `--help` of each command, median of 5. start_to_first_trial_s: from the start of a search on
precomputed features to the start of its first trial, median of 3; start_to_first_result_s: to the
first predictions. Wall times; run it on a quiet machine.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.__main__ import COMMANDS
from harness.study.backend import open_backend, quiet_optuna
from harness.study.folder import StudyFolder
from tests.trees import plain_tree

HELPS, STARTS = 5, 3
#: What a line of an ended progress step looks like, and the part that each step belongs to.
STEP = re.compile(r"^(.+): \d+ in ([\d.]+) s$", re.MULTILINE)
PARTS = {"drawing": "draw", "training": "training", "features": "features"}


def run(folder: Path, *arguments: object) -> tuple[float, str]:
    """Seconds of `python -m ARGUMENTS` in a folder, and what it printed."""
    line = [sys.executable, "-m", *map(str, arguments)]
    begun = time.monotonic()
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - begun
    if done.returncode:
        raise SystemExit(f"{' '.join(line)}: {done.stderr[-2000:]}")
    return seconds, done.stdout


def first_command(folder: Path) -> dict[str, float]:
    """The README's first command, once installed."""
    search, printed = run(folder, "harness.search")
    ensemble, _ = run(folder, "harness.ensemble", "--top", 5)
    steps = [(name, float(seconds)) for name, seconds in STEP.findall(printed)]
    parts = {
        part: round(sum(seconds for name, seconds in steps if word in name), 1)
        for part, word in PARTS.items()
    }
    return {
        "total": round(search + ensemble, 1),
        **parts,
        "search": round(search - sum(parts.values()), 1),
        "ensemble": round(ensemble, 1),
    }


def first_trial(folder: Path, number: int) -> tuple[float, float]:
    """Seconds from the start of a search to its first trial, and to the first predictions."""
    results = folder / f"results-{number}"
    line = ["--data", folder / "own", "--space", "smoke", "--trials", 2, "--epochs", 4]
    line += ["--scheduler", "none", "--results", results, "--study", "s"]
    begun = time.time()
    run(folder, "harness.search", *line)
    study = StudyFolder(results, "s")
    trials = study.study(open_backend(study.path).storage).get_trials(deepcopy=False)
    started = min(trial.datetime_start.timestamp() for trial in trials if trial.datetime_start)
    written = min(file.stat().st_mtime for file in (study.path / "predictions").iterdir())
    return started - begun, written - begun


def measured(skip_first_command: bool) -> dict[str, Any]:
    """Everything, by name."""
    found: dict[str, Any] = {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory(prefix="first-hour-") as scratch:
        folder = Path(scratch)
        (folder / "own").mkdir()
        plain_tree(folder / "own", "features")
        found["help_s"] = {
            name: round(
                statistics.median(
                    run(folder, f"harness.{name}", "--help")[0] for _ in range(HELPS)
                ),
                2,
            )
            for name in COMMANDS
        }
        starts = [first_trial(folder, number) for number in range(STARTS)]
        found["start_to_first_trial_s"] = round(statistics.median(s for s, _ in starts), 1)
        found["start_to_first_result_s"] = round(statistics.median(s for _, s in starts), 1)
        if not skip_first_command:
            found["first_command_s"] = first_command(folder)
    return found


def table(found: dict[str, Any]) -> Table:
    """The figures, a row each; parts are indented."""
    shown = Table("", "seconds", box=None, pad_edge=False)
    for name, value in found.items():
        if isinstance(value, dict):
            shown.add_row(name.removesuffix("_s"), "")
            for part, seconds in value.items():
                shown.add_row(f"  {part}", str(seconds))
        elif name.endswith("_s"):
            shown.add_row(name.removesuffix("_s"), str(value))
    shown.caption = f"{found['cores']} cores, load {found['load']:.1f} before"
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--skip-first-command", action="store_true", help="leave out the demo")
    options = parser.parse_args()
    quiet_optuna()
    # The commands start in another folder.
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent.parent)
    found = measured(options.skip_first_command)
    if options.json:
        print(json.dumps(found))
    else:
        Console().print(table(found))


if __name__ == "__main__":
    main()
