"""`python -m harness.extract`: computes the features of clips ahead of a search."""

import shlex

import typer

from harness import options as o
from harness.choices import DEFAULT_PRECISION, OUTPUTS
from harness.console import console, invocation, run, tell

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


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
        clips, encoder = real_sources(
            data, weights, layout=layout, features=None if outputs else features, crop=crop,
            precision=precision, outputs=outputs or "outputs", strict=strict,
            allow_shared_groups=True, weights_key=weights_key,
        )  # fmt: skip
        done, gaps, read = extract_features(clips, encoder, cache, tuple(stride), machines, steps)
    if strict:
        gaps.refuse()
    brought = f"{done.kept} clips bring their features; nothing is computed"
    out.print(str(done) if encoder else brought, highlight=False)
    lines = gaps.lines() + gaps.write(cache / f"{data.resolve().name}-gaps.csv")
    for line in read:
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    for line in (*clips.notes, *lines):
        out.print(line, style="yellow", markup=False, soft_wrap=True)
    if encoder:
        tell(out, f"Store: {cache / 'features'}")
    given = {
        "data": data, "weights": weights, "weights-key": weights_key, "layout": layout,
        "features": None if outputs else features, "crop": crop, "results": results,
        "precision": precision if encoder and precision != DEFAULT_PRECISION else None,
    }  # fmt: skip
    words = [f"--{name}={value}" for name, value in given.items() if value is not None]
    tell(out, f"Next: {invocation('search')} {shlex.join(words)}")


if __name__ == "__main__":
    run(app)
