"""Sampled frames of a few clips, with their ratings and predictions."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.clips.images import sampled_images
from harness.clips.layouts import SYNTHETIC_MARK, read_clips
from harness.clips.table import ClipTable
from harness.clips.video import sampled_frames
from harness.ensembles.ensemble import Ensemble
from harness.errors import InputError
from harness.reports.evidence import Evidence

# Height of a frame in pixels: shows an expression and takes a few kB.
_HEIGHT = 112
_FRAMES = 8
_CLIPS = 4
# Half a second of a video; folders of images are already sampled.
_STRIDES = {"video": 15, "images": 1}
# Sampled frames that are read: three minutes of video.
_AT_MOST = 360


class Unfolding(Protocol):
    """Predictions over the frames of a clip."""

    @property
    def frames(self) -> NDArray[np.int64]:
        """(moments,) indices among the decoded frames of the clip."""

    @property
    def predicted(self) -> NDArray[np.float64]:
        """(moments, targets) the prediction from the frames up to each moment; the last row is the
        prediction for the whole clip."""


#: Computes the unfoldings of some clips with the models of an ensemble: (study folder, ensemble,
#: clips, rows of the clips) -> one per row; None if the features are not stored. It is an argument
#: of a report, because models need torch and the rest of a report does not.
Unfold = Callable[[Path, Ensemble, ClipTable, Sequence[int]], Sequence[Unfolding | None]]


@dataclass(frozen=True)
class Picture:
    """A frame of a clip.

    frame: index among the decoded frames.
    url: data URL of a JPEG.
    """

    frame: int
    url: str


@dataclass(frozen=True)
class Strip:
    """A clip of val.

    pictures: frames spread over the clip, in order of time.
    rated, predicted: (targets,) intensities.
    unfolding: the predictions over the frames; None if the features are not stored.
    """

    clip_id: str
    pictures: tuple[Picture, ...]
    rated: NDArray[np.float64]
    predicted: NDArray[np.float64]
    unfolding: Unfolding | None


def strips(evidence: Evidence, unfold: Unfold, data: Path | None = None) -> tuple[Strip, ...]:
    """A few clips of val, spread from the best to the worst predicted one.

    Args:
        unfold: predicts over the frames; called only if there are clips to show.
        data: folder of the clips. None: the clips are shown only if they are the synthetic clips
            of the demo, which a search stores.

    Raises:
        InputError: `data` does not contain the clips of the study, or is not a folder of clips.
    """
    if evidence.built is None or evidence.library is None:
        return ()
    # The study was allowed to use its clips.
    clips = read_clips(data, allow_shared_groups=True) if data else _synthetic(evidence)
    if clips is None:
        return ()
    place = {clip: row for row, clip in enumerate(clips.clip_ids)}
    matrix = evidence.library.matrix
    missing = [clip for clip in matrix.clip_ids if clip not in place]
    if missing:
        raise InputError(
            f"{data}: has no clip {missing[0]}; `data` must be the folder of this study's clips"
        )
    predicted = evidence.built.predicted
    rated = np.flatnonzero(matrix.labelled)
    error = np.abs(predicted - matrix.truth)[rated].mean(axis=1)
    order = rated[np.argsort(error, kind="stable")]
    picks = order[np.linspace(0, len(order) - 1, min(_CLIPS, len(order))).astype(int)]
    shown = [(row, _pictures(clips, place[matrix.clip_ids[row]])) for row in picks]
    shown = [(row, pictures) for row, pictures in shown if pictures]
    if not shown:
        return ()
    rows = [place[matrix.clip_ids[row]] for row, _ in shown]
    curves = unfold(evidence.folder, evidence.built.ensemble, clips, rows)
    return tuple(
        Strip(
            matrix.clip_ids[row],
            pictures,
            matrix.truth[row].astype(np.float64),
            predicted[row],
            curve,
        )
        for (row, pictures), curve in zip(shown, curves, strict=True)
    )


def _synthetic(evidence: Evidence) -> ClipTable | None:
    if not evidence.synthetic:
        return None
    own = evidence.index
    for mark in sorted((evidence.folder.parent / ".cache").glob(f"demo-*/{SYNTHETIC_MARK}")):
        clips = read_clips(mark.parent)
        # Other synthetic clips have the same ids but other ratings.
        if own.clip_ids == clips.clip_ids and np.array_equal(own.ratings, clips.targets):
            return clips
    return None


def _pictures(clips: ClipTable, row: int) -> tuple[Picture, ...]:
    path = clips.paths[row]
    if path is None or clips.kind == "features":
        return ()
    read = sampled_images if clips.kind == "images" else sampled_frames
    found = []
    try:
        for index, frame in islice(read(path, (_STRIDES[clips.kind],)), _AT_MOST):
            found.append((index, _small(frame)))
    except InputError:
        # The study has already reported the clip; the frames before the damage are shown.
        pass
    if not found:
        return ()
    picks = np.unique(np.linspace(0, len(found) - 1, min(_FRAMES, len(found))).astype(int))
    return tuple(Picture(found[i][0], _url(found[i][1])) for i in picks)


def _small(frame: NDArray[np.uint8]) -> Image.Image:
    image = Image.fromarray(frame)
    return image.resize((max(1, image.width * _HEIGHT // image.height), _HEIGHT))


def _url(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
