"""The CPU cores that this process may use, often fewer than the machine has, and shares."""

import os
from pathlib import Path

_CGROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def spin_briefly() -> None:
    """Lets threads of torch that wait for others give their cores away soon.

    For programs, before they import torch. OpenMP's default keeps a core busy for milliseconds.
    Three trainings on two cores take twice as long with it; one alone gains nothing from it
    (`tests.benchmarks.threads`).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def cores() -> int:
    """Cores by affinity (taskset, SLURM) and by the quota of the control group (containers)."""
    affinity = len(os.sched_getaffinity(0))
    quota = min(quotas(_CGROUPS, _OWN), default=float(affinity))
    return max(1, min(affinity, int(quota)))


def quotas(root: Path, own: Path) -> list[float]:
    """Quotas in cores of this process's control group and of those around it; often none.

    Args:
        root: where control groups are mounted. own: the file that names this process's groups, of
            version 1 (a line for each controller) or 2 (one line).
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return []
    found = []
    for _, controllers, path in lines:
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Within a container the path may be that outside of it, and only the root is mounted.
        mount = root / "cpu" if controllers else root
        for name in (path, *map(str, Path(path).parents), "/"):
            quota = _quota(mount / name.lstrip("/"))
            found += [] if quota is None else [quota]
    return found


def _quota(group: Path) -> float | None:
    """Cores that a control group may use; None: no limit."""
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text().strip()
    except (OSError, ValueError):
        return None
    return float(quota) / float(period) if quota not in ("max", "-1") else None
