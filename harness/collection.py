"""Python's collection of cyclic garbage, in the processes of the harness."""

import atexit
import gc


def collect_rarely() -> None:
    """Saves about a second of each process that imports torch and Ray.

    For programs, before these imports: they make a million objects that stay, and each collection
    walks through those that are there. At the end of the process, it walks through them once more
    before they are freed, unless they are set aside.
    """
    gc.set_threshold(10_000, 10, 10)
    atexit.register(gc.freeze)
