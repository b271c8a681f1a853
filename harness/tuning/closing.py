"""The last lines of a search: the best trial, repeated configurations, and the next commands."""

import shlex

from rich.table import Table

from harness.names import STORAGE_VARIABLE
from harness.study.deaths import death_lines
from harness.study.trials import changed_settings, complete, shown_settings
from harness.tuning.board import settings
from harness.tuning.confirmation import Confirmed
from harness.tuning.session import Session, combining

# What an oracle knows, by the name of what it is told.
_ALLOWED = {
    "picture": "these pictures allow",
    "sound": "these sounds allow",
    "both": "pictures and sounds together allow",
}


def closing_lines(session: Session) -> list[str]:
    """The last lines, each as it is printed."""
    lines = []
    trials = complete(session.study)
    if trials:
        best = max(trials, key=lambda trial: trial.value or -1.0)
        data = session.prepared.data
        clips = f"{len(data.rated(data.rows('val')))} clips of val"
        lines.append(f"Best single trial: {best.number}, mean PCC {best.value:.4f} on {clips}")
        lines.append(f"  {settings(shown_settings(best, changed_settings(trials)))}")
    lines += [f"{line}." for line in death_lines(session.study)]
    for revealed, oracle in session.prepared.oracle_means().items():
        if "val" in oracle:
            lines.append(
                f"Oracle (the best that {_ALLOWED[revealed]}): mean PCC {oracle['val']:.4f} on val"
            )
    folder, backend = session.folder, session.backend
    # optuna-dashboard would look for another driver of MySQL than the extra `databases` brings.
    secret = f'"${{{STORAGE_VARIABLE}/#mysql:/mysql+pymysql:}}"'
    storage = shlex.quote(str(backend.journal.path)) if backend.journal else secret
    if backend.url and "@" not in backend.url and "?" not in backend.url:
        storage = shlex.quote(backend.url)
    return [
        *lines,
        f"Study: {folder.path}",
        f"Log: {session.log}",
        f"Next: {combining(folder, len(trials))}",
        "Look: optuna-dashboard --host 127.0.0.1 --artifact-dir "
        f"{shlex.quote(str(folder.artifacts_path))} {storage}",
    ]


def confirmed_table(rows: list[Confirmed], luck: float, first: float) -> Table:
    """Configurations under new seeds, the best mean first.

    Args:
        luck: the part of the optimism of the selection that new seeds keep.
        first: the optimism of the first score of the best trial.
    """
    table = Table(
        title="Confirmed under new seeds: mean PCC on val",
        caption=(
            f"corrected: without the expected optimism of the choice of the epoch and of the "
            f"selection of the best trial ({luck:.4f}, because the clips are the same); error over "
            "seeds: more seeds reduce it; error over clips: only more clips of val reduce it; "
            f"first: the score that selected the trial, expected to be optimistic by {first:.4f}"
        ),
        title_justify="left",
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    headings = ("trial", "mean", "corrected", "error over seeds", "error over clips", "seeds")
    for name in (*headings, "first"):
        table.add_column(name, justify="right")
    table.add_column("configuration", overflow="fold")
    for row in rows:
        table.add_row(
            str(row.number),
            f"{row.mean:.4f}",
            _cell(row.corrected(luck)),
            _cell(row.seed_error if len(row.scores) > 1 else None),
            _cell(row.clip_error),
            str(len(row.scores)),
            f"{row.first:.4f}",
            settings(row.params),
        )
    return table


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
