"""Heads trained on synthetic reactions: calibration, averages and stopping optimism, measured
against a large pool of clips. A part of `tests.benchmarks.estimates`.

The figures of a part:

`calibration`: the loss of mean PCC if 1 % or 5 % of the clips have no frame, of the raw outputs and
of the calibrated ones, by loss; and the pooled out-of-fold PCC of five folds minus the mean PCC
within folds, raw and calibrated.

`default_average`: libraries of heads of mixed losses. Each draw selects the best five of twelve
random trials on 200 clips of the pool. The figures are the true mean PCC (on the pool) of their
average by method, and how often each method is better than `raw`.

`optimism_error`: the expected optimism that a trial estimates from its epochs minus the true one
(score of the chosen epoch on the clips that chose it minus score on the pool); beside it, that of
out-of-bag scores, and of the constant .0055 (the middle of the range that the harness once
printed). The ensemble's error is that of its corrected nested score.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from harness.ensembles.estimate import Chooser, assign_folds
from harness.ensembles.moments import Moments
from harness.ensembles.selection import Recipe, choose, factors
from harness.grouping import divided
from harness.metrics import group_sums, mean_pcc, pcc, pcc_of_sums
from harness.models.config import TrialConfig
from harness.models.stopping import Stopping
from harness.models.training import predict
from harness.trials.folds import hold_out
from harness.trials.trial import Trial, run_trial
from tests.simulations import reactions

Floats = NDArray[np.float64]
#: Setting -> noise of the features; a head reaches a mean PCC of about .65 and .37.
SETTINGS = {"demo": 0.0, "noisy": 0.5}
LOSSES = ("ccc", "pcc", "mse")
SIZES = (30, 100, 200, 1000)
_TRAIN, _POOL, _EPOCHS = 1000, 5000, 25
_OLD_CONSTANT = 0.0055
_TOP = 5


@dataclass(frozen=True)
class Head:
    """A trained head. epochs: (epochs, targets, pool) outputs before the calibration. slope:
    (targets,) of the calibration of the epoch that the pool chose."""

    loss: str
    epochs: Floats
    slope: Floats


@cache
def library(setting: str, heads: int) -> tuple[list[Head], Floats]:
    """Heads of mixed losses, rates and widths, and the ratings (targets, pool)."""
    torch.set_num_threads(1)
    data = reactions(_TRAIN + _POOL, SETTINGS[setting], seed=7)
    splits = tuple("train" if clip < _TRAIN else "val" for clip in range(len(data)))
    data = replace(data, splits=splits)
    made = [_head(Trial(_config(number), data)) for number in range(heads)]
    return made, data.ratings[data.rows("val")].T.astype(np.float64)


def _config(number: int) -> TrialConfig:
    rng = np.random.default_rng(number)
    return TrialConfig.of(
        loss=LOSSES[number % 3], stride=1, layers=1, hidden=int(rng.choice([16, 32])),
        lr=float(10 ** rng.uniform(-3, -2)), epochs=_EPOCHS, patience=_EPOCHS, batch_size=64,
        seed=number,
    )  # fmt: skip


def _head(trial: Trial) -> Head:
    (training,) = trial.trainings
    epochs = []
    while not trial.finished:
        trial.step()
        epochs.append(predict(training.scored_head, training.val).T)
    result = trial.result()
    return Head(trial.config.loss, np.stack(epochs).astype(np.float64), result.model.calibration[0])


def calibration(heads: int = 6) -> dict[str, float]:
    """The figures of `calibration`."""
    torch.set_num_threads(1)
    found: dict[str, list[float]] = {}
    data = reactions(3000, 0.0, seed=3)
    train, val = data.rows("train"), data.rows("val")
    truth, fill = data.ratings[val], data.ratings[train].mean(axis=0)
    folded, _ = hold_out(data, None, None, folds=5, fraction=None, seed=0)
    for number in range(heads):
        for loss in ("pcc", "ccc"):
            config = _config(number).changed(loss=loss, epochs=10)
            model = run_trial(config, data).model
            calibrated = model.predict(data, val)
            slope, offset = model.calibration
            for kind, values in (
                ("calibrated", calibrated),
                ("raw", (calibrated - offset) / slope),
            ):
                for share in (0.01, 0.05):
                    empty = np.random.default_rng(number).random(len(val)) < share
                    filled = np.where(empty[:, None], fill, values)
                    lost = mean_pcc(truth, values) - mean_pcc(truth, filled)
                    found.setdefault(f"lost_{share:.0%}_{loss}_{kind}", []).append(lost)
        config = _config(number).changed(loss="pcc", epochs=10)
        trial = Trial(config, folded)
        while not trial.finished:
            trial.step()
        result = trial.result()
        heads_of = result.model.heads()
        pooled = {"calibrated": result.predictions["train"], "raw": np.empty((len(train), 7))}
        for head, part in zip(heads_of, folded.held_out, strict=True):
            head.calibration.reset()
            pooled["raw"][part] = predict(head, trial._tensors(part))
        for kind, values in pooled.items():
            within = [mean_pcc(data.ratings[part], values[part]) for part in folded.held_out]
            gap = mean_pcc(data.ratings[train], values) - float(np.mean(within))
            found.setdefault(f"pooled_minus_within_{kind}", []).append(gap)
    return {name: float(np.mean(values)) for name, values in found.items()}


def default_average(setting: str, heads: int, draws: int = 400) -> dict[str, float]:
    """The figures of `default_average`."""
    made, truth = library(setting, heads)
    sums = [pcc(truth.T, head.epochs[e].T).mean() for head in made for e in range(_EPOCHS)]
    best = np.array(sums).reshape(len(made), _EPOCHS).argmax(axis=1)
    values = np.stack([head.epochs[e] for head, e in zip(made, best, strict=True)], axis=1)
    slopes = np.stack([head.slope for head in made], axis=1)
    calibrated = values * slopes[..., None]
    found: dict[str, list[float]] = {}
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        trials = rng.choice(len(made), min(len(made), 2 * _TOP + 2), replace=False)
        rows = rng.choice(truth.shape[1], 200, replace=False)
        part = calibrated[:, trials]
        moments = Moments(
            part[..., rows].astype(np.float32),
            truth[:, rows].T.astype(np.float32),
            np.arange(len(rows)) % 10,
            slopes[:, trials],
        )
        evidence = moments.evidence()
        for method in ("raw", "mean", "zscore"):
            choice = choose(Recipe(method, top=_TOP), method, evidence, [""] * len(trials))
            w = factors(choice, moments, evidence) / moments.deviations[:, choice.members]
            average = np.einsum("tm,tmc->tc", w, part[:, choice.members])
            found.setdefault(method, []).append(float(pcc(truth.T, average.T).mean()))
    raw = np.array(found["raw"])
    return {
        name: value
        for method, scores in found.items()
        for name, value in (
            (method, float(np.mean(scores))),
            (f"{method}_better_than_raw", float((np.array(scores) > raw).mean())),
        )
    }


def optimism_error(setting: str, heads: int, clips: int, draws: int) -> dict[str, float]:
    """The figures of `optimism_error` for samples of so many clips, by the mean over the draws."""
    made, truth = library(setting, heads)
    pool = np.stack([[pcc(truth.T, p.T).mean() for p in head.epochs] for head in made])
    rows = []
    for draw in range(draws):
        rng = np.random.default_rng([clips, draw])
        sample = rng.choice(truth.shape[1], clips, replace=False)
        y = truth[:, sample]
        estimated, true, out_of_bag, chosen = [], [], [], []
        for head, true_scores in zip(made, pool, strict=True):
            stopping = Stopping(y.T.astype(np.float32), np.arange(clips))
            for predictions in head.epochs:
                stopping.add(predictions[:, sample].T.astype(np.float32))
            scores = np.array([pcc(y.T, p[:, sample].T).mean() for p in head.epochs])
            best = int(scores.argmax())
            chosen.append(best)
            estimated.append(stopping.optimism(draw))
            # The luck of the sample, which all epochs share, is 0 on average.
            luck = (scores - true_scores).mean()
            true.append(scores[best] - true_scores[best] - luck)
            out_of_bag.append(scores[best] - _out_of_bag(head, y, sample, rng))
        nested, truly = _nested(made, truth, sample, chosen, draw)
        luck = np.mean([(pcc(y.T, h.epochs[e][:, sample].T).mean() - pool[i, e])
                        for i, h in enumerate(made) for e in range(0, _EPOCHS, 4)])  # fmt: skip
        members = np.mean(estimated)
        rows.append((
            np.mean(true), np.mean(estimated), np.mean(out_of_bag), nested - truly - luck, members
        ))  # fmt: skip
    true, estimated, out_of_bag, nested, members = np.mean(rows, axis=0)
    return {
        "true": float(true),
        "error": float(estimated - true),
        "error_out_of_bag": float(out_of_bag - true),
        "error_constant": float(_OLD_CONSTANT - true),
        "nested_top5_bias": float(nested),
        "corrected_top5_bias": float(nested - members),
    }


def _out_of_bag(head: Head, y: Floats, sample: NDArray[np.intp], rng: np.random.Generator) -> float:
    """The mean score out of bag of the epochs chosen in bag (as BBC-CV does)."""
    blocks = divided(np.arange(len(sample)), [1.0] * min(len(sample), 200), 0)
    sums = group_sums(y, head.epochs[:, :, sample], blocks)
    counts = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), 200).astype(np.float64)
    drawn, rest = (pcc_of_sums(part @ sums, len(y)).mean(axis=2) for part in (counts, counts == 0))
    return float(np.nanmean(rest[np.arange(len(rest)), drawn.argmax(axis=1)]))


def _nested(
    heads: list[Head], truth: Floats, sample: NDArray[np.intp], chosen: list[int], seed: int
) -> tuple[float, float]:
    """The nested score of the mean of the best five on a sample, and its true score."""
    values = np.stack([h.epochs[e] for h, e in zip(heads, chosen, strict=True)], axis=1)
    values *= np.stack([head.slope for head in heads], axis=1)[..., None]
    top = min(_TOP, len(heads))
    moments = Moments(
        values[..., sample].astype(np.float32),
        truth[:, sample].T.astype(np.float32),
        assign_folds(np.arange(len(sample)), seed),
    )
    chooser = Chooser(moments, Recipe("mean", top=top), [""] * len(heads))
    nested = pcc(moments.truth.T, chooser.out_of_fold("mean").T).mean()
    members = chooser.choice("mean").members
    return float(nested), float(pcc(truth.T, values[:, members].mean(axis=1).T).mean())
