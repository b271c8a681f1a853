"""One trial: a configuration and a data set in, a model and its predictions out.

What a worker imports: no Ray, no files, no Optuna.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from harness.dataset import Dataset, Rows
from harness.errors import InputError, printable
from harness.metrics import group_sums, jackknife_error, pcc, pcc_of_sums
from harness.models.config import TrialConfig
from harness.models.head import Head
from harness.models.losses import fewest_clips
from harness.models.model import Model, predicted
from harness.models.sequences import tensors
from harness.models.training import Epoch, Tensors, Training, UndefinedScoreError, batch_sizes


@dataclass(frozen=True)
class TrialResult:
    """What a finished trial leaves, of the best epoch of each of its heads.

    score: mean PCC on val, of the heads' mean where there are folds. best: the epoch of the best
    score by which the heads were stopped, which is the same score where val stops them.
    per_target: PCC on val. predictions: split -> (clips, targets) float32 in the order of
    `Dataset.rows`; train only where there are folds, each clip by the head that did not learn from
    it. Clips without a step hold the mean rating of train; filled: how many those are in a split.
    seconds: of training. steps: of the longest sequence of val.
    optimism: split -> expected optimism of the score, because the split chose the epochs: of val,
    0 if it did not; of train, if the heads were stopped by folds of it.
    error: standard error of `score` over clips (or persons, if known), by the jackknife; NaN if it
    is undefined.
    """

    model: Model
    score: float
    best: Epoch
    curve: tuple[Epoch, ...]
    per_target: NDArray[np.float64]
    predictions: dict[str, NDArray[np.float32]]
    seconds: float
    steps: int
    filled: dict[str, int]
    optimism: dict[str, float]
    error: float


@dataclass
class Trial:
    """A running trial; `step` trains an epoch of each head, `result` ends it."""

    config: TrialConfig
    data: Dataset
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        self._begun = time.perf_counter()
        self.data = self.data.only(self.config.streams)
        self.with_frames = self.data.at(self.config.sampling)
        self.curve: list[Epoch] = []
        train = self.data.rated(self.data.rows("train"))
        val = self.data.rated(self.data.rows("val"))
        if not len(self._seen(train)) or not len(self._seen(val)):
            raise ValueError("train and val need rated clips with features")
        for name, stream in self.data.streams.items():
            if not stream.at(self.config.sampling)[train].any():
                raise InputError(
                    f"train: no rated clip has a step of the stream {printable(name)} at "
                    f"{self.config.sampling}"
                )
        parts = self.data.held_out
        self.trainings = (
            [self._training(np.setdiff1d(train, part), self.data.rated(part), seed, held_out=True)
             for seed, part in enumerate(parts)]
            if parts
            else [self._training(train, val, 0, held_out=False)]
        )  # fmt: skip
        self.steps = (self._tensors(self._seen(val)) if parts else self.trainings[0].val).longest

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
        return bool(self.dead) or all(training.finished for training in self.trainings)

    @property
    def seconds(self) -> float:
        """Time since the trial began."""
        return time.perf_counter() - self._begun

    @property
    def dead(self) -> str:
        """Why the trial cannot recover, such as "predicts a constant since epoch 2"; else empty."""
        death = next((t.death for t in self.trainings if t.death), None)
        if death is None:
            return ""
        names = [self.data.target_names[target] for target in death.targets]
        which = "" if len(names) == len(self.data.target_names) else f" for {', '.join(names)}"
        return f"predicts {death.kind}{which} since epoch {death.since}"

    def result(self) -> TrialResult:
        """The best epochs' weights and predictions. UndefinedScoreError if a head had no score, or
        what it predicts has none."""
        for training in self.trainings:
            training.restore_best()
        splits = [split for split in self.data.split_names if split != "train"]
        predictions = {split: self._predict(self.data.rows(split)) for split in splits}
        if len(self.data.held_out) > 1:
            predictions["train"] = self._out_of_fold()
        val = self.data.rows("val")
        rated = ~np.isnan(self.data.ratings[val]).any(axis=1)
        per_target = pcc(self.data.ratings[val[rated]], predictions["val"][rated])
        if not np.isfinite(per_target).all():
            raise UndefinedScoreError(
                "the score on val is undefined: a predicted intensity is constant"
            )
        optimism = float(np.mean([training.optimism for training in self.trainings]))
        stopped = "train" if self.data.held_out else "val"
        scored = [epoch for epoch in self.curve if np.isfinite(epoch.score)]
        return TrialResult(
            model=self._model(),
            score=float(per_target.mean()),
            best=max(scored, key=lambda epoch: epoch.score),
            curve=tuple(self.curve),
            per_target=per_target,
            predictions=predictions,
            seconds=self.seconds,
            steps=self.steps,
            filled={k: int((~self.with_frames[self.data.rows(k)]).sum()) for k in predictions},
            optimism={"val": 0.0, stopped: optimism},
            error=self._error(val[rated], predictions["val"][rated]),
        )

    def _error(self, rows: Rows, predictions: NDArray[np.float32]) -> float:
        truth, model = (v.T.astype(np.float64) for v in (self.data.ratings[rows], predictions))
        sums = group_sums(truth, model[None], self.data.group_numbers(rows))
        without = pcc_of_sums(sums.sum(axis=0) - sums, len(truth)).mean(axis=(1, 2))
        return jackknife_error(without)

    def _training(self, train: Rows, stop: Rows, number: int, *, held_out: bool) -> Training:
        self._check_batches(len(self._seen(train)))
        tensors, stop_tensors = self._tensors(self._seen(train)), self._tensors(self._seen(stop))
        unseen = stop[~self.with_frames[stop]]
        return Training(
            self._head(tensors, number),
            tensors,
            stop_tensors,
            self.config,
            _seed(self.config, number),
            unseen=self.data.ratings[unseen],
            groups=self.data.group_numbers(np.concatenate([self._seen(stop), unseen])),
            held_out=held_out,
        )

    def _check_batches(self, clips: int) -> None:
        """ValueError if a batch of the training is too small for a correlation."""
        config = self.config
        least = min(batch_sizes(clips, config.batch_size, config.last_batch))
        needed = fewest_clips(config.loss, config.reduction, len(self.data.target_names))
        if least < needed:
            raise ValueError(
                f"a batch has {least} of {clips} training clips (batch_size {config.batch_size}); "
                f"the loss {config.loss} is a correlation over the clips of a batch, which needs "
                f"at least {needed}"
            )

    def _model(self) -> Model:
        return Model(
            name="",
            config=self.config,
            streams={
                name: stream.specification_of(self.config.features)
                for name, stream in sorted(self.data.streams.items())
            },
            targets=self.data.target_names,
            early_stop_split=self.data.early_stop_split,
            fill=self._fill(),
            weights=tuple(
                {k: v.cpu().numpy().copy() for k, v in training.head.state_dict().items()}
                for training in self.trainings
            ),
        )

    def _fill(self) -> NDArray[np.float32]:
        fill: NDArray[np.float32] = np.mean([training.fill for training in self.trainings], axis=0)
        return fill

    def _seen(self, rows: Rows) -> Rows:
        return rows[self.with_frames[rows]]

    def _predict(self, rows: Rows) -> NDArray[np.float32]:
        heads = [training.head for training in self.trainings]
        return predicted(heads, self.config, self.data, rows, self._fill(), self.device)

    def _out_of_fold(self) -> NDArray[np.float32]:
        train = self.data.rows("train")
        # Unrated clips are in no fold: no head has learnt from them.
        out = self._predict(train)
        for training, part in zip(self.trainings, self.data.held_out, strict=True):
            places = np.flatnonzero(np.isin(train, part))
            out[places] = predicted(
                [training.head], self.config, self.data, train[places], training.fill, self.device
            )
        return out

    def _tensors(self, rows: Rows) -> Tensors:
        return tensors(self.data, rows, self.config, self.device)

    def _head(self, train: Tensors, number: int) -> Head:
        config = self.config
        widths = [
            stream.specification_of(config.features).width
            for _, stream in sorted(self.data.streams.items())
        ]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_seed(config, number))
            head = Head(widths, train.targets.shape[-1], config)
        head.to(self.device)
        head.fit(train.features, train.targets)
        return head


def run_trial(
    config: TrialConfig,
    data: Dataset,
    report: Callable[[Epoch], None] = lambda _: None,
    device: torch.device | None = None,
) -> TrialResult:
    """Trains one configuration to its end; `report` is called after every epoch.

    Raises:
        UndefinedScoreError: the predictions of a target are constant or not finite.
    """
    trial = Trial(config, data, device or torch.device("cpu"))
    while not trial.finished:
        report(trial.step())
    if trial.dead:
        raise UndefinedScoreError(trial.dead)
    return trial.result()


def _seed(config: TrialConfig, number: int) -> int:
    """Of a head: the trial's own for the first."""
    if not number:
        return config.seed
    return int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0] >> 1)
