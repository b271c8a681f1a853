"""What comes in is broken or meant to do harm: fuzzed files, names that lead elsewhere, bombs."""

import io
import os
import random
import shutil
import time
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from harness.clips.layouts import read_clips, read_new_clips
from harness.encoders.mtl_dan.checkpoints import load_mtl_dan
from harness.errors import InputError
from harness.models.model_file import read_model
from harness.predictions import read_clips as read_study_clips
from harness.space.file import read_space
from harness.spaces import SPACES
from tests.faults import models
from tests.faults.commands import command
from tests.faults.fault import fault, turn
from tests.faults.surroundings import check_said
from tests.networks import Trap, make_network
from tests.trees import hume_table, picture

TOKENS = (
    b"\0", b"\xff\xfe", b"\n", b"\r\n", b",", b'"', b"=1+1", b"../x", b"nan", b"inf", b"-1",
    b"1e999", b"9" * 400, b"[[", b"{", b"#", "\u202eevil".encode(), "\u0430".encode(), b"'",
    b"\\", b"\t",
)  # fmt: skip
#: Of a processor, which a busy machine does not lengthen; what is meant is for ever.
SECONDS = 20


def fuzz(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut out, repeated, or replaced by tokens that parsers trip over."""
    spoiled = bytearray(content)
    for _ in range(rng.choice([1, 2, 5, 20])):
        place = rng.randrange(len(spoiled) + 1)
        length = rng.choice([1, 2, 8, 64])
        what = rng.randrange(4)
        if what == 0 and place < len(spoiled):
            spoiled[place] = rng.randrange(256)
        elif what == 1:
            del spoiled[place : place + length]
        elif what == 2:
            spoiled[place:place] = spoiled[place : place + length]
        else:
            spoiled[place:place] = rng.choice(TOKENS)
    return bytes(spoiled)


def survives(read: Callable[[], object]) -> bool:
    """Whether it was read; False for a clear refusal. Anything else is lost."""
    begun = time.process_time()
    try:
        read()
        return True
    except InputError:
        return False
    finally:
        assert time.process_time() - begun < SECONDS


@fault("hostile", "a table of clips is fuzzed", 300)
def _(folder: Path, rng: random.Random) -> None:
    (folder / "features").mkdir()
    table = pd.read_csv(models.given_features() / "clips.csv").to_csv(index=False).encode()
    (folder / "clips.csv").write_bytes(fuzz(table, rng))
    survives(lambda: read_clips(folder))


@fault("hostile", "the labels of the release are fuzzed", 300)
def _(folder: Path, rng: random.Random) -> None:
    (folder / "data_info.csv").write_bytes(fuzz(hume_table().to_csv(index=False).encode(), rng))
    survives(lambda: read_clips(folder))


@fault("hostile", "a search space is fuzzed", 300)
def _(folder: Path, rng: random.Random) -> None:
    space = rng.choice(sorted(SPACES.glob("*.toml")))
    (folder / "space.toml").write_bytes(fuzz(space.read_bytes(), rng))
    survives(lambda: read_space(folder / "space.toml"))


@fault("hostile", "a feature file is fuzzed", 60)
def _(folder: Path, rng: random.Random) -> None:
    root = models.copied(models.given_features(), folder)
    victim = rng.choice(sorted((root / "features").iterdir()))
    content = victim.read_bytes()
    if rng.random() < 0.3:
        victim = victim.rename(victim.with_suffix(".csv"))
        content = b"a,b\n1,2\n3,4\n" * 3
    victim.write_bytes(fuzz(content, rng))
    from harness.streams.precomputed import read_foreign

    survives(lambda: read_foreign(read_clips(root)))


@fault("hostile", "an array file that would run code or exceed memory", 2)
def _(folder: Path, rng: random.Random) -> None:
    from harness.streams.precomputed import read_foreign

    root = models.copied(models.given_features(), folder)
    mark = folder / "mark"
    victim = root / "features" / "c3.npy"
    np.save(victim, np.array([Trap(mark)], dtype=object), allow_pickle=True)
    huge = root / "features" / "c4.npy"
    head = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, "
    head += b"'shape': (99999999999, 22), }"
    huge.write_bytes(head + b" " * (128 - len(head) - 1) + b"\n" + bytes(100))
    _, nothing, _ = read_foreign(read_clips(root))
    assert set(nothing) == {"c3", "c4"}
    assert not mark.exists(), "code from a file was run"


@fault("hostile", "weights are fuzzed", 30, few=10)
def _(folder: Path, rng: random.Random) -> None:
    file = folder / rng.choice(["net.safetensors", "net.pth"])
    if file.suffix == ".pth":
        content = io.BytesIO()
        torch.save({"model_state_dict": make_network(1).state_dict()}, content)
        whole = content.getvalue()
    else:
        whole = models.weights().read_bytes()
    # Headers rule what is read; the rest are numbers.
    front = rng.choice([200, 20_000])
    file.write_bytes(fuzz(whole[:front], rng) + whole[front:])
    survives(lambda: load_mtl_dan(file))


@fault("hostile", "a pickle that would run code, under each suffix of weights", 6)
def _(folder: Path, rng: random.Random) -> None:
    mark = folder / "mark"
    suffix = turn([".pth", ".pt", ".pkl", ".safetensors", ".bin", ""], "suffixes")
    file = folder / f"weights{suffix}"
    torch.save({"model_state_dict": {"x": Trap(mark)}}, file)
    assert not survives(lambda: load_mtl_dan(file))
    assert not survives(lambda: read_model(file))
    assert not mark.exists(), "code from a file was run"


@fault("hostile", "a damaged Parquet file that the harness did not write", 10)
def _(folder: Path, rng: random.Random) -> None:
    file = folder / "clips.parquet"
    pq.write_table(pa.table({"clip_id": ["../x", "=1+1"], "split": ["val", "val"]}), file)
    file.write_bytes(fuzz(file.read_bytes(), rng))
    assert not survives(lambda: read_study_clips(file))


@fault("hostile", "videos are fuzzed, twenty at a time", 6, few=2)
def _(folder: Path, rng: random.Random) -> None:
    root = models.copied(models.clips(), folder)
    for video in (root / "clips").iterdir():
        content = video.read_bytes()
        front = len(content) if rng.random() < 0.5 else 300
        video.write_bytes(fuzz(content[:front], rng) + content[front:])
    line = ["--data", root, "--weights", models.weights(), "--stride", 3, "--crop", "none"]
    done = command(folder, "extract", *line, "--results", folder / "results")
    if done.code:
        check_said(done)
    else:
        assert "20 clips computed" in done.said, done


@cache
def bomb() -> Path:
    """A small file of a picture that would take nearly a gigabyte."""
    path = models.home() / "bomb.png"
    Image.new("L", (30_000, 30_000)).save(path)
    return path


@fault("hostile", "images are fuzzed, and some are bombs", 6, few=2)
def _(folder: Path, rng: random.Random) -> None:
    root = models.copied(models.clips(), folder)
    shutil.rmtree(root / "clips")
    for number in range(models.CLIPS):
        home = root / "frames" / f"c{number}"
        home.mkdir(parents=True)
        file = io.BytesIO()
        suffix = rng.choice(["png", "jpg"])
        picture(np.random.default_rng(number)).save(file, "PNG" if suffix == "png" else "JPEG")
        (home / f"0.{suffix}").write_bytes(fuzz(file.getvalue(), rng))
    shutil.copy(bomb(), root / "frames" / "c0" / "1.png")
    line = ["--data", root, "--weights", models.weights(), "--stride", 3, "--crop", "none"]
    done = command(folder, "extract", *line, "--results", folder / "results")
    assert done.code == 0, done
    assert "20 clips computed" in done.said, done
    assert "not a readable image" in done.said, done


HOSTILE_IDS = (
    "../x", "/etc/passwd", "a/b", "a\\b", "..", ".", "", " ", "a\nb", "a\0b", "CON", "nul.txt",
    "=1+1", "@SUM(1)", "+1", "-1+1", "a b", "x" * 300, "\u202ecod.exe", "p\u0430ypal", "ｃ１", "é",
    "a;rm -rf",
    "[..]", "[../x]", "~root", "$HOME", "%00", "a:b", "<script>",
)  # fmt: skip


@fault("hostile", "clip ids that leave the folder or imitate others", len(HOSTILE_IDS))
def _(folder: Path, rng: random.Random) -> None:
    hostile = turn(HOSTILE_IDS, "ids")
    root = models.copied(models.given_features(), folder)
    table = pd.read_csv(root / "clips.csv", dtype=str)
    table.loc[3, "clip_id"] = hostile
    table.to_csv(root / "clips.csv", index=False)
    assert not survives(lambda: read_clips(root)), f"{hostile!r} was taken for an id"


HOSTILE_TARGETS = ("=cmd|' /C calc'!A0", "@joy", "+joy", "-joy", "a\nb", "", "clip\0id")


@fault("hostile", "harmful names of files, studies, targets and ensembles", 8, few=7)
def _(folder: Path, rng: random.Random) -> None:
    loose = folder / "loose"
    loose.mkdir()
    shutil.copy(models.clips() / "clips" / "c1.mp4", loose / "=1+1.mp4")
    assert not survives(lambda: read_new_clips(loose))
    root = models.copied(models.given_features(), folder)
    table = pd.read_csv(root / "clips.csv", dtype=str)
    name = turn(HOSTILE_TARGETS, "targets")
    table.rename(columns={"joy": name}).to_csv(root / "clips.csv", index=False)
    assert not survives(lambda: read_clips(root)), f"{name!r} was taken for a target"
    results = models.copied(models.library(), folder)
    for option, value in (("--study", "../s"), ("--name", "../../x"), ("--name", "a/b")):
        line = ["--results", results, "--top", 2, option, value]
        check_said(command(folder, "ensemble", *line), "expected a plain folder name")
    assert {path.name for path in folder.iterdir()} >= {"library", "loose", "features"}
    assert not (folder / "x").exists()


@fault("hostile", "a decompression bomb as weights", 2, few=1)
def _(folder: Path, rng: random.Random) -> None:
    file = folder / "net.pth"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/version", "3")
        with bomb.open("archive/data.pkl", "w", force_zip64=True) as entry:
            for _ in range(64):
                entry.write(bytes(1 << 24))
    before = _resident()
    assert not survives(lambda: load_mtl_dan(file))
    assert _resident() - before < 1 << 28


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
