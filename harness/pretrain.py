"""`python -m harness.pretrain`: trains an MTL-DAN on annotated faces, to be frozen afterwards."""

import json
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness import choices
from harness import options as o
from harness.choices import DEFAULT_PRECISION
from harness.console import console, run
from harness.interrupts import mark_reported

if TYPE_CHECKING:
    from rich.table import Table

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
            help="Folder of two s-Aff-Wild2 annotation files and cropped_aligned/. Default: none, "
            "for --export of --init without training."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Weights to write, NAME.safetensors; the run is kept in NAME.training. "
            "Default: none, without --data.",
            rich_help_panel="Output",
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
            help="Which network of --init, where it holds several. Default: the only one.",
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
    precision: o.Precision = DEFAULT_PRECISION,
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
    """Train a multi-task network on annotated faces; the same command continues a broken run.

    Example: python -m harness.pretrain --data DIR --init FILE --out weights/mtl_dan.safetensors.
    On several GPUs: torchrun --nproc-per-node 4 -m harness.pretrain --data DIR --out FILE
    """
    if data is None and export and init and out is None:
        _export(init, export, weights_key, quiet or as_json)
        return
    if data is None or out is None:
        raise typer.BadParameter(f"Missing option '--{'out' if data else 'data'}'.")
    # Heavy imports follow; help and wrong usage need none of them.
    from harness.pretraining.annotations import read_annotated_faces
    from harness.pretraining.augmentation import Augmentation
    from harness.pretraining.config import PretrainConfig
    from harness.pretraining.curves import Curves
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
    with joined() as device:
        terminal = console(quiet or as_json or rank() > 0)

        def tell(line: str) -> None:
            terminal.print(line, markup=False, highlight=False, soft_wrap=True)

        faces = read_annotated_faces(data, strict=strict)
        initial = initial_network(init, heads, seed, key=weights_key)
        for line in (*faces.summary(), *initial.summary()):
            tell(line)
        with closing(Curves(out.with_suffix(".training"))) as curves, Steps(terminal) as steps:

            def on_epoch(epoch: "Epoch") -> None:
                curves(epoch)
                tell(epoch.summary())

            try:
                trained = pretrain(
                    faces, initial, config, out,
                    device=device, workers=workers, tell=tell, on_epoch=on_epoch, on_step=steps,
                )  # fmt: skip
            except KeyboardInterrupt:
                mark_reported()
                tell("Interrupted; whole epochs are kept, and the same command continues.")
                raise
        if as_json and rank() == 0:
            content = {"out": str(out), "epoch": trained.epoch, "notes": faces.notes}
            print(json.dumps(content | trained.scores.to_dict()))
        terminal.print(_table(trained))
        tell(f"Weights of epoch {trained.epoch}: {out}")
        tell(f"Curves: tensorboard --logdir {curves.folder}")
        if export and rank() == 0:
            _export(out, export, None, quiet or as_json)


def _export(weights: Path, target: Path, key: str | None, quiet: bool) -> None:
    from harness.encoders.mtl_dan.export import export

    export(weights, target, key)
    console(quiet).print(f"ONNX: {target}", markup=False, highlight=False, soft_wrap=True)


def _table(trained: "Trained") -> "Table":
    from rich.table import Table

    table = Table("on val", "", "", title=f"Scores of epoch {trained.epoch}", title_justify="left")
    for measure, of, value in trained.scores.rows():
        table.add_row(measure, of, f"{value:.4f}")
    table.add_section()
    for name, value in (*trained.scores.means().items(), ("P_MTL", trained.scores.p_mtl)):
        table.add_row(name if name == "P_MTL" else f"mean {name}", "", f"{value:.4f}")
    return table


if __name__ == "__main__":
    run(app)
