"""A worker keeps the memory of its batches, and gives it back after a trial."""

import ctypes
import os
import subprocess
import sys

import pytest

from harness.allocator import keep_memory

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's allocator alone has the setting"
)

# As batches do: some arrays at once, freed before the next ones.
BATCHES = """
import resource, sys
import numpy as np
from harness.allocator import keep_memory, return_memory

def batch():
    return [np.ones(1 << 18) for _ in range(16)] and None

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

kept = sys.argv[1] == "kept" and keep_memory()
batch()
before = faults()
for _ in range(10):
    batch()
between = faults()
if kept:
    return_memory()
    batch()
print(between - before, faults() - between)
"""
# Of the arrays of a batch, 2 MiB each: numpy asks for huge pages from 4 MiB on.
PAGES = 16 * 512


def counted(how: str) -> tuple[int, int]:
    """Page faults of ten batches, and of one after the memory was given back."""
    program = [sys.executable, "-c", BATCHES, how]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    ten, one = map(int, done.stdout.split())
    return ten, one


@pytest.mark.skipif(os.sysconf("SC_PAGE_SIZE") != 4096, reason="counts pages of 4 KiB")
def test_the_next_batch_uses_the_pages_of_the_last_one() -> None:
    bare, _ = counted("bare")
    ten, after = counted("kept")
    assert ten < PAGES < bare
    assert after > PAGES / 2, "the memory was given back"


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_a_users_own_setting_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "glibc.malloc.trim_threshold=1")
    assert not keep_memory()
