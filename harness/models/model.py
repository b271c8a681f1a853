"""A trained model: everything that predicts clips from a data set."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from harness.dataset import Dataset, Rows, Specification, Stream
from harness.errors import InputError, printable
from harness.likeness import unlike
from harness.models.config import TrialConfig
from harness.models.head import Head
from harness.models.sequences import read, tensors
from harness.models.training import predict

Floats = NDArray[np.float32]


@dataclass(frozen=True, repr=False)
class Model:
    """One or several trained heads, of which several are folds whose mean is the prediction.

    name: of the trial that trained it. config: what it was trained with. streams: by name, the
    specifications of the streams that it reads, in alphabetical order. targets: names of its
    outputs. early_stop_split: what chose its epochs. fill: (targets,) the mean rating of train,
    which clips without features are predicted by. weights: of each head, its state dict as
    arrays.
    """

    name: str
    config: TrialConfig
    streams: Mapping[str, Specification]
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
            InputError: the data set lacks a stream that the model reads.
        """
        rows = np.arange(len(data)) if rows is None else rows
        read = self.check(data)
        return predicted(self.heads(device), self.config, read, rows, self.fill, device)

    def reads(self, data: Dataset) -> NDArray[np.bool_]:
        """(clips,) True for those that have a step of any stream of this model."""
        return self.check(data).at(self.config.sampling)

    def check(self, data: Dataset) -> Dataset:
        """The clips with the streams that the model reads, under the names that it knows them by.

        A stream is recognised by its specification; its name may be another one.

        Raises:
            InputError: no stream has the specification of one that the model was trained on.
        """
        return replace(data, streams={name: self._found(name, data) for name in self.streams})

    def _found(self, name: str, data: Dataset) -> Stream:
        expected, part = self.streams[name], self.config.features
        own = {name: data.streams[name]} if name in data.streams else {}
        others = {
            known: expected.differences(stream.specification_of(part))
            for known, stream in (own | dict(data.streams)).items()
        }
        for known, differences in others.items():
            if not differences:
                return data.streams[known]
        if not others:
            raise InputError(f"model {self.name}: reads the stream {name}, these clips have none")
        # Of several, the one of this name, or of the same source, is the one that was meant.
        meant = min(others, key=lambda known: (known != name, len(others[known])))
        raise InputError(
            f"model {self.name}: reads other features than these"
            f"{f' (stream {meant})' if len(data.streams) > 1 else ''}: {'; '.join(others[meant])}"
        )

    def unlike(self, data: Dataset) -> str:
        """A line if features without column names lie far from those of train; empty if not.

        Nothing else tells such features of one tool from those of another.
        """
        unnamed = [name for name, stream in self.streams.items() if not stream.columns]
        rows = np.flatnonzero(self.reads(data))
        if not unnamed or not self.config.normalise or not len(rows):
            return ""
        arrays = [steps for steps, _ in read(self.check(data), rows, self.config)]
        if len(arrays) < len(self.streams):
            arrays = np.split(arrays[0], _cuts(self._widths), axis=1)
        clips = len(rows)
        for name, values, (mean, scale) in zip(self.streams, arrays, self._scalers(), strict=True):
            present = values[~np.isnan(values[:, 0])] if len(arrays) > 1 else values
            if name in unnamed and len(present):
                of = f" of the stream {printable(name)}" if len(arrays) > 1 else ""
                if fault := unlike(present, mean, scale, clips, of=of):
                    return f"model {self.name}: {fault}"
        return ""

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

    @property
    def _widths(self) -> list[int]:
        return [stream.width for stream in self.streams.values()]

    def _scalers(self) -> list[tuple[Floats, Floats]]:
        """Of each stream the mean and the scale of its columns in the first head."""
        state, widths = self.weights[0], self._widths
        if len(widths) > 1 and self.config.fusion == "late":
            names = [f"scaler.{number}." for number in range(len(widths))]
            return [(state[name + "mean"], state[name + "scale"]) for name in names]
        parts = (np.split(state[f"scaler.{name}"], _cuts(widths)) for name in ("mean", "scale"))
        return list(zip(*parts, strict=True))

    def _head(self, state: Mapping[str, NDArray[np.float32]]) -> Head:
        weights = {name: torch.from_numpy(array) for name, array in state.items()}
        try:
            # Without memory of its own: a configuration cannot ask for more than the file holds.
            with torch.device("meta"):
                head = Head(self._widths, len(self.targets), self.config)
            head.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"model {self.name}: its weights do not fit its configuration: {reason}"
            ) from error
        return head.eval()


def _cuts(widths: list[int]) -> list[int]:
    """Where the columns of each stream end that has another one behind it."""
    return list(itertools.accumulate(widths[:-1]))


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
    seen = data.at(config.sampling)[rows]
    if seen.any():
        given = tensors(data, rows[seen], config, device or torch.device("cpu"))
        found[seen] = np.mean([predict(head, given) for head in heads], axis=0)
    return found
