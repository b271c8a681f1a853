"""The progress bar of the steps before a search: one bar a step, nothing in pipes."""

import time
from collections.abc import Callable
from contextlib import ExitStack

from rich import progress
from rich.console import Console

#: Called with (what is going on, done, total).
Progress = Callable[[str, int, int], None]


def silent(step: str, done: int, total: int) -> None:
    """Progress that is not shown."""


class Steps(ExitStack):
    """A context manager; call it with (step, done, total). Each new step is a new bar.

    In a pipe, one line is printed for each step that has ended.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console
        self.begun: dict[str, float] = {}
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
            self.begun[step] = time.monotonic()
        self.bar.update(self.tasks[step], completed=done, total=total)
        if done >= total and step in self.begun:
            seconds = time.monotonic() - self.begun.pop(step)
            self.console.print(f"{step}: {total} in {seconds:.1f} s", highlight=False)
