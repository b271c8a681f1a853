"""Synthetic reaction clips with known ground truth, made at the first run and kept.

Drawn faces move by action-unit scripts, synthetic voices utter bursts, and both are written as mp4
files (H.264, AAC) in the ABAW5 layout. Beside them, in the s-Aff-Wild2 form, are faces of the same
renderer with action-unit, expression, valence and arousal labels. Nothing here is a real person,
and no score on it is a result on real data.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.atomic import ensure_folder, write_text
from harness.clips.demo_faces import drawn, ensure_faces
from harness.clips.drawing import SIZE, UNITS, draw_faces, draw_identity
from harness.clips.expressions import unit_curves
from harness.clips.layouts import SYNTHETIC_MARK
from harness.clips.stories import (
    STREAMS,
    Stories,
    draw_ratings,
    draw_stories,
    expected_rating,
    intensity,
)
from harness.clips.table import EMOTIONS, Oracles
from harness.clips.video import FPS, write_video
from harness.clips.voices import RATE, draw_sound, draw_voice
from harness.cores import cores
from harness.metrics import pcc
from harness.progress import Progress, silent

# Part of the cache's name: change it when the generator draws or rates otherwise.
_VERSION = 3
# The generator of stories: with it the default seed is no lucky one, as each of its oracles lies
# within one standard deviation of the mean over eight seeds (tests/benchmarks/demo.py).
_STORY = 11
_README = """These clips are synthetic: drawn faces moved by a program, rated by a formula.
They are here to try the harness. No score on them is a result on real data.
"""

# A clip's label (7,), and the expected label given each of STREAMS, (3, 7), where it is scored.
_Rated = tuple[NDArray[np.float64], NDArray[np.float64] | None]
# The root, the plan, the clip's number, its split.
_Job = tuple[Path, "Plan", int, str]


@dataclass(frozen=True)
class Demo:
    """root: the clips, in the ABAW5 layout. annotations: the faces, in the s-Aff-Wild2 form."""

    root: Path
    annotations: Path


@dataclass(frozen=True)
class Plan:
    """What is made: clips of train, val and test with so many frames each, annotated faces of
    train and val. The plan, its seed included, decides every pixel, sample and label."""

    seed: int = 0
    clips: tuple[int, int, int] = (800, 200, 200)
    faces: tuple[int, int] = (3200, 400)
    frames: int = 120

    def name(self) -> str:
        """The folder's name of the clips: equal plans share it."""
        content = json.dumps([_VERSION, self.seed, self.clips, self.frames]).encode()
        return f"demo-{hashlib.sha256(content).hexdigest()[:12]}"


def ensure_demo(
    cache: Path,
    plan: Plan | None = None,
    *,
    processes: int | None = None,
    progress: Progress = silent,
    on_faces: Callable[[Path], None] = lambda annotations: None,
) -> Demo:
    """Makes the synthetic faces and clips under `cache`, unless they are there.

    Args:
        processes: that draw; None: one a core. The result does not depend on it.
        progress: called with (what is going on, done, total).
        on_faces: called with the folder of the annotated faces before the first clip is drawn, so
            that a network can be trained on them meanwhile.
    """
    plan = plan or Plan()
    processes = processes or cores()
    annotations = ensure_faces(cache, plan.seed, plan.faces, processes, progress)
    on_faces(annotations)
    root = cache / plan.name()

    def make(building: Path) -> None:
        oracles = _make(building, plan, processes, progress)
        content = {"synthetic": True, "plan": asdict(plan), "oracles": oracles}
        write_text(building / SYNTHETIC_MARK, json.dumps(content, indent=2) + "\n")

    ensure_folder(root, SYNTHETIC_MARK, make)
    return Demo(root, annotations)


def _make(root: Path, plan: Plan, processes: int, progress: Progress) -> Oracles:
    (root / "README.txt").write_text(_README)
    splits = _interleaved(plan)
    jobs = [(root, plan, number, split) for number, split in enumerate(splits)]
    rated = drawn(_make_clip, jobs, "drawing synthetic clips", processes, progress)
    _write_labels(root, plan, splits, np.stack([label for label, _ in rated]))
    return _oracles(np.array(splits), rated)


def oracles_of(plan: Plan) -> Oracles:
    """The oracles of a plan whose clips need not be drawn."""
    splits = _interleaved(plan)
    rated = [_rate(plan, number, split) for number, split in enumerate(splits)]
    return _oracles(np.array(splits), rated)


def _oracles(splits: NDArray[np.str_], rated: list[_Rated]) -> Oracles:
    """What the best predictions reach on the splits that have any."""
    found: Oracles = {stream: {} for stream in STREAMS}
    for split in ("val", "test"):
        of_split = [rated[clip] for clip in np.flatnonzero(splits == split)]
        labels = np.stack([label for label, _ in of_split])
        expected = np.stack([means for _, means in of_split if means is not None])
        for number, stream in enumerate(STREAMS):
            values = pcc(labels, expected[:, number]).tolist()
            found[stream][split] = dict(zip(EMOTIONS, values, strict=True))
    return found


def _make_clip(job: _Job) -> _Rated:
    """Writes one clip; gives its label (7,) and, where it is scored, the expected label given each
    of STREAMS, (3, 7)."""
    root, plan, number, split = job
    rng = np.random.default_rng([plan.seed, 1, number])
    person, voice = draw_identity(rng), draw_voice(rng)
    story = story_of(plan, number)
    units = unit_curves(story.visible(0, plan.frames), plan.frames)
    # Faces are never quite still.
    units = np.clip(units + 0.04 * _drift(rng, plan.frames, len(UNITS)), 0, 1)
    sway = 0.03 * _drift(rng, plan.frames, 2)
    grain = rng.normal(0, 3, (SIZE, SIZE)).astype(np.float32)
    sound = draw_sound(rng, voice, story.audible(0, plan.frames), plan.frames / FPS, FPS)
    pictures = draw_faces(person, units, sway, grain)
    write_video(root / split / "mp4" / f"{number:05d}.mp4", pictures, sound=sound, rate=RATE)
    return _rate(plan, number, split)


def story_of(plan: Plan, number: int) -> Stories:
    """What happens in a clip of a plan: stories of one clip."""
    # Its own generator, so that neither the person nor the oracles change it.
    return draw_stories(np.random.default_rng([plan.seed, _STORY, number]), 1)


def _rate(plan: Plan, number: int, split: str) -> _Rated:
    story = story_of(plan, number)
    label = draw_ratings(np.random.default_rng([plan.seed, 7, number]), intensity(story))[0]
    if split == "train":
        return label, None
    # Its own generator: how the oracles are computed must not change the clips.
    rng = np.random.default_rng([plan.seed, 2, number])
    return label, np.stack([expected_rating(rng, story, 0, stream) for stream in STREAMS])


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
