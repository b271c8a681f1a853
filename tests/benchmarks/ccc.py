"""Why heads learn more slowly with the CCC loss than with the PCC loss.

    python -m tests.benchmarks.ccc [--clips 1000] [--epochs 20] [--sequences FILE FILE] [--json]

With prediction p, rating y, and their means m, deviations s and covariance c, the CCC loss is
1 - 2c / (s_p^2 + s_y^2 + (m_p - m_y)^2). Variants:

ccc, pcc: as the harness trains them.
times 100: the CCC loss times 100, and without it `no clipping`: both without clipping of gradients.
uniform: the LSTM layers begin with torch's weights (`initial`).
bias: the output layer begins with the mean rating of each target, in place of about .5.
no level: the term (m_p - m_y)^2 is dropped; the calibration of a head sets the level anyway.
level and scale: m_p and s_p are taken as those of the ratings, as if each batch was calibrated
    (an affine map). This is the PCC loss: the program checks that their gradients are equal.
scale fixed: the CCC loss of outputs whose deviation is set to that of the ratings by a constant
    factor from the first batch of each epoch, so that it has no gradient through the scale.

The score is the mean PCC on val after 1, 2, 5, 10 and the last epoch, which no scale or level
changes; mean over layers 1, 2, 4 and learning rates .003, .01 with AdamW, and a score of 0 where a
prediction is constant. `norm`: the norm of the gradient of the first batch, `spread`: the mean
deviation of the predictions on val over that of the ratings, both after the first epoch.

Data: generated clips (`tests/benchmarks/generated.py`, mixed information); and, with `--sequences`,
the files JapaneseVowels_TRAIN.ts and _TEST.ts (Kudo et al., 1999; in the wheel of aeon): 270 and
370 real sequences, with nine one-hot targets. The test sequences choose nothing here.
"""

import argparse
import itertools
import json
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.correlation import ccc_loss, pcc_loss
from harness.dataset import Dataset
from harness.models.config import TrialConfig
from harness.models.training import Training, predict
from harness.trials.trial import Trial
from tests.benchmarks.generated import generated
from tests.datasets import make_dataset, make_stream

PROCESSES = 2
GRID = {"layers": [1, 2, 4], "lr": [0.003, 0.01]}
EPOCHS = (1, 2, 5, 10)
Loss = Callable[[Tensor, Tensor], Tensor]


def no_level(prediction: Tensor, target: Tensor) -> Tensor:
    """The CCC loss (columns,) without the term of the means."""
    return ccc_loss(prediction - prediction.mean(0), target - target.mean(0))


def calibrated(prediction: Tensor, target: Tensor) -> Tensor:
    """The CCC loss (columns,) of predictions with the mean and deviation of the ratings."""
    a = prediction.double() - prediction.double().mean(0)
    b = target.double() - target.double().mean(0)
    # A target may be constant in a batch; the root has no gradient at 0.
    scaled = a * ((b.square().mean(0) + 1e-10) / (a.square().mean(0) + 1e-10)).sqrt()
    return ccc_loss(scaled, b)


def scale_fixed(prediction: Tensor, target: Tensor) -> Tensor:
    """The CCC loss (columns,) of predictions times a constant that gives them the deviation of the
    ratings."""
    with torch.no_grad():
        factor = target.std(0) / prediction.std(0).clamp_min(1e-6)
    return no_level(prediction * factor, target)


#: By name: the loss of columns, its factor, settings, and whether the output bias is set.
VARIANTS: dict[str, tuple[Loss, float, dict[str, Any], bool]] = {
    "ccc": (ccc_loss, 1, {}, False),
    "ccc, no clipping": (ccc_loss, 1, {"clip_norm": 0.0}, False),
    "ccc, times 100": (ccc_loss, 100, {"clip_norm": 0.0}, False),
    "ccc, uniform": (ccc_loss, 1, {"initial": "uniform"}, False),
    "ccc, bias": (ccc_loss, 1, {}, True),
    "ccc, no level": (no_level, 1, {}, False),
    "ccc, scale fixed": (scale_fixed, 1, {}, False),
    "ccc, level and scale": (calibrated, 1, {}, False),
    "pcc": (pcc_loss, 1, {}, False),
    "pcc, uniform": (pcc_loss, 1, {"initial": "uniform"}, False),
    "pcc, bias": (pcc_loss, 1, {}, True),
}


def sequences(files: list[Path]) -> Dataset:
    """Sequences of two files in the format .ts; those of the second are val."""
    clips: list[np.ndarray] = []
    labels: list[int] = []
    rows: dict[str, list[int]] = {}
    for split, file in zip(("train", "val"), files, strict=True):
        rows[split] = []
        lines = file.read_text().partition("@data")[2].split()
        for line in lines:
            *columns, label = line.split(":")
            rows[split].append(len(clips))
            clips.append(np.array([[float(x) for x in c.split(",")] for c in columns]).T)
            labels.append(int(label))
    counts = [len(clip) for clip in clips]
    stream = make_stream(
        np.concatenate(clips),
        np.concatenate([np.arange(count) for count in counts]),
        np.cumsum([0, *counts]),
    )
    return make_dataset(stream, np.eye(max(labels))[np.array(labels) - 1], rows)


def gradient(training: Training) -> float:
    """The norm of the gradient of the first batch; the head stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rows, features, lengths = next(iter(training._batches()))
        training.loss(training.head(features, lengths), training.learnt[rows]).backward()
    norm = torch.cat([p.grad.ravel() for p in training.head.parameters() if p.grad is not None])
    training.optimiser.zero_grad()
    return float(norm.norm())


_data: dict[str, Dataset] = {}


def _begin(data: dict[str, Dataset]) -> None:
    torch.set_num_threads(1)
    _data.update(data)


def _row(job: tuple[str, str, dict[str, Any], int]) -> dict[str, Any]:
    name, variant, point, epochs = job
    columns, factor, settings, bias = VARIANTS[variant]
    shape = {"batch_size": 32, "hidden": 64} if name == "sequences" else {"hidden": 32}
    config = TrialConfig.of(
        stride=1, head_width=64, epochs=epochs, patience=epochs, schedule="constant", **shape,
        **settings, **point,
    )  # fmt: skip
    trial = Trial(config, _data[name])
    (training,) = trial.trainings
    training.loss = lambda prediction, target: factor * columns(prediction, target).mean()
    if bias:
        mean = training.train.targets.mean(0)
        with torch.no_grad():
            training.head.regressor.out.bias.copy_((mean / (1 - mean)).log())
    norm = gradient(training)
    scores, spread = [], float("nan")
    for epoch in range(epochs):
        scores.append(0.0 if trial.dead else float(np.nan_to_num(training.epoch().score)))
        if epoch == 0:
            predicted = predict(training.head, training.val)
            spread = float((predicted.std(0) / training.truth.std(0)).mean())
    found = {f"epoch {e}": scores[e - 1] for e in (*EPOCHS, epochs) if e <= epochs}
    return {"data": name, "variant": variant, **point, **found, "norm": norm, "spread": spread}


def check_gradients() -> None:
    """The CCC loss of calibrated predictions has the gradient of the PCC loss."""
    rng = torch.Generator().manual_seed(0)
    target = torch.rand(64, 3, generator=rng, dtype=torch.float64)
    prediction = torch.rand(64, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    found = [
        torch.autograd.grad(loss(prediction, target).sum(), prediction)[0]
        for loss in (calibrated, pcc_loss)
    ]
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-6)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=1_000, help="Training clips, generated.")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--sequences", type=Path, nargs=2, metavar="FILE")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    check_gradients()
    data = {"generated": generated({"train": options.clips, "val": 600}, "mixed")}
    if options.sequences:
        data["sequences"] = sequences(options.sequences)
    points = [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    jobs = [(n, v, point, options.epochs) for point in points for n in data for v in VARIANTS]
    rows = []
    with multiprocessing.get_context("fork").Pool(PROCESSES, _begin, (data,)) as pool:
        for row in pool.imap_unordered(_row, jobs):
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    table = pd.DataFrame(rows).drop(columns=list(GRID))
    means = table.groupby(["data", "variant"], sort=False).mean().round(4)
    if options.json:
        print(json.dumps(means.reset_index().to_dict("records")))
    else:
        print(means.to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
