"""Names and sealed files of others: they speak to terminals, browsers and spreadsheets, or say
nonsense under a checksum that fits."""

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open
from safetensors.numpy import save_file

from harness.clips.layouts import read_clips
from harness.ensembles.library import load_library
from harness.errors import InputError
from harness.models.model_file import _seal, read_model
from harness.predictor import load
from harness.sealed import ENSEMBLE, MANIFEST, read_sealed, write_sealed
from tests.faults import models
from tests.faults.bombs import refused
from tests.faults.commands import command
from tests.faults.corruption import ensemble
from tests.faults.fault import fault, turn
from tests.faults.surroundings import check_said
from tests.studies import make_index, make_study

ESCAPE = "\x1b[2J\x1b]0;owned\x07"
SCRIPT = "</script><script>alert(1)</script>"
#: For rich a tag that closes nothing: an error where text is taken for markup.
MARKUP = "[/nothing]"


@fault("hostile", "names with HTML or terminal markup", 3)
def _(folder: Path, rng: random.Random) -> None:
    name = turn([SCRIPT, f"<img src=x onerror=alert(1)>{MARKUP}", f"{MARKUP}:smile:"], "names")
    index = make_index()
    named = replace(index, target_names=(name, *index.target_names[1:]))
    named = replace(named, groups=tuple(f"{SCRIPT}{n // 2}" for n in range(len(index.clip_ids))))
    results = folder / f"r{MARKUP}"
    make_study(results / f"s{MARKUP}".replace("/", ""), 8, named)
    done = command(folder, "ensemble", "--results", results, "--top", 3, "--explain")
    assert done.code == 0, done
    assert name.split("<")[0] in done.said
    (page,) = results.glob("*/report.html")
    # The page brings scripts of its own; these are none of them.
    assert SCRIPT not in page.read_text()
    assert "<img src=x" not in page.read_text()


@fault("hostile", "file names with control characters of the terminal", 3, few=1)
def _(folder: Path, rng: random.Random) -> None:
    root = models.copied(models.clips(), folder)
    shutil.copy(root / "clips" / "c1.mp4", root / "clips" / f"x{ESCAPE}.mp4")
    line = ["--data", root, *models.extraction(folder / "results")[2:]]
    done = command(folder, "extract", *line)
    assert done.code == 0, done
    assert "belong to no clip" in done.said
    strict = command(folder, "extract", *line, "--strict")
    check_said(strict, "--strict")
    space = folder / f"a{ESCAPE}.toml"
    space.write_text(f"[budget]\ntrials = 1\nepochs = 1\n[parameters.'\u202e{MARKUP}']\n")
    other = command(folder, "search", *models.searching(folder), "--space", space)
    check_said(other, "toml")
    assert not {"\x1b", "\x07", "\u202e"} & set(done.said + strict.said + other.said)


FORMULAS = ("=1+1", " =1+1", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(1)", "\t=1", "@a", "-a")


@fault("hostile", "target names that are spreadsheet formulas", len(FORMULAS))
def _(folder: Path, rng: random.Random) -> None:
    root = models.copied(models.given_features(), folder)
    name = turn(FORMULAS, "formulas")
    table = pd.read_csv(root / "clips.csv", dtype=str)
    table.rename(columns={"joy": name}).to_csv(root / "clips.csv", index=False, quoting=1)
    refused(lambda: read_clips(root))


def resealed(file: Path, schema: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes what a sealed file says, and seals it again."""
    values = read_sealed(file, schema)
    change(values)
    write_sealed(file, schema, values)


def _without(values: dict[str, Any], rng: random.Random) -> None:
    del values[rng.choice(sorted(values))]


def _nonsense(values: dict[str, Any], rng: random.Random) -> None:
    name = rng.choice(["members", "weights", "targets", "recipe", "estimate", "studies"])
    values[name] = rng.choice([None, 7, "x", [], {}, [[]], -1e999, {"x": 1}])


MEMBERS = ("../x/00001", "/etc/passwd", "s/../../x/00001", "x", "", "-1", "\u0661", "9" * 5000)


def _elsewhere(values: dict[str, Any], rng: random.Random) -> None:
    values["members"][0] = rng.choice(MEMBERS)


CHANGES = {"without": _without, "nonsense": _nonsense, "elsewhere": _elsewhere}


@fault("hostile", "a study or an ensemble with invalid values and a valid checksum", 24)
def _(folder: Path, rng: random.Random) -> None:
    results = models.copied(models.searched(), folder)
    assert ensemble(results).code == 0
    built = results / "s" / "ensembles" / "mean-top2"
    change = CHANGES[turn(CHANGES, "nonsense")]
    if rng.random() < 0.3:
        resealed(results / "s" / "study.json", MANIFEST, lambda values: _without(values, rng))
    else:
        resealed(built / "ensemble.json", ENSEMBLE, lambda values: change(values, rng))
    for read in (lambda: load(built), lambda: load_library(results / "s")):
        # Anything else than a clear refusal is lost.
        with contextlib.suppress(InputError):
            read()


@fault("hostile", "a head with invalid values and a valid checksum", 12)
def _(folder: Path, rng: random.Random) -> None:
    results = models.copied(models.searched(), folder)
    assert ensemble(results).code == 0
    built = results / "s" / "ensembles" / "mean-top2"
    member = read_sealed(built / "ensemble.json", ENSEMBLE)["members"][0]
    victim = results / "s" / "heads" / f"{member}.safetensors"
    with safe_open(victim, "np") as file:
        said = dict(file.metadata())
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del said["sha256"]
    config = json.loads(said["config"])
    what = int(turn("0123", "nonsense of heads"))
    if what == 0:
        name = rng.choice(["hidden", "layers", "head_width", "stride"])
        config[name] = rng.choice([16_384, 1 << 40, -1, "x", None])
    elif what == 1:
        config["unknown"] = 1
    elif what == 2:
        del weights[rng.choice(sorted(weights))]
    else:
        said[rng.choice(["targets", "fill", "name", "config", "streams"])] = rng.choice(
            ["", "[]", "{}", "1"]
        )
    if what < 2:
        said["config"] = json.dumps(config)
    save_file(weights, victim, said | {"sha256": _seal(said, weights)})
    line = ["--ensemble", built, "--data", models.given_features(), "--out", folder / "out.csv"]
    done = command(folder, "predict", *line)
    if done.code or what != 0:
        check_said(done)
    with contextlib.suppress(InputError):
        read_model(victim)
