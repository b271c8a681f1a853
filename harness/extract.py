"""`python -m harness.extract`: computes the features of clips ahead of a search."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from harness.backbone.fused import PRECISIONS
from harness.clips.layouts import LAYOUTS
from harness.console import console, run
from harness.errors import InputError
from harness.progress import Steps
from harness.study.preparation import Machines, extract_features, feature_store, real_sources

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="Folder of clips.")],
    weights: Annotated[Path, typer.Option(help="MTL-DAN weights: checkpoint or safetensors.")],
    stride: Annotated[
        list[int], typer.Option(min=1, help="Keep the first of so many frames; may be repeated.")
    ] = [30],  # noqa: B006 - typer reads the default and never changes it
    layout: Annotated[
        str | None, typer.Option(help=f"Of --data: {', '.join(LAYOUTS)}. Default: recognised.")
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(help="detect or none. Default: faces are found in videos, not in images."),
    ] = None,
    features: Annotated[
        str,
        typer.Option(help="The network's 22 outputs, its shared 512 numbers, or both of them."),
    ] = "outputs",
    precision: Annotated[
        str, typer.Option(help=f"Of the network's convolutions: {', '.join(PRECISIONS)}.")
    ] = "float32",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes, through Ray. Default: one a GPU.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster. Default: this machine.")
    ] = None,
    strict: Annotated[
        bool, typer.Option(help="Make an error of what can be borne, such as missing files.")
    ] = False,
    results: Annotated[Path, typer.Option(help="The store lies in its .cache.")] = Path("results"),
    quiet: Annotated[bool, typer.Option(help="Print errors alone.")] = False,
) -> None:
    """Run the frozen network over sampled frames; what is stored is not computed again.

    Example: python -m harness.extract --data DIR --weights FILE --stride 30 --stride 10
    """
    out = console(quiet)
    if any(value < 1 for value in stride):
        raise InputError("--stride counts frames and is at least 1")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machines = Machines(device, address, workers)
    cache = results / ".cache"
    with Steps(out) as steps:
        given = real_sources(data, weights, layout, None, crop, precision, strict)
        done, problems = extract_features(given, cache, tuple(stride), features, machines, steps)
    speed = f", {done.frames / done.seconds:.0f} frames a second" if done.frames else ""
    out.print(f"{done.clips} clips computed ({done.frames} frames{speed}), {done.kept} were stored")
    for line in (*given.clips.notes, *problems):
        out.print(line, style="yellow", markup=False, soft_wrap=True)
    folder = feature_store(given, cache, features).folder
    out.print(f"Store: {folder}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    run(app)
