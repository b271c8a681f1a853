"""How many cores a search may use."""

import os
from pathlib import Path

import pytest

from harness import cores as module
from harness.cores import cores, quotas

GROUPS = [
    ("0::/job/step", {"job/cpu.max": "250000 100000", "job/step/cpu.max": "max 100000"}, [2.5]),
    ("0::/outside/of/the/container", {"cpu.max": "50000 100000"}, [0.5]),
    ("0::/", {}, []),
    ("0::/", {"cpu.max": "max 100000"}, []),
    ("0::/", {"cpu.max": "what is this"}, []),
    (
        "4:memory:/m\n1:cpu,cpuacct:/job",
        {"cpu/job/cpu.cfs_quota_us": "400000", "cpu/job/cpu.cfs_period_us": "100000"},
        [4.0],
    ),
    (
        "1:cpu:/",
        {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
        [],
    ),
]


@pytest.mark.parametrize(("own", "files", "expected"), GROUPS)
def test_quotas_of_control_groups(
    tmp_path: Path, own: str, files: dict[str, str], expected: list[float]
) -> None:
    (tmp_path / "own").write_text(own)
    for name, content in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(content + "\n")
    assert sorted(set(quotas(tmp_path / "root", tmp_path / "own"))) == expected


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert quotas(tmp_path, tmp_path / "none") == []


def test_affinity_limits_the_cores() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_quota_below_one_core_leaves_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/")
    (tmp_path / "cpu.max").write_text("50000 100000")
    monkeypatch.setattr(module, "_CGROUPS", tmp_path)
    monkeypatch.setattr(module, "_OWN", tmp_path / "own")
    assert cores() == 1
