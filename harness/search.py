"""`python -m harness.search`: searches heads over clips; without --data over synthetic clips."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from harness.backbone.fused import PRECISIONS
from harness.clips.layouts import LAYOUTS
from harness.console import console, run
from harness.progress import Steps
from harness.study.audit import audit
from harness.study.board import Board, closing_lines
from harness.study.folds import hold_out
from harness.study.preparation import Machines, demo_sources, prepare, real_sources
from harness.study.sharing import fraction, measured_need
from harness.study.space import SPACES, read_space
from harness.study.storage import StudyFolder, finished, quiet_optuna

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
    sampler: Annotated[str, typer.Option(help="tpe or random.")] = "tpe",
    scheduler: Annotated[str, typer.Option(help="asha or none.")] = "asha",
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Trials at once. Default: as many as fit.")
    ] = None,
    cpus_per_trial: Annotated[float, typer.Option(min=0.0)] = 1.0,
    gpus_per_trial: Annotated[
        float | None, typer.Option(min=0.0, help="Of a GPU. Default: by the memory a trial needs.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster. Default: Ray on this machine.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Database URL of the study. Default: a journal file.")
    ] = None,
    quiet: Annotated[bool, typer.Option(help="Print errors alone.")] = False,
) -> None:
    """Search regression heads with Ray Tune and Optuna; running it again continues the study.

    Example: python -m harness.search --data DIR --weights FILE --space search_spaces/paper.toml
    """
    out = console(quiet)
    quiet_optuna()
    searched = read_space(space or SPACES / ("paper.toml" if data else "demo.toml"), epochs)
    folder = StudyFolder(results, study or (data.resolve().name if data else "demo"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cache = results / ".cache"
    with folder.locked():
        with Steps(out) as steps:
            if data:
                given = real_sources(data, weights, layout, features, crop, precision, strict)
            else:
                given = demo_sources(cache, steps)
            prepared = prepare(given, cache, searched, Machines(device, address), steps, strict)
        held = hold_out(
            prepared.data,
            given.clips.groups,
            given.clips.folds,
            folds=folds,
            fraction=early_stop_fraction,
            seed=seed,
        )
        prepared = replace(prepared, data=held)
        folder.settle(prepared.manifest(folder.name, seed), prepared.index)
        if prepared.extraction:
            out.print(f"Features: {prepared.extraction}", highlight=False)
        lines = prepared.gaps.lines(" and are predicted by train's mean")
        lines += prepared.gaps.write(folder.path / "clips-with-gaps.csv")
        for line in (*given.clips.notes, *lines):
            out.print(line, style="yellow", markup=False, soft_wrap=True)
        if given.clips.synthetic:
            out.print("[yellow]SYNTHETIC demo clips: no score here is a result on Hume-Reaction.")
        if storage is None:
            folder.journal.check()
        opened = folder.study(folder.storage(storage))
        for line in audit(opened, folder, prepared.index):
            out.print(line, style="red", markup=False, soft_wrap=True)
        total = trials or searched.budget.trials
        if len(finished(opened)) >= total:
            out.print(f"The study is complete: {total} trials; a larger --trials continues it.")
        else:
            # Ray takes seconds to import, which a complete study need not wait for.
            from harness.study.tuning import Resources, search

            gpus = gpus_per_trial
            if gpus is None and device.type == "cuda":
                need = measured_need(prepared.space, prepared.data)
                total_memory = torch.cuda.get_device_properties(device).total_memory
                gpus, why = fraction(need, total_memory)
                out.print(why, highlight=False, soft_wrap=True)
            with Board(out, total, opened) as board:
                try:
                    opened = search(
                        prepared.space,
                        prepared.data,
                        prepared.index,
                        folder,
                        trials=total,
                        seed=seed,
                        sampler=sampler,
                        scheduler=scheduler,
                        resources=Resources(concurrency, cpus_per_trial, gpus or 0.0, address),
                        storage_url=storage,
                        watcher=board,
                    )
                except KeyboardInterrupt:
                    again = shlex.join(["python", "-m", "harness.search", *sys.argv[1:]])
                    kept = len(finished(opened))
                    out.print(f"Interrupted; {kept} of {total} trials are kept. Continue: {again}")
                    raise
            out.print(f"This run: {board.summary()}")
    # Imported late, like all that is only drawn.
    from harness.reports.evidence import gather
    from harness.reports.page import write_report

    report = write_report(gather(folder.path, study=opened))
    for line in closing_lines(opened, folder, prepared.oracle, storage):
        out.print(line, highlight=False, soft_wrap=True)
    out.print(f"Report: {report}", highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    run(app)
