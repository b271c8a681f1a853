"""`python -m harness.extract`: computes the features of clips ahead of a search."""

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness import options as o
from harness.choices import DEFAULT_PRECISION, DEFAULT_SOUND_STEP, DEFAULT_STORED
from harness.console import as_options, console, invocation, run
from harness.console import tell as print_lines
from harness.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    data: o.ExtractedData = None,
    weights: o.Weights = None,
    weights_key: o.WeightsKey = None,
    stride: o.Strides = None,
    interval: o.Intervals = None,
    layout: o.Layout = None,
    features: o.ExtractedFeatureSets = None,
    crop: o.Crop = None,
    outputs: o.Outputs = "outputs",
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
    sound: o.ExtractedSound = None,
    sound_step: o.SoundStep = DEFAULT_SOUND_STEP,
    workers: o.Workers = None,
    address: o.ExtractedAddress = None,
    strict: o.Strict = False,
    results: o.Results = o.RESULTS,
    cache: o.Cache = None,
    list_cache: o.ListCache = False,
    prune_cache: o.PruneCache = None,
    check: o.Check = False,
    json: o.SheetJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Run the frozen network over sampled frames; what is stored is not computed again.

    Precomputed features are read and checked. Example: python -m harness.extract --data DIR
    --weights FILE --stride 30 --stride 10

    --check prints a data sheet instead, which --json prints as JSON.
    """
    out = console(quiet or json)
    cache = cache or results / ".cache"
    if list_cache or prune_cache:
        show_cache(cache, prune_cache or (), out)
        return
    if data is None:
        raise typer.BadParameter("Missing option '--data'.")
    if check or json:
        print_sheet(data, layout, features or (), strict, cache, out, json)
        return
    # Heavy imports follow; help and wrong usage need none of them.
    import torch

    from harness.progress import Steps
    from harness.sampling import Sampling, strides
    from harness.streams.clip_issues import Gaps
    from harness.streams.features import Machines
    from harness.streams.sources import extract_all, real_sources

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machines = Machines(device, address, workers)
    with Steps(out) as steps:
        # Features do not depend on splits; a search decides about persons in several.
        given = real_sources(
            data, weights, layout=layout, features=features or (), crop=crop,
            precision=precision, outputs=outputs, strict=strict,
            allow_shared_groups=True, weights_key=weights_key, encoder=encoder,
            encoder_output=encoder_output, encoder_input=encoder_input, stored=stored,
            sound=sound, sound_step=sound_step,
        )  # fmt: skip
        networks = [source.network for source in given if source.network]
        if outputs != "outputs" and not any(network.has_outputs for network in networks):
            raise InputError(f"{outputs}: only an MTL-DAN has it; remove it", "outputs")
        tell = partial(out.print, highlight=False, markup=False, soft_wrap=True)
        wanted = (*strides(*stride or ()), *(Sampling(interval=each) for each in interval or ()))
        done = extract_all(given, cache, wanted or strides(30), machines, steps, tell)
    all_gaps = Gaps.joined([gaps for _, gaps, _ in done])
    if strict:
        all_gaps.refuse()
    for source, (extraction, gaps, read) in zip(given, done, strict=True):
        of = f"{source.name}: " if len(given) > 1 else ""
        brought = "" if source.encoder else f"{len(source.clips)} clips have precomputed features; "
        tell(f"{of}{brought}{extraction}")
        for line in read:
            tell(line)
        for line in gaps.lines():
            out.print(f"{of}{line}", style="yellow", markup=False, soft_wrap=True)
    for line in (*given[0].clips.notes, *all_gaps.write(cache / f"{data.resolve().name}-gaps.csv")):
        out.print(line, style="yellow", markup=False, soft_wrap=True)
    tell(f"Store: {cache / 'features'}")
    options = {
        "data": data, "weights": weights, "weights-key": weights_key, "layout": layout,
        "crop": crop, "results": results,
        "cache": None if cache == results / ".cache" else cache,
        "precision": precision if networks and precision != DEFAULT_PRECISION else None,
    }  # fmt: skip
    words = [f"--{name}={value}" for name, value in options.items() if value is not None]
    repeated = {
        "features": features, "encoder": encoder, "encoder-output": encoder_output,
        "encoder-input": encoder_input,
    }  # fmt: skip
    words += [f"--{name}={value}" for name, values in repeated.items() for value in values or ()]
    words += [] if sound is None else [f"--sound={sound}"]
    if any(source.encoder and source.encoder.kind == "sound" for source in given):
        words.append(f"--sound-step={sound_step:g}")
    words += [] if stored == DEFAULT_STORED else [f"--stored={stored}"]
    tell(f"Next: {invocation('search')} {shlex.join(words)}")


def show_cache(cache: Path, removed: "Sequence[str]", out: "Console") -> None:
    """Removes stored streams and lists the others."""
    from harness.streams.cache import chosen, entries, remove
    from harness.streams.estimate import readable_size

    for what in removed:
        for entry in chosen(entries(cache), what):
            remove(entry)
            print_lines(out, f"Removed: {entry}")
    left = entries(cache)
    for entry in left:
        print_lines(out, str(entry))
    total = readable_size(sum(entry.size for entry in left))
    print_lines(out, f"{cache}: {len(left)} stored streams, {total}")


def print_sheet(
    data: Path,
    layout: str | None,
    features: "Sequence[str]",
    strict: bool,
    cache: Path,
    out: "Console",
    as_json: bool,
) -> None:
    """Prints what the clips of a folder are, and what looks wrong with them."""
    import json

    from harness.clips.layouts import read_tables
    from harness.clips.table import refuse_notes
    from harness.progress import Steps
    from harness.streams.data_sheet import data_sheet, files_of

    tables = read_tables(data, layout, features=features, strict=strict, allow_shared_groups=True)
    notes = tables[0].notes
    with Steps(out) as steps:
        sheets = {files_of(clips): data_sheet(clips, cache, steps) for clips in tables}
    if as_json:
        shown = {name: sheet.to_dict() for name, sheet in sheets.items()}
        of_all = shown.popitem()[1] if len(sheets) == 1 else {"sheets": shown}
        print(json.dumps({"data": str(data), **of_all, "notes": notes}, indent=2))
    # The sheet names shared persons itself.
    warnings = [note for note in notes if "in several splits" not in note]
    for name, sheet in sheets.items():
        of = f"{name}: " if len(sheets) > 1 else ""
        for line in sheet.lines():
            out.print(f"{of}{line}", markup=False, highlight=False, soft_wrap=True)
        warnings += [f"{of}{line}" for line in sheet.warnings()]
    for line in warnings:
        out.print(line, style="yellow", markup=False, soft_wrap=True)
    refuse_notes(warnings, strict)


if __name__ == "__main__":
    run(app)
