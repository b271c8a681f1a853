"""The progress of long steps: one bar per step on a terminal, lines in pipes and notebooks."""

import time
from collections.abc import Callable
from contextlib import ExitStack

from rich import progress
from rich.console import Console

#: Called with (name of the step, done, total).
Progress = Callable[[str, int, int], None]
# Seconds between two lines of one step, where there is no terminal.
_EVERY = 10.0


def silent(step: str, done: int, total: int) -> None:
    """Progress that is not shown."""


class Steps(ExitStack):
    """A context manager; call it with (step, done, total). Each new step is a new bar.

    In a pipe and in a notebook, a line is printed every few seconds and when a step has ended.

    Args:
        every: seconds between two lines.
    """

    def __init__(self, console: Console, every: float = _EVERY) -> None:
        super().__init__()
        self.console = console
        self.every = every
        self.begun: dict[str, float] = {}
        self.shown: dict[str, float] = {}
        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=console.quiet or not console.is_terminal,
        )
        self.tasks: dict[str, progress.TaskID] = {}

    def __enter__(self) -> "Steps":
        self.enter_context(self.bar)
        return self

    def __call__(self, step: str, done: int, total: int) -> None:
        if step not in self.tasks:
            self.tasks[step] = self.bar.add_task(step, total=total)
            self.begun[step] = self.shown[step] = time.monotonic()
        self.bar.update(self.tasks[step], completed=done, total=total)
        if done >= total and step in self.begun:
            seconds = time.monotonic() - self.begun.pop(step)
            self.console.print(f"{step}: {total} in {seconds:.1f} s", highlight=False)
        elif self.bar.disable and time.monotonic() - self.shown[step] >= self.every:
            self.shown[step] = time.monotonic()
            self.console.print(f"{step}: {done} of {total}", highlight=False)
