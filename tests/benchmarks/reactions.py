"""Heads trained on synthetic reactions: calibration, averages and stopping optimism, measured
against a large pool of clips. A part of `tests.benchmarks.estimates`.

The figures of a part:

`calibration`: by the loss of the heads, the drop of mean PCC and of mean CCC if 1 % or 5 % of the
clips have no frame, of the raw outputs and of the calibrated ones; and the pooled out-of-fold PCC
of five folds minus the mean PCC within folds, raw and calibrated.

`default_average`: libraries of heads of mixed losses. Each draw selects the best five of twelve
random trials on 200 clips of the pool. The figures are the true mean PCC (on the pool) of their
average by method, and how often each method is better than `raw`.

`optimism_error`: the expected optimism that a trial estimates from its epochs minus the true one
(score of the chosen epoch on the clips that chose it minus score on the pool); beside it, that of
out-of-bag scores, and of the constant .0055 (the middle of the range that the harness once
printed). The ensemble's error is that of its corrected nested score. `optimism-elsewhere` is the
same in settings in which nothing was tuned. `error_error` is the Monte Carlo error of `error`.

`choosing`: the mean of the best five trials, chosen on val, or on the out-of-fold predictions of
train. `val`: heads that val stopped. `val, folds` and `train, folds`: heads that five folds of
train stopped. `truth` is the true mean PCC of the chosen average, `naive` and `nested` are the
scores on the split that chose minus the truth. `reported` is the score to report minus the truth:
the corrected nested score if val chose, the hold-out score on val if train chose. The width and the
coverage are those of its 95 % interval. The luck of the sample of val, measured on all heads, is
subtracted from its scores.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from harness.dataset import Dataset
from harness.ensembles.estimate import Chooser, assign_folds
from harness.ensembles.intervals import resample
from harness.ensembles.moments import Moments
from harness.ensembles.selection import Recipe, choose, factors
from harness.grouping import divided
from harness.metrics import ccc, group_sums, mean_pcc, pcc, pcc_of_sums
from harness.models.config import TrialConfig
from harness.models.stopping import Stopping
from harness.models.training import predict
from harness.trials.folds import hold_out
from harness.trials.trial import Trial, run_trial
from tests.simulations import reactions

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """noise: standard deviation of the noise of the features. train: number of clips. rates: the
    range of learning rates, log10. hidden: widths of the heads. targets: number of targets."""

    noise: float
    train: int = 1000
    epochs: int = 25
    rates: tuple[float, float] = (-3.0, -2.0)
    hidden: tuple[int, int] = (16, 32)
    targets: int = 7
    seed: int = 7


#: A head reaches a mean PCC of about .65 and .37.
SETTINGS = {"demo": Setting(0.0), "noisy": Setting(0.5)}
#: Settings for an independent check of the estimate of the optimism.
ELSEWHERE = {
    "overfitted": Setting(0.25, train=300, epochs=40, rates=(-2.3, -1.7), seed=8),
    "slow": Setting(0.1, train=1500, epochs=15, rates=(-3.5, -2.7), hidden=(8, 16), seed=9),
    "2 targets": Setting(0.3, train=500, epochs=20, targets=2, seed=10),
}
LOSSES = ("ccc", "pcc", "mse")
SIZES = (30, 100, 200, 1000)
_POOL = 5000
# Of `choosing`: train and val are about in the ratio of Hume-Reaction; the pool is smaller, because
# five heads predict it after every epoch.
_FOLDED, _FOLDED_POOL, _VAL, _FOLDS = Setting(0.0, train=600, epochs=15), 2000, 200, 5
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
    chosen = (SETTINGS | ELSEWHERE)[setting]
    data = _pooled(chosen, chosen.seed)
    made = [_head(Trial(_config(number, chosen), data)) for number in range(heads)]
    return made, data.ratings[data.rows("val")].T.astype(np.float64)


def _pooled(setting: Setting, seed: int, pool: int = _POOL) -> Dataset:
    """Clips of train, and a pool of clips as val."""
    data = reactions(setting.train + pool, setting.noise, seed)
    splits = tuple("train" if clip < setting.train else "val" for clip in range(len(data)))
    names = data.target_names[: setting.targets]
    ratings = data.ratings[:, : setting.targets]
    return replace(data, splits=splits, targets=ratings, target_names=names)


def _config(number: int, setting: Setting = SETTINGS["demo"]) -> TrialConfig:
    rng = np.random.default_rng(number)
    return TrialConfig.of(
        loss=LOSSES[number % 3], stride=1, layers=1, hidden=int(rng.choice(setting.hidden)),
        lr=float(10 ** rng.uniform(*setting.rates)), epochs=setting.epochs,
        patience=setting.epochs, batch_size=64, seed=number,
    )  # fmt: skip


def _head(trial: Trial) -> Head:
    (training,) = trial.trainings
    epochs = []
    while not trial.finished:
        trial.step()
        epochs.append(predict(training.scored_head, training.val).T)
    result = trial.result()
    return Head(trial.config.loss, np.stack(epochs).astype(np.float64), result.model.calibration[0])


def mean_ccc(truth: NDArray[np.float32], predictions: NDArray[np.float32]) -> float:
    """Mean CCC over the targets."""
    return float(ccc(truth, predictions).mean())


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
                    for score in (mean_pcc, mean_ccc):
                        lost = score(truth, values) - score(truth, filled)
                        name = f"{score.__name__}_lost_{share:.0%}_{loss}_{kind}"
                        found.setdefault(name, []).append(lost)
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
    best = _pool_scores(made, truth).argmax(axis=1)
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
    pool = _pool_scores(made, truth)
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
        luck = _luck(made, pool, truth, sample)
        members = np.mean(estimated)
        rows.append((
            np.mean(true), np.mean(estimated), np.mean(out_of_bag), nested - truly - luck, members
        ))  # fmt: skip
    errors = [row[1] - row[0] for row in rows]
    true, estimated, out_of_bag, nested, members = np.mean(rows, axis=0)
    return {
        "true": float(true),
        "error": float(estimated - true),
        "error_error": float(np.std(errors, ddof=1) / np.sqrt(draws)),
        "error_out_of_bag": float(out_of_bag - true),
        "error_constant": float(_OLD_CONSTANT - true),
        "nested_top5_bias": float(nested),
        "corrected_top5_bias": float(nested - members),
    }


def _pool_scores(heads: list[Head], truth: Floats) -> Floats:
    """(heads, epochs) the true mean PCC."""
    return np.stack([[pcc(truth.T, p.T).mean() for p in head.epochs] for head in heads])


def _luck(heads: list[Head], pool: Floats, truth: Floats, sample: NDArray[np.intp]) -> float:
    """The mean score on a sample minus the true one, over heads and every fourth epoch."""
    y = truth[:, sample].T
    return float(np.mean([
        pcc(y, head.epochs[epoch][:, sample].T).mean() - true[epoch]
        for head, true in zip(heads, pool, strict=True)
        for epoch in range(0, len(true), 4)
    ]))  # fmt: skip


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
    nested = pcc(moments.truth.T, chooser.pooled("mean")[0].T).mean()
    members = chooser.choice("mean").members
    return float(nested), float(pcc(truth.T, values[:, members].mean(axis=1).T).mean())


@dataclass(frozen=True)
class Trials:
    """Trials of one training set. predictions: (targets, trials, clips) on the split that chooses.
    pool: (targets, trials, pool) of the same trials on new clips. optimism: (trials,) estimated."""

    predictions: Floats
    truth: Floats
    pool: Floats
    pool_truth: Floats
    optimism: Floats


def choosing(heads: int, worlds: int, draws: int) -> dict[str, dict[str, float]]:
    """The figures of `choosing`, the mean over training sets and over samples of val."""
    torch.set_num_threads(1)
    found: dict[str, list[tuple[float, ...]]] = {"val": [], "val, folds": [], "train, folds": []}
    setting = _FOLDED
    for world in range(worlds):
        data = _pooled(setting, 100 + world, _FOLDED_POOL)
        truth = data.ratings[data.rows("val")].T.astype(np.float64)
        configs = [_config(number, setting) for number in range(heads)]
        usual = [_head(Trial(config, data)) for config in configs]
        scores = _pool_scores(usual, truth)
        folded, _ = hold_out(data, None, None, folds=_FOLDS, fraction=None, seed=world)
        results = [run_trial(config, folded) for config in configs]
        pool = _stacked([result.predictions["val"] for result in results])
        train = Trials(
            _stacked([result.predictions["train"] for result in results]),
            data.ratings[data.rows("train")].T.astype(np.float64),
            pool, truth, np.array([result.optimism["train"] for result in results]),
        )  # fmt: skip
        for draw in range(draws):
            sample = np.random.default_rng([world, draw]).choice(_FOLDED_POOL, _VAL, replace=False)
            stopped = _stopped(usual, truth, sample, draw)
            luck = _luck(usual, scores, truth, sample)
            of_folds = Trials(pool[..., sample], truth[:, sample], pool, truth, np.zeros(heads))
            found["val"].append(_chosen(stopped, luck, draw))
            found["val, folds"].append(_chosen(of_folds, luck, draw))
            found["train, folds"].append(_chosen(train, luck, draw, sample))
    names = ("truth", "naive", "nested", "reported", "width", "coverage")
    return {
        how: dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))
        for how, rows in found.items()
    }


def _stacked(predictions: list[NDArray[np.float32]]) -> Floats:
    """(clips, targets) of each trial -> (targets, trials, clips)."""
    return np.stack(predictions, axis=1).T.astype(np.float64)


def _stopped(heads: list[Head], truth: Floats, sample: NDArray[np.intp], seed: int) -> Trials:
    """Heads of which a sample of the pool chooses the epochs."""
    pool, optimism = [], []
    for head in heads:
        stopping = Stopping(truth[:, sample].T.astype(np.float32), np.arange(len(sample)))
        for predictions in head.epochs:
            stopping.add(predictions[:, sample].T.astype(np.float32))
        scores = [pcc(truth[:, sample].T, p[:, sample].T).mean() for p in head.epochs]
        pool.append(head.epochs[int(np.argmax(scores))] * head.slope[:, None])
        optimism.append(stopping.optimism(seed))
    values = np.stack(pool, axis=1)
    return Trials(values[..., sample], truth[:, sample], values, truth, np.array(optimism))


def _chosen(
    trials: Trials, luck: float, seed: int, sample: NDArray[np.intp] | None = None
) -> tuple[float, ...]:
    """truth, naive, nested, reported, width and coverage of the mean of the best five trials.

    Args:
        luck: by how much a score on the sample of val is too high, which is the same for all.
        sample: the clips of the pool that are the hold-out; None: no hold-out.
    """
    moments = Moments(
        trials.predictions.astype(np.float32),
        trials.truth.T.astype(np.float32),
        assign_folds(np.arange(trials.truth.shape[1]), seed),
    )
    count = trials.predictions.shape[1]
    chooser = Chooser(moments, Recipe("mean", top=min(_TOP, count)), [""] * count)
    members = chooser.choice("mean").members
    average = trials.pool[:, members].mean(axis=1)
    true = float(pcc(trials.pool_truth.T, average.T).mean())
    naive = pcc(trials.truth.T, trials.predictions[:, members].mean(axis=1).T).mean()
    pooled = chooser.pooled("mean")[0]
    nested = pcc(moments.truth.T, pooled.T).mean()
    if sample is None:
        reported = nested - trials.optimism[members].mean()
        drawn = resample(moments.truth, pooled[None], np.arange(pooled.shape[1]), seed)
    else:
        held = trials.pool_truth[:, sample]
        reported = pcc(held.T, average[:, sample].T).mean()
        drawn = resample(held, average[None][..., sample], np.arange(len(sample)), seed)
    interval = drawn.score(0)
    assert interval is not None  # no target is constant
    # Chosen on train, naive and nested scores are of other clips than the sample.
    own = luck if sample is None else 0.0
    return (
        true, float(naive) - true - own, float(nested) - true - own, float(reported) - true - luck,
        interval.high - interval.low, float(interval.low <= true <= interval.high),
    )  # fmt: skip
