"""What a whole study costs: the authors' loop under plain Optuna, and `python -m harness.search`.

    python -m tests.benchmarks.study [--quick] [--json] [--sample 12] [--folder DIR]
        [--only ours|authors|compare]

Both sides search the points of paper.toml (60 trials of up to 50 epochs) on generated clips of
Hume-Reaction's number in the authors' layout, one after the other, on the same two processes. Both
are timed from the start of their processes, and scored alike: mean PCC over all of val, and the
same of the plain mean of the five best trials until then (naive on both sides).

authors: the loop of the public code, as far as TrialConfig's `plateau-loss` start point describes
it: a DataLoader over the files of one clip each, packed sequences, Adam with a coupled decay of
.001, the plateau of the loss on val, no early stopping. TPE of plain Optuna on a journal. Only
`--sample` trials of it are run; `authors_whole_s` is their time times 60 over their number.
ours: the command with `--space paper`.

seconds_best, seconds_ensemble: of both sides to that score; reached_best, reached_ensemble: the
number of our trial that reached it. The first three are start points of the space; drawn_best and
drawn_ensemble are the ratios without them, as if those had taken their time and had no score.
over_authors_best: their seconds to their best score over ours to the same score; `null` if ours
never reaches it. over_authors_ensemble: the same of the five best. more_than_best and
more_than_ensemble: where the sample never reaches our best, its seconds over ours to our best, of
which the true ratio is larger. The time to a score is that of the sample: it is not extrapolated.
parts: what the ratio consists of, each as theirs over ours: seconds of an epoch at the same number
of layers, epochs of a trial, seconds until the first trial starts; and shares of dead trials.

A full run takes about 3 hours on two cores: ours 1 to 1.5, the authors' sample 1 to 2. Data,
studies and predictions stay in `--folder`. `--only` runs one side, and `--only compare` prints the
figures of what is there. An interrupted side continues: its time is that of its runs together, each
until its last finished trial, so that lost trials cost nothing.

Synthetic data: no score here is a result on Hume-Reaction.
"""

import argparse
import json
import multiprocessing
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from torch.utils.data import DataLoader

from harness.clips.layouts import read_clips
from harness.dataset import Dataset
from harness.ensembles.library import load_library
from harness.metrics import mean_pcc
from harness.models.config import TrialConfig
from harness.models.losses import reduced_loss
from harness.space.file import read_space
from harness.spaces import SPACES
from harness.streams.precomputed import read_foreign
from harness.study.backend import quiet_optuna
from harness.study.deaths import is_dead
from harness.study.folder import StudyFolder
from tests.benchmarks.generated import HUME, generated, write_authors_layout
from tests.benchmarks.training import Clips, PackedHead, collate

WORKERS, TOP = 2, 5
#: Start points of the space.
STARTS = 3
SPACE = SPACES / "paper.toml"
QUICK = {"train": 600, "val": 200, "test": 100}

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Ended:
    """A trial's end: seconds since the side started, mean PCC and predictions (clips, targets) on
    val; None for a trial without a score. epochs, seconds: of its training. number: of the trial,
    from 0. layers: of its LSTM."""

    number: int
    layers: int
    at: float
    score: float | None
    predictions: Floats | None
    epochs: int
    seconds: float


@dataclass(frozen=True)
class Side:
    """One side of the comparison. startup: seconds until the first trial started."""

    ended: list[Ended]
    startup: float
    whole: float
    dead: int

    def best(self, truth: Floats) -> list[tuple[float, float, float, int]]:
        """After each trial: seconds, best score, that of the mean of the five best, its number."""
        found: list[tuple[float, float, float, int]] = []
        scored: list[Ended] = []
        for end in self.ended:
            if end.score is None or end.predictions is None:
                continue
            scored = sorted([*scored, end], key=lambda each: -(each.score or 0))
            mean = np.mean([each.predictions for each in scored[:TOP]], axis=0)
            found.append((end.at, scored[0].score or 0, mean_pcc(truth, mean), end.number))
        return found


def authors_trial(data: Dataset, config: TrialConfig, number: int = 0) -> Ended:
    """A trial as the authors' code trains it; the score is that of all of val at once."""
    begun = time.perf_counter()
    torch.manual_seed(config.seed)
    loaders = [
        DataLoader(Clips(data, split), config.batch_size, drop_last=split == "train",
                   collate_fn=collate)
        for split in ("train", "val")
    ]  # fmt: skip
    head, loss_of = PackedHead(config), reduced_loss(config.loss, config.reduction)
    optimiser = torch.optim.Adam(head.parameters(), config.lr, weight_decay=config.weight_decay)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, patience=5)
    truth = data.ratings[data.rows("val")]
    best: tuple[float, Floats] | None = None
    for _ in range(config.epochs):
        head.train()
        for features, lengths, targets in loaders[0]:
            loss = loss_of(head(features, lengths), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        head.eval()
        with torch.no_grad():
            batches = [(head(f, n), y) for f, n, y in loaders[1]]
        plateau.step(float(np.mean([float(loss_of(p, y)) for p, y in batches])))
        predicted = torch.cat([p for p, _ in batches]).numpy()
        if np.isfinite(predicted).all() and (predicted.std(axis=0) > 1e-6).all():
            score = mean_pcc(truth, predicted)
            if best is None or score > best[0]:
                best = score, predicted
    seconds = time.perf_counter() - begun
    return Ended(
        number, config.own.layers, time.time(), *(best or (None, None)), config.epochs, seconds
    )


class Clock:
    """The time that the runs of one side took together, kept in a file.

    Each run is a line: when it began, in seconds since 1970. A run counts until its last trial.
    """

    def __init__(self, file: Path, ended: list[float]) -> None:
        """ended: when trials ended, in seconds since 1970."""
        begun = [float(line) for line in file.read_text().split()] if file.exists() else []
        self._spans: list[tuple[float, float]] = []
        for first, following in zip(begun, [*begun[1:], float("inf")], strict=True):
            here = [at for at in ended if first <= at < following]
            self._spans.append((first, max(here, default=first)))

    def at(self, moment: float) -> float:
        """Seconds that the runs took until a moment."""
        return sum(min(moment, end) - begin for begin, end in self._spans if begin <= moment)

    @staticmethod
    def start(file: Path) -> None:
        with file.open("a") as runs:
            runs.write(f"{time.time()}\n")


def _authors_process(root: Path, folder: Path, number: int, trials: int, epochs: int) -> None:
    quiet_optuna()
    torch.set_num_threads(1)
    data = _read(root)
    space = read_space(SPACE, epochs).without("stride", 1)
    own = {"optimiser": "adam", "schedule": "plateau-loss", "normalise": False, "ema": 0.0}
    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    study = optuna.create_study(
        storage=storage, study_name="s", direction="maximize", load_if_exists=True
    )  # fmt: skip
    done = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    if done >= trials:
        return
    # Another seed in each run, which would otherwise suggest the same points again.
    study.sampler = optuna.samplers.TPESampler(seed=number + WORKERS * done)

    def objective(trial: optuna.Trial) -> float:
        begun = time.time()
        config = TrialConfig.from_dict(space.fixed | space.suggest(trial) | own)
        end = authors_trial(data, config.changed(seed=trial.number), trial.number)
        trial.set_user_attr("begun", begun)
        trial.set_user_attr("end", [end.at, end.score, end.epochs, end.seconds])
        if end.predictions is None:
            return -1.0
        np.save(folder / f"{trial.number}.npy", end.predictions)
        return float(end.score or 0)

    study.optimize(objective, callbacks=[MaxTrialsCallback(trials)])


def run_authors(root: Path, folder: Path, trials: int, epochs: int) -> None:
    """The authors' loop under plain Optuna, in two processes."""
    folder.mkdir(exist_ok=True)
    Clock.start(folder / "runs.txt")
    context = multiprocessing.get_context("spawn")
    running = [
        context.Process(target=_authors_process, args=(root, folder, n, trials, epochs))
        for n in range(WORKERS)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join()
        if process.exitcode:
            raise SystemExit(f"a process of the authors' side ended with {process.exitcode}")


def authors(folder: Path) -> Side:
    """What the authors' side did."""
    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    found = optuna.load_study(study_name="s", storage=storage).get_trials(
        deepcopy=False, states=(TrialState.COMPLETE,)
    )
    clock = Clock(folder / "runs.txt", [trial.user_attrs["end"][0] for trial in found])
    ended = []
    for trial in found:
        at, score, count, seconds = trial.user_attrs["end"]
        file = folder / f"{trial.number}.npy"
        predictions = np.load(file) if file.exists() else None
        layers = trial.params["layers"]
        ended.append(Ended(trial.number, layers, clock.at(at), score, predictions, count, seconds))
    startup = clock.at(min(trial.user_attrs["begun"] for trial in found))
    ended.sort(key=lambda end: end.at)
    return Side(ended, startup, ended[-1].at, sum(end.score is None for end in ended))


def run_ours(root: Path, results: Path, trials: int, epochs: int) -> None:
    """The command, with the same number of processes."""
    results.mkdir(exist_ok=True)
    Clock.start(results / "runs.txt")
    line = [sys.executable, "-m", "harness.search", "--data", root, "--space", "paper", "--quiet"]
    line += ["--trials", trials, "--epochs", epochs, "--results", results, "--study", "s"]
    line += ["--concurrency", WORKERS]
    done = subprocess.run([str(each) for each in line], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"our side: {done.stderr}")


def ours(results: Path) -> Side:
    """What our side did."""
    folder = StudyFolder(results, "s")
    library = load_library(folder.path)
    slots = {trial.info.trial_id: slot for slot, trial in enumerate(library.matrix.trials)}
    storage = JournalStorage(JournalFileBackend(str(folder.path / "study.log")))
    study = optuna.load_study(study_name=folder.study_name, storage=storage)
    ended, dead = [], 0
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    found = study.get_trials(deepcopy=False, states=states)
    ends = [t.datetime_complete.timestamp() for t in found if t.datetime_complete]
    clock = Clock(results / "runs.txt", ends)
    for trial, end in zip(found, ends, strict=True):
        dead += is_dead(trial)
        slot = slots.get(f"{trial.number:05d}")
        predictions = None if slot is None else library.matrix.predictions[:, slot].T
        ended.append(
            Ended(trial.number, trial.params["layers"], clock.at(end), trial.value, predictions,
                  len(trial.intermediate_values), trial.user_attrs.get("seconds", 0.0))
        )  # fmt: skip
    startup = clock.at(min(t.datetime_start.timestamp() for t in found if t.datetime_start))
    ended.sort(key=lambda end: end.at)
    return Side(ended, startup, ended[-1].at, dead)


def compare(theirs: Side, mine: Side, truth: Floats, trials: int) -> dict[str, Any]:
    """See the module's docstring."""
    figures: dict[str, Any] = {
        "authors_trials": len(theirs.ended),
        "authors_whole_s": theirs.whole * trials / len(theirs.ended),
        "ours_trials": len(mine.ended), "ours_whole_s": mine.whole,
    }  # fmt: skip
    a, b = theirs.best(truth), mine.best(truth)
    drawn_ended = [end for end in mine.ended if end.number >= STARTS]
    without_start = replace(mine, ended=drawn_ended).best(truth)
    for column, name in ((1, "best"), (2, "ensemble")):
        target = max(row[column] for row in a)
        first_theirs = _first(a, column, target)
        first_ours = _first(b, column, target)
        figures[f"authors_{name}"], figures[f"ours_{name}"] = target, max(row[column] for row in b)
        reached = first_theirs is not None and first_ours is not None
        figures[f"over_authors_{name}"] = first_theirs[0] / first_ours[0] if reached else None
        figures[f"seconds_{name}"] = [row and row[0] for row in (first_theirs, first_ours)]
        figures[f"reached_{name}"] = first_ours and first_ours[3]
        drawn = _first(without_start, column, target)
        figures[f"drawn_{name}"] = first_theirs[0] / drawn[0] if reached and drawn else None
        if figures[f"ours_{name}"] > target:
            at = _first(b, column, figures[f"ours_{name}"])[0]
            figures[f"more_than_{name}"] = theirs.whole / at
    figures["parts"] = {
        "epoch": _epoch(theirs, mine),
        "epochs_of_a_trial": _epochs(theirs) / _epochs(mine),
        "startup": theirs.startup / mine.startup,
        "dead_share_authors": theirs.dead / len(theirs.ended),
        "dead_share_ours": mine.dead / len(mine.ended),
    }
    return figures


def _first(rows: list[tuple[float, float, float, int]], column: int, target: float) -> Any:
    return next((row for row in rows if row[column] >= target), None)


def _epoch(theirs: Side, mine: Side) -> float:
    """Seconds of an epoch, theirs over ours: the mean over numbers of layers that both trained."""
    ratios = []
    for layers in {end.layers for end in theirs.ended} & {end.layers for end in mine.ended}:
        a, b = (
            [end.seconds / end.epochs for end in side.ended if end.layers == layers and end.epochs]
            for side in (theirs, mine)
        )
        ratios.append(np.mean(a) / np.mean(b))
    return float(np.mean(ratios)) if ratios else float("nan")


def _epochs(side: Side) -> float:
    return float(np.mean([end.epochs for end in side.ended]))


def _read(root: Path) -> Dataset:
    clips = read_clips(root)
    stream, _, _ = read_foreign(clips)
    return Dataset(clips.clip_ids, clips.splits, clips.targets, clips.target_names,
                   streams={"files": stream})  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="Few clips, trials and epochs.")
    parser.add_argument("--sample", type=int, default=12, help="Trials of the authors' side.")
    parser.add_argument("--folder", type=Path, default=Path("results/.cache/benchmarks/study"))
    parser.add_argument("--only", choices=("ours", "authors", "compare"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sizes, trials, epochs = (QUICK, 8, 12) if options.quick else (HUME, 60, 50)
    sample = 4 if options.quick else options.sample
    folder = options.folder / ("quick" if options.quick else "whole")
    root = folder / "data"
    if not (folder / "written").exists():
        shutil.rmtree(folder, ignore_errors=True)
        write_authors_layout(root, generated(sizes))
        (folder / "written").touch()
    if options.only in (None, "ours"):
        run_ours(root, folder / "results", trials, epochs)
    if options.only in (None, "authors"):
        run_authors(root, folder / "authors", sample, epochs)
    if options.only in ("ours", "authors"):
        return 0
    data = _read(root)
    truth = data.ratings[data.rows("val")]
    figures = compare(authors(folder / "authors"), ours(folder / "results"), truth, trials)
    print(json.dumps(figures) if options.json else json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
