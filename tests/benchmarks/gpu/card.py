"""What the figures were measured on."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

import torch

from tests.benchmarks.gpu.parts import Figures, Note, Run, missing

# Modules and the distributions that bring them.
PACKAGES = {
    "torchvision": "torchvision", "numpy": "numpy", "ray": "ray", "optuna": "optuna", "av": "av",
    "pandas": "pandas", "pyarrow": "pyarrow", "pytest": "pytest", "triton": "triton",
}  # fmt: skip


def measure(run: Run, note: Note) -> None:
    """Names and versions; `missing` is what is not installed."""
    note(
        {
            "device": run.device,
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "cores_allowed": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            "torch": torch.__version__,
            **{module: _version(module, name) for module, name in PACKAGES.items()},
            "cuda": torch.version.cuda or "missing",
            "cudnn": _cudnn(),
            "driver": _driver(),
            **(_card() if run.device == "cuda" else {"name": _cpu()}),
        }
    )


def _card() -> Figures:
    found = torch.cuda.get_device_properties(0)
    return {
        "name": found.name,
        "gpus": torch.cuda.device_count(),
        "memory_gib": round(found.total_memory / 2**30, 1),
        "capability": f"{found.major}.{found.minor}",
        "multiprocessors": found.multi_processor_count,
    }


def _version(module: str, distribution: str) -> str:
    if missing([module]):
        return "missing"
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _cudnn() -> str:
    version = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    return str(version) if version else "missing"


def _driver() -> str:
    """By the driver's own program, which is beside it where there is a driver."""
    if shutil.which("nvidia-smi") is None:
        return "missing"
    done = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
        capture_output=True, text=True, check=False, timeout=15,
    )  # fmt: skip
    return done.stdout.split("\n")[0].strip() or "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
