"""`python -m harness.predict`: new clips in, a csv of intensities out, by a stored ensemble."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from harness import options as o
from harness.console import console, run, tell

if TYPE_CHECKING:
    from harness.streams.clip_issues import Gap

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def main(
    ensemble: o.EnsembleFolder,
    data: o.Data,
    weights: o.Weights = None,
    weights_key: o.WeightsKey = None,
    layout: o.Layout = None,
    features: o.FeatureSet = None,
    out: o.PredictionsFile = Path("predictions.csv"),
    strict: o.Strict = False,
    results: o.Results = o.RESULTS,
    quiet: o.Quiet = False,
) -> None:
    """Predict the intensities of new clips with a stored ensemble.

    Example: python -m harness.predict --ensemble results/paper/ensembles/mean-top5 --data CLIPS
    --weights FILE
    """
    printer = console(quiet)
    # Heavy imports follow; help and wrong usage need none of them.
    from harness.atomic import write_text
    from harness.clips.layouts import read_new_clips
    from harness.ensembles.files import submission
    from harness.predictor import load
    from harness.progress import Steps
    from harness.streams.clip_issues import Gaps

    predictor = load(ensemble)
    clips = read_new_clips(data, layout, features=features, strict=strict)
    gaps: dict[str, Gap] = {}
    with Steps(printer) as steps:
        table = predictor.predict(
            clips, weights, weights_key=weights_key, strict=strict, cache=results / ".cache",
            progress=steps,
            on_gaps=lambda found: gaps.update((gap.clip_id, gap) for gap in found.clips),
        )  # fmt: skip
    del table["filled"]
    write_text(out, submission(list(table.index), list(table.columns), table.to_numpy()))
    members = len(predictor.models)
    printer.print(f"{len(table)} clips predicted by {members} trials", highlight=False)
    found = Gaps(tuple(gaps.values()))
    lines = found.lines(" and are predicted by train's mean")
    lines += found.write(out.with_suffix(".gaps.csv"))
    for line in (*clips.notes, *predictor.doubts(clips), *lines):
        printer.print(line, style="yellow", markup=False, soft_wrap=True)
    if predictor.synthetic:
        printer.print("The ensemble was trained on SYNTHETIC demo clips.", style="yellow")
    tell(printer, f"Written: {out}")
    # Ids are text: 00042 is no number.
    show = f"import pandas; print(pandas.read_csv({str(out)!r}, dtype={{'File_ID': str}}))"
    tell(printer, f"Look: python -c {shlex.quote(show)}")


if __name__ == "__main__":
    run(app)
