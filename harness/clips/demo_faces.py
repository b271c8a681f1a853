"""Synthetic annotated faces, in the s-Aff-Wild2 form, for the network of the demo to learn from."""

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.atomic import ensure_folder, write_text
from harness.clips.drawing import SIZE, UNITS, draw_faces, draw_identity
from harness.clips.expressions import expression, unit_curves, valence_arousal
from harness.clips.stories import draw_stories
from harness.progress import Progress

# Part of the cache's name: change it when the generator draws or labels otherwise.
_VERSION = 3
# Share of annotations that carry the invalid markers, as some do in the real files.
_INVALID = 0.03
# From this intensity on an action unit is labelled as present.
_ON = 0.35
# Faces of one drawn person; whole persons are in train or in val.
_FACES_A_VIDEO = 8
_WHOLE = "validation_set_annotations_22.txt"  # which is written last

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")
# The folder, the seed, the first face's number, the split.
_Job = tuple[Path, int, int, str]


def ensure_faces(
    cache: Path, seed: int, counts: tuple[int, int], processes: int, progress: Progress
) -> Path:
    """The folder of so many annotated faces of train and val, which are drawn at the first use."""
    content = json.dumps([_VERSION, seed, counts]).encode()
    root = cache / f"faces-{hashlib.sha256(content).hexdigest()[:12]}"

    def make(building: Path) -> None:
        jobs = [
            (building, seed, number, split)
            for split, count in zip(("train", "val"), counts, strict=True)
            for number in range(0, count, _FACES_A_VIDEO)
        ]
        rows = drawn(_make_faces, jobs, "drawing synthetic faces", processes, progress)
        _write_annotations(building, jobs, rows)

    ensure_folder(root, _WHOLE, make)
    return root


def drawn(
    draw: Callable[[_Given], _Made],
    jobs: Sequence[_Given],
    step: str,
    processes: int,
    progress: Progress,
) -> list[_Made]:
    """What `draw` makes of each job, in their order, by so many processes."""
    made = []
    # Not fork: the caller may have threads.
    context = multiprocessing.get_context("spawn")
    # Starting one takes longer than drawing a few.
    pool = ProcessPoolExecutor(processes, mp_context=context) if len(jobs) > processes > 1 else None
    try:
        for item in pool.map(draw, jobs, chunksize=4) if pool else map(draw, jobs):
            made.append(item)
            progress(step, len(made), len(jobs))
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)
    return made


def _make_faces(job: _Job) -> list[str]:
    """Writes the annotated faces of one person; gives their rows of the annotation file."""
    root, seed, begin, split = job
    stream = 3 if split == "train" else 4
    rng = np.random.default_rng([seed, stream, begin])
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
        curves = unit_curves(draw_stories(rng, 1).everything(0, 90), 90)
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


def _write_annotations(folder: Path, jobs: list[_Job], rows: list[list[str]]) -> None:
    for split, name in (("train", "training"), ("val", "validation")):
        lines = [
            line for job, part in zip(jobs, rows, strict=True) if job[3] == split for line in part
        ]
        text = "\n".join(["image,valence,arousal,expression,aus", *lines]) + "\n"
        write_text(folder / f"{name}_set_annotations_22.txt", text)
