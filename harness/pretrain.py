"""`python -m harness.pretrain`: trains an MTL-DAN on annotated faces, to be frozen afterwards."""

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.table import Table

from harness.backbone.annotations import read_annotated_faces
from harness.backbone.augmentation import Augmentation
from harness.backbone.curves import Curves
from harness.backbone.initial import initial_network
from harness.backbone.multitask import LossWeights
from harness.backbone.pretrain_config import Precision, PretrainConfig, Schedule
from harness.backbone.pretraining import Epoch, Trained, pretrain
from harness.backbone.processes import joined, rank
from harness.console import console, run
from harness.errors import InputError
from harness.progress import Steps

app = typer.Typer(add_completion=False, rich_markup_mode=None)
_SETTINGS, _LOSS, _CHANGES = PretrainConfig(), LossWeights(), Augmentation()


@app.command()
def main(
    data: Annotated[
        Path, typer.Option(help="Folder of two s-Aff-Wild2 annotation files and cropped_aligned/.")
    ],
    out: Annotated[Path, typer.Option(help="The weights, NAME.safetensors; NAME.training beside.")],
    init: Annotated[
        Path | None,
        typer.Option(help="A DAN checkpoint, a ResNet18 or an MTL-DAN. Default: random weights."),
    ] = None,
    input_size: Annotated[int, typer.Option(min=32, help="Pixels a side.")] = _SETTINGS.input_size,
    heads: Annotated[int, typer.Option(min=1, help="Of each branch.")] = _SETTINGS.heads,
    epochs: Annotated[int, typer.Option(min=1, help="Over all faces of train.")] = _SETTINGS.epochs,
    batch_size: Annotated[
        int, typer.Option(min=2, help="Faces a step, over all processes together.")
    ] = _SETTINGS.batch_size,
    learning_rate: Annotated[
        float, typer.Option(min=0.0, help="Of Adam, at most.")
    ] = _SETTINGS.learning_rate,
    schedule: Annotated[
        str, typer.Option(help="Of the rate: exponential, or one-cycle up and down.")
    ] = _SETTINGS.schedule,
    gamma: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Exponential: the rate's factor every epoch.")
    ] = _SETTINGS.gamma,
    weight_expression: Annotated[
        float, typer.Option(min=0.0, help="Of the cross-entropy in the loss.")
    ] = _LOSS.expression,
    weight_action_units: Annotated[
        float, typer.Option(min=0.0, help="Of the units' binary cross-entropy.")
    ] = _LOSS.action_units,
    weight_valence: Annotated[
        float, typer.Option(min=0.0, help="Of 1 - CCC of valence.")
    ] = _LOSS.valence,
    weight_arousal: Annotated[
        float, typer.Option(min=0.0, help="Of 1 - CCC of arousal.")
    ] = _LOSS.arousal,
    weight_expression_heads: Annotated[
        float, typer.Option(min=0.0, help="Partition loss of the expression heads.")
    ] = _LOSS.expression_heads,
    weight_action_unit_heads: Annotated[
        float, typer.Option(min=0.0, help="Partition loss of the action-unit heads.")
    ] = _LOSS.action_unit_heads,
    balance_expressions: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Weigh rare classes: 0 not, 1 in full.")
    ] = _SETTINGS.balance_expressions,
    balance_units: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Weigh rare units: 0 not, 1 in full.")
    ] = _SETTINGS.balance_units,
    flip: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Probability of mirroring.")
    ] = _CHANGES.flip,
    crop: Annotated[
        float, typer.Option(min=0.1, max=1.0, help="Least share of the area kept; 1: no crop.")
    ] = _CHANGES.crop,
    jitter: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Change of brightness, contrast, saturation.")
    ] = _CHANGES.jitter,
    erase: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Probability of covering a rectangle.")
    ] = _CHANGES.erase,
    precision: Annotated[
        str, typer.Option(help="float32, bf16 or fp16, of the network; losses are float32.")
    ] = _SETTINGS.precision,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that decode, for each training process.")
    ] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and order.")] = _SETTINGS.seed,
    strict: Annotated[bool, typer.Option(help="Make an error of missing images.")] = False,
    quiet: Annotated[bool, typer.Option(help="Print errors alone.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON alone.")] = False,
) -> None:
    """Train a multi-task network on annotated faces; the same command continues a broken run.

    Example: python -m harness.pretrain --data DIR --init FILE --out weights/mtl_dan.safetensors.
    On several GPUs: torchrun --nproc-per-node 4 -m harness.pretrain --data DIR --out FILE
    """
    config = PretrainConfig(
        heads=heads,
        input_size=input_size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        schedule=_one_of("--schedule", schedule, get_args(Schedule)),
        gamma=gamma,
        precision=_one_of("--precision", precision, get_args(Precision)),
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
        initial = initial_network(init, heads, seed)
        for line in (*faces.summary(), *initial.summary()):
            tell(line)
        with closing(Curves(out.with_suffix(".training"))) as curves, Steps(terminal) as steps:

            def on_epoch(epoch: Epoch) -> None:
                curves(epoch)
                tell(epoch.summary())

            try:
                trained = pretrain(
                    faces, initial, config, out,
                    device=device, workers=workers, tell=tell, on_epoch=on_epoch, on_step=steps,
                )  # fmt: skip
            except KeyboardInterrupt:
                tell("Interrupted; whole epochs are kept, and the same command continues.")
                raise
        if as_json and rank() == 0:
            content = {"out": str(out), "epoch": trained.epoch, "notes": faces.notes}
            print(json.dumps(content | trained.scores.to_dict()))
        terminal.print(_table(trained))
        tell(f"Weights of epoch {trained.epoch}: {out}")
        tell(f"Curves: tensorboard --logdir {curves.folder}")


def _one_of(option: str, value: str, choices: tuple[str, ...]) -> Any:
    if value not in choices:
        raise InputError(f"{option} {value!r}: expected {' or '.join(choices)}")
    return value


def _table(trained: Trained) -> Table:
    table = Table("on val", "", "", title=f"Scores of epoch {trained.epoch}", title_justify="left")
    for measure, of, value in trained.scores.rows():
        table.add_row(measure, of, f"{value:.4f}")
    table.add_section()
    for name, value in (*trained.scores.means().items(), ("P_MTL", trained.scores.p_mtl)):
        table.add_row(name if name == "P_MTL" else f"mean {name}", "", f"{value:.4f}")
    return table


if __name__ == "__main__":
    run(app)
