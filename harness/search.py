"""`python -m harness.search`: searches heads over clips; without --data over synthetic clips."""

import typer

from harness import options as o
from harness.choices import DEFAULT_PRECISION, DEFAULT_SAMPLER, DEFAULT_SCHEDULER
from harness.console import console, run
from harness.errors import InputError
from harness.names import check_folder_name
from harness.spaces import find_space
from harness.tuning.options import Clips, Means, Plan
from harness.tuning.start import start

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def main(
    data: o.DemoData = None,
    weights: o.Weights = None,
    layout: o.Layout = None,
    features: o.FeatureSet = None,
    crop: o.Crop = None,
    precision: o.Precision = DEFAULT_PRECISION,
    strict: o.Strict = False,
    space: o.Space = None,
    trials: o.Trials = None,
    epochs: o.Epochs = None,
    folds: o.Folds = None,
    early_stop_fraction: o.EarlyStopFraction = None,
    study: o.Study = None,
    results: o.Results = o.RESULTS,
    seed: o.Seed = 0,
    sampler: o.Sampler = DEFAULT_SAMPLER,
    scheduler: o.Scheduler = DEFAULT_SCHEDULER,
    confirm: o.Confirm = None,
    seeds: o.Seeds = 5,
    deterministic: o.Deterministic = False,
    concurrency: o.Concurrency = None,
    cpus_per_trial: o.CpusPerTrial = 1.0,
    gpus_per_trial: o.GpusPerTrial = None,
    address: o.Address = None,
    storage: o.Storage = None,
    dashboard: o.Dashboard = False,
    quiet: o.Quiet = False,
) -> None:
    """Search regression heads with Ray Tune and Optuna; running it again continues the study.

    Example: python -m harness.search --data DIR --weights FILE --space paper
    """
    if study is not None:
        check_folder_name("--study", study)
    space_file = None if space is None else find_space(space)
    out = console(quiet)
    clips = Clips(
        data, weights, layout, features, crop, precision, strict, folds, early_stop_fraction
    )
    plan = Plan(space_file, trials, epochs, sampler, scheduler, confirm, seeds, deterministic, seed)
    means = Means(
        results, study, storage, concurrency, cpus_per_trial, gpus_per_trial, address, dashboard
    )
    start(clips, plan, means)
    # Heavy imports follow; help and wrong usage need none of them.
    from harness.tuning.session import opened

    with opened(clips, plan, means, out) as session:
        session.search()
        # Imported when the trials are done: only the report needs them.
        from harness.reports.evidence import gather
        from harness.reports.page import write_report
        from harness.reports.search_figures import search_drawings
        from harness.tuning.closing import closing_lines, confirmed_table
        from harness.tuning.confirmation import confirmed
        from harness.tuning.dashboard import show_figures

        evidence = gather(session.folder.path, study=session.study)
        report = write_report(evidence)
        show_figures(session.study, {d.key: d.figure for d in search_drawings(evidence)})
        session.backend.seal()
        if rows := confirmed(session.study):
            out.print(confirmed_table(rows))
        for line in closing_lines(session):
            out.print(line, highlight=False, markup=False, soft_wrap=True)
        out.print(f"Report: {report}", highlight=False, markup=False, soft_wrap=True)
        if session.problem:
            raise InputError(session.problem)
        if session.dashboard:
            out.print(f"Dashboard: {session.dashboard.address} (Ctrl-C ends it)", highlight=False)
            session.dashboard.wait()


if __name__ == "__main__":
    run(app)
