"""A trained model: everything that predicts clips from a data set."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from harness.dataset import Dataset, Rows, Specification
from harness.errors import InputError
from harness.models.config import TrialConfig
from harness.models.head import Head
from harness.models.sequences import tensors
from harness.models.training import predict

# In standard deviations of train: a mean this far off, or a deviation this much larger.
_FAR = 4.0
# Permuted columns: their means are off by half a standard deviation on average, and fit four times
# better in another order. Means of fewer clips vary too much.
_OFF, _BETTER, _FEWEST = 0.5, 4.0, 10


@dataclass(frozen=True, repr=False)
class Model:
    """One or several trained heads, of which several are folds whose mean is the prediction.

    name: of the trial that trained it. config: what it was trained with. stream: the specification
    of the features that it reads. targets: names of its outputs. early_stop_split: what chose its
    epochs. fill: (targets,) the mean rating of train, which clips without features are predicted
    by. weights: of each head, its state dict as arrays.
    """

    name: str
    config: TrialConfig
    stream: Specification
    targets: tuple[str, ...]
    early_stop_split: str
    fill: NDArray[np.float32]
    weights: tuple[Mapping[str, NDArray[np.float32]], ...]

    def __repr__(self) -> str:
        return f"<Model {self.name}: {len(self.weights)} heads, {len(self.targets)} targets>"

    def heads(self, device: torch.device | None = None) -> list[Head]:
        """The modules, in eval.

        Raises:
            InputError: the weights are not those of this configuration.
        """
        return [self._head(state).to(device or torch.device("cpu")) for state in self.weights]

    def predict(
        self, data: Dataset, rows: Rows | None = None, device: torch.device | None = None
    ) -> NDArray[np.float32]:
        """Intensities (clips, targets); of clips without a step, `fill`.

        Args:
            rows: which clips; None: all.

        Raises:
            InputError: the data set's features are not those that the model reads.
        """
        rows = np.arange(len(data)) if rows is None else rows
        self.check(data)
        return predicted(self.heads(device), self.config, data, rows, self.fill, device)

    def reads(self, data: Dataset) -> NDArray[np.bool_]:
        """(clips,) True for those that have a step for this model."""
        return data.features.at(self.config.stride)

    def check(self, data: Dataset) -> None:
        """Compares features by their specification.

        Raises:
            InputError: they are others than those that the model was trained on.
        """
        given = data.features.specification_of(self.config.features)
        if differences := self.stream.differences(given):
            raise InputError(
                f"model {self.name}: reads other features than these: {'; '.join(differences)}"
            )

    def unlike(self, data: Dataset) -> str:
        """A line if features without column names lie far from those of train; empty if not.

        Nothing else tells such features of one tool from those of another.
        """
        values = data.features.values[:, data.features.part(self.config.features)]
        if self.stream.columns or not self.config.normalise or not len(values):
            return ""
        mean, scale = (self.weights[0][f"scaler.{name}"] for name in ("mean", "scale"))
        found = values.mean(0)
        shift, spread = np.abs(found - mean) * scale, values.std(0) * scale
        if (data.features.counts > 0).sum() >= _FEWEST:
            best = _best_order(found, mean, scale)
            if shift.mean() > max(_OFF, _BETTER * best):
                return (
                    f"model {self.name}: the means of the {len(mean)} features fit those of train "
                    f"better in another order ({best:.2f} instead of {shift.mean():.2f} standard "
                    "deviations off); are the columns of these files permuted?"
                )
        far = np.flatnonzero((shift > _FAR) | (spread > _FAR))
        if not len(far):
            return ""
        return (
            f"model {self.name}: {len(far)} of {len(mean)} features lie far from those of train, "
            f"column {far[0] + 1} for one; do these files come from the same tool?"
        )

    @property
    def calibration(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(targets,) slope and offset: an intensity is slope x raw output + offset. With several
        heads, the map whose inverse is the mean of the heads' inverses."""
        parts = [
            [state[f"calibration.{name}"] for name in ("slope", "centre", "level")]
            for state in self.weights
        ]
        slopes, centres, levels = np.array(parts).transpose(1, 0, 2)
        slope = 1 / (1 / slopes).mean(axis=0)
        return slope, -slope * (centres - levels / slopes).mean(axis=0)

    def _head(self, state: Mapping[str, NDArray[np.float32]]) -> Head:
        weights = {name: torch.from_numpy(array) for name, array in state.items()}
        try:
            # Without memory of its own: a configuration cannot ask for more than the file holds.
            with torch.device("meta"):
                head = Head(self.stream.width, len(self.targets), self.config)
            head.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"model {self.name}: its weights do not fit its configuration: {reason}"
            ) from error
        return head.eval()


def predicted(
    heads: list[Head],
    config: TrialConfig,
    data: Dataset,
    rows: Rows,
    fill: NDArray[np.float32],
    device: torch.device | None = None,
) -> NDArray[np.float32]:
    """The heads' mean predictions (clips, targets) of some clips, `fill` for those without a
    step."""
    found = np.tile(fill, (len(rows), 1))
    seen = data.features.at(config.stride)[rows]
    if seen.any():
        given = tensors(data, rows[seen], config, device or torch.device("cpu"))
        found[seen] = np.mean([predict(head, given) for head in heads], axis=0)
    return found


def _best_order(
    found: NDArray[np.float32], mean: NDArray[np.float32], scale: NDArray[np.float32]
) -> float:
    """How far the means of columns are off in the best order, in standard deviations of train: the
    smallest belongs to the smallest."""
    order = np.argsort(mean)
    return float((np.abs(np.sort(found) - mean[order]) * scale[order]).mean())
