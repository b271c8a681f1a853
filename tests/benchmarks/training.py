"""Heads on data of Hume-Reaction's size: the conventional loop, ours, and what the machine can do.

    python -m tests.benchmarks.training [--quick] [--json]

Generated clips: 15,806 + 4,657 + 4,604, 2 to 22 steps (12 on average) of 22 features. The
conventional loop is a Dataset of items, a DataLoader with two workers, packed sequences and the
metric of each batch, as in the authors' and the MuSe baseline's code; it has all cores. Ours is
`harness.models.training` with one thread, as a worker of the search runs it. An epoch is a pass
over train and the score on val, in both.

Each round runs every side once: the usual loop with one thread and with all, two of ours beside
each other, one of ours alone, the peak. The least of each side counts, and `disturbed` says how
long ours waited for a processor in the quietest round: under other work no ratio holds, so run it
on an idle machine.

The floor: an epoch at 2 layers of 128 is about 246 billion operations (a first step has no state to
multiply, and nothing is passed on to the features), 1.2 s at the 205 billion a second of one core's
matrix products at the recurrent shape by oneDNN.

Measured (Zen 5, quiet, 2 layers of 128): the usual loop 4.4 s an epoch on both cores, two of ours
beside each other 2.6 s: 3.4 times; .47 of the peak, and .07 s to start. Four is the goal; with
sequences of one length, as the rule `fixed-12` makes them, an epoch of ours is 1.8 s. Of the time,
88 % is oneDNN's LSTM, which reaches .75 of the products' rate; padding within the groups of
similar length is the rest of the gap. Before, with products of our own by MKL, which leaves half of
an AMD processor unused, an epoch took 3.0 s. Without AVX-512 the products of our own were the
faster ones, by 8 to 28 %.

results/LOG.md has what did not help, bf16 among it. No figure of a GPU was measured.
"""

import argparse
import json
import multiprocessing
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils import data as loading
from torch.utils.data import DataLoader

from harness.dataset import Dataset
from harness.metrics import mean_pcc
from harness.models.config import TrialConfig
from harness.models.losses import reduced_loss
from harness.models.training import exact_float32
from harness.trials.trial import Trial
from tests.datasets import make_dataset, make_stream

CLIPS = {"train": 15806, "val": 4657, "test": 4604}
FEATURES, TARGETS = 22, 7
STEPS = (2, 23)
#: Trials that share a GPU. A trial is so many epochs.
SHARING = (1, 4, 8, 16)
TRIAL_EPOCHS = 50
#: Trials that wait longer for a processor than this share of the time were disturbed.
QUIET = 0.03
CONFIG = TrialConfig.of(stride=1, layers=2, hidden=128, batch_size=128, epochs=100, patience=100)


def make_data(share: float = 1.0) -> Dataset:
    """Random clips; ratings follow the features a little, so that training has something to do."""
    rng = np.random.default_rng(0)
    counts = {split: int(n * share) for split, n in CLIPS.items()}
    steps = rng.integers(*STEPS, sum(counts.values()))
    offsets = np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)
    features = rng.standard_normal((offsets[-1], FEATURES)).astype(np.float32)
    means = np.add.reduceat(features, offsets[:-1]) / steps[:, None]
    noise = rng.standard_normal((len(steps), TARGETS))
    targets = 1 / (1 + np.exp(-3 * means[:, :TARGETS] - 0.5 * noise))
    frames = np.arange(offsets[-1]) - np.repeat(offsets[:-1], steps)
    bounds = np.cumsum(list(counts.values()))[:-1]
    rows = dict(zip(counts, np.split(np.arange(len(steps)), bounds), strict=True))
    return make_dataset(make_stream(features, frames, offsets), targets, rows)


class Clips(loading.Dataset[tuple[Tensor, Tensor]]):
    """An item a clip, made a tensor when it is asked for."""

    def __init__(self, data: Dataset, split: str) -> None:
        stream = data.features
        self.items = [
            (stream.values[stream.offsets[r] : stream.offsets[r + 1]], data.ratings[r])
            for r in data.rows(split)
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        features, targets = self.items[index]
        return torch.tensor(features), torch.tensor(targets)


def collate(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    lengths = torch.tensor([len(features) for features, _ in items])
    padded = pad_sequence([features for features, _ in items], batch_first=True)
    return padded, lengths, torch.stack([targets for _, targets in items])


class PackedHead(nn.Module):
    """The head as the public code has it, over packed sequences."""

    def __init__(self, config: TrialConfig) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, config.own.hidden, config.own.layers, batch_first=True)
        self.fc = nn.Linear(config.own.hidden, config.head_width)
        self.out = nn.Linear(config.head_width, TARGETS)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)
        out: Tensor = torch.sigmoid(self.out(torch.relu(self.fc(torch.relu(hidden[-1])))))
        return out


def conventional(data: Dataset, config: TrialConfig, device: str = "cpu") -> Callable[[], None]:
    """An epoch of the usual loop, to be called."""
    loaders = [
        DataLoader(Clips(data, split), config.batch_size, shuffle=split == "train", num_workers=2,
                   collate_fn=collate)
        for split in ("train", "val")
    ]  # fmt: skip
    head = PackedHead(config).to(device)
    optimiser = torch.optim.Adam(head.parameters(), config.lr, weight_decay=config.weight_decay)
    loss_of = reduced_loss(config.loss, config.reduction)

    @exact_float32()  # as ours
    def epoch() -> None:
        scores = []
        for loader, learns in zip(loaders, (True, False), strict=True):
            head.train(learns)
            for features, lengths, targets in loader:
                features, targets = features.to(device), targets.to(device)
                with torch.set_grad_enabled(learns):
                    predicted = head(features, lengths)
                    loss = loss_of(predicted, targets)
                if learns:
                    optimiser.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(head.parameters(), config.clip_norm)
                    optimiser.step()
                scores.append(mean_pcc(targets.cpu().numpy(), predicted.detach().cpu().numpy()))
                loss.item()

    return epoch


def seconds(act: Callable[[], Any], times: int = 1) -> float:
    """The least of several times."""
    best = float("inf")
    for _ in range(times):
        begun = time.perf_counter()
        act()
        best = min(best, time.perf_counter() - begun)
    return best


def operations(data: Dataset, config: TrialConfig) -> float:
    """Multiply-adds x 2 of an epoch's matrix products over true steps: forward on train and val,
    and backward on train, which is as much for the weights and, but for the features, for what
    went in. A first step has no state to multiply."""
    lengths = np.diff(data.features.offsets)
    clips = {split: len(data.rows(split)) for split in ("train", "val")}
    steps = {split: float(lengths[data.rows(split)].sum()) for split in clips}
    total, width, hidden = 0.0, FEATURES, 4 * config.own.hidden
    for layer in range(config.own.layers):
        total += hidden * width * ((3 if layer else 2) * steps["train"] + steps["val"])
        later = {split: steps[split] - clips[split] for split in clips}
        total += hidden * config.own.hidden * (3 * later["train"] + later["val"])
        width = config.own.hidden
    head = config.own.hidden * config.head_width + config.head_width * TARGETS
    return 2.0 * (total + head * (3 * clips["train"] + clips["val"]))


def peak(config: TrialConfig, device: str = "cpu") -> float:
    """Operations a second of one thread's, or a GPU's, matrix products at the LSTM's shapes: the
    recurrent one of a step (batch x hidden by hidden x 4 hidden), in float32. On a CPU the faster
    of two libraries: torch.mm is MKL's, which leaves half of an AMD processor unused, and nn.LSTM
    calls oneDNN."""
    batch, hidden = config.batch_size, config.own.hidden
    a = torch.randn(batch, hidden, device=device)
    b = torch.randn(hidden, 4 * hidden, device=device)
    out = torch.empty(batch, 4 * hidden, device=device)
    sides: list[Callable[[], object]] = [lambda: torch.mm(a, b, out=out)]
    if device == "cpu":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch's own classes for it
            from torch.utils.mkldnn import to_mkldnn

            linear = to_mkldnn(nn.Linear(hidden, 4 * hidden, bias=False).eval())
        rows = a.to_mkldnn()
        sides.append(lambda: linear(rows))

    @torch.no_grad()
    def products(one: Callable[[], object]) -> None:
        for _ in range(200):
            one()
        if device == "cuda":
            torch.cuda.synchronize()

    fastest = min(seconds(lambda one=one: products(one), 5) for one in sides)
    return 200 * 2.0 * batch * hidden * 4 * hidden / fastest


def serve(data: Dataset, device: str, pipe: Any) -> None:
    """A worker of the search, with one thread: does what is asked until the pipe says None."""
    torch.set_num_threads(1)
    # Imports much, and opens the GPU, once a worker: not of a trial.
    torch.optim.Adam([torch.zeros(1, device=device)])
    trials: dict[TrialConfig, Trial] = {}

    def build(config: TrialConfig) -> float:
        return seconds(lambda: trials.update({config: Trial(config, data, torch.device(device))}))

    def epochs(config: TrialConfig, count: int) -> tuple[float, float]:
        """Seconds an epoch, and of the processor."""
        begun, busy = time.perf_counter(), time.process_time()
        for _ in range(count):
            trials[config].step()
        return (time.perf_counter() - begun) / count, (time.process_time() - busy) / count

    can: dict[str, Callable[..., Any]] = {
        "build": build, "epochs": epochs, "end": lambda _: trials.clear(),
        "peak": lambda config: peak(config, device),
    }  # fmt: skip
    while (asked := pipe.recv()) is not None:
        pipe.send(can[asked[0]](*asked[1:]))


class Workers:
    """Processes that train beside each other."""

    def __init__(self, data: Dataset, count: int, device: str = "cpu", start: str = "fork") -> None:
        """start: of the processes; on a GPU, which no process can share with its fork, `spawn`."""
        context: Any = multiprocessing.get_context("spawn" if device == "cuda" else start)
        self.pipes, self.processes = [], []
        for _ in range(count):
            ours, theirs = context.Pipe()
            self.pipes.append(ours)
            process = context.Process(target=serve, args=(data, device, theirs), daemon=True)
            process.start()
            theirs.close()  # so that the end of a process that fails is seen, not waited for
            self.processes.append(process)

    def ask(self, what: str, *values: Any, only: int | None = None) -> list[Any]:
        """All at once, or the first few `only`: one answer each."""
        asked = self.pipes[:only]
        for pipe in asked:
            pipe.send((what, *values))
        return [pipe.recv() for pipe in asked]

    def close(self) -> None:
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.send(None)
            process.join()


def measure_shape(
    data: Dataset, workers: Workers, config: TrialConfig, rounds: int
) -> dict[str, Any]:
    """A row of the table. In each round each side runs once, so that what disturbs the machine
    disturbs both; the least of each side counts."""
    cores = os.cpu_count() or 1
    usual = conventional(data, config)
    row: dict[str, Any] = {"layers": config.own.layers, "hidden": config.own.hidden}
    row["startup_s"] = min(workers.ask("build", config))
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    for _ in range(rounds):
        # With the thread count that suits it best: where other work disturbs, threads that wait
        # for each other can make it many times slower than one.
        for threads in {1, cores}:
            torch.set_num_threads(threads)
            note("conventional_s", seconds(usual))
        times = workers.ask("epochs", config, 1)
        note("two_s", max(wall for wall, _ in times))
        note("idle", 1 - min(cpu / wall for wall, cpu in times))
        ((alone, _),) = workers.ask("epochs", config, 1, only=1)
        note("ours_s", alone)
        note("second_per_operation", 1 / workers.ask("peak", config, only=1)[0])
    workers.ask("end", config)
    best = {name: min(values) for name, values in found.items()}
    row |= {name: best[name] for name in ("conventional_s", "two_s", "ours_s")}
    row["throughput_ratio"] = 2 * best["conventional_s"] / best["two_s"]
    row["share_of_peak"] = operations(data, config) * best["second_per_operation"] / best["ours_s"]
    row["clips_per_s"] = (len(data.rows("train")) + len(data.rows("val"))) / best["ours_s"]
    #: Of the quietest round, how much of a processor our trials waited for others.
    row["disturbed"] = best["idle"]
    return row


def measure(quick: bool) -> dict[str, Any]:
    data = make_data()
    shapes = [(2, 128)] if quick else [(n, h) for n in (1, 2, 3) for h in (64, 128, 256)]
    # The processes of ours are forked first: threads of the usual loop would not survive it.
    workers = Workers(data, 2)
    table = [
        measure_shape(
            data, workers, CONFIG.changed(layers=layers, hidden=hidden), 2 if quick else 3
        )
        for layers, hidden in shapes
    ]
    workers.close()
    chosen = next(r for r in table if (r["layers"], r["hidden"]) == (2, 128))
    names = ("throughput_ratio", "share_of_peak", "startup_s")
    figures = {name: chosen[name] for name in names}
    return figures | {"table": table, "gpu": on_gpu(data, shapes)}


def on_gpu(data: Dataset, shapes: list[tuple[int, int]]) -> dict[str, Any]:
    """The same table on a GPU, and trials an hour with several sharing it; empty without one."""
    if not torch.cuda.is_available():
        return {}
    workers = Workers(data, max(SHARING), "cuda")
    configs = [CONFIG.changed(layers=layers, hidden=hidden) for layers, hidden in shapes]
    table = [measure_alone(data, workers, config, "cuda") for config in configs]
    workers.ask("build", CONFIG)
    workers.ask("epochs", CONFIG, 1)  # the libraries' first calls are not of a trial
    an_hour = {trials: trials_an_hour(workers, trials, 10) for trials in SHARING}
    workers.close()
    return {"table": table, "trials_an_hour": an_hour}


def measure_alone(
    data: Dataset, workers: Workers, config: TrialConfig, device: str, rounds: int = 4
) -> dict[str, Any]:
    """A row of a device's table: a trial alone in a worker, and the conventional loop here. The
    first of the rounds may hold the libraries' first calls, so that two are the least."""
    (startup,) = workers.ask("build", config, only=1)
    ours = min(workers.ask("epochs", config, 1, only=1)[0][0] for _ in range(rounds))
    usual = seconds(conventional(data, config, device), max(1, rounds // 2))
    (rate,) = workers.ask("peak", config, only=1)
    return {
        "layers": config.own.layers, "hidden": config.own.hidden, "startup_s": startup,
        "ours_s": ours,
        "conventional_s": usual, "throughput_ratio": usual / ours,
        "share_of_peak": operations(data, config) / ours / rate,
    }  # fmt: skip


def trials_an_hour(workers: Workers, trials: int, epochs: int) -> float:
    """Of CONFIG, built before, that so many workers train beside each other; the slowest counts."""
    slowest = max(wall for wall, _ in workers.ask("epochs", CONFIG, epochs, only=trials))
    return trials * 3600 / (slowest * TRIAL_EPOCHS)


def show(figures: dict[str, Any]) -> None:
    # What only measures, tests/benchmarks/gpu say, runs without it.
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "layers", "hidden", "conventional, s/epoch", "ours, one core", "two trials", "throughput",
        "of peak", "start-up, s", "disturbed",
        title="train 15,806 + val 4,657 clips", title_justify="left",
    )  # fmt: skip
    for row in figures["table"]:
        table.add_row(
            str(row["layers"]), str(row["hidden"]), f"{row['conventional_s']:.2f}",
            f"{row['ours_s']:.2f}", f"{row['two_s']:.2f}", f"{row['throughput_ratio']:.1f} x",
            f"{row['share_of_peak']:.2f}", f"{row['startup_s']:.2f}", f"{row['disturbed']:.0%}",
        )  # fmt: skip
    Console().print(table)
    if any(row["disturbed"] > QUIET for row in figures["table"]):
        Console().print("Other work disturbed our trials: run it again on a quiet machine.")
    if not figures["gpu"]:
        return
    gpu = Table("layers", "hidden", "conventional, s/epoch", "ours", "throughput", "of peak",
                title="on the GPU", title_justify="left")  # fmt: skip
    for row in figures["gpu"]["table"]:
        gpu.add_row(
            str(row["layers"]), str(row["hidden"]), f"{row['conventional_s']:.2f}",
            f"{row['ours_s']:.2f}", f"{row['throughput_ratio']:.1f} x",
            f"{row['share_of_peak']:.2f}",
        )  # fmt: skip
    Console().print(gpu)
    for trials, rate in figures["gpu"]["trials_an_hour"].items():
        Console().print(f"{trials} trials share the GPU: {rate:.0f} trials an hour")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="2 layers of 128 alone.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.quick)
    if options.json:
        print(json.dumps(figures))
    else:
        show(figures)


if __name__ == "__main__":
    main()
