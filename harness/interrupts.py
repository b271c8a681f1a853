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
from typing import Any, NoReturn

from harness.processes import descendants, kill

_log = logging.getLogger(__name__)
#: Signals that end a run: Ctrl-C; kill, scancel and docker stop; SLURM's --signal; a closed
#: terminal.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
# Seconds that a command has to end after a signal; then it is ended, as by kill -9. And between two
# looks at a call that does not return.
_LONGEST_END, _LOOK = 9.0, 1.0


class Interrupted(KeyboardInterrupt):
    """A signal ends this run. number: of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number = number


class _State:
    """Of this process; handlers have no other way to pass it on.

    depth: of nested `uninterrupted` blocks. pending: the signal that they hold back, and where it
    came. received: the first signal that ended this command. heard: the same, by another thread,
    also while the main thread is in a call that does not return. is_reported: whether the command
    has told the user. is_limited: whether a thread limits the time to end. call: that of a library
    which runs. has_reporter: whether a thread reports it.
    """

    depth = 0
    pending: tuple[int, FrameType | None] | None = None
    received: int | None = None
    heard: int | None = None
    is_reported = False
    is_limited = False
    call: "Wait | None" = None
    has_reporter = False


def listen() -> None:
    """Makes every signal of `ENDING` raise `Interrupted` in the main thread; once a command.

    A signal that is ignored stays ignored: nohup asks for that with SIGHUP, and a shell with Ctrl-C
    for its background jobs. A command that does not end within `_LONGEST_END` seconds is ended,
    whatever it waits for.
    """
    _State.received, _State.heard, _State.is_reported = None, None, False
    for number, handler in handlers().items():
        if handler != signal.SIG_IGN:
            signal.signal(number, partial(_interrupt, os.getpid()))
    if not _State.is_limited:
        _State.is_limited = True
        # The interpreter writes signals to it also while a library's call does not return.
        hears, tells = socket.socketpair()
        tells.setblocking(False)
        signal.set_wakeup_fd(tells.detach(), warn_on_full_buffer=False)
        # Forked children would write theirs to the same one.
        os.register_at_fork(after_in_child=partial(signal.set_wakeup_fd, -1))
        threading.Thread(target=_limit_end, args=(hears,), daemon=True).start()


def _limit_end(hears: socket.socket) -> None:
    while (number := hears.recv(1)[0]) not in ENDING:
        pass
    _State.heard = number
    time.sleep(_LONGEST_END)
    end_now(f"it did not end within {_LONGEST_END:g} s; run the same command again", number)


def end_now(line: str, number: int | None) -> NoReturn:
    """Ends this process and all that descend from it, from any thread.

    Args:
        line: printed, unless the command has told the user of the signal.
        number: of the signal that ends it; None: an error does.
    """
    if number is None or not _State.is_reported:
        begin = "error" if number is None else f"interrupted by {signal.Signals(number).name}"
        print(f"{begin}: {line}", file=sys.stderr, flush=True)
    kill(descendants(os.getpid()))
    # The threads of other libraries may never end.
    os._exit(1 if number is None else 128 + number)


def _interrupt(owner: int, number: int, frame: FrameType | None) -> None:
    if os.getpid() == owner:
        if _State.received is not None:
            return  # the end has begun, and what it tidies up is not interrupted again
        _State.received = number
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
    """The signal that ends this command, also while it is held back or the main thread has not
    noticed it; None: there was none."""
    return _State.heard if _State.received is None else _State.received


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

    before = signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)

    def look() -> int | None:
        with suppress(BlockingIOError):
            numbers = hears.recv(64)
            found.extend(number for number in numbers if number in ENDING)
            if before >= 0:
                os.write(before, numbers)
        return next(iter(found), received())

    try:
        with hears, tells:
            yield look
            look()
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
        self.start()

    def pause(self, seconds: float) -> None:
        """Waits a moment.

        Raises:
            Interrupted: a signal of `ENDING` came, even within `uninterrupted`.
        """
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and _State.pending:
            raise Interrupted(_State.pending[0])
        if is_main and _State.call:
            _State.call.start()  # this wait is reported, not the call that it is a part of
        self.report()
        time.sleep(seconds)

    def start(self) -> None:
        """The wait begins now."""
        self._begun = self._reported = time.monotonic()

    def report(self) -> None:
        """Prints and logs what is waited for, if that is due."""
        now = time.monotonic()
        if now - self._reported > self._after:
            self._reported = now
            what = self._what() if callable(self._what) else self._what
            text = f"waiting for {what} ({now - self._begun:.0f} s so far); Ctrl-C ends this"
            _log.info(text)
            print(text, file=sys.stderr, flush=True)


@contextmanager
def attended(what: str, after: float = 30.0) -> Iterator[None]:
    """Reports a call of the main thread that does not return, such as that of a database.

    what, after: as in `Wait`. Ctrl-C ends the command: at once, or after `_LONGEST_END` seconds.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if not _State.has_reporter:  # one thread for all calls, since there are many short ones
        _State.has_reporter = True
        threading.Thread(target=_report_calls, daemon=True).start()
    before, _State.call = _State.call, Wait(what, after)
    try:
        yield
    finally:
        _State.call = before
        if before:
            before.start()


def _report_calls() -> None:
    while True:
        time.sleep(_LOOK)
        if call := _State.call:
            call.report()
