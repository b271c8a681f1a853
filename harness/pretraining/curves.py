"""Curves of a pretraining that TensorBoard opens."""

from pathlib import Path

from harness.errors import InputError
from harness.pretraining.training import Epoch


class Curves:
    """Call it with every epoch; the terms of the loss, the rate and all scores become curves.

    Raises:
        InputError: the package `tensorboard` is missing.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError(
                "the curves need TensorBoard: pip install 'reaction-harness[pretrain]'"
            ) from error
        self.folder = folder
        self.make = SummaryWriter
        self.writer: SummaryWriter | None = None

    def __call__(self, epoch: Epoch) -> None:
        if self.writer is None:
            # What a run that was broken off wrote of this epoch is superseded.
            self.writer = self.make(str(self.folder), purge_step=epoch.number)
        values = {"learning rate": epoch.learning_rate, "P_MTL": epoch.scores.p_mtl}
        values |= {f"loss/{name}": value for name, value in epoch.terms.items()}
        values |= {f"mean/{name}": value for name, value in epoch.scores.means().items()}
        values |= {f"{what}/{of}": value for what, of, value in epoch.scores.rows()}
        for name, value in values.items():
            self.writer.add_scalar(name.replace(" ", "_"), value, epoch.number)
        self.writer.flush()

    def close(self) -> None:
        """Ends the file."""
        if self.writer is not None:
            self.writer.close()
