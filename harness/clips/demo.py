"""Synthetic reaction clips with known ground truth, made at the first run and kept.

Drawn faces move by action-unit scripts and are written as H.264 mp4 files in the ABAW5 layout;
faces of the same renderer with action-unit, expression, valence and arousal labels stand beside
them in the s-Aff-Wild2 form. Nothing here is a real person, and no score on it is a result on
real data.
"""

import hashlib
import json
import multiprocessing
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from harness.atomic import TEMPORARY_PREFIX, write_text
from harness.clips.drawing import SIZE, UNITS, draw_faces, draw_identity
from harness.clips.layouts import SYNTHETIC_MARK
from harness.clips.reactions import (
    ORACLE_DRAWS,
    draw_episodes,
    draw_ratings,
    expression,
    intensity,
    unit_curves,
    valence_arousal,
)
from harness.clips.table import EMOTIONS
from harness.clips.video import write_video
from harness.metrics import mean_pcc

# Part of the cache's name: change it when the generator draws or rates otherwise.
_VERSION = 2
_README = """These clips are synthetic: drawn faces moved by a program, rated by a formula.
They are here to try the harness. No score on them is a result on real data.
"""
# Share of annotations that carry the invalid markers, as some do in the real files.
_INVALID = 0.03
_ON = 0.35

Progress = Callable[[str, int, int], None]
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Demo:
    """root: the clips, in the ABAW5 layout. annotations: the faces, in the s-Aff-Wild2 form.

    oracle: mean PCC on val and test of the best prediction from the true curves.
    """

    root: Path
    annotations: Path
    oracle: dict[str, float]


@dataclass(frozen=True)
class Plan:
    """What is made: clips of train, val and test with so many frames each, annotated faces of
    train and val. The plan, its seed included, decides every pixel and label."""

    seed: int = 0
    clips: tuple[int, int, int] = (800, 200, 200)
    faces: tuple[int, int] = (3200, 400)
    frames: int = 120

    def name(self) -> str:
        """The folder's name: equal plans share it."""
        content = json.dumps([_VERSION, asdict(self)]).encode()
        return f"demo-{hashlib.sha256(content).hexdigest()[:12]}"


def ensure_demo(
    cache: Path,
    plan: Plan | None = None,
    *,
    processes: int | None = None,
    progress: Progress = lambda step, done, total: None,
) -> Demo:
    """Makes the synthetic clips under `cache`, unless they are there.

    Args:
        processes: that draw; None: one a core. The result does not depend on it.
        progress: called with (what is going on, done, total).
    """
    plan = plan or Plan()
    root = cache / plan.name()
    if not (root / SYNTHETIC_MARK).is_file():
        # Made beside its place, so that two runs at once cannot take each other's files.
        building = cache / f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}-{plan.name()}"
        try:
            oracle = _make(building, plan, processes or os.cpu_count() or 1, progress)
            content = {"synthetic": True, "plan": asdict(plan), "oracle": oracle}
            write_text(building / SYNTHETIC_MARK, json.dumps(content, indent=2) + "\n")
            _put(building, root)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    oracle = json.loads((root / SYNTHETIC_MARK).read_text())["oracle"]
    return Demo(root, root / "annotations", oracle)


def _put(building: Path, root: Path) -> None:
    """Moves a finished folder to its place, unless another run was first: the two are equal."""
    if not (root / SYNTHETIC_MARK).is_file():
        # Without its mark a folder is not whole.
        shutil.rmtree(root, ignore_errors=True)
    try:
        building.rename(root)
    except OSError:
        if not (root / SYNTHETIC_MARK).is_file():
            raise


def _make(root: Path, plan: Plan, processes: int, progress: Progress) -> dict[str, float]:
    root.mkdir(parents=True)
    (root / "README.txt").write_text(_README)
    splits = _interleaved(plan)
    clips = [(root, plan, number, split) for number, split in enumerate(splits)]
    faces = [
        (root / "annotations", plan, number, split)
        for split, count in zip(("train", "val"), plan.faces, strict=True)
        for number in range(0, count, _FACES_A_VIDEO)
    ]
    # Not fork: the caller may have threads.
    context = multiprocessing.get_context("spawn")
    if processes == 1:
        rated = list(_counted(map(_make_clip, clips), "drawing synthetic clips", clips, progress))
        rows = list(_counted(map(_make_faces, faces), "drawing synthetic faces", faces, progress))
    else:
        with ProcessPoolExecutor(processes, mp_context=context) as pool:
            made = pool.map(_make_clip, clips, chunksize=4)
            rated = list(_counted(made, "drawing synthetic clips", clips, progress))
            drawn = pool.map(_make_faces, faces, chunksize=2)
            rows = list(_counted(drawn, "drawing synthetic faces", faces, progress))
    _write_annotations(root / "annotations", faces, rows)
    labels = np.stack([label for label, _ in rated])
    expected = np.stack([expectation for _, expectation in rated])
    _write_labels(root, plan, splits, labels)
    chosen = np.array(splits)
    return {
        split: mean_pcc(labels[chosen == split], expected[chosen == split])
        for split in ("val", "test")
    }


# Faces of one drawn person; whole persons are in train or in val.
_FACES_A_VIDEO = 8
_ClipJob = tuple[Path, Plan, int, str]


def _make_clip(job: _ClipJob) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Writes one clip; gives its label and the label's expectation, each (7,)."""
    root, plan, number, split = job
    rng = np.random.default_rng([plan.seed, 1, number])
    person = draw_identity(rng)
    episodes = draw_episodes(rng, plan.frames)
    units = unit_curves(episodes, plan.frames)
    # Faces are never quite still.
    units = np.clip(units + 0.04 * _drift(rng, plan.frames, len(UNITS)), 0, 1)
    sway = 0.03 * _drift(rng, plan.frames, 2)
    grain = rng.normal(0, 3, (SIZE, SIZE)).astype(np.float32)
    write_video(root / split / "mp4" / f"{number:05d}.mp4", draw_faces(person, units, sway, grain))
    shown = intensity(episodes)
    label = draw_ratings(rng, shown, 1)[0]
    # Its own generator: how often the oracle looks must not change the clips.
    oracle = np.random.default_rng([plan.seed, 2, number])
    return label, draw_ratings(oracle, shown, ORACLE_DRAWS).mean(axis=0)


def _make_faces(job: _ClipJob) -> list[str]:
    """Writes the annotated faces of one person; gives their rows of the annotation file."""
    root, plan, begin, split = job
    stream = 3 if split == "train" else 4
    rng = np.random.default_rng([plan.seed, stream, begin])
    person = draw_identity(rng)
    units = np.stack([_random_face(rng) for _ in range(_FACES_A_VIDEO)])
    sway = rng.normal(0, 0.025, (_FACES_A_VIDEO, 2))
    grain = rng.normal(0, 3, (SIZE, SIZE)).astype(np.float32)
    video = f"{split}{begin // _FACES_A_VIDEO:05d}"
    folder = root / "cropped_aligned" / video
    folder.mkdir(parents=True)
    rows = []
    for number, picture in enumerate(draw_faces(person, units, sway, grain)):
        name = f"{number:05d}.jpg"
        Image.fromarray(picture).save(folder / name, quality=90)
        rows.append(_annotation(rng, f"{video}/{name}", units[number]))
    return rows


def _random_face(rng: np.random.Generator) -> NDArray[np.float64]:
    """Action units (12,) of one face: a moment of a reaction, or units at random."""
    if rng.random() < 0.5:
        curves = unit_curves(draw_episodes(rng, 90), 90)
        face: NDArray[np.float64] = curves[int(rng.integers(len(curves)))]
        return face
    return rng.uniform(0, 1, len(UNITS)) * (rng.random(len(UNITS)) < 0.3)


def _annotation(rng: np.random.Generator, image: str, units: NDArray[np.float64]) -> str:
    valence, arousal = valence_arousal(units)
    label = expression(units)
    on = [str(int(value > _ON)) for value in units]
    if rng.random() < _INVALID:
        valence = arousal = -5.0
    if rng.random() < _INVALID:
        label = -1
    if rng.random() < _INVALID:
        on = ["-1"] * len(on)
    return ",".join([image, f"{valence:.4f}", f"{arousal:.4f}", str(label), *on])


def _write_annotations(folder: Path, jobs: list[_ClipJob], rows: list[list[str]]) -> None:
    for split, name in (("train", "training"), ("val", "validation")):
        lines = [
            line for job, part in zip(jobs, rows, strict=True) if job[3] == split for line in part
        ]
        text = "\n".join(["image,valence,arousal,expression,aus", *lines]) + "\n"
        write_text(folder / f"{name}_set_annotations_22.txt", text)


def _write_labels(root: Path, plan: Plan, splits: list[str], labels: NDArray[np.float64]) -> None:
    rng = np.random.default_rng([plan.seed, 5])
    table = pd.DataFrame({"File_ID": [f"[{number:05d}]" for number in range(len(splits))]})
    table["Split"] = [split.capitalize() for split in splits]
    for column, name in enumerate(EMOTIONS):
        table[name] = labels[:, column]
    table["Age"] = np.round(rng.uniform(18, 60, len(splits)) * 2) / 2
    table["Country"] = rng.choice(["United States", "South Africa"], len(splits))
    write_text(root / "data_info.csv", table.to_csv(index=False))


def _interleaved(plan: Plan) -> list[str]:
    splits = np.repeat(["train", "val", "test"], plan.clips)
    shuffled: list[str] = np.random.default_rng([plan.seed, 0]).permutation(splits).tolist()
    return shuffled


def _drift(rng: np.random.Generator, frames: int, columns: int) -> NDArray[np.float64]:
    """Slow random movement of about unit size: a sum of three waves a column."""
    t = np.arange(frames)[:, None, None] / 30
    frequency = rng.uniform(0.1, 0.8, (1, columns, 3))
    phase = rng.uniform(0, 2 * np.pi, (1, columns, 3))
    waves: NDArray[np.float64] = np.sin(2 * np.pi * frequency * t + phase).mean(axis=2)
    return waves


def _counted(
    made: Iterable[_Made], step: str, jobs: list[_ClipJob], progress: Progress
) -> Iterable[_Made]:
    for done, item in enumerate(made, start=1):
        yield item
        progress(step, done, len(jobs))
