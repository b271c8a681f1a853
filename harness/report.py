"""`python -m harness.report`: one html file with all that a study shows."""

from pathlib import Path
from typing import Annotated

import typer

from harness.console import console, run
from harness.ensembles.library import newest_study
from harness.names import check_folder_name
from harness.reports.evidence import gather
from harness.reports.page import write_report

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    study: Annotated[
        str | None, typer.Option(help="Name of the study. Default: the newest.")
    ] = None,
    ensemble: Annotated[
        str | None, typer.Option(help="The ensemble to show. Default: the newest.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="The study's clips, to show some. Default: only synthetic ones are found."
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Database URL of the study. Default: its journal file, or HARNESS_STORAGE."
        ),
    ] = None,
    results: Annotated[Path, typer.Option(help="Where studies are kept.")] = Path("results"),
    quiet: Annotated[bool, typer.Option(help="Print errors alone.")] = False,
) -> None:
    """Write results/<study>/report.html: leaderboard, figures, ensemble; it needs no network.

    Example: python -m harness.report --study demo
    """
    out = console(quiet)
    if study is not None:
        check_folder_name("--study", study)
    folder = results / study if study else newest_study(results)
    path = write_report(gather(folder, ensemble=ensemble, storage=storage), data)
    out.print(f"Written: {path}", highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    run(app)
