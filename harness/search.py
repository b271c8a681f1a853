"""`python -m harness.search`: searches heads over clips; without --data over synthetic clips."""

import shlex
import sys
from typing import TYPE_CHECKING

import typer

from harness import options as o
from harness.choices import (
    DEFAULT_PRECISION,
    DEFAULT_SAMPLER,
    DEFAULT_SCHEDULER,
    DEFAULT_SOUND_STEP,
    DEFAULT_STORED,
)
from harness.console import console, invocation, run
from harness.interface import search
from harness.names import STORAGE_VARIABLE, is_secret
from harness.tuning.options import Options

if TYPE_CHECKING:
    from harness.tuning.session import Session

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def main(
    data: o.DemoData = None,
    weights: o.Weights = None,
    weights_key: o.WeightsKey = None,
    layout: o.Layout = None,
    features: o.FeatureSets = None,
    crop: o.Crop = None,
    precision: o.Precision = DEFAULT_PRECISION,
    encoder: o.Encoder = None,
    encoder_output: o.EncoderOutput = None,
    encoder_input: o.EncoderInput = None,
    stored: o.Stored = DEFAULT_STORED,
    sound: o.Sound = None,
    sound_step: o.SoundStep = DEFAULT_SOUND_STEP,
    strict: o.Strict = False,
    allow_shared_groups: o.AllowSharedGroups = False,
    space: o.Space = None,
    trials: o.Trials = None,
    epochs: o.Epochs = None,
    folds: o.Folds = None,
    early_stop_fraction: o.EarlyStopFraction = None,
    study: o.Study = None,
    results: o.Results = o.RESULTS,
    cache: o.Cache = None,
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
    options = Options.of(locals())
    out = console(quiet)

    def wait(session: "Session") -> None:
        if session.dashboard:
            out.print(f"Dashboard: {session.dashboard.address} (Ctrl-C ends it)", highlight=False)
            session.dashboard.wait()

    search(options, out, continuing(sys.argv[1:], storage), wait)


def continuing(arguments: list[str], storage: str | None) -> str:
    """A command line that runs this search again; a URL that may hold a password is left out."""
    shown = [
        f'"{argument.replace(storage, f"${STORAGE_VARIABLE}")}"'
        if storage and storage in argument and is_secret(storage)
        else shlex.quote(argument)
        for argument in arguments
    ]
    return " ".join([invocation("search"), *shown])


if __name__ == "__main__":
    run(app)
