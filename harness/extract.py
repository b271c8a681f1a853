"""`python -m harness.extract`: computes the features of clips ahead of a search."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from harness import options as o
from harness.choices import DEFAULT_PRECISION, DEFAULT_STORED, OUTPUTS
from harness.console import as_options, console, run
from harness.errors import InputError

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
    quiet: o.Quiet = False,
) -> None:
    """Run the frozen network over sampled frames; what is stored is not computed again.

    Features that clips bring are read and checked. Example: python -m harness.extract --data DIR
    --weights FILE --stride 30 --stride 10
    """
    out = console(quiet)
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
        out.print(f"Store: {cache / 'features'}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    run(app)
