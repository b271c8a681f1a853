"""Stored bytes change: a bit flips, a file is cut, two files change places, a cache is stale."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from harness.predictions import read_clips, read_predictions
from tests.faults import models
from tests.faults.commands import Done, command
from tests.faults.crash import all_stored, check_stored
from tests.faults.fault import fault, turn
from tests.faults.surroundings import check_said
from tests.faults.whole import check_study


def flip(path: Path, rng: random.Random) -> None:
    """One bit of a file."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def cut(path: Path, rng: random.Random) -> None:
    """The end of a file."""
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def blank(path: Path, rng: random.Random) -> None:
    """A block of zeros, as file systems leave them after a crash."""
    content = bytearray(path.read_bytes())
    start = rng.randrange(len(content))
    content[start : start + 512] = bytes(len(content[start : start + 512]))
    path.write_bytes(content)


SPOIL: tuple[Callable[[Path, random.Random], None], ...] = (flip, cut, blank)


def spoil(path: Path, rng: random.Random) -> None:
    before = path.read_bytes()
    while path.read_bytes() == before:
        rng.choice(SPOIL)(path, rng)


def ensemble(results: Path, *more: object) -> Done:
    return command(results, "ensemble", "--results", results, "--top", 2, "--no-report", *more)


def numbers(done: Done) -> dict[str, object]:
    assert done.code == 0, done
    told: dict[str, object] = json.loads(done.said)
    return told


@fault("corruption", "a prediction file is damaged", 40, few=20)
def _(folder: Path, rng: random.Random) -> None:
    results = models.copied(models.library(), folder)
    victim = rng.choice(sorted(results.glob("s/predictions/*.parquet")))
    others = models.copied(models.library(), folder / "others")
    (others / "s" / "predictions" / victim.name).unlink()
    spoil(victim, rng)
    found, expected = numbers(ensemble(results, "--json")), numbers(ensemble(others, "--json"))
    assert victim.name in str(found["refusals"])
    assert found["naive"] == expected["naive"], "a damaged file took part"
    assert found["members"] == expected["members"]


@fault("corruption", "two prediction files are swapped", 10)
def _(folder: Path, rng: random.Random) -> None:
    results = models.copied(models.library(), folder)
    one, two = rng.sample(sorted(results.glob("s/predictions/*.parquet")), 2)
    aside = folder / "aside"
    one.rename(aside)
    two.rename(one)
    aside.rename(two)
    refusals = str(numbers(ensemble(results, "--json"))["refusals"])
    assert one.name in refusals
    assert two.name in refusals


@fault("corruption", "the clips of a study are damaged", 20)
def _(folder: Path, rng: random.Random) -> None:
    results = models.copied(models.library(), folder)
    file = results / "s" / "clips.parquet"
    spoil(file, rng)
    check_said(ensemble(results, "--json"), "clips.parquet")


@fault("corruption", "study.json is damaged", 20)
def _(folder: Path, rng: random.Random) -> None:
    results = models.copied(models.library(), folder)
    spoil(results / "s" / "study.json", rng)
    check_said(ensemble(results), "study.json")


@fault("corruption", "a shard of the feature store is damaged", 12, few=4)
def _(folder: Path, rng: random.Random) -> None:
    line = models.extraction(folder / "results")
    all_stored()
    shutil.copytree(models.home() / "rows", folder / "results")
    shard = rng.choice(sorted((folder / "results").rglob("[0-9]*.parquet")))
    spoil(shard, rng)
    check_said(command(folder, "extract", *line), shard.name, "delete this file and run again")
    shard.unlink()
    assert command(folder, "extract", *line).code == 0
    check_stored(folder / "results")


@fault("corruption", "a video is replaced after its features are stored", 3, few=1)
def _(folder: Path, rng: random.Random) -> None:
    data = models.copied(models.clips(), folder)
    results = folder / "results"
    line = ["--data", data, "--weights", models.weights(), "--stride", 3, "--crop", "none"]
    line += ["--results", results]
    assert command(folder, "extract", *line).code == 0
    videos = sorted((data / "clips").iterdir())
    one, two = rng.sample(videos, 2)
    shutil.copy(two, one)
    done = command(folder, "extract", *line)
    assert done.code == 0, done
    assert "1 clips computed" in done.said, done


def search_again(results: Path) -> Done:
    return command(results, "search", *models.searching(results, models.TRIALS))


@fault("corruption", "the study's log is damaged", 8)
def _(folder: Path, rng: random.Random) -> None:
    results = models.copied(models.searched(), folder)
    spoil(results / "s" / "study.log", rng)
    check_said(search_again(results), "study.log")


@fault(
    "corruption",
    "predictions of a complete trial are lost or damaged before a search",
    4,
    few=2,
)
def _(folder: Path, rng: random.Random) -> None:
    results = models.copied(models.searched(), folder)
    victim = rng.choice(sorted(results.glob("s/predictions/*.parquet")))
    index = read_clips(results / "s" / "clips.parquet")
    whole = read_predictions(victim, index, "val")
    if turn(("gone", "damaged"), "predictions") == "gone":
        victim.unlink()
    else:
        spoil(victim, rng)
    done = search_again(results)
    assert done.code == 0, done
    assert f"trial {int(victim.stem)} no longer counts and is trained again: {victim}" in done.said
    trials = check_study(results, "s", models.TRIALS)
    again = victim.with_name(f"{trials[-1].number:05d}.parquet")
    found = read_predictions(again, index, "val")
    assert found[0].val_pcc == whole[0].val_pcc, "the same configuration and seed"
    assert np.array_equal(found[1], whole[1])


@fault("corruption", "a file of an ensemble is damaged before it predicts", 12)
def _(folder: Path, rng: random.Random) -> None:
    results = models.copied(models.searched(), folder)
    assert ensemble(results).code == 0
    built = results / "s" / "ensembles" / "mean-top2"
    members = json.loads((built / "ensemble.json").read_text())["members"]
    files = {f"head of {m}": results / "s" / "heads" / f"{m}.safetensors" for m in members}
    files |= {"ensemble": built / "ensemble.json", "study": results / "s" / "study.json"}
    victim = files[turn(files, "files of an ensemble")]
    spoil(victim, rng)
    line = ["--ensemble", built, "--data", models.given_features(), "--out", folder / "out.csv"]
    check_said(command(folder, "predict", *line), victim.name)
    assert not (folder / "out.csv").exists()
