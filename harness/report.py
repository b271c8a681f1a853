"""`python -m harness.report`: writes the report of a study, one HTML file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness import options as o
from harness.console import console, run
from harness.names import check_folder_name

if TYPE_CHECKING:
    from harness.clips.table import ClipTable
    from harness.ensembles.ensemble import Ensemble
    from harness.reports.unfolding import Unfolding

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def main(
    study: o.ReportedStudy = None,
    ensemble: o.ReportedEnsemble = None,
    data: o.ShownData = None,
    storage: o.Storage = None,
    results: o.Results = o.RESULTS,
    quiet: o.Quiet = False,
) -> None:
    """Write results/<study>/report.html with leaderboard, figures and ensemble.

    Example: python -m harness.report --study demo
    """
    out = console(quiet)
    if study is not None:
        check_folder_name("study", study)
    # Heavy imports are here, because help and wrong usage do not need them.
    from harness.ensembles.library import newest_study
    from harness.reports.evidence import gather
    from harness.reports.page import write_report

    folder = results / study if study else newest_study(results)
    path = write_report(gather(folder, ensemble=ensemble, storage=storage), _unfold, data)
    out.print(f"Written: {path}", highlight=False, markup=False, soft_wrap=True)


def _unfold(
    home: Path, ensemble: "Ensemble", clips: "ClipTable", rows: Sequence[int]
) -> "list[Unfolding | None]":
    # Imported only if clips are shown, because it imports torch.
    from harness.reports.unfolding import unfoldings

    return unfoldings(home, ensemble, clips, rows)


if __name__ == "__main__":
    run(app)
