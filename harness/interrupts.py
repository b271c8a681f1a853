"""Ctrl-C at a moment that leaves nothing half done, and waits that it ends."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_log = logging.getLogger(__name__)
_Held = list[tuple[int, FrameType | None]]
# Ctrl-C that `uninterrupted` holds back at this moment, of each one that is active.
_held_back: list[_Held] = []


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until what is inside is done; within another one, until that is."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Ctrl-C comes to the main thread alone
        return
    held: _Held = []
    before = signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    if callable(before):  # where it is ignored there is nothing to hold back
        _held_back.append(held)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if callable(before):
            _held_back.pop()  # they end in turn
            if held:
                before(*held[0])


class Wait:
    """A wait for somebody else: it is reported when it becomes long, and Ctrl-C ends it.

    what: completes "waiting for". after: seconds until it is reported, and between reports.
    """

    def __init__(self, what: str, after: float = 30.0) -> None:
        self._what, self._after = what, after
        self._begun = self._reported = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Waits a moment.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed, even within `uninterrupted`.
        """
        if threading.current_thread() is threading.main_thread() and any(_held_back):
            raise KeyboardInterrupt
        now = time.monotonic()
        if now - self._reported > self._after:
            self._reported = now
            text = f"waiting for {self._what} ({now - self._begun:.0f} s so far); Ctrl-C ends this"
            _log.warning(text)
            print(text, file=sys.stderr, flush=True)
        time.sleep(seconds)
