"""`python -m harness.report`: writes the report of a study, one HTML file."""

from functools import partial

import typer

from harness import options as o
from harness.console import console, run, tell
from harness.names import check_folder_name

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def main(
    study: o.ReportedStudy = None,
    ensemble: o.ReportedEnsemble = None,
    data: o.ShownData = None,
    storage: o.ReportedStorage = None,
    figures: o.FiguresFolder = None,
    results: o.Results = o.RESULTS,
    cache: o.Cache = None,
    quiet: o.Quiet = False,
) -> None:
    """Write results/<study>/report.html, or the figures and tables of a paper.

    Example: python -m harness.report --study demo
    """
    out = console(quiet)
    if study is not None:
        check_folder_name("study", study)
    # Heavy imports are here, because help and wrong usage do not need them.
    from harness.ensembles.library import newest_study
    from harness.reports.commands import location
    from harness.reports.evidence import gather
    from harness.reports.page import write_report
    from harness.unfolding import unfoldings

    folder = results / study if study else newest_study(results)
    evidence = gather(folder, ensemble=ensemble, storage=storage)
    if figures is not None:
        from harness.reports.paper import write_figures

        written = write_figures(evidence, figures)
    else:
        written = [write_report(evidence, partial(unfoldings, cache=cache), data)]
    tell(out, *evidence.unreadable, *(f"Written: {path}" for path in written))
    if figures is None:
        tell(out, f"Look: {location(written[0])}")


if __name__ == "__main__":
    run(app)
