"""Signals that end a run, held back where something must not be left half done; and waits."""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

_log = logging.getLogger(__name__)
#: Signals that end a run: Ctrl-C; kill, scancel and docker stop; SLURM's --signal; a closed
#: terminal.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal ends this run. number: of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number = number


class _State:
    """Of this process; handlers have no other way to pass it on.

    depth: of nested `uninterrupted` blocks. pending: the signal that they hold back, and where it
    came. received: the first signal that ended this command. is_reported: whether the command has
    told the user.
    """

    depth = 0
    pending: tuple[int, FrameType | None] | None = None
    received: int | None = None
    is_reported = False


def listen() -> None:
    """Makes every signal of `ENDING` raise `Interrupted` in the main thread; once a command.

    A signal that is ignored stays ignored: nohup asks for that with SIGHUP, and a shell with Ctrl-C
    for its background jobs.
    """
    _State.received, _State.is_reported = None, False
    for number, handler in handlers().items():
        if handler != signal.SIG_IGN:
            signal.signal(number, partial(_end, os.getpid()))


def _end(owner: int, number: int, frame: FrameType | None) -> None:
    if os.getpid() == owner:
        _State.received = _State.received or number
        _hold(number, frame)
        if not _State.depth:
            _State.pending = None
            raise Interrupted(number)
    # A forked child, such as a worker of a pool, keeps Python's own behaviour.
    elif number == signal.SIGINT:
        signal.default_int_handler(number, frame)
    else:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _hold(number: int, frame: FrameType | None) -> None:
    _State.pending = _State.pending or (number, frame)


def received() -> int | None:
    """The signal that ends this command, also while it is held back; None: there was none."""
    return _State.received


def mark_reported() -> None:
    """Notes that the command has told the user of its interruption."""
    _State.is_reported = True


def is_reported() -> bool:
    """Whether the command has told the user of its interruption."""
    return _State.is_reported


def ignore() -> None:
    """Ignores the signals of `ENDING` from now on, because the process ends already."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def handlers() -> dict[int, Any]:
    """The handler of each signal of `ENDING`."""
    return {number: signal.getsignal(number) for number in ENDING}


def restore(found: dict[int, Any]) -> None:
    """Installs handlers again that a library has replaced. In the main thread only."""
    for number, handler in found.items():
        if handler is not None:  # None: it was not installed from Python
            signal.signal(number, handler)


@contextmanager
def unchanged() -> Iterator[dict[int, Any]]:
    """Yields the handlers of `ENDING`, and installs them again at the end; Ray has its own."""
    found = handlers() if threading.current_thread() is threading.main_thread() else {}
    try:
        yield found
    finally:
        restore(found)


@contextmanager
def heard() -> Iterator[Callable[[], int | None]]:
    """Yields a function that gives the first signal of `ENDING` within the block, or None.

    With it another thread notices a signal while the main thread is in a call that does not return
    to Python.
    """
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    hears, tells = socket.socketpair()
    hears.setblocking(False)
    tells.setblocking(False)
    found: list[int] = []

    def look() -> int | None:
        with suppress(BlockingIOError):
            found.extend(number for number in hears.recv(64) if number in ENDING)
        return next(iter(found), received())

    before = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    try:
        with hears, tells:
            yield look
    finally:
        signal.set_wakeup_fd(before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds signals of `ENDING` back until the block is done; of nested blocks, the outermost.

    Where no command listens, as in a notebook, Ctrl-C alone is held back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled in the main thread alone
        return
    before = signal.getsignal(signal.SIGINT)
    is_foreign = callable(before) and not isinstance(before, partial) and before != _hold
    if is_foreign:
        signal.signal(signal.SIGINT, _hold)
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1
        if is_foreign:
            signal.signal(signal.SIGINT, before)
        if not _State.depth and _State.pending:
            pending, _State.pending = _State.pending, None
            if is_foreign and callable(before):
                before(*pending)
            raise Interrupted(pending[0])


class Wait:
    """A wait for something else: it is reported when it becomes long, and Ctrl-C ends it.

    what: completes "waiting for", or gives the text when it is needed. after: seconds until it is
    reported, and between reports.
    """

    def __init__(self, what: str | Callable[[], str], after: float = 30.0) -> None:
        self._what, self._after = what, after
        self._begun = self._reported = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Waits a moment.

        Raises:
            Interrupted: a signal of `ENDING` came, even within `uninterrupted`.
        """
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and _State.pending:
            raise Interrupted(_State.pending[0])
        self.report()
        time.sleep(seconds)

    def report(self) -> None:
        """Prints and logs what is waited for, if that is due."""
        now = time.monotonic()
        if now - self._reported > self._after:
            self._reported = now
            what = self._what() if callable(self._what) else self._what
            text = f"waiting for {what} ({now - self._begun:.0f} s so far); Ctrl-C ends this"
            _log.info(text)
            print(text, file=sys.stderr, flush=True)
