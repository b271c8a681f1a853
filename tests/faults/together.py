"""Several at once, and a world that changes while a command reads it."""

import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.predictions import read_clips, read_predictions
from tests.databases import mysql, postgresql
from tests.faults import models
from tests.faults.commands import command, kill_group, start
from tests.faults.crash import check_stored
from tests.faults.fault import CannotTryError, fault, turn
from tests.faults.kills import searching
from tests.faults.surroundings import check_said
from tests.faults.whole import check_study, check_whole
from tests.trees import plain_tree


@fault("surroundings", "two ensembles of one name at once", 6)
def _(folder: Path, rng: random.Random) -> None:
    results = models.copied(models.library(), folder)
    line = ["--results", results, "--name", "best", "--no-report", "--top"]
    first = start(folder / "first.txt", "ensemble", *line, 3)
    time.sleep(rng.uniform(0, 0.2))
    second = start(folder / "second.txt", "ensemble", *line, 5)
    for done in (first.wait(), second.wait()):
        assert done.code == 0, done
    built = results / "s" / "ensembles" / "best"
    members = json.loads((built / "ensemble.json").read_text())["members"]
    index = read_clips(results / "s" / "clips.parquet")
    info, _ = read_predictions(built / "predictions.parquet", index, "val")
    assert info.config["members"] == members, "members of the one, predictions of the other"


@contextmanager
def sqlite() -> Iterator[str]:
    yield f"sqlite:///{Path(tempfile.mkdtemp(dir=models.home()))}/studies.db"


DATABASES = {"mysql": mysql, "postgresql": postgresql, "sqlite": sqlite}


@fault("surroundings", "two searches of one study in a database, and one is killed", 15, few=0)
def _(folder: Path, rng: random.Random) -> None:
    try:
        with DATABASES[turn(DATABASES, "databases")]() as url:
            one_of_two_is_killed(folder, rng, url)
    except pytest.skip.Exception as error:
        raise CannotTryError(str(error)) from error


def one_of_two_is_killed(folder: Path, rng: random.Random, url: str) -> None:
    line = [*searching(folder / "results", 12, "--concurrency", 1), "--storage", url]
    first, second = (start(folder / f"{name}.txt", "search", *line) for name in ("a", "b"))
    time.sleep(rng.uniform(0, 15))
    kill_group(first.process.pid)
    first.wait()
    again = command(folder, "search", *line)
    for done in (again, second.wait()):
        assert done.code == 0, done
    check_study(folder / "results", "s", 12, url)


@fault("surroundings", "two extractions of different clips at once into one store", 3, few=1)
def _(folder: Path, rng: random.Random) -> None:
    results = folder / "results"
    line = models.extraction(results)
    (folder / "other").mkdir()
    other = plain_tree(folder / "other", "clips")
    table = (other / "clips.csv").read_text()
    (other / "clips.csv").write_text(table.replace("\nc", "\nother"))
    for film in sorted((other / "clips").iterdir()):
        film.rename(film.with_name(film.name.replace("c", "other", 1)))
    line_of_other = ["--data", other, *line[2:]]
    running = [start(folder / f"{n}.txt", "extract", *each)
               for n, each in enumerate((line, line_of_other))]  # fmt: skip
    for done in (each.wait() for each in running):
        assert done.code == 0, done
    # Nothing that one has written was overwritten by the other.
    for each in (line, line_of_other):
        done = command(folder, "extract", *each)
        assert done.code == 0, done
        assert "0 clips computed" in done.said, done
        assert "20 " in done.said, done
    check_stored(results)


@fault("surroundings", "the clips disappear while they are read, and come back", 8, few=3)
def _(folder: Path, rng: random.Random) -> None:
    data = models.copied(models.clips(), folder)
    line = ["--data", data, *models.extraction(folder / "results")[2:]]
    running = start(folder / "said.txt", "extract", *line)
    time.sleep(rng.uniform(0.0, 1.0))
    (data / "clips").rename(folder / "elsewhere")
    done = running.wait()
    if done.code:
        check_said(done)
    check_whole(folder / "results") if (folder / "results").exists() else None
    (folder / "elsewhere").rename(data / "clips")
    again = command(folder, "extract", *line)
    assert again.code == 0, again
    # Those that could not be read for a while are no clips without frames.
    check_stored(folder / "results")


@fault("surroundings", "a clip that is unreadable for a while", 2, few=1)
def _(folder: Path, rng: random.Random) -> None:
    data = models.copied(models.clips(), folder)
    line = ["--data", data, *models.extraction(folder / "results")[2:]]
    victim = data / "clips" / f"c{rng.randrange(models.CLIPS)}.mp4"
    victim.rename(folder / "aside")
    victim.mkdir()  # there, and no file
    done = command(folder, "extract", *line)
    assert done.code == 0, done
    assert victim.stem in done.said
    victim.rmdir()
    shutil.move(folder / "aside", victim)
    assert "1 clips computed" in command(folder, "extract", *line).said
    check_stored(folder / "results")
