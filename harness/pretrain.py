"""`python -m harness.pretrain`: trains an MTL-DAN on annotated faces, or scores one."""

import json
import shlex
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness import choices
from harness import options as o
from harness.choices import DEFAULT_PRECISION
from harness.console import console, invocation, run
from harness.interrupts import mark_reported

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from harness.pretraining.scores import Details, Scores
    from harness.pretraining.training import Epoch, Trained

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

_data = partial(typer.Option, rich_help_panel="Data")
_network = partial(typer.Option, rich_help_panel="Network and training")
_loss = partial(typer.Option, metavar="X", min=0.0, rich_help_panel="Loss")
_change = partial(typer.Option, metavar="X", min=0.0, max=1.0, rich_help_panel="Augmentation")


# The defaults are those of `PretrainConfig`, which imports torch; a test compares them.
@app.command()
def main(
    data: Annotated[
        Path | None,
        _data(
            help="Folder of annotated faces: s-Aff-Wild2 files, or train.csv and val.csv with "
            "columns such as image and expression; see docs/pretraining.md. Default: none, "
            "for --export of --init without training."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Weights to write, NAME.safetensors; the run is kept in NAME.training. Default: "
            "none, with --evaluate or without --data.",
            rich_help_panel="Output",
        ),
    ] = None,
    evaluate: Annotated[
        Path | None,
        _network(
            metavar="FILE",
            help="Score this MTL-DAN on the faces of val instead of training. Default: train.",
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Also write the network as an ONNX file, NAME.onnx; without --data, that of "
            "--init. Default: none.",
            rich_help_panel="Output",
        ),
    ] = None,
    init: Annotated[
        Path | None,
        _network(help="Initial weights: DAN, ResNet18 or MTL-DAN. Default: random."),
    ] = None,
    weights_key: Annotated[
        str | None,
        _network(
            metavar="KEY",
            help="Which network of the weight file of --init, --evaluate or --export, if it holds "
            "several. Default: the only one.",
        ),
    ] = None,
    input_size: Annotated[int, _network(metavar="N", min=32, help="Image side in pixels.")] = 224,
    heads: Annotated[int, _network(metavar="N", min=1, help="Attention heads per branch.")] = 9,
    epochs: Annotated[
        int, _network(metavar="N", min=1, help="Epochs over the training faces.")
    ] = 10,
    batch_size: Annotated[
        int, _network(metavar="N", min=2, help="Faces per step, summed over all processes.")
    ] = 256,
    learning_rate: Annotated[
        float, _network(metavar="X", min=0.0, help="Peak learning rate of Adam.")
    ] = 1e-4,
    schedule: Annotated[choices.Schedule, _network(help="Learning-rate schedule.")] = "exponential",
    gamma: Annotated[
        float,
        _network(
            metavar="X", min=0.0, max=1.0, help="Decay per epoch of the exponential schedule."
        ),
    ] = 0.55,
    weight_expression: Annotated[float, _loss(help="Weight of the expression cross-entropy.")] = 1,
    weight_action_units: Annotated[
        float, _loss(help="Weight of the action units' binary cross-entropy.")
    ] = 1,
    weight_valence: Annotated[float, _loss(help="Weight of 1 - CCC of valence.")] = 1,
    weight_arousal: Annotated[float, _loss(help="Weight of 1 - CCC of arousal.")] = 1,
    weight_expression_heads: Annotated[
        float, _loss(help="Weight of the expression heads' partition loss.")
    ] = 1,
    weight_action_unit_heads: Annotated[
        float, _loss(help="Weight of the action-unit heads' partition loss.")
    ] = 1,
    balance_expressions: Annotated[
        float, _loss(max=1.0, help="Class weights for rare expressions: 0 none, 1 full.")
    ] = 0,
    balance_units: Annotated[
        float, _loss(max=1.0, help="Class weights for rare action units: 0 none, 1 full.")
    ] = 0,
    flip: Annotated[float, _change(help="Probability of a horizontal flip.")] = 0.5,
    crop: Annotated[
        float,
        typer.Option(
            metavar="X",
            min=0.1,
            max=1.0,
            help="Minimum area kept by a random crop; 1: no crop.",
            rich_help_panel="Augmentation",
        ),
    ] = 0.8,
    jitter: Annotated[
        float, _change(help="Maximum change of brightness, contrast and saturation.")
    ] = 0.2,
    erase: Annotated[float, _change(help="Probability of erasing a rectangle.")] = 0.25,
    precision: Annotated[
        choices.Precision,
        _network(help="Number format of the whole network's computations (autocast)."),
    ] = DEFAULT_PRECISION,
    workers: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="Decoding processes per training process.",
            rich_help_panel="Machine",
        ),
    ] = 2,
    seed: Annotated[
        int, _network(metavar="N", min=0, help="Random seed of weights and order.")
    ] = 0,
    strict: o.Strict = False,
    quiet: o.Quiet = False,
    as_json: o.Json = False,
) -> None:
    """Train a multi-task network on annotated faces, or score one with --evaluate.

    Example: python -m harness.pretrain --data DIR --init FILE --out weights/mtl_dan.safetensors.
    The same command continues an interrupted run.
    On several GPUs: torchrun --nproc-per-node 4 -m harness.pretrain --data DIR --out FILE
    """
    if data is None and export and init and out is None and evaluate is None:
        _export(init, export, weights_key, quiet or as_json)
        return
    if data is None:
        raise typer.BadParameter("Missing option '--data'.")
    if (out is None) == (evaluate is None):
        raise typer.BadParameter("expected either --out or --evaluate")
    if export and evaluate:
        raise typer.BadParameter("--export needs --out, or --init without --data")
    # Heavy imports follow; help and wrong usage need none of them.
    from harness.encoders.mtl_dan.export import check_export
    from harness.pretraining.annotations import read_annotated_faces, read_split
    from harness.pretraining.augmentation import Augmentation
    from harness.pretraining.config import PretrainConfig
    from harness.pretraining.curves import Curves
    from harness.pretraining.evaluation import evaluate_file
    from harness.pretraining.initial import initial_network
    from harness.pretraining.multitask import LossWeights
    from harness.pretraining.processes import joined, rank
    from harness.pretraining.training import pretrain
    from harness.progress import Steps

    config = PretrainConfig(
        heads=heads,
        input_size=input_size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule=schedule,
        gamma=gamma,
        precision=precision,
        seed=seed,
        balance_expressions=balance_expressions,
        balance_units=balance_units,
        loss=LossWeights(
            expression=weight_expression,
            action_units=weight_action_units,
            valence=weight_valence,
            arousal=weight_arousal,
            expression_heads=weight_expression_heads,
            action_unit_heads=weight_action_unit_heads,
        ),
        augmentation=Augmentation(flip, crop, jitter, erase),
    )
    if export:  # before hours of training
        check_export(export)
    with joined() as device:
        terminal = console(quiet or as_json or rank() > 0)

        def tell(line: str) -> None:
            terminal.print(line, markup=False, highlight=False, soft_wrap=True)

        if evaluate is not None:
            part = read_split(data, strict=strict)
            for line in part.notes:
                tell(line)
            with Steps(terminal) as steps:
                scores, made_of = evaluate_file(
                    evaluate, part, device, precision, workers, key=weights_key, progress=steps
                )
            if as_json and rank() == 0:
                print(json.dumps({"weights": str(evaluate)} | scores.to_dict() | made_of.to_dict()))
            _show(terminal, f"Scores of {evaluate} on val", scores, made_of)
            return
        assert out is not None  # one of the two is given
        faces = read_annotated_faces(data, strict=strict)
        initial = initial_network(init, heads, seed, key=weights_key)
        for line in (*faces.summary(), *initial.summary()):
            tell(line)
        from harness.reports.training_page import write_training_page

        page = out.with_suffix(".training") / "pretrain.html"
        with closing(Curves(page.parent)) as curves, Steps(terminal) as steps:

            def on_epoch(epoch: "Epoch") -> None:
                curves(epoch)
                tell(epoch.summary())

            def notes_on(trained: "Trained") -> list[str]:
                if not trained.scores.collapsed:
                    return list(faces.notes)
                return [
                    *faces.notes,
                    "The predictions hardly depend on the face: training diverged or has not begun "
                    f"to learn; lower --learning-rate ({learning_rate:g}) or train for more epochs",
                ]

            def on_trained(trained: "Trained") -> None:
                write_training_page(
                    page, f"Pretraining {out.name}", notes_on(trained), trained.history,
                    _tables(trained.scores, trained.details),
                )  # fmt: skip

            try:
                trained = pretrain(
                    faces, initial, config, out,
                    device=device, workers=workers, tell=tell, on_epoch=on_epoch, on_step=steps,
                    on_trained=on_trained,
                )  # fmt: skip
            except KeyboardInterrupt:
                mark_reported()
                tell("Interrupted; whole epochs are kept, and the same command continues.")
                raise
        notes = notes_on(trained)
        if trained.scores.collapsed:
            tell(f"Warning: {notes[-1]}")
        if as_json and rank() == 0:
            content = {"out": str(out), "epoch": trained.epoch, "notes": notes}
            print(json.dumps(content | trained.scores.to_dict() | trained.details.to_dict()))
        _show(terminal, f"Scores of epoch {trained.epoch} on val", trained.scores, trained.details)
        tell(f"Weights of epoch {trained.epoch}: {out}")
        if page.is_file():
            tell(f"Page: {page}")
        tell(f"Curves: tensorboard --logdir {shlex.quote(str(curves.folder))}")
        again = ["--data", str(data), "--evaluate", str(out)]
        tell(f"Next: {invocation('pretrain')} {shlex.join(again)}")
        if export and rank() == 0:
            _export(out, export, None, quiet or as_json)


def _export(weights: Path, target: Path, key: str | None, quiet: bool) -> None:
    from harness.encoders.mtl_dan.export import export

    export(weights, target, key)
    console(quiet).print(f"ONNX: {target}", markup=False, highlight=False, soft_wrap=True)


def _tables(scores: "Scores", details: "Details") -> "dict[str, pd.DataFrame]":
    from harness.pretraining.tables import confusion_table, score_table

    return {
        "Scores": score_table(scores, details),
        "Faces by labelled and predicted expression": confusion_table(details),
    }


def _show(terminal: "Console", title: str, scores: "Scores", details: "Details") -> None:
    from rich.markup import escape
    from rich.table import Table

    for name, frame in _tables(scores, details).items():
        if frame.empty:
            continue
        heading = escape(title if name == "Scores" else name)
        table = Table(*frame.columns, title=heading, title_justify="left", box=None)
        for row in frame.itertuples(index=False):
            table.add_row(*map(str, row))
        terminal.print(table)


if __name__ == "__main__":
    run(app)
