"""A few clips as one sees them: sampled frames, and what was rated and predicted."""

import base64
import io
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.clips.images import sampled_images
from harness.clips.layouts import SYNTHETIC_MARK, read_clips
from harness.clips.table import ClipTable
from harness.clips.video import sampled_frames
from harness.errors import InputError
from harness.reports.evidence import Evidence

# Pixels of a frame's height: enough to see an expression, some kB each.
_HEIGHT = 96
_FRAMES = 6
_CLIPS = 4


@dataclass(frozen=True)
class Strip:
    """A clip of val. pictures: data URLs in order of time. rated, predicted: (targets,)."""

    clip_id: str
    pictures: tuple[str, ...]
    rated: NDArray[np.float64]
    predicted: NDArray[np.float64]


def strips(evidence: Evidence, data: Path | None = None) -> tuple[Strip, ...]:
    """Clips spread over val, from the one that the ensemble predicts best to the worst.

    Args:
        data: the folder of the clips; None: only synthetic clips are looked for, where a search
            keeps them.

    Raises:
        InputError: `data` holds other clips than the study, or none that can be shown.
    """
    if evidence.built is None or evidence.library is None:
        return ()
    clips = read_clips(data) if data else _synthetic(evidence)
    if clips is None:
        return ()
    place = {clip: row for row, clip in enumerate(clips.clip_ids)}
    matrix = evidence.library.matrix
    missing = [clip for clip in matrix.clip_ids if clip not in place]
    if missing:
        raise InputError(f"{data}: has no clip {missing[0]}; give the data of this study")
    slots = {trial.id: slot for slot, trial in enumerate(matrix.trials)}
    members = [slots[member] for member in evidence.built.ensemble.members]
    predicted = evidence.built.ensemble.combine(matrix.predictions[:, members])
    rated = np.flatnonzero(matrix.labelled)
    error = np.abs(predicted - matrix.truth)[rated].mean(axis=1)
    order = rated[np.argsort(error, kind="stable")]
    picks = order[np.linspace(0, len(order) - 1, min(_CLIPS, len(order))).astype(int)]
    found = []
    for row in picks:
        clip = matrix.clip_ids[row]
        pictures = _pictures(clips, place[clip])
        if pictures:
            truth = matrix.truth[row].astype(np.float64)
            found.append(Strip(clip, pictures, truth, predicted[row]))
    return tuple(found)


def _synthetic(evidence: Evidence) -> ClipTable | None:
    if not evidence.synthetic:
        return None
    wanted = set(evidence.index.clip_ids)
    for mark in sorted((evidence.folder.parent / ".cache").glob(f"demo-*/{SYNTHETIC_MARK}")):
        clips = read_clips(mark.parent)
        if wanted == set(clips.clip_ids):
            return clips
    return None


def _pictures(clips: ClipTable, row: int) -> tuple[str, ...]:
    path = clips.paths[row]
    if path is None or clips.kind == "features":
        return ()
    read = sampled_images if clips.kind == "images" else sampled_frames
    stride = 1 if clips.kind == "images" else 15
    try:
        return tuple(_picture(frame) for _, frame in islice(read(path, (stride,)), _FRAMES))
    except InputError:
        # The study has named it already: a clip that gives nothing has nothing to show.
        return ()


def _picture(frame: NDArray[np.uint8]) -> str:
    image = Image.fromarray(frame)
    image = image.resize((max(1, image.width * _HEIGHT // image.height), _HEIGHT))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
