"""One trial: a configuration and the data in, the best epoch's predictions out.

What a worker imports: no Ray, no files, no Optuna.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.features.sequences import FrameFeatures, sequences
from harness.head.losses import reduced_loss
from harness.head.model import LSTMHead
from harness.head.training import Epoch, Recipe, Tensors, Training, predict
from harness.metrics import pcc
from harness.study.config import TrialConfig

#: The split whose score stops a trial and selects its epoch.
EARLY_STOP_SPLIT = "val"


@dataclass(frozen=True)
class TrialData:
    """What every trial of a study reads; flat arrays, so that processes can share one copy.

    frames: the features of all clips. targets: (clips, targets), NaN where unlabelled.
    rows: for each split the clips in the order of the study's index.
    columns: of the features, for each kind that a trial may ask for; empty: there is one kind.
    """

    frames: FrameFeatures
    targets: NDArray[np.float32]
    rows: dict[str, NDArray[np.intp]]
    columns: dict[str, slice] = field(default_factory=dict)

    def labelled(self, split: str) -> NDArray[np.intp]:
        """The clips of a split that carry ratings."""
        rows = self.rows[split]
        return rows[~np.isnan(self.targets[rows]).any(axis=1)]

    def with_frames(self, stride: int) -> NDArray[np.bool_]:
        """(clips,) True for those that have a frame at this stride."""
        hits = np.concatenate([[0], np.cumsum(self.frames.frames % stride == 0)])
        counts: NDArray[np.int64] = np.diff(hits[self.frames.offsets])
        return counts > 0


@dataclass(frozen=True)
class TrialResult:
    """The best epoch of a finished trial.

    predictions: split -> (clips, targets) float32 in the order of `TrialData.rows`, train left
    out; clips without a frame hold the mean rating of train. filled: how many those are a split.
    weights: the head's state dict as arrays. fill: (targets,) that mean rating. per_target: PCC on
    val. seconds: of training.
    steps: of the longest sequence of val.
    """

    config: TrialConfig
    best: Epoch
    curve: tuple[Epoch, ...]
    per_target: NDArray[np.float64]
    predictions: dict[str, NDArray[np.float32]]
    weights: dict[str, NDArray[np.float32]]
    fill: NDArray[np.float32]
    seconds: float
    steps: int
    filled: dict[str, int]


@dataclass
class Trial:
    """A running trial; `step` trains an epoch, `result` ends it."""

    config: TrialConfig
    data: TrialData
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        self._begun = time.perf_counter()
        self.with_frames = self.data.with_frames(self.config.stride)
        train, val = self._seen(self.data.labelled("train")), self.data.labelled("val")
        if not len(train) or not len(self._seen(val)):
            raise ValueError("train and val need labelled clips with frames")
        tensors, val_tensors = self._tensors(train), self._tensors(self._seen(val))
        self.steps = int(val_tensors.lengths.max())
        self.training = Training(
            self._head(tensors),
            tensors,
            val_tensors,
            _recipe(self.config),
            unseen=self.data.targets[val[~self.with_frames[val]]],
        )

    def step(self) -> Epoch:
        """Trains one epoch."""
        return self.training.epoch()

    @property
    def finished(self) -> bool:
        return self.training.finished

    def result(self) -> TrialResult:
        """The best epoch's weights and predictions. ValueError if no epoch had a score."""
        training = self.training
        training.restore_best()
        assert training.best is not None  # restore_best has raised otherwise
        rows = {k: v for k, v in self.data.rows.items() if k != "train" and len(v)}
        return TrialResult(
            config=self.config,
            best=training.best,
            curve=tuple(training.curve),
            per_target=pcc(training.truth, training.scored()),
            predictions={split: self._predict(clips) for split, clips in rows.items()},
            weights={k: v.cpu().numpy().copy() for k, v in training.head.state_dict().items()},
            fill=training.fill,
            seconds=time.perf_counter() - self._begun,
            steps=self.steps,
            filled={k: int((~self.with_frames[v]).sum()) for k, v in rows.items()},
        )

    def _seen(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        return rows[self.with_frames[rows]]

    def _predict(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        training = self.training
        return predict_clips(
            training.head, self.config, self.data, rows, training.fill, self.device
        )[0]

    def _tensors(self, rows: NDArray[np.intp]) -> Tensors:
        return tensors(self.data, rows, self.config, self.device)

    def _head(self, train: Tensors) -> LSTMHead:
        config = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            head = LSTMHead(
                train.features.shape[-1],
                train.targets.shape[-1],
                layers=config.layers,
                hidden=config.hidden,
                bidirectional=config.bidirectional,
                dropout=config.dropout,
                pooling=config.pooling,
                head_width=config.head_width,
            )
        head.to(self.device)
        if config.normalise:
            steps = torch.arange(train.features.shape[1], device=self.device)
            real = train.features[steps < train.lengths[:, None]].double()
            head.normalise_by(real.mean(0).float(), real.std(0, unbiased=False).float())
        return head


def run_trial(
    config: TrialConfig,
    data: TrialData,
    report: Callable[[Epoch], None] = lambda _: None,
    device: torch.device | None = None,
) -> TrialResult:
    """Trains one configuration to its end; `report` is called after every epoch."""
    trial = Trial(config, data, device or torch.device("cpu"))
    while not trial.finished:
        report(trial.step())
    return trial.result()


def tensors(
    data: TrialData, rows: NDArray[np.intp], config: TrialConfig, device: torch.device
) -> Tensors:
    """The sequences of clips, each of which has a frame, as a configuration reads them."""
    batch = sequences(
        data.frames,
        rows,
        data.targets,
        stride=config.stride,
        rule=config.sequence,
        columns=data.columns.get(config.features, slice(None)),
    )
    arrays = (batch.features, batch.lengths, batch.targets)
    return Tensors(*(torch.from_numpy(array).to(device) for array in arrays))


def predict_clips(
    head: nn.Module,
    config: TrialConfig,
    data: TrialData,
    rows: NDArray[np.intp],
    fill: NDArray[np.float32],
    device: torch.device | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Predictions (clips, targets) of some clips, `fill` for those without a frame; and which
    clips have one."""
    filled = np.tile(fill, (len(rows), 1))
    seen = data.with_frames(config.stride)[rows]
    if seen.any():
        given = tensors(data, rows[seen], config, device or torch.device("cpu"))
        filled[seen] = predict(head, given)
    return filled, seen


def _recipe(config: TrialConfig) -> Recipe:
    return Recipe(
        loss=reduced_loss(config.loss, config.reduction),
        lr=config.lr,
        weight_decay=config.weight_decay,
        schedule=config.schedule,
        clip_norm=config.clip_norm,
        batch_size=config.batch_size,
        epochs=config.epochs,
        patience=config.patience,
        seed=config.seed,
    )
