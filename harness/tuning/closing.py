"""The last lines of a search: the best trial, repeated configurations, and the next commands."""

import shlex

from rich.table import Table

from harness.names import STORAGE_VARIABLE
from harness.study.deaths import death_lines
from harness.study.trials import changed_settings, complete, shown_settings
from harness.tuning.board import settings
from harness.tuning.confirmation import Confirmed
from harness.tuning.session import Session, combining


def closing_lines(session: Session) -> list[str]:
    """The last lines, each as it is printed."""
    lines = []
    trials = complete(session.study)
    if trials:
        best = max(trials, key=lambda trial: trial.value or -1.0)
        lines.append(f"Best single trial: {best.number}, mean PCC {best.value:.4f} on val")
        lines.append(f"  {settings(shown_settings(best, changed_settings(trials)))}")
    lines += [f"{line}." for line in death_lines(session.study)]
    oracle = session.prepared.oracle_means()
    if "val" in oracle:
        lines.append(
            f"Oracle (the best that these pictures allow): mean PCC {oracle['val']:.4f} on val"
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


def confirmed_table(rows: list[Confirmed]) -> Table:
    """Configurations under new seeds, the best mean first."""
    table = Table(
        title="Confirmed under new seeds: mean PCC on val",
        caption="first: the score by which it was chosen, which is optimistic",
        title_justify="left",
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    for name in ("trial", "mean", "sd", "seeds", "first"):
        table.add_column(name, justify="right")
    table.add_column("configuration", overflow="fold")
    for row in rows:
        table.add_row(
            str(row.number),
            f"{row.mean:.4f}",
            f"{row.deviation:.4f}" if len(row.scores) > 1 else "",
            str(len(row.scores)),
            f"{row.first:.4f}",
            settings(row.params),
        )
    return table
