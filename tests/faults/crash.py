"""The process dies: at every named point between write, flush, rename and update, or any time."""

import json
import random
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from harness.dataset import Stream
from harness.sampling import strides
from harness.streams.extraction import sources
from harness.streams.features import feature_store
from harness.streams.sources import real_sources
from tests.faults import models
from tests.faults.commands import command, count_points, die_at, kill_group, note_points, start
from tests.faults.fault import fault, turn
from tests.faults.whole import check_study, check_whole, contents

#: Where results go -> the arguments of a command.
Line = Callable[[Path], list[object]]


def pretraining(results: Path) -> list[object]:
    line = ["--data", models.demo().annotations, "--out", results / "net.safetensors"]
    line += ["--input-size", 32, "--heads", 1, "--epochs", 2, "--batch-size", 32, "--workers", 0]
    return [*line, "--quiet"]


def ensembling(results: Path) -> list[object]:
    return ["--results", results, "--top", 3, "--no-report"]


@cache
def unbroken(name: str, line: Line) -> tuple[int, dict[str, bytes]]:
    """How many points the command passes, and what it leaves."""
    folder = models.home() / f"unbroken-{name}"
    results = beginning(name, folder)
    noted = folder / "points"
    done = command(folder, name, *line(results), before=count_points, given=(noted,))
    assert done.code == 0, done.said
    return int(noted.read_text()), contents(results)


def beginning(name: str, folder: Path) -> Path:
    """The results folder as the command finds it."""
    folder.mkdir(exist_ok=True, parents=True)
    if name == "ensemble":
        return models.copied(models.library(), folder)
    (folder / "results").mkdir()
    return folder / "results"


def broken_and_repeated(name: str, line: Line, folder: Path, rng: random.Random) -> None:
    """Kills the command at a point, checks what lies there, and runs the same command again."""
    points, expected = unbroken(name, line)
    results = beginning(name, folder)
    died = command(
        folder,
        name,
        *line(results),
        before=die_at,
        given=(rng.randrange(points), rng.random() < 0.5),
    )
    assert died.code == -9, f"it should have been killed: {died}"
    check_whole(results)
    again = command(folder, name, *line(results))
    assert again.code == 0, again.said
    check_whole(results)
    same(expected, contents(results))


def same(expected: dict[str, bytes], found: dict[str, bytes]) -> None:
    """Equal files, but for those that hold times: TensorBoard's curves and what resuming needs."""
    for path, content in expected.items():
        if "events.out" not in path and not path.endswith(".pt"):
            assert path in found, f"{path} is missing"
            assert found[path] == content, f"{path} differs from that of an unbroken run"


@fault("crash", "ensemble killed between write, flush and rename", 30, few=10)
def _(folder: Path, rng: random.Random) -> None:
    broken_and_repeated("ensemble", ensembling, folder, rng)


@fault("crash", "pretraining killed between write, flush and rename", 8, few=2)
def _(folder: Path, rng: random.Random) -> None:
    broken_and_repeated("pretrain", pretraining, folder, rng)


def stored(results: Path) -> Stream:
    """What a reader finds in the feature store of an extraction."""
    [(clips, encoder)] = real_sources(models.clips(), models.weights(), crop="none")
    assert encoder is not None
    store = feature_store(encoder, results / ".cache")
    keys = list(zip(clips.clip_ids, sources(clips), strict=True))
    return store.load(keys, strides(3))


@cache
def all_stored() -> Stream:
    results = models.home() / "rows"
    done = command(models.home(), "extract", *models.extraction(results))
    assert done.code == 0, done.said
    return stored(results)


def check_stored(results: Path) -> None:
    """Every frame of every clip once; features to rounding, since batches differ."""
    found, expected = stored(results), all_stored()
    assert np.array_equal(found.positions, expected.positions)
    assert np.array_equal(found.offsets, expected.offsets)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-4, atol=1e-5)


@fault("crash", "extraction killed between write, flush and rename", 12, few=4)
def _(folder: Path, rng: random.Random) -> None:
    points, _ = unbroken("extract", models.extraction)
    where = (rng.randrange(points), rng.random() < 0.5)
    line = models.extraction(folder / "results")
    died = command(folder, "extract", *line, before=die_at, given=where)
    assert died.code == -9, f"it should have been killed: {died}"
    check_whole(folder)
    again = command(folder, "extract", *line)
    assert again.code == 0, again.said
    check_stored(folder / "results")


@fault("crash", "extraction killed at a random moment", 12, few=4)
def _(folder: Path, rng: random.Random) -> None:
    line = models.extraction(folder / "results")
    running = start(folder / "said.txt", "extract", *line)
    time.sleep(rng.uniform(0, 1.2))
    kill_group(running.process.pid)
    running.wait()
    check_whole(folder)
    again = command(folder, "extract", *line)
    assert again.code == 0, again.said
    check_stored(folder / "results")


@fault("crash", "search killed between write, flush, rename and study update", 6, few=2)
def _(folder: Path, rng: random.Random) -> None:
    results = folder / "results"
    points, _ = unbroken("search", models.searching)
    where = (rng.randrange(points), rng.random() < 0.5)
    died = command(folder, "search", *models.searching(results), before=die_at, given=where)
    assert died.code == -9, f"it should have been killed: {died}"
    kept = contents(results)
    again = command(folder, "search", *models.searching(results))
    assert again.code == 0, again.said
    check_whole(results)
    check_study(results, "s", models.TRIALS)
    for path, content in contents(results).items():
        if "predictions/" in path or "heads/" in path:
            assert kept.get(path, content) == content, f"{path} was written anew"


@fault("crash", "ensemble killed while it replaces one of the same name", 12)
def _(folder: Path, rng: random.Random) -> None:
    results = models.copied(models.library(), folder)
    first = ["--results", results, "--name", "best", "--top", 3, "--no-report"]
    second = ["--results", results, "--name", "best", "--top", 5, "--no-report"]
    assert command(folder, "ensemble", *first).code == 0
    ensemble = results / "s" / "ensembles" / "best"
    old = contents(ensemble)
    command(folder, "ensemble", *second, before=die_at, given=(rng.randrange(24), False))
    if (ensemble / "ensemble.json").exists():
        found = contents(ensemble)
        members = json.loads(found["ensemble.json"])["members"]
        assert len(members) == 5 or found == old, "members of the one, predictions of the other"
    assert command(folder, "ensemble", *second).code == 0
    assert len(json.loads((ensemble / "ensemble.json").read_text())["members"]) == 5


LINES: dict[str, Line] = {
    "extract": models.extraction,
    "search": models.searching,
    "ensemble": ensembling,
    "pretrain": pretraining,
}


@fault("crash", "power loss: a file is renamed only after it is on disk", 4)
def _(folder: Path, rng: random.Random) -> None:
    # What a kernel forgets cannot be shown here; the order of what it is told can.
    name = turn(LINES, "commands")
    results = beginning(name, folder / "r")
    noted = folder / "noted"
    done = command(folder, name, *LINES[name](results), before=note_points, given=(noted,))
    assert done.code == 0, done.said
    told = [json.loads(line) for line in noted.read_text().splitlines()]
    renamed = [i for i, line in enumerate(told) if line[0] in ("replace", "rename")
               and str(results) in line[1] and ".lock" not in line[1]]  # fmt: skip
    assert renamed
    for place in renamed:
        _, source, target = told[place][:3]
        before = {line[1] for line in told[:place] if line[0] == "fsync"}
        before |= {told[earlier][2] for earlier in renamed if earlier < place}
        after = {line[1] for line in told[place:] if line[0] == "fsync"}
        assert source in before, f"{name}: {target} was not on the disk before it took its name"
        assert str(Path(target).parent) in after, f"{name}: the folder of {target} was not flushed"
