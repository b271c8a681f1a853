"""`python -m harness.predict`: new clips in, a csv of intensities out, by a stored ensemble."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness import options as o
from harness.console import console, run, tell

if TYPE_CHECKING:
    from harness.streams.features import Found

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def main(
    ensemble: o.EnsembleFolder,
    data: o.NewData,
    weights: o.Weights = None,
    weights_key: o.WeightsKey = None,
    encoder: o.Encoder = None,
    encoder_output: o.EncoderOutput = None,
    encoder_input: o.EncoderInput = None,
    layout: o.Layout = None,
    features: o.NewFeatureSets = None,
    out: o.PredictionsFile = Path("predictions.csv"),
    strict: o.Strict = False,
    results: o.Results = o.RESULTS,
    cache: o.Cache = None,
    quiet: o.Quiet = False,
) -> None:
    """Predict the intensities of new clips with a stored ensemble.

    Example: python -m harness.predict --ensemble results/paper/ensembles/mean-top5 --data CLIPS
    --weights FILE
    """
    printer = console(quiet)
    # Heavy imports follow; help and wrong usage need none of them.
    from harness.atomic import write_text
    from harness.encoders.registry import Wanted
    from harness.ensembles.files import submission
    from harness.predictor import load
    from harness.progress import Steps
    from harness.streams.clip_issues import Gaps, report_gaps

    predictor = load(ensemble)
    tables = predictor.read(data, layout, features, strict=strict)
    streams: list[tuple[str, Found]] = []
    with Steps(printer) as steps:
        table = predictor.predict(
            tables,
            Wanted(
                weights, weights_key, encoder or (), encoder_output or (),
                encoder_input or (),
            ),
            strict=strict, cache=cache or results / ".cache", progress=steps,
            on_found=lambda name, found: streams.append((name, found)),
        )  # fmt: skip
    filled = table.pop("filled").to_numpy()
    made = submission(list(table.index), list(table.columns), table.to_numpy())
    write_text(out, made.text)
    for line in dict.fromkeys(line for _, found in streams for line in found.read):
        printer.print(line, markup=False, highlight=False, soft_wrap=True)
    members = len(predictor.models)
    printer.print(f"{len(table)} clips predicted by {members} trials", highlight=False)
    # Several members may call different streams by one name.
    gaps = {name: Gaps.joined([each.gaps for other, each in streams if other == name])
            for name, _ in streams}  # fmt: skip
    lines = [line for clips in tables for line in clips.notes]
    lines += [line for _, found in streams for line in found.notes]
    lines += [*made.lines(out), *predictor.doubts(tables)]
    lines += report_gaps(gaps, list(map(str, table.index[filled])), out.with_suffix(".gaps.csv"))
    for line in dict.fromkeys(lines):
        printer.print(line, style="yellow", markup=False, soft_wrap=True)
    if predictor.synthetic:
        printer.print("The ensemble was trained on SYNTHETIC demo clips.", style="yellow")
    tell(printer, f"Written: {out}")
    # Ids are text: 00042 is no number.
    show = f"import pandas; print(pandas.read_csv({str(out)!r}, dtype={{'File_ID': str}}))"
    tell(printer, f"Look: python -c {shlex.quote(show)}")


if __name__ == "__main__":
    run(app)
