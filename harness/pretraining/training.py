"""Multi-task training of MTL-DAN on annotated faces: one loop, for one process or many."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from harness.encoders.mtl_dan.checkpoints import save_mtl_dan
from harness.encoders.mtl_dan.network import MTLDAN, Branches
from harness.errors import InputError
from harness.pretraining import processes
from harness.pretraining.annotations import AnnotatedFaces, Annotations
from harness.pretraining.config import PretrainConfig
from harness.pretraining.evaluation import autocast, check_pictures, network_input, predict
from harness.pretraining.faces import Labels, Pictures, shuffled
from harness.pretraining.initial import Initial
from harness.pretraining.multitask import (
    TERMS,
    ClassWeights,
    Seen,
    class_weights,
    multi_task_terms,
    seen,
)
from harness.pretraining.scores import Details, Scores, details, score
from harness.pretraining.training_folder import TrainingFolder

#: Bytes. Each process keeps the decoded pictures in memory if both splits fit.
MEMORY_LIMIT = 512 * 2**20


@dataclass(frozen=True)
class Epoch:
    """The result of one epoch.

    terms: of the loss, means over the epoch, unweighted. learning_rate: at the beginning. scores:
    and details: on val. best: whether its weights are kept.
    """

    number: int
    terms: dict[str, float]
    learning_rate: float
    scores: Scores
    details: Details
    best: bool
    seconds: float

    def summary(self) -> str:
        """One line for the terminal."""
        parts = ", ".join(f"{name} {value:.4f}" for name, value in self.scores.means().items())
        return (
            f"epoch {self.number}: {self.scores.p_mtl_name} {self.scores.p_mtl:.4f} ({parts}), "
            f"loss {sum(self.terms.values()):.4f}, {self.seconds:.1f} s{', best' * self.best}"
        )


@dataclass(frozen=True)
class Trained:
    """The scores on val of the epoch whose weights were kept, and what they are made of.

    history: of each epoch: its number, the loss, P_MTL and its parts; empty if `out` was complete.
    """

    epoch: int
    scores: Scores
    details: Details = field(compare=False)
    history: tuple[dict[str, float], ...] = field(default=(), compare=False)


def pretrain(
    faces: AnnotatedFaces,
    initial: Initial,
    config: PretrainConfig,
    out: Path,
    *,
    device: torch.device,
    workers: int = 0,
    tags: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = lambda line: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_step: Callable[[str, int, int], None] = lambda what, done, total: None,
    on_trained: Callable[[Trained], None] = lambda trained: None,
) -> Trained:
    """Trains `initial.model` and writes the weights of the epoch with the best P_MTL to `out`.

    The same call continues an interrupted run, and gives the same numbers if the device computes
    deterministically. If `out` is complete, only its scores are read.

    Args:
        workers: processes that decode and augment; the numbers do not depend on them.
        tags: further metadata of the weights.
        tell: called with a line about a continued or a complete run.
        on_epoch: called after each epoch in the first process, before the checkpoint is written.
        on_step: called with (name of the step, done, total).
        on_trained: called with the result in the first process, before `out` exists; again if this
            process is killed in between.

    Raises:
        InputError: settings do not match the data, an image cannot be read, the loss is not
            finite, or `out` belongs to another pretraining.
    """
    _check(config, faces)
    identity = config.flat() | {"data": faces.fingerprint, "init": initial.fingerprint}
    folder = TrainingFolder(out, identity)
    first = processes.rank() == 0
    with folder.locked(tell):
        if metadata := folder.result():
            tell(f"{out} is complete; another `out` trains again")
            return Trained(
                int(metadata["epoch"]),
                Scores.from_dict(json.loads(metadata["scores"])),
                Details.from_dict(json.loads(metadata["details"])),
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            training = _Training(faces, initial.model, config, device, workers)
            training.resume(folder, tell)
            while training.done < config.epochs:
                epoch = training.advance(on_step)
                if not first:
                    continue
                if epoch.best:
                    tagged = _metadata(identity, initial, epoch) | dict(tags or {})
                    save_mtl_dan(folder.best, training.model, tagged)
                on_epoch(epoch)
                folder.write(training.checkpoint())
        assert training.best is not None  # there is at least one epoch
        trained = replace(training.best, history=tuple(training.history))
        if first:
            on_trained(trained)
            folder.publish()
    return trained


class _Training:
    """A network with everything that changes from epoch to epoch."""

    def __init__(
        self,
        faces: AnnotatedFaces,
        model: MTLDAN,
        config: PretrainConfig,
        device: torch.device,
        workers: int,
    ) -> None:
        self.config, self.device, self.workers = config, device, workers
        self.train, self.val = _pictures(faces, config)
        self.truth = faces.val
        self.labels = Labels.of(faces.train, device)
        self.class_weights = class_weights(
            self.labels, config.balance_expressions, config.balance_units
        )
        # Without labels, a term and the partition of its heads are not trained.
        self.active = _active(faces.train).to(device)
        weights = torch.tensor([getattr(config.loss, name) for name in TERMS]).to(device)
        self.loss_weights = weights * self.active
        self.model = _trainable(model, device)
        self.network = _over_processes(self.model, device)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)
        steps = len(faces.train) // config.batch_size
        self.schedule = _schedule(self.optimiser, config, steps)
        # Only in fp16 do small gradients vanish.
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.done = 0
        self.best: Trained | None = None
        self.history: list[dict[str, float]] = []

    def advance(self, on_step: Callable[[str, int, int], None]) -> Epoch:
        """Trains one epoch and scores it."""
        start = time.monotonic()
        rate = float(self.optimiser.param_groups[0]["lr"])
        terms = self._epoch(self.done + 1, on_step)
        if not torch.isfinite(terms).all():
            lower = " or give `precision` bf16" if self.config.precision == "fp16" else ""
            raise InputError(
                f"epoch {self.done + 1}: the loss is not finite; lower `learning_rate`{lower}"
            )
        processes.average_statistics(self.model)
        outputs = predict(self.model, self.val, self.device, self.config.precision, self.workers)
        scores, made_of = score(outputs, self.truth), details(outputs, self.truth)
        self.done += 1
        best = self.best is None or scores.p_mtl > self.best.scores.p_mtl
        if best:
            self.best = Trained(self.done, scores, made_of)
        named = dict(zip(TERMS, (terms * self.active).tolist(), strict=True))
        self.history.append(
            {"epoch": self.done, "loss": sum(named.values()), "P_MTL": scores.p_mtl}
            | scores.means()
        )
        return Epoch(self.done, named, rate, scores, made_of, best, time.monotonic() - start)

    def _epoch(self, number: int, on_step: Callable[[str, int, int], None]) -> Tensor:
        """One pass over train; gives the mean terms of the loss, (6,)."""
        self.model.train()
        loader = shuffled(self.train, number, self.config.batch_size, self.workers, self.device)
        total = torch.zeros_like(self.loss_weights)
        for step, (pictures, places, problems) in enumerate(loader, start=1):
            check_pictures(problems)
            with autocast(self.device, self.config.precision):
                out = self.network(network_input(pictures, self.device, self.config.input_size))
            terms = loss_terms(
                seen(out), places.to(self.device), self.labels, self.config.heads,
                self.class_weights,
            )  # fmt: skip
            # Gradients are averaged over the processes, and each has those of its own rows only.
            loss = (terms * self.loss_weights).sum() * processes.count()
            self.optimiser.zero_grad()
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self.scaler.step(self.optimiser)
            self.scaler.update()
            self.schedule.step()
            total += terms.detach()
            on_step(f"epoch {number} of {self.config.epochs}", step, len(loader))
        return total / len(loader)

    def checkpoint(self) -> dict[str, Any]:
        """The state that `resume` restores, as tensors and plain values."""
        assert self.best is not None  # checkpoints follow epochs
        return {
            "done": self.done,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            # Order and augmentation depend on seed, epoch and face; this serves everything else.
            "generator": torch.get_rng_state(),
            "best_epoch": self.best.epoch,
            "best_scores": self.best.scores.to_dict(),
            "best_details": self.best.details.to_dict(),
            "history": self.history,
        }

    def resume(self, folder: TrainingFolder, tell: Callable[[str], None]) -> None:
        """Restores the last checkpoint, if there is one."""
        content = folder.read()
        if content is not None:
            self.model.load_state_dict(content["model"])
            self.optimiser.load_state_dict(content["optimiser"])
            self.schedule.load_state_dict(content["schedule"])
            self.scaler.load_state_dict(content["scaler"])
            torch.set_rng_state(content["generator"])
            self.done = content["done"]
            self.best = Trained(
                content["best_epoch"],
                Scores.from_dict(content["best_scores"]),
                Details.from_dict(content["best_details"]),
            )
            self.history = content["history"]
            tell(f"continues after epoch {self.done} of {self.config.epochs}")
        begun = processes.everyones(self.done)
        if set(begun) != {self.done}:
            raise InputError(
                f"{folder.path}: the processes found different checkpoints ({begun} epochs done); "
                "`out` must be on a disk that all of them share"
            )


def _active(train: Annotations) -> Tensor:
    """(6,) 1 for the terms of the loss that have labels."""
    valid = train.valid()
    rated = valid["valence and arousal"] > 0
    has = {"expression": valid["expression"] > 0, "action_units": valid["action units"] > 0,
           "valence": rated, "arousal": rated}  # fmt: skip
    has |= {
        "expression_heads": has["expression"],
        "action_unit_heads": has["action_units"],
    }
    return torch.tensor([float(has[name]) for name in TERMS])


def loss_terms(
    own: Seen, places: Tensor, labels: Labels, num_heads: int, weights: ClassWeights
) -> Tensor:
    """The terms of the loss, (6,), over the batches of all processes together.

    Args:
        own: outputs for this process's faces. places: (batch,) indices of their labels.
    """
    everything = processes.gathered(torch.cat(own, dim=1))
    together = Seen(*torch.split(everything, [part.shape[1] for part in own], dim=1))
    return multi_task_terms(together, labels.take(processes.gathered(places)), num_heads, weights)


class _Branching(nn.Module):
    """An MTL-DAN whose `forward` gives its branches, as DistributedDataParallel needs it."""

    def __init__(self, model: MTLDAN) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Branches:
        return self.model.branches(images)


def _trainable(model: MTLDAN, device: torch.device) -> MTLDAN:
    model.requires_grad_(True)
    # Parts of the published file that affect no output.
    for unused in (model.DAN.fc, model.DAN.bn, model.DAN.fc2):
        unused.requires_grad_(False)
    if processes.count() > 1 and device.type == "cuda":
        # As if the whole batch were on one GPU; torch has no such norm for CPUs.
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return model.to(device).to(memory_format=torch.channels_last)


def _over_processes(model: MTLDAN, device: torch.device) -> Callable[[Tensor], Branches]:
    if processes.count() == 1:
        return model.branches
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(_Branching(model), device_ids=devices)


def _schedule(
    optimiser: torch.optim.Optimizer, config: PretrainConfig, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate of every step. steps: of an epoch."""
    if config.schedule == "one-cycle":
        return torch.optim.lr_scheduler.OneCycleLR(
            optimiser, config.learning_rate, total_steps=config.epochs * steps
        )
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: config.gamma ** (step // steps)
    )


def _pictures(faces: AnnotatedFaces, config: PretrainConfig) -> tuple[Pictures, Pictures]:
    size = config.input_size
    train = Pictures(faces.train.images, size, config.augmentation, config.seed)
    val = Pictures(faces.val.images, size)
    if train.bytes + val.bytes <= MEMORY_LIMIT:
        train.hold()
        val.hold()
    return train, val


def _check(config: PretrainConfig, faces: AnnotatedFaces) -> None:
    count = processes.count()
    if config.batch_size % count or config.batch_size < 2 * count:
        raise InputError(
            f"`batch_size` {config.batch_size}: expected a multiple of the {count} processes, "
            "with two faces for each"
        )
    if len(faces.train) < config.batch_size:
        raise InputError(
            f"`batch_size` {config.batch_size}: train has {len(faces.train)} faces; "
            "give a smaller one"
        )


def _metadata(identity: Mapping[str, str], initial: Initial, epoch: Epoch) -> dict[str, str]:
    plain = ("heads", "input_size", "epochs", "seed", "data")
    return {name: identity[name] for name in plain} | {
        "p_mtl": f"{epoch.scores.p_mtl:.4f}",
        "epoch": str(epoch.number),
        "init": f"{initial.source} {initial.fingerprint}",
        "scores": json.dumps(epoch.scores.to_dict()),
        "details": json.dumps(epoch.details.to_dict()),
        "identity": json.dumps(identity),
    }
