"""The memory that the C library's allocator keeps between the batches of a trial."""

import ctypes
import os
from functools import cache

_OWN_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
# Of <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Above what a batch needs. Older versions of glibc accept no mmap threshold above the second.
_LARGE, _ACCEPTED = 1 << 30, 1 << 25


def keep_memory() -> bool:
    """Lets this process keep the memory that a batch frees, for the next batch.

    Otherwise glibc returns it to the system, and each batch of more than about a hundred clips
    faults its pages in again, which takes a third of an epoch (`tests.benchmarks.allocator`).
    Nothing changes with another allocator, or where the environment has settings of glibc's.

    Returns:
        whether it is kept.
    """
    if any(name in os.environ for name in _OWN_SETTINGS):
        return False
    option = getattr(_library(), "mallopt", None)
    if option is None:
        return False
    allowed = option(_MMAP_THRESHOLD, _LARGE) or option(_MMAP_THRESHOLD, _ACCEPTED)
    return bool(allowed and option(_TRIM_THRESHOLD, _LARGE))


def return_memory() -> None:
    """Gives the system back what is free now, such as after a trial."""
    if trim := getattr(_library(), "malloc_trim", None):
        trim(0)


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
