"""One trial: a configuration and the data in, the best epoch's predictions out.

What a worker imports: no Ray, no files, no Optuna.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from harness.metrics import pcc
from harness.models.config import TrialConfig
from harness.models.head import LSTMHead
from harness.models.training import (
    Epoch,
    Tensors,
    Training,
    UndefinedScoreError,
    predict,
)
from harness.streams.sequences import FrameFeatures, sequences


@dataclass(frozen=True)
class TrialData:
    """What every trial of a study reads; flat arrays, so that processes can share one copy.

    frames: the features of all clips. targets: (clips, targets), NaN where unlabelled.
    rows: for each split the clips in the order of the study's index.
    columns: of the features, for each kind that a trial may ask for; empty: there is one kind.
    held_out: training clips that a head does not learn from but stops by. Empty: one head, which
    val stops. One array: one head. Several, the folds of train: a head for each.
    """

    frames: FrameFeatures
    targets: NDArray[np.float32]
    rows: dict[str, NDArray[np.intp]]
    columns: dict[str, slice] = field(default_factory=dict)
    held_out: tuple[NDArray[np.intp], ...] = ()

    @property
    def early_stop_split(self) -> str:
        """What stops the heads and selects their epochs: `val`, `held-out` or `folds`."""
        return ("val", "held-out", "folds")[min(len(self.held_out), 2)]

    def labelled(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Those of some clips that carry ratings."""
        return rows[~np.isnan(self.targets[rows]).any(axis=1)]

    def with_frames(self, stride: int) -> NDArray[np.bool_]:
        """(clips,) True for those that have a frame at this stride."""
        hits = np.concatenate([[0], np.cumsum(self.frames.frames % stride == 0)])
        counts: NDArray[np.int64] = np.diff(hits[self.frames.offsets])
        return counts > 0


@dataclass(frozen=True)
class TrialResult:
    """What a finished trial leaves, of the best epoch of each of its heads.

    score: mean PCC on val, of the heads' mean where there are folds. best: the epoch of the best
    score by which the heads were stopped, which is the same score where val stops them.
    predictions: split -> (clips, targets) float32 in the order of `TrialData.rows`; train only
    where there are folds, each clip by the head that did not learn from it. Clips without a frame
    hold the mean rating of train. filled: how many those are a split.
    weights: the head's state dict as arrays; with folds each name has its fold before it: `0.`.
    fill: (targets,) that mean rating. per_target: PCC on val. seconds: of training.
    steps: of the longest sequence of val.
    """

    config: TrialConfig
    score: float
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
    """A running trial; `step` trains an epoch of each head, `result` ends it."""

    config: TrialConfig
    data: TrialData
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        self._begun = time.perf_counter()
        self.with_frames = self.data.with_frames(self.config.stride)
        self.curve: list[Epoch] = []
        train = self.data.labelled(self.data.rows["train"])
        val = self.data.labelled(self.data.rows["val"])
        if not len(self._seen(train)) or not len(self._seen(val)):
            raise ValueError("train and val need labelled clips with frames")
        self.steps = int(self._tensors(self._seen(val)).lengths.max())
        parts = self.data.held_out
        self.trainings = (
            [self._training(np.setdiff1d(train, part), self.data.labelled(part), seed)
             for seed, part in enumerate(parts)]
            if parts
            else [self._training(train, val, 0)]
        )  # fmt: skip

    def step(self) -> Epoch:
        """Trains one epoch; the score is the heads' mean, of those that go on."""
        ends = [each.epoch() for each in self.trainings if not each.finished]
        loss = float(np.mean([end.loss for end in ends]))
        score = float(np.mean([end.score for end in ends]))
        epoch = Epoch(len(self.curve) + 1, loss, score)
        self.curve.append(epoch)
        return epoch

    @property
    def finished(self) -> bool:
        return all(training.finished for training in self.trainings)

    def result(self) -> TrialResult:
        """The best epochs' weights and predictions. UndefinedScoreError if a head had no score, or
        what it predicts has none."""
        for training in self.trainings:
            training.restore_best()
        splits = {k: v for k, v in self.data.rows.items() if k != "train" and len(v)}
        predictions = {split: self._predict(clips) for split, clips in splits.items()}
        if len(self.data.held_out) > 1:
            predictions["train"] = self._out_of_fold()
        val = self.data.rows["val"]
        rated = ~np.isnan(self.data.targets[val]).any(axis=1)
        per_target = pcc(self.data.targets[val[rated]], predictions["val"][rated])
        if not np.isfinite(per_target).all():
            raise UndefinedScoreError(
                "the score on val is undefined: a predicted intensity is constant"
            )
        scored = [epoch for epoch in self.curve if np.isfinite(epoch.score)]
        return TrialResult(
            config=self.config,
            score=float(per_target.mean()),
            best=max(scored, key=lambda epoch: epoch.score),
            curve=tuple(self.curve),
            per_target=per_target,
            predictions=predictions,
            weights=self._weights(),
            fill=self._fill(),
            seconds=time.perf_counter() - self._begun,
            steps=self.steps,
            filled={k: int((~self.with_frames[self.data.rows[k]]).sum()) for k in predictions},
        )

    def _training(self, train: NDArray[np.intp], stop: NDArray[np.intp], number: int) -> Training:
        tensors, stop_tensors = self._tensors(self._seen(train)), self._tensors(self._seen(stop))
        return Training(
            self._head(tensors, number),
            tensors,
            stop_tensors,
            self.config,
            _seed(self.config, number),
            unseen=self.data.targets[stop[~self.with_frames[stop]]],
        )

    def _weights(self) -> dict[str, NDArray[np.float32]]:
        states = [training.head.state_dict() for training in self.trainings]
        arrays = [{k: v.cpu().numpy().copy() for k, v in state.items()} for state in states]
        if len(arrays) == 1:
            return arrays[0]
        return {f"{fold}.{k}": v for fold, state in enumerate(arrays) for k, v in state.items()}

    def _fill(self) -> NDArray[np.float32]:
        fill: NDArray[np.float32] = np.mean([training.fill for training in self.trainings], axis=0)
        return fill

    def _seen(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        return rows[self.with_frames[rows]]

    def _predict(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        heads = [training.head for training in self.trainings]
        return predict_clips(heads, self.config, self.data, rows, self._fill(), self.device)[0]

    def _out_of_fold(self) -> NDArray[np.float32]:
        train = self.data.rows["train"]
        # Unlabelled clips are in no fold: no head has learnt from them.
        out = self._predict(train)
        for training, part in zip(self.trainings, self.data.held_out, strict=True):
            places = np.flatnonzero(np.isin(train, part))
            out[places] = predict_clips(
                [training.head], self.config, self.data, train[places], training.fill, self.device
            )[0]
        return out

    def _tensors(self, rows: NDArray[np.intp]) -> Tensors:
        return tensors(self.data, rows, self.config, self.device)

    def _head(self, train: Tensors, number: int) -> LSTMHead:
        config = self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed(config, number))
            head = LSTMHead(train.features.shape[-1], train.targets.shape[-1], config)
        head.to(self.device)
        if config.normalise:
            real = train.features.double()
            head.normalise_by(real.mean(0).float(), real.std(0, unbiased=False).float())
        if config.label_transform == "range":
            head.range_by(train.targets.amin(0), train.targets.amax(0))
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
    found = sequences(
        data.frames,
        rows,
        data.targets,
        stride=config.stride,
        rule=config.sequence,
        columns=data.columns.get(config.features, slice(None)),
    )
    arrays = (found.features, found.lengths, found.targets)
    return Tensors(*(torch.from_numpy(array).to(device) for array in arrays))


def predict_clips(
    heads: Sequence[LSTMHead],
    config: TrialConfig,
    data: TrialData,
    rows: NDArray[np.intp],
    fill: NDArray[np.float32],
    device: torch.device | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The heads' mean predictions (clips, targets) of some clips, `fill` for those without a frame;
    and which clips have one."""
    filled = np.tile(fill, (len(rows), 1))
    seen = data.with_frames(config.stride)[rows]
    if seen.any():
        given = tensors(data, rows[seen], config, device or torch.device("cpu"))
        filled[seen] = np.mean([predict(head, given) for head in heads], axis=0)
    return filled, seen


def _seed(config: TrialConfig, number: int) -> int:
    """Of a head: the trial's own for the first."""
    if not number:
        return config.seed
    return int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0] >> 1)
