"""The parts, each run in a process of its own within its time."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
#: Seconds that a part has to end once it is asked to, before it is killed.
GRACE = 3.0
#: Tells a part when, by time.time(), it is cut off.
DEADLINE = "GPU_BENCHMARK_DEADLINE"

Figures = dict[str, Any]
#: Called with figures of a part as they are found; they stay if it is cut off.
Note = Callable[[Figures], None]


@dataclass(frozen=True)
class Part:
    """seconds: it may take. quick: and with --quick, much longer than on an idle machine, where it
    takes seconds. needs: modules without which it is skipped."""

    name: str
    seconds: float
    quick: float
    needs: tuple[str, ...]


#: Modules that the command needs, or a study of the demo.
SEARCH_NEEDS = (
    "ray", "optuna", "av", "torch", "torchvision", "numpy", "scipy", "pandas", "pyarrow", "typer",
    "rich", "pydantic", "safetensors", "cmaes", "sqlalchemy", "plotly", "PIL",
)  # fmt: skip
#: In the order in which they run; their seconds sum to less than eight minutes.
PARTS = (
    Part("card", 30, 180, ("torch",)),
    Part("tests", 75, 180, ("pytest", "torch", "numpy")),
    Part("extraction", 70, 180, ("torch", "torchvision", "numpy")),
    Part("compiled", 60, 60, ("torch", "torchvision", "numpy")),
    Part("training", 60, 180, ("torch", "numpy")),
    Part("sharing", 70, 180, ("torch", "numpy")),
    Part("search", 110, 400, SEARCH_NEEDS),
)


@dataclass(frozen=True)
class Run:
    """What a part is asked for: `cuda` or `cpu`, and whether small sizes do."""

    device: str
    quick: bool


def missing(modules: Sequence[str]) -> list[str]:
    """Those that are not installed."""

    def is_there(module: str) -> bool:
        try:
            return importlib.util.find_spec(module) is not None
        except (ImportError, ValueError):
            return False

    return [module for module in modules if not is_there(module)]


def command(name: str, device: str | None, quick: bool) -> list[str]:
    """What measures a part: prints figures as lines of JSON, of which the last one counts."""
    line = [sys.executable, "-m", "tests.benchmarks.gpu.process", name]
    return [*line, *(["--device", device] if device else []), *(["--quick"] if quick else [])]


def run_part(line: Sequence[str], seconds: float, device: str | None = None) -> Figures:
    """Runs a part's command for so many seconds at most.

    Returns:
        `status`: `done`, `skipped: ...`, `failed: ...` or `cut off after ...`; `seconds`; and the
        `figures` that it printed until then.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1", DEADLINE: repr(time.time() + seconds)}
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(path)
    if device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        begun = time.monotonic()
        process = subprocess.Popen(
            line, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=errors,
            start_new_session=True,
        )  # fmt: skip
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
        taken = time.monotonic() - begun
        printed, complaints = _text(out), _text(errors)
    figures = _last_figures(printed)
    status = figures.pop("status", None)
    if code is None:
        status = f"cut off after {seconds:.0f} s"
    elif code or status is None:
        last = [text.strip() for text in complaints.splitlines() if text.strip()][-3:]
        status = f"failed: exit code {code}: " + " | ".join(last)[-600:]
    return {"status": status, "seconds": round(taken, 1), "figures": figures}


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a part with all that it started; of one that has ended, what it left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode(errors="replace"))


def _last_figures(printed: str) -> Figures:
    for row in reversed(printed.splitlines()):
        if row.startswith("{"):
            # A line that was being written when the part was cut off is none.
            with contextlib.suppress(json.JSONDecodeError):
                figures = json.loads(row)
                return figures if isinstance(figures, dict) else {}
    return {}
