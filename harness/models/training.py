"""Trains one head, an epoch at a time: pure PyTorch, no files and no search."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.metrics import mean_pcc
from harness.models.config import TrialConfig
from harness.models.fusion import Read
from harness.models.head import Head
from harness.models.losses import FEWEST, reduced_loss
from harness.models.stopping import Stopping

# Evaluation holds no gradients, so that a GPU can take far larger batches than in training, of so
# many steps; on a CPU what a step touches should stay in the cache.
EVALUATION_BATCH, EVALUATION_STEPS = 256, 65536
#: A held-out part of fewer clips determines no scale; the clips that the head learned from do.
LEAST_CALIBRATING = 20
OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
#: Predictions of a target are constant if their standard deviation is below this share of that of
#: the ratings: some ten roundings of float32.
CONSTANT = 1e-6
#: So many consecutive epochs of constant or non-finite predictions end a training.
DEAD_EPOCHS = 2


class UndefinedScoreError(ValueError):
    """What a head predicts has no correlation: it is constant or not finite."""


@dataclass(frozen=True)
class Steps:
    """Sequences on the device: features (steps, dim), the steps of one clip after the other, and
    their lengths (clips,). So a long clip costs no padding to others. A clip of length 0 has one
    step of NaN."""

    features: Tensor
    lengths: Tensor

    @cached_property
    def last(self) -> Tensor:
        """(clips,) the number of each clip's last step, from 0."""
        return (self.lengths - 1).clamp_min(0)

    @cached_property
    def starts(self) -> Tensor:
        """(clips,) where the steps of each clip begin."""
        return torch.cumsum(self.last + 1, 0) - self.last - 1

    @cached_property
    def lengths_on_host(self) -> Tensor:
        """(clips,) number of steps, for which a GPU need not be waited for; at least 1."""
        return self.last.cpu() + 1

    def padded(self, rows: Tensor, time: int) -> tuple[Tensor, Tensor]:
        """Features (clips, time, dim) and lengths of some clips, padded with each clip's last
        step. time: steps to pad to, at least those of the longest of these clips."""
        step = torch.arange(time, device=rows.device)
        places = self.starts[rows, None] + torch.minimum(step, self.last[rows, None])
        return self.features[places], self.lengths[rows]


@dataclass(frozen=True)
class Tensors:
    """A split on the device. streams: one, or with late fusion one for each; targets: (clips,
    targets)."""

    streams: tuple[Steps, ...]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def features(self) -> Read:
        """(steps, dim) of the only one, or of each."""
        each = tuple(stream.features for stream in self.streams)
        return each if len(each) > 1 else each[0]

    @cached_property
    def lengths_on_host(self) -> Tensor:
        """(clips,) number of steps over all streams."""
        return torch.stack([stream.lengths_on_host for stream in self.streams]).sum(0)

    @property
    def longest(self) -> int:
        """Steps of the longest sequence."""
        return max(int(stream.lengths_on_host.max()) for stream in self.streams)

    def batches(self, order: Tensor, sizes: list[int] | int) -> Iterator[tuple[Tensor, Read, Read]]:
        """The clips of each batch, on the device, and what a head reads of them.

        Args:
            order: (clips,) on the host. sizes: of the batches, or of each.
        """
        times = []
        for stream in self.streams:
            parts = torch.split(stream.lengths_on_host[order], sizes)
            times.append([int(part.max()) for part in parts])
        if self.targets.is_cuda:
            order = order.pin_memory().to(self.targets.device, non_blocking=True)
        for rows, *longest in zip(torch.split(order, sizes), *times, strict=True):
            pairs = [s.padded(rows, time) for s, time in zip(self.streams, longest, strict=True)]
            features, lengths = zip(*pairs, strict=True)
            yield (rows, features, lengths) if len(pairs) > 1 else (rows, *pairs[0])


@dataclass(frozen=True)
class Epoch:
    """One epoch's end: its number from 1, the mean training loss and the mean PCC on val, which is
    NaN if the predictions of a target are constant or not finite."""

    number: int
    loss: float
    score: float


@dataclass(frozen=True)
class Death:
    """Why a training cannot recover.

    kind: "a constant" or "values that are not finite", which it predicts. targets: columns of the
    predictions. since: the first epoch of them.
    """

    kind: str
    targets: tuple[int, ...]
    since: int


@contextmanager
def exact_float32() -> Iterator[None]:
    """Within it a GPU's recurrent layers compute float32 in float32, forward and backward: cuDNN
    by itself takes TF32, which has 10 bits of fraction in place of 23."""
    setting = torch.backends.cudnn.rnn
    before = setting.fp32_precision  # type: ignore[attr-defined]
    setting.fp32_precision = "ieee"  # type: ignore[attr-defined]
    try:
        yield
    finally:
        setting.fp32_precision = before  # type: ignore[attr-defined]


class Training:
    """A head in training. Call `epoch` until `finished`; `best` holds the best epoch's weights.

    Equal seeds, data and thread count give equal weights on a CPU: each epoch draws from its own
    generator state, made from the seed and the epoch's number.
    """

    def __init__(
        self,
        head: Head,
        train: Tensors,
        val: Tensors,
        config: TrialConfig,
        seed: int,
        unseen: NDArray[np.float32] | None = None,
        groups: NDArray[np.intp] | None = None,
        held_out: bool = False,
    ) -> None:
        """
        Args:
            val: the clips that choose the epoch.
            seed: of shuffling and dropout. It differs from that of the configuration if a trial
                trains several heads.
            unseen: ratings (clips, targets) of further clips like `val`, but without a frame. They
                are scored as well, with the mean rating of train as prediction.
            groups: (clips of val, then unseen) person numbers from 0; None: each clip by itself.
            held_out: `val` is a part of train, so that it may also calibrate the head.
        """
        if not len(train):
            raise ValueError("no labelled training clip")
        self.head, self.train, self.val = head, train, val
        self.config, self.seed = config, seed
        self.loss = reduced_loss(config.loss, config.reduction)
        targets = val.targets.cpu().numpy()
        self.fill: NDArray[np.float32] = train.targets.mean(0).cpu().numpy()
        unseen = targets[:0] if unseen is None else unseen
        self.truth = np.concatenate([targets, unseen])
        self._filled = np.broadcast_to(self.fill, unseen.shape)
        self._stopping = Stopping(
            self.truth, np.arange(len(self.truth)) if groups is None else groups
        )
        self._calibrating = val if held_out and len(val) >= LEAST_CALIBRATING else train
        self.optimiser = OPTIMISERS[config.optimiser](
            head.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        self.scheduler = _scheduler(self.optimiser, config)
        self.learnt = head.transform(train.targets)
        #: What is scored and kept: the head, or the average of its weights.
        self.scored_head = head
        if config.ema:
            self.scored_head = _ema_copy(head)
        self.steps = 0
        self._spread = CONSTANT * val.targets.double().std(0, unbiased=False).cpu().numpy()
        #: By target and kind of its fault, the first of the consecutive epochs that have it.
        self._faulty_since: dict[tuple[int, str], int] = {}
        self.curve: list[Epoch] = []
        self.best: Epoch | None = None
        self.best_weights: dict[str, Tensor] = {}

    @property
    def finished(self) -> bool:
        """No epoch is left, `patience` epochs have passed since the best one, or it is dead."""
        done = len(self.curve)
        since_best = done - (self.best.number if self.best else 0)
        over = done >= self.config.epochs or since_best >= self.config.patience
        return over or self.death is not None

    @property
    def death(self) -> Death | None:
        """Set once a target has been predicted as a constant, or as values that are not finite, in
        `DEAD_EPOCHS` consecutive epochs."""
        latest = len(self.curve) - DEAD_EPOCHS + 1
        long = {fault: since for fault, since in self._faulty_since.items() if since <= latest}
        if not long:
            return None
        (_, kind), since = min(long.items(), key=lambda item: item[1])
        return Death(kind, tuple(sorted(target for target, of in long if of == kind)), since)

    def epoch(self) -> Epoch:
        """Trains on every clip once and scores val."""
        number = len(self.curve) + 1
        device = self.train.targets.device
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(_epoch_seed(self.seed, number))
            loss = float(self.pass_over_train())
        self.scored_head.calibration.reset()
        raw = predict(self.scored_head, self.val)
        faults = self._faults(raw)
        self._faulty_since = {f: self._faulty_since.get(f, number) for f in faults}
        score = float("nan")
        if not faults:
            predictions = self._scored(raw)
            with warnings.catch_warnings():
                # An undefined score is returned as NaN and becomes the trial's reason.
                warnings.simplefilter("ignore", UserWarning)
                score = mean_pcc(self.truth, predictions)
            if np.isfinite(score):
                self._stopping.add(predictions)
        result = Epoch(number, loss, score)
        self.curve.append(result)
        self._advance(result, raw)
        if np.isfinite(score) and (self.best is None or score > self.best.score):
            self.best = result
            # A copy: the state dict itself holds the live weights.
            self.best_weights = copy.deepcopy(self.scored_head.state_dict())
        return result

    @property
    def optimism(self) -> float:
        """The expected optimism of the best score, because its clips chose the epoch."""
        return self._stopping.optimism(self.seed)

    def restore_best(self) -> None:
        """Restores and calibrates the weights of the best epoch. UndefinedScoreError if no epoch
        had a score."""
        if self.best is None:
            raise UndefinedScoreError(
                f"no epoch of {len(self.curve)} had a defined score: "
                "a predicted intensity was constant or not finite"
            )
        self.head.load_state_dict(self.best_weights)
        calibrate(self.head, self._calibrating)

    def _scored(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """The predictions that `truth` is compared with, row for row. raw: those of val, before
        calibration."""
        if not len(self._filled):
            return raw
        # Filled clips are intensities, so the others must be on the same scale.
        calibrate(self.scored_head, self._calibrating)
        mapped = self.scored_head.calibration(torch.from_numpy(raw).to(self.val.targets))
        return np.concatenate([mapped.cpu().numpy(), self._filled])

    def _faults(self, predicted: NDArray[np.float32]) -> list[tuple[int, str]]:
        """Targets whose predictions (clips, targets) have no correlation, each with the kind of its
        fault. Clips without a frame do not count, because no head predicts them."""
        finite = np.isfinite(predicted).all(axis=0)
        with np.errstate(invalid="ignore", over="ignore"):
            constant = predicted.std(axis=0, dtype=np.float64) <= self._spread
        kinds = np.where(finite, "a constant", "values that are not finite")
        return [(int(k), str(kinds[k])) for k in np.flatnonzero(constant | ~finite)]

    @exact_float32()
    def pass_over_train(self) -> Tensor:
        """A step for each batch of an epoch; the mean loss of its clips, left on the device: on a
        GPU nothing here waits for it."""
        self.head.train()
        total, clips = torch.zeros((), device=self.train.targets.device), 0
        for rows, features, lengths in self._batches():
            loss = self.loss(self.head(features, lengths), self.learnt[rows])
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if self.config.clip_norm:
                nn.utils.clip_grad_norm_(self.head.parameters(), self.config.clip_norm)
            self.optimiser.step()
            if self.config.ema:
                self._average()
            total += loss.detach() * len(rows)
            clips += len(rows)
        return total / clips

    def _batches(self) -> Iterator[tuple[Tensor, Read, Read]]:
        clips = len(self.train)
        order = torch.randperm(clips) if self.config.shuffle else torch.arange(clips)
        sizes = batch_sizes(clips, self.config.batch_size, self.config.last_batch)
        return self.train.batches(order[: sum(sizes)], sizes)

    @torch.no_grad()
    def _average(self) -> None:
        """The moving average of the weights, which begins with the first step's.

        Its decay grows to the configured one, min(decay, (1 + step) / (10 + step)), so that the
        scores of the first epochs are not those of the first steps.
        """
        averages, weights = (tuple(h.parameters()) for h in (self.scored_head, self.head))
        self.steps += 1
        decay = min(self.config.ema, (1 + self.steps) / (10 + self.steps))
        share = 1 - decay if self.steps > 1 else 1.0
        torch._foreach_lerp_(averages, weights, share)

    def _advance(self, epoch: Epoch, predicted: NDArray[np.float32]) -> None:
        """Steps the learning rate. predicted: (clips, targets) of val."""
        if isinstance(self.scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            # An undefined score is no progress, nor is one below zero: torch asks for a share more
            # than the best one, and a share more than a negative number is less.
            measure = float(np.fmax(epoch.score, 0.0))
            if self.config.schedule == "plateau-loss":
                pair = torch.from_numpy(predicted).to(self.val.targets), self.val.targets
                measure = float(self.loss(*map(self.head.transform, pair)))
            self.scheduler.step(measure)
        elif self.scheduler is not None:
            self.scheduler.step()


def batch_sizes(clips: int, size: int, last: str) -> list[int]:
    """How many clips each batch of an epoch has; their sum is the number of clips that are used.

    Args:
        last: `merge` or `drop`, see `TrialConfig.last_batch`. A remainder of less than half a
            batch, or of fewer clips than FEWEST, is never a batch of its own.
    """
    full, rest = divmod(clips, size)
    if not full:
        return [clips]
    if last == "drop":
        return [size] * full
    if rest < max(size / 2, min(size, FEWEST)):
        return [size] * (full - 1) + [size + rest]
    return [size] * full + [rest]


@exact_float32()
@torch.inference_mode()
def predict(head: Head, split: Tensors) -> NDArray[np.float32]:
    """A head's intensities (clips, targets), in the split's order."""
    head.eval()
    # Sequences of about the same length together: the batches' steps are then full.
    ordered, order = torch.sort(split.lengths_on_host, stable=True)
    size = EVALUATION_BATCH
    if split.targets.is_cuda:
        size = max(size, EVALUATION_STEPS // int(ordered[-1]))
    batches = split.batches(order, size)
    rated = torch.cat([head.ratings(features, lengths) for _, features, lengths in batches])
    out = torch.empty_like(rated)
    out[order.to(rated.device)] = rated
    return out.float().cpu().numpy()


def calibrate(head: Head, clips: Tensors) -> None:
    """Gives a head's predictions of some clips the mean and standard deviation of their ratings."""
    head.calibration.reset()
    raw = torch.from_numpy(predict(head, clips)).to(clips.targets.device)
    head.calibration.fit(raw, clips.targets)


def _ema_copy(head: Head) -> Head:
    average = copy.deepcopy(head)
    for layer in average.modules():
        if isinstance(layer, nn.LSTM):
            layer.flatten_parameters()  # cuDNN wants a layer's weights in one piece
    return average


def _scheduler(
    optimiser: torch.optim.Optimizer, config: TrialConfig
) -> torch.optim.lr_scheduler.LRScheduler | None:
    if config.schedule.startswith("plateau"):
        mode: Literal["max", "min"] = "max" if config.schedule == "plateau" else "min"
        # The patience of the authors' public code.
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, mode=mode, patience=5)
    if config.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=config.epochs)
    return None


def _epoch_seed(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> 1)
