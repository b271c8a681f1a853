"""`python -m harness.report`: writes the report of a study, one HTML file."""

import typer

from harness import options as o
from harness.console import console, run
from harness.names import check_folder_name

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
        check_folder_name("--study", study)
    # Heavy imports are here, because help and wrong usage do not need them.
    from harness.ensembles.library import newest_study
    from harness.reports.evidence import gather
    from harness.reports.page import write_report

    folder = results / study if study else newest_study(results)
    path = write_report(gather(folder, ensemble=ensemble, storage=storage), data)
    out.print(f"Written: {path}", highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    run(app)
