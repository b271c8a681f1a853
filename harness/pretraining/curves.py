"""The curves of a pretraining, for TensorBoard."""

from pathlib import Path

from harness.errors import InputError
from harness.pretraining.training import Epoch


class Curves:
    """Writes the terms of the loss, the learning rate and all scores of every epoch.

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
            # Hides what an interrupted run wrote of this epoch.
            self.writer = self.make(str(self.folder), purge_step=epoch.number)
        values = {"learning rate": epoch.learning_rate, "P_MTL": epoch.scores.p_mtl}
        values |= {f"loss/{name}": value for name, value in epoch.terms.items()}
        values |= {f"mean/{name}": value for name, value in epoch.scores.means().items()}
        values |= {f"{what}/{of}": value for what, of, value in epoch.scores.rows()}
        for name, value in values.items():
            self.writer.add_scalar(name.replace(" ", "_"), value, epoch.number)
        self.writer.flush()

    def close(self) -> None:
        """Closes the file."""
        if self.writer is not None:
            self.writer.close()
