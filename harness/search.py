"""`python -m harness.search`: searches heads over clips; without --data over synthetic clips."""

from pathlib import Path
from typing import Annotated

import typer

from harness.backbone.fused import PRECISIONS
from harness.clips.layouts import LAYOUTS
from harness.console import console, run
from harness.study.backend import STORAGE_VARIABLE
from harness.study.closing import closing_lines, confirmed_table
from harness.study.confirmation import confirmed
from harness.study.dashboard import show_figures
from harness.study.options import Clips, Means, Plan
from harness.study.pruners import DEFAULT_SCHEDULER, SCHEDULERS
from harness.study.samplers import DEFAULT_SAMPLER, SAMPLERS
from harness.study.session import opened

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of clips. Without it: synthetic clips."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="MTL-DAN weights: a published checkpoint or safetensors.")
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help=f"Of --data: {', '.join(LAYOUTS)}. Default: recognised.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Feature set of the muse layout, such as FAUs.")
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(help="detect or none. Default: faces are found in videos, not in images."),
    ] = None,
    precision: Annotated[
        str, typer.Option(help=f"Of the network's convolutions: {', '.join(PRECISIONS)}.")
    ] = "float32",
    strict: Annotated[
        bool, typer.Option(help="Make an error of what can be borne, such as missing files.")
    ] = False,
    space: Annotated[
        Path | None,
        typer.Option(help="Search space. Default: demo.toml, or paper.toml with --data."),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Finished trials in all. Default: the space's budget.")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of a trial at most. Default: the space's budget."),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Train a head on all but each of so many folds; average them."),
    ] = None,
    early_stop_fraction: Annotated[
        float | None,
        typer.Option(min=0.01, max=0.9, help="Of train, to stop heads by; else val does."),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(help="Name of the study. Default: demo, or the data folder's name."),
    ] = None,
    results: Annotated[Path, typer.Option(help="Where studies are kept.")] = Path("results"),
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the study; trials derive theirs from it.")
    ] = 0,
    sampler: Annotated[
        str, typer.Option(help=f"What chooses hyperparameters: {', '.join(SAMPLERS)}.")
    ] = DEFAULT_SAMPLER,
    scheduler: Annotated[
        str, typer.Option(help=f"What stops trials early: {', '.join(SCHEDULERS)}.")
    ] = DEFAULT_SCHEDULER,
    confirm: Annotated[
        int | None,
        typer.Option(min=1, help="Then train so many of the best again, under new seeds."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="New seeds of each with --confirm.")] = 5,
    deterministic: Annotated[
        bool,
        typer.Option(help="The same trials in every run of as many at once; none stops early."),
    ] = False,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Trials at once. Default: as many as fit.")
    ] = None,
    cpus_per_trial: Annotated[
        float, typer.Option(min=0.0, help="CPU cores reserved for a trial, which trains on one.")
    ] = 1.0,
    gpus_per_trial: Annotated[
        float | None, typer.Option(min=0.0, help="Of a GPU. Default: by the memory a trial needs.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster. Default: Ray on this machine.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            envvar=STORAGE_VARIABLE,
            help="Of the study: a journal file, or sqlite:///, postgresql://, mysql:// URL. "
            "Default: a journal file in its folder.",
        ),
    ] = None,
    dashboard: Annotated[
        bool, typer.Option(help="Show the study in a browser, on this machine, until Ctrl-C.")
    ] = False,
    quiet: Annotated[bool, typer.Option(help="Print errors alone.")] = False,
) -> None:
    """Search regression heads with Ray Tune and Optuna; running it again continues the study.

    Example: python -m harness.search --data DIR --weights FILE --space search_spaces/paper.toml
    """
    out = console(quiet)
    clips = Clips(
        data, weights, layout, features, crop, precision, strict, folds, early_stop_fraction
    )
    plan = Plan(space, trials, epochs, sampler, scheduler, confirm, seeds, deterministic, seed)
    means = Means(
        results, study, storage, concurrency, cpus_per_trial, gpus_per_trial, address, dashboard
    )
    with opened(clips, plan, means, out) as session:
        session.search()
        # Imported late, like all that is only drawn.
        from harness.reports.evidence import gather
        from harness.reports.page import write_report
        from harness.reports.search_figures import search_drawings

        evidence = gather(session.folder.path, study=session.study)
        report = write_report(evidence)
        show_figures(session.study, {d.key: d.figure for d in search_drawings(evidence)})
        session.backend.seal()
        if rows := confirmed(session.study):
            out.print(confirmed_table(rows))
        for line in closing_lines(session):
            out.print(line, highlight=False, markup=False, soft_wrap=True)
        out.print(f"Report: {report}", highlight=False, markup=False, soft_wrap=True)
        if session.dashboard:
            out.print(f"Dashboard: {session.dashboard.address} (Ctrl-C ends it)", highlight=False)
            session.dashboard.wait()


if __name__ == "__main__":
    run(app)
