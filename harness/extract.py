"""`python -m harness.extract`: computes the features of clips ahead of a search."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from harness.backbone.fused import COLUMNS, PRECISIONS
from harness.clips.layouts import LAYOUTS
from harness.console import console, run
from harness.progress import Steps
from harness.study.clip_features import Machines, extract_features
from harness.study.config import TrialConfig
from harness.study.sources import real_sources

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="Folder of clips.")],
    weights: Annotated[
        Path | None,
        typer.Option(
            help="MTL-DAN weights: checkpoint or safetensors. Default: none, for clips that bring "
            "features."
        ),
    ] = None,
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
        str | None,
        typer.Option(
            help="The network's 22 outputs, its shared 512 numbers, or both of them; of the muse "
            "layout its feature set. Default: outputs."
        ),
    ] = None,
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

    Features that clips bring are read and checked. Example: python -m harness.extract --data DIR
    --weights FILE --stride 30 --stride 10
    """
    out = console(quiet)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machines = Machines(device, address, workers)
    cache = results / ".cache"
    # One word for two things that no layout has both of.
    outputs = features if features in COLUMNS else None
    chosen = None if outputs else features
    with Steps(out) as steps:
        given = real_sources(data, weights, layout, chosen, crop, precision, strict)
        kind = outputs or TrialConfig.features
        done, gaps = extract_features(given, cache, tuple(stride), kind, machines, steps)
    if strict:
        gaps.refuse()
    brought = f"{done.kept} clips bring their features; nothing is computed"
    out.print(brought if given.weights is None else str(done), highlight=False)
    lines = gaps.lines() + gaps.write(cache / f"{data.resolve().name}-gaps.csv")
    for line in (*given.clips.notes, *lines):
        out.print(line, style="yellow", markup=False, soft_wrap=True)
    if given.weights is not None:
        out.print(f"Store: {cache / 'features'}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    run(app)
