"""The live table of a search; in a pipe, one plain line for each finished trial."""

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import optuna
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.study.trials import SECONDS, complete, finished, short

_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
_CURVE = 24
_ROWS = 12
_STYLES = {"RUNNING": "cyan", "COMPLETE": "green", "PRUNED": "dim", "FAIL": "red"}
# Shown first, where a space searches them.
_FIRST = ("loss", "reduction", "stride", "layers", "hidden")


@dataclass
class _Row:
    number: int
    params: dict[str, Any]
    state: str = "RUNNING"
    score: float | None = None
    curve: list[float] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)


class Board(ExitStack):
    """Shows a search; use as a context manager and give it to the ledger as the watcher."""

    def __init__(
        self,
        console: Console,
        total: int,
        done: int,
        study: optuna.Study,
        *,
        pruned: bool = True,
    ) -> None:
        """total, done: finished trials, at the end and now. pruned: whether trials may be stopped
        early."""
        super().__init__()
        self.console, self.total = console, total
        self.done = done
        self.best = max((t.value for t in complete(study) if t.value is not None), default=None)
        self._bars = _ASCII_BARS if console.options.ascii_only else _BARS
        self.rows: dict[int, _Row] = {}
        alike = finished(study) if pruned else complete(study)
        self._costs = [t.user_attrs[SECONDS] for t in alike if SECONDS in t.user_attrs]
        #: The most trials of this search that ran at the same time; those of others that run now.
        self._workers, self._others = 1, 0
        self.counts = {"COMPLETE": 0, "PRUNED": 0, "FAIL": 0}
        self.dead = 0
        live = console.is_terminal and not console.quiet
        self.live = (
            Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)
            if live
            else None
        )

    def __enter__(self) -> "Board":
        if self.live:
            self.enter_context(self.live)
        return self

    def counted(self, finished: int, running: int) -> None:
        self.done, self._others = finished, max(0, running - len(self._running()))

    def started(self, number: int, params: dict[str, Any]) -> None:
        self.rows[number] = _Row(number, params)
        self._workers = max(self._workers, len(self._running()))

    def epochs(self, number: int, scores: list[tuple[int, float]]) -> None:
        row = self.rows[number]
        row.curve.extend(score for _, score in scores)
        row.score = row.curve[-1] if row.curve else None

    def ended(self, number: int, state: str, score: float | None, reason: str) -> None:
        row = self.rows[number]
        row.state, row.score = state, score
        if state != "FAIL":
            self._costs.append(time.monotonic() - row.begun)
        self.counts[state] += 1
        self.dead += state == "PRUNED" and bool(reason)
        self.done += state != "FAIL"
        if state == "COMPLETE" and score is not None:
            self.best = score if self.best is None else max(self.best, score)
        self.console.print(self._line(row, reason), highlight=False, soft_wrap=True)

    def notice(self, text: str) -> None:
        """Prints a line that concerns the whole search."""
        self.console.print(text, style="yellow", highlight=False, soft_wrap=True)

    def summary(self) -> str:
        """Complete, pruned and failed trials of this run; dead ones are among the pruned."""
        c = self.counts
        dead = f" ({self.dead} dead)" if self.dead else ""
        return f"{c['COMPLETE']} complete, {c['PRUNED']} pruned{dead}, {c['FAIL']} failed"

    def _line(self, row: _Row, reason: str) -> Text:
        style = _STYLES[row.state]
        score = "" if row.score is None else f"  mean PCC {row.score:.4f}"
        epochs = f"  {len(row.curve)} epochs"
        text = f"trial {row.number:>4}  {row.state:<8}{score}{epochs}  {settings(row.params)}"
        return Text(text + (f"  {reason}" if reason else ""), style=style)

    def _render(self) -> Group:
        best = "none yet" if self.best is None else f"{self.best:.4f}"
        head = Text(
            f"{self.done}/{self.total} trials · best mean PCC {best} · {self.summary()} · "
            f"{self._left()}",
            style="bold",
        )
        table = Table(box=None, pad_edge=False, expand=True)
        for name, width in (("trial", 5), ("epoch", 5), ("mean PCC", 8), ("curve", _CURVE)):
            table.add_column(name, width=width, no_wrap=True)
        table.add_column("settings", ratio=1, no_wrap=True, overflow="ellipsis")
        for row in self._running()[-_ROWS:]:
            score = "" if row.score is None else f"{row.score:.4f}"
            table.add_row(
                str(row.number),
                str(len(row.curve)),
                score,
                sparkline(row.curve[-_CURVE:], self._bars),
                settings(row.params),
            )
        return Group(head, table)

    def _running(self) -> list[_Row]:
        return [row for row in self.rows.values() if row.state == "RUNNING"]

    def _left(self) -> str:
        """Remaining time: the mean cost of the study's finished trials times those that are left,
        less what the running ones have done, over the trials that run at the same time."""
        if not self._costs:
            return "time left unknown yet"
        mean, now = statistics.fmean(self._costs), time.monotonic()
        spent = sum(min(now - row.begun, mean) for row in self._running())
        left = max(0.0, mean * (self.total - self.done) - spent)
        left /= self._workers + self._others
        return f"about {left / 60:.1f} min left"


def sparkline(values: list[float], bars: str = _BARS) -> str:
    """Values as a row of bars.

    Args:
        bars: characters from the lowest bar to the highest.
    """
    finite = [value for value in values if value == value]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    span = (high - low) or 1.0
    top = len(bars) - 1
    return "".join(bars[round((v - low) / span * top)] if v == v else " " for v in values)


def settings(params: dict[str, Any]) -> str:
    """Hyperparameters on one line, the most compared ones first."""
    names = [n for n in _FIRST if n in params] + sorted(n for n in params if n not in _FIRST)
    return " ".join(f"{name}={short(params[name])}" for name in names)
