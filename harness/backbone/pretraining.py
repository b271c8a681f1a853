"""Multi-task training of MTL-DAN on annotated faces in the s-Aff-Wild2 form.

Each of the three tasks has its own mask: an invalid label reaches no loss. Images are decoded once
and held in memory, which suits sets of some ten thousand small faces.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from harness.backbone.mtl_dan import ACTION_UNITS, EXPRESSIONS, MTLDAN, Branches
from harness.backbone.preprocessing import normalise
from harness.errors import InputError
from harness.metrics import ccc

TRAIN_FILES = ("training_set_annotations_22.txt", "train_set.txt")
VAL_FILES = ("validation_set_annotations_22.txt", "validation_set.txt")
IMAGES = "cropped_aligned"
_FIELDS = 4 + len(ACTION_UNITS)
_EPSILON = 1e-6


@dataclass(frozen=True)
class Annotations:
    """images: paths. valence_arousal: (faces, 2), NaN where invalid. expression: (faces,) int64,
    -1 where invalid. action_units: (faces, 12) of 0 and 1, NaN where invalid."""

    images: tuple[Path, ...]
    valence_arousal: NDArray[np.float32]
    expression: NDArray[np.int64]
    action_units: NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """On validation: P_MTL = mean expression F1 + mean AU F1 + mean CCC of valence and arousal."""

    expression_f1: NDArray[np.float64]
    action_unit_f1: NDArray[np.float64]
    valence_arousal_ccc: NDArray[np.float64]

    @property
    def p_mtl(self) -> float:
        """The official score of the multi-task challenge, at most 3."""
        parts = (self.expression_f1, self.action_unit_f1, self.valence_arousal_ccc)
        return float(sum(part.mean() for part in parts))


@dataclass(frozen=True)
class Faces:
    """Annotated faces as tensors: pictures (faces, height, width, 3) uint8 and their labels."""

    pictures: Tensor
    valence_arousal: Tensor
    expression: Tensor
    action_units: Tensor

    def __len__(self) -> int:
        return len(self.pictures)

    def take(self, rows: Tensor) -> "Faces":
        """Some of the faces."""
        return Faces(
            self.pictures[rows],
            self.valence_arousal[rows],
            self.expression[rows],
            self.action_units[rows],
        )


def read_annotations(file: Path, images: Path) -> Annotations:
    """Reads an annotation file; faces whose three tasks are all invalid are left out.

    Raises:
        InputError: the file is missing, or a row is bad; the message names line and field.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not a readable annotation file: {error}") from error
    rows = [_row(file, n, line, images) for n, line in enumerate(lines[1:], start=2) if line]
    kept = [row for row in rows if row[1].size]
    if not kept:
        raise InputError(f"{file}: holds no face with a valid label")
    values = np.stack([row[1] for row in kept])
    return Annotations(
        images=tuple(row[0] for row in kept),
        valence_arousal=values[:, :2].astype(np.float32),
        expression=values[:, 2].astype(np.int64),
        action_units=values[:, 3:].astype(np.float32),
    )


def pretrain(
    data: Path,
    *,
    num_heads: int,
    input_size: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    progress: Callable[[int, int, Scores], None] = lambda epoch, epochs, scores: None,
) -> tuple[MTLDAN, Scores]:
    """Trains an MTL-DAN; gives the frozen model of the epoch with the best P_MTL, and its scores.

    Args:
        data: folder with the two annotation files and `cropped_aligned/`.
        learning_rate: peak of a one-cycle schedule of Adam.
        progress: called after each epoch with (epoch, epochs, scores).
    """
    train = load_faces(read_annotations(_find(data, TRAIN_FILES), data / IMAGES), input_size)
    val = load_faces(read_annotations(_find(data, VAL_FILES), data / IMAGES), input_size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MTLDAN(num_heads).to(memory_format=torch.channels_last)
        optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, learning_rate, total_steps=epochs * _steps(train, batch_size)
        )
        best: tuple[Scores, dict[str, Tensor]] | None = None
        for epoch in range(1, epochs + 1):
            _train_epoch(model, train, batch_size, input_size, optimiser, schedule)
            scores = evaluate(model, val, input_size)
            if best is None or scores.p_mtl > best[0].p_mtl:
                # A copy: the state dict itself holds the live weights.
                best = scores, copy.deepcopy(model.state_dict())
            progress(epoch, epochs, scores)
    assert best is not None  # there is at least one epoch
    model.load_state_dict(best[1])
    return model.requires_grad_(False).eval(), best[0]


def multi_task_loss(out: Branches, faces: Faces) -> Tensor:
    """Cross-entropy + BCE of the units + (1 - CCC) of valence and of arousal + two partition
    losses, each over the faces whose label is valid (the authors' sum, with every weight 1)."""
    total = partition_loss(out.expression_heads) + partition_loss(out.action_unit_heads)
    labelled = faces.expression >= 0
    if labelled.any():
        total = total + F.cross_entropy(out.expression[labelled], faces.expression[labelled])
    known = ~torch.isnan(faces.action_units)
    if known.any():
        total = total + F.binary_cross_entropy_with_logits(
            out.action_units[known], faces.action_units[known]
        )
    rated = ~torch.isnan(faces.valence_arousal).any(dim=1)
    if rated.any():
        total = total + _ccc_loss(out.valence_arousal[rated], faces.valence_arousal[rated]).sum()
    return total


def partition_loss(heads: Tensor) -> Tensor:
    """log(1 + H / variance over the heads, averaged): heads shall differ (arXiv 2109.07270).

    heads: (batch, H, 512); zero for a single head, which has nothing to differ from.
    """
    count = heads.shape[1]
    if count == 1:
        return heads.new_zeros(())
    variance = heads.var(dim=1).mean()
    return torch.log1p(count / (variance + _EPSILON))


@torch.inference_mode()
def evaluate(model: MTLDAN, faces: Faces, input_size: int, batch_size: int = 256) -> Scores:
    """Scores a model on annotated faces."""
    model.eval()
    outputs = torch.cat(
        [
            model(normalise(faces.pictures[i : i + batch_size], input_size))
            for i in range(0, len(faces), batch_size)
        ]
    ).numpy()
    n = len(EXPRESSIONS)
    labels, guesses = faces.expression.numpy(), outputs[:, :n].argmax(axis=1)
    valid = labels >= 0
    expression = [_f1(labels[valid] == k, guesses[valid] == k) for k in range(n)]
    truth, units = faces.action_units.numpy(), outputs[:, n : n + len(ACTION_UNITS)]
    known = ~np.isnan(truth).any(axis=1)
    action = [_f1(truth[known, k] > 0.5, units[known, k] > 0.5) for k in range(len(ACTION_UNITS))]
    rated = ~np.isnan(faces.valence_arousal.numpy()).any(axis=1)
    concordance = ccc(faces.valence_arousal.numpy()[rated], outputs[rated, -2:])
    return Scores(np.array(expression), np.array(action), np.nan_to_num(concordance))


def load_faces(annotations: Annotations, size: int) -> Faces:
    """Decodes the images once, at `size` pixels a side."""
    pictures = np.stack([_picture(path, size) for path in annotations.images])
    return Faces(
        torch.from_numpy(pictures),
        torch.from_numpy(annotations.valence_arousal),
        torch.from_numpy(annotations.expression),
        torch.from_numpy(annotations.action_units),
    )


def _train_epoch(
    model: MTLDAN,
    faces: Faces,
    batch_size: int,
    input_size: int,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    model.train()
    order = torch.randperm(len(faces))[: _steps(faces, batch_size) * batch_size]
    for rows in torch.split(order, batch_size):
        batch = faces.take(rows)
        images = normalise(batch.pictures, input_size)
        mirrored = torch.rand(len(rows)) < 0.5
        images[mirrored] = images[mirrored].flip(-1)
        out = model.branches(images.contiguous(memory_format=torch.channels_last))
        loss = multi_task_loss(out, batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()


def _steps(faces: Faces, batch_size: int) -> int:
    # A last batch of one or two faces would spoil the batch norms.
    return max(1, len(faces) // batch_size)


def _ccc_loss(prediction: Tensor, target: Tensor) -> Tensor:
    mean_p, mean_t = prediction.mean(0), target.mean(0)
    p, t = prediction - mean_p, target - mean_t
    spread = p.square().mean(0) + t.square().mean(0) + (mean_p - mean_t).square()
    return 1 - 2 * (p * t).mean(0) / (spread + _EPSILON)


def _f1(truth: NDArray[np.bool_], guess: NDArray[np.bool_]) -> float:
    hits = float((truth & guess).sum())
    total = float(truth.sum() + guess.sum())
    return 2 * hits / total if total else 0.0


def _row(file: Path, number: int, line: str, images: Path) -> tuple[Path, NDArray[np.float64]]:
    fields = line.split(",")
    if len(fields) != _FIELDS:
        raise InputError(f"{file}, line {number}: expected {_FIELDS} fields, got {len(fields)}")
    name = Path(fields[0])
    if name.is_absolute() or ".." in name.parts:
        raise InputError(f"{file}, line {number}, image: {fields[0]!r} leaves {images}")
    try:
        values = np.array([float(field) for field in fields[1:]])
    except ValueError as error:
        raise InputError(f"{file}, line {number}: {error}") from error
    _check_ranges(file, number, values)
    if (values[:2] == -5).any():
        values[:2] = np.nan
    values[3:][values[3:] == -1] = np.nan
    if np.isnan(values[:2]).all() and values[2] < 0 and np.isnan(values[3:]).all():
        return images / name, np.empty(0)
    return images / name, values


def _check_ranges(file: Path, number: int, values: NDArray[np.float64]) -> None:
    rated = (values[:2] == -5) | (np.abs(values[:2]) <= 1)
    if not rated.all():
        raise InputError(
            f"{file}, line {number}, valence/arousal: expected -1 to 1, or -5 for invalid"
        )
    if values[2] not in range(-1, len(EXPRESSIONS)):
        raise InputError(f"{file}, line {number}, expression: expected -1 to 7, got {values[2]:g}")
    if not np.isin(values[3:], (-1, 0, 1)).all():
        raise InputError(f"{file}, line {number}, aus: expected 0, 1, or -1 for invalid")


def _find(data: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (data / name).is_file():
            return data / name
    raise InputError(f"{data}: no annotation file; expected {' or '.join(names)}")


def _picture(path: Path, size: int) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            resized = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(resized, dtype=np.uint8)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable image: {error}") from error
