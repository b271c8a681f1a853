"""What a search costs beside its trials: plain Optuna, Ray Tune the obvious way, and ours.

    python -m tests.benchmarks.search [--quick] [--json]

Trials are real heads of 10 epochs on generated features, of a size that makes them last .2 or 5
seconds; two run at once, each on one thread. The floor is two bare processes that train the same
trials in a loop, with no search at all. Efficiency is the floor's time over the search's, from the
first trial's begin to the last one's end: what is left of two workers' time for training. Start-up
is from the start of the process to the first trial's begin. Each search runs in a process of its
own and keeps what ours keeps: study, predictions, and heads.

obvious: a function trainable that reports every epoch, OptunaSearch, Tune's defaults.
optuna: two processes of `study.optimize` on one journal, which need no driver.
ours: `harness.tuning.engine.run_trials`, as the command runs it.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.tuning.results import save_trial

WORKERS = 2
EPOCHS = 10
#: Seconds of a trial -> trials of a run, of the slow way and of the others.
PLANS = {0.2: (24, 240), 5.0: (8, 16)}
QUICK = {0.2: (8, 80), 5.0: (4, 6)}
WAYS = ("floor", "optuna", "obvious", "ours")


@dataclass(frozen=True)
class Run:
    """seconds: from the first trial's begin to the last one's end. memory: MiB of a worker, its own
    and its share of what it shares."""

    way: str
    trials: int
    startup: float
    seconds: float
    memory: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Fewer trials.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        way, clips, trials, folder = options.one
        print(json.dumps(asdict(_one(way, int(clips), int(trials), Path(folder)))))
        return 0
    figures: dict[str, float] = {}
    for length, (few, many) in (QUICK if options.quick else PLANS).items():
        clips = _clips(length)
        runs = [_run(way, clips, few if way == "obvious" else many) for way in WAYS]
        floor = runs[0].seconds / runs[0].trials
        for run in runs:
            each = run.seconds / run.trials
            name = "" if run.way == "ours" else f"_{run.way}"
            figures[f"efficiency_{length:g}s{name}"] = round(floor / each, 3)
            figures[f"overhead_ms_{length:g}s{name}"] = round((each - floor) * WORKERS * 1e3)
            figures[f"startup_s{name}"] = round(run.startup, 2)
            figures[f"worker_mib{name}"] = round(run.memory)
        if not options.json:
            _show(length, runs)
    if options.json:
        print(json.dumps({k: v for k, v in figures.items() if not k.endswith("_floor")}))
    return 0


def _show(length: float, runs: list[Run]) -> None:
    print(f"\ntrials of about {length:g} s, {WORKERS} at once")
    print("way       trials  start-up s  efficiency  overhead ms a trial  MiB a worker")
    floor = runs[0].seconds / runs[0].trials
    for run in runs:
        each = run.seconds / run.trials
        print(
            f"{run.way:<9} {run.trials:>6}  {run.startup:>10.1f}  {floor / each:>10.2f}  "
            f"{(each - floor) * WORKERS * 1e3:>19.0f}  {run.memory:>12.0f}"
        )


def _run(way: str, clips: int, trials: int) -> Run:
    with tempfile.TemporaryDirectory(prefix="search-benchmark-") as folder:
        line = [sys.executable, "-m", "tests.benchmarks.search", "--one"]
        done = subprocess.run(
            [*line, way, str(clips), str(trials), folder],
            capture_output=True, text=True, check=False,
            env=os.environ | {"BEGUN": repr(time.time())},
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{way}: {done.stderr}")
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def _clips(length: float) -> int:
    """How many training clips make a trial last so long."""
    import torch

    from harness.trials.trial import run_trial

    torch.set_num_threads(1)
    trial = min(run_trial(_config(0), _data(1000)).seconds for _ in range(3))
    return max(64, round(1000 * length / trial))


def _data(clips: int) -> Any:

    rng = np.random.default_rng(0)
    total, steps = clips + clips // 4, 12
    features = rng.standard_normal((total * steps, 22)).astype(np.float32)
    targets = 1 / (1 + np.exp(-features.reshape(total, steps, 22).mean(1)[:, :7] * 3))
    frames = np.tile(np.arange(steps, dtype=np.int32), total)
    offsets = np.arange(total + 1, dtype=np.int64) * steps
    rows = {"train": np.arange(clips), "val": np.arange(clips, total)}
    from tests.datasets import make_dataset, make_stream

    return make_dataset(make_stream(features, frames, offsets), targets, rows)


def _config(seed: int, lr: float = 0.003) -> Any:
    from harness.models.config import TrialConfig

    return TrialConfig.of(
        stride=1, layers=1, hidden=32, head_width=32, batch_size=64, lr=lr, epochs=EPOCHS,
        patience=EPOCHS, seed=seed,
    )  # fmt: skip


def _one(way: str, clips: int, trials: int, folder: Path) -> Run:
    begun, ended, memory = WAY[way](_data(clips), trials, folder)
    return Run(way, trials, begun - float(os.environ["BEGUN"]), ended - begun, memory)


def _folder(folder: Path, data: Any) -> Any:
    from harness.study.folder import StudyFolder
    from tests.studies import write_manifest

    study = StudyFolder(folder, "s")
    study.path.mkdir(exist_ok=True)
    if not (study.path / "study.json").exists():
        write_manifest(study.path, data="d", features="f", early_stop_split="val")
    return study


class Times:
    """When trials began and ended, noted by any process in a file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "times"

    def note(self, ended: float, seconds: float) -> None:
        with self.path.open("a") as file:
            file.write(f"{ended - seconds} {ended}\n")

    def span(self) -> tuple[float, float]:
        rows = np.loadtxt(self.path, ndmin=2)
        return float(rows[:, 0].min()), float(rows[:, 1].max())


def _loop(number: int, data: Any, trials: int, folder: Path, keep: bool) -> None:
    """The floor: trials in a loop."""
    import torch

    from harness.trials.trial import run_trial

    torch.set_num_threads(1)
    times = Times(folder)
    for seed in range(number, trials, WORKERS):
        result = run_trial(_config(seed), data)
        times.note(time.time(), result.seconds)


def _optimise(number: int, data: Any, trials: int, folder: Path, keep: bool) -> None:
    """A process of plain Optuna."""
    import optuna
    import torch
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.study import MaxTrialsCallback

    from harness.trials.trial import run_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    times, study_folder = Times(folder), _folder(folder, data)

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 0.001, 0.01, log=True)
        result = run_trial(
            _config(trial.number, lr), data, lambda e: trial.report(e.score, e.number)
        )
        save_trial(study_folder, trial.number, result, data)
        times.note(time.time(), result.seconds)
        return result.score

    storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    study = optuna.create_study(
        storage=storage, study_name="s", direction="maximize", load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=number),
    )  # fmt: skip
    study.optimize(objective, callbacks=[MaxTrialsCallback(trials)])


def _processes(
    target: Callable[..., None], data: Any, trials: int, folder: Path
) -> tuple[float, float, float]:
    context = multiprocessing.get_context("spawn")
    running = [
        context.Process(target=target, args=(n, data, trials, folder, True)) for n in range(WORKERS)
    ]
    for process in running:
        process.start()
    memory = _watch_memory(lambda: [p.pid for p in running if p.pid])
    for process in running:
        process.join()
    return (*Times(folder).span(), memory())


def _obvious(data: Any, trials: int, folder: Path) -> tuple[float, float, float]:
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    study_folder = _folder(folder, data)

    def trainable(config: dict[str, Any], data: Any) -> None:
        from harness.trials.trial import run_trial

        result = run_trial(
            _config(0, config["lr"]), data, lambda e: tune.report({"score": e.score})
        )
        number = int(time.time_ns() % 10**9)
        save_trial(study_folder, number, result, data)
        Times(folder).note(time.time(), result.seconds)

    ray.init("local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    memory = _watch_memory(_ray_workers)
    tune.Tuner(
        tune.with_parameters(trainable, data=data),
        param_space={"lr": tune.loguniform(0.001, 0.01)},
        tune_config=tune.TuneConfig(
            metric="score", mode="max", num_samples=trials, search_alg=OptunaSearch()
        ),
        run_config=tune.RunConfig(storage_path=str(folder / "ray"), verbose=0),
    ).fit()
    return (*Times(folder).span(), memory())


def _ours(data: Any, trials: int, folder: Path) -> tuple[float, float, float]:
    from harness.tuning.engine import Resources, run_trials
    from tests.searches import make_space, opened

    space = make_space(folder, SPACE.format(trials=trials, epochs=EPOCHS))
    times = Times(folder)

    class Timed:
        def counted(self, finished: int, running: int) -> None: ...
        def started(self, number: int, params: dict[str, Any]) -> None: ...
        def epochs(self, number: int, scores: list[tuple[int, float]]) -> None: ...
        def notice(self, text: str) -> None: ...
        def ended(self, number: int, state: str, score: float | None, reason: str) -> None:
            times.note(time.time(), seconds.pop(number))

    seconds: dict[int, float] = {}
    with opened(folder, space=space, sampler="tpe", index=data) as ledger:
        ledger.watcher = Timed()
        complete = ledger.complete

        def noted(number: int, result: Any) -> None:
            seconds[number] = result.seconds
            complete(number, result)

        ledger.complete = noted  # type: ignore[method-assign]
        memory = _watch_memory(_ray_workers)
        run_trials(ledger, data, Resources(concurrency=WORKERS))
    return (*times.span(), memory())


SPACE = """
[budget]
trials = {trials}
epochs = {epochs}
[fixed]
stride = 1
layers = 1
hidden = 32
head_width = 32
batch_size = 64
patience = {epochs}
[parameters.lr]
type = "float"
low = 0.001
high = 0.01
log = true
"""

WAY: dict[str, Callable[[Any, int, Path], tuple[float, float, float]]] = {
    "floor": lambda *given: _processes(_loop, *given),
    "optuna": lambda *given: _processes(_optimise, *given),
    "obvious": _obvious,
    "ours": _ours,
}


def _ray_workers() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_text()
        except OSError:
            continue
        if "Trainable" in line or "trainable" in line:
            found.append(int(path.parent.name))
    return found


def _watch_memory(pids: Callable[[], list[int]]) -> Callable[[], float]:
    """The largest memory of a worker in MiB until the returned function is called."""
    over, largest = threading.Event(), [0.0]

    def watch() -> None:
        while not over.wait(0.5):
            for pid in pids():
                largest[0] = max(largest[0], _memory(pid))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()

    def end() -> float:
        over.set()
        thread.join()
        return largest[0]

    return end


def _memory(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(row.split()[1]) / 1024 for row in lines if row.startswith("Pss:")), 0.0)


if __name__ == "__main__":
    sys.exit(main())
