"""`python -m harness.extract`: computes the features of clips ahead of a search."""

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness import options as o
from harness.choices import DEFAULT_PRECISION, DEFAULT_STORED, OUTPUTS
from harness.console import as_options, console, invocation, run
from harness.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


def _describe(file: Path | None) -> None:
    """Prints what an ONNX file holds, and ends the command."""
    if file is not None:
        from harness.encoders.onnx.encoder import description

        for line in description(file):
            print(as_options(line))
        raise typer.Exit


@app.command()
def main(
    data: o.Data,
    weights: o.Weights = None,
    weights_key: o.WeightsKey = None,
    stride: o.Strides = [30],  # noqa: B006 - typer reads the default and never changes it
    layout: o.Layout = None,
    crop: o.Crop = None,
    features: o.ExtractedFeatures = None,
    precision: o.Precision = DEFAULT_PRECISION,
    encoder: o.Encoder = None,
    encoder_output: o.EncoderOutput = None,
    encoder_input: o.EncoderInput = None,
    describe_encoder: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Print the inputs, outputs, candidate features and preprocessing of an ONNX "
            "file, and exit. Default: extract.",
            rich_help_panel="Streams (features)",
            is_eager=True,  # before options that are missing are refused
            callback=_describe,
        ),
    ] = None,
    stored: o.Stored = DEFAULT_STORED,
    workers: o.Workers = None,
    address: o.Address = None,
    strict: o.Strict = False,
    results: o.Results = o.RESULTS,
    check: o.Check = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Run the frozen network over sampled frames; what is stored is not computed again.

    Features that clips bring are read and checked. Example: python -m harness.extract --data DIR
    --weights FILE --stride 30 --stride 10

    --check prints a data sheet instead, which --json prints as JSON.
    """
    out = console(quiet or json)
    if check or json:
        print_sheet(data, layout, features, strict, results / ".cache", out, json)
        return
    # Heavy imports follow; help and wrong usage need none of them.
    import torch

    from harness.progress import Steps
    from harness.streams.features import Machines, extract_features
    from harness.streams.sources import real_sources

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machines = Machines(device, address, workers)
    cache = results / ".cache"
    # One word for two things that no layout has both of.
    outputs = features if features in OUTPUTS else None
    with Steps(out) as steps:
        # Features do not depend on splits; a search decides about persons in several.
        clips, network = real_sources(
            data, weights, layout=layout, features=None if outputs else features, crop=crop,
            precision=precision, outputs=outputs or "outputs", strict=strict,
            allow_shared_groups=True, weights_key=weights_key, encoder=encoder,
            encoder_output=encoder_output, encoder_input=encoder_input, stored=stored,
        )  # fmt: skip
        if outputs and network and not network.has_outputs:
            raise InputError(f"{outputs}: only an MTL-DAN has it; remove it", "features")
        tell = partial(out.print, highlight=False, markup=False, soft_wrap=True)
        done, gaps, read = extract_features(
            clips, network, cache, tuple(stride), machines, steps, tell
        )
    if strict:
        gaps.refuse()
    brought = f"{done.kept} clips bring their features; nothing is computed"
    out.print(str(done) if network else brought, highlight=False)
    lines = gaps.lines() + gaps.write(cache / f"{data.resolve().name}-gaps.csv")
    for line in read:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    for line in (*clips.notes, *lines):
        out.print(line, style="yellow", markup=False, soft_wrap=True)
    if network:
        tell(f"Store: {cache / 'features'}")
    given = {
        "data": data, "weights": weights, "weights-key": weights_key, "layout": layout,
        "features": None if outputs else features, "crop": crop, "results": results,
        "precision": precision if network and precision != DEFAULT_PRECISION else None,
    }  # fmt: skip
    words = [f"--{name}={value}" for name, value in given.items() if value is not None]
    repeated = {
        "encoder": encoder, "encoder-output": encoder_output, "encoder-input": encoder_input
    }  # fmt: skip
    words += [f"--{name}={value}" for name, values in repeated.items() for value in values or ()]
    words += [] if stored == DEFAULT_STORED else [f"--stored={stored}"]
    tell(f"Next: {invocation('search')} {shlex.join(words)}")


def print_sheet(
    data: Path,
    layout: str | None,
    features: str | None,
    strict: bool,
    cache: Path,
    out: "Console",
    as_json: bool,
) -> None:
    """Prints what the clips of a folder are, and what looks wrong with them."""
    import json

    from harness.clips.layouts import read_clips
    from harness.clips.table import refuse_notes
    from harness.progress import Steps
    from harness.streams.data_sheet import data_sheet

    clips = read_clips(data, layout, features=features, strict=strict, allow_shared_groups=True)
    with Steps(out) as steps:
        sheet = data_sheet(clips, cache, steps)
    if as_json:
        print(json.dumps({"data": str(data), **sheet.to_dict(), "notes": clips.notes}, indent=2))
    for line in sheet.lines():
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    # The sheet names shared persons itself.
    warnings = [note for note in clips.notes if "in several splits" not in note] + sheet.warnings()
    for line in warnings:
        out.print(line, style="yellow", markup=False, soft_wrap=True)
    refuse_notes(warnings, strict)


if __name__ == "__main__":
    run(app)
