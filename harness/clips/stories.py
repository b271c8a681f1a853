"""Synthetic reactions: what happens in a clip, how it is rated, and the best possible prediction.

A clip is a row of slots of equal length. Each slot is empty or holds one emotion, shown on the
face, heard in the voice, or both. The slots are independent of each other, but their ratings are
not: an emotion that comes again counts less, and one after its opposite counts more. So a
prediction needs the order of what was seen, and neither the face nor the voice says everything.
Ratings follow through a person's rating habits and noise. An oracle is the expected rating given
everything that one or both of the streams reveal.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.clips.table import EMOTIONS

SLOTS = 3
#: What a prediction may know: the face, the voice, or both.
STREAMS = ("picture", "sound", "both")
#: Kinds of vocal burst; silence is a slot without one.
BURSTS = ("laugh", "gasp", "sigh", "hum", "groan")
#: The burst of each emotion. The voice cannot tell anxiety from pain, nor fear from surprise.
BURST_OF = {
    "Adoration": "hum",
    "Amusement": "laugh",
    "Anxiety": "sigh",
    "Disgust": "groan",
    "Empathic-Pain": "sigh",
    "Fear": "gasp",
    "Surprise": "gasp",
}
# Where an emotion is expressed, and how often: nowhere, on the face, in the voice, in both.
_NOWHERE, _FACE, _VOICE, _BOTH = range(4)
_EXPRESSED = np.array([0.15, 0.28, 0.32, 0.25])
_VISIBLE = np.array([False, True, False, True])
_AUDIBLE = np.array([False, False, True, True])
# What is both seen and heard counts for more than either.
_WEIGHT = np.array([0.0, 1.0, 1.0, 1.6])
_LENGTH = 0.6, 1.0
_STRENGTH = 0.45, 1.0
# Repeated emotions count less (habituation); after an opposite one they count more (contrast).
_REPEATED, _CONTRASTED = 0.25, 1.8
_VALENCE = np.array([1, 1, -1, -1, -1, -1, 0])
_KIND = np.array([BURSTS.index(BURST_OF[emotion]) for emotion in EMOTIONS])
# How much of one emotion's expression counts towards the rating of another: rows express, columns
# rate.
_SPILL = np.eye(len(EMOTIONS)) + np.array(
    [
        # Ado   Amu   Anx    Dis   EmP    Fea    Sur
        [0.000, 0.175, 0.000, 0.00, 0.000, 0.000, 0.000],
        [0.175, 0.000, 0.000, 0.00, 0.000, 0.000, 0.070],
        [0.000, 0.000, 0.000, 0.00, 0.070, 0.245, 0.070],
        [0.000, 0.000, 0.000, 0.00, 0.105, 0.000, 0.000],
        [0.000, 0.000, 0.070, 0.14, 0.000, 0.000, 0.000],
        [0.000, 0.000, 0.315, 0.00, 0.000, 0.000, 0.105],
        [0.000, 0.070, 0.070, 0.00, 0.000, 0.105, 0.000],
    ]
)
# Ratings do not start at nothing, and amusement and surprise are rated high throughout.
_BASE = np.array([0.06, 0.14, 0.08, 0.05, 0.04, 0.06, 0.12])
_SATURATION = 1.6
# Rating habits: spread of a person's taste for each emotion (of its logarithm), and noise.
_TASTE, _NOISE = 0.4, 0.08
# Draws for each clip's expected rating: its own error is then far below a clip's noise.
_DRAWS = 256


@dataclass(frozen=True)
class Episode:
    """One emotion's expression. emotion: index into EMOTIONS; begin, frames: in frames; strength in
    (0, 1]."""

    emotion: int
    begin: float
    frames: float
    strength: float


@dataclass(frozen=True)
class Stories:
    """Many clips' slots, each array (clips, SLOTS). emotion: index into EMOTIONS. expressed: one of
    four ways. strength: in (0, 1]. length: share of the slot. place: where in the slot the rest
    of it lies, 0: all behind the episode."""

    emotion: NDArray[np.int64]
    expressed: NDArray[np.int64]
    strength: NDArray[np.float64]
    length: NDArray[np.float64]
    place: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.emotion)

    def visible(self, clip: int, frames: int) -> list[Episode]:
        """What the face shows in a clip of so many frames."""
        return self._episodes(clip, frames, _VISIBLE)

    def audible(self, clip: int, frames: int) -> list[Episode]:
        """What the voice utters in a clip of so many frames."""
        return self._episodes(clip, frames, _AUDIBLE)

    def everything(self, clip: int, frames: int) -> list[Episode]:
        """An episode for every slot, expressed or not."""
        return self._episodes(clip, frames, np.ones(4, dtype=bool))

    def _episodes(self, clip: int, frames: int, ways: NDArray[np.bool_]) -> list[Episode]:
        slot = frames / SLOTS
        found = []
        for number in np.flatnonzero(ways[self.expressed[clip]]):
            length = self.length[clip, number] * slot
            begin = number * slot + self.place[clip, number] * (slot - length)
            emotion = int(self.emotion[clip, number])
            found.append(Episode(emotion, begin, length, float(self.strength[clip, number])))
        return found


def draw_stories(rng: np.random.Generator, count: int) -> Stories:
    """So many independent clips."""
    shape = (count, SLOTS)
    return Stories(
        rng.integers(len(EMOTIONS), size=shape),
        rng.choice(len(_EXPRESSED), p=_EXPRESSED, size=shape),
        rng.uniform(*_STRENGTH, shape),
        rng.uniform(*_LENGTH, shape),
        rng.uniform(0, 1, shape),
    )


def intensity(stories: Stories) -> NDArray[np.float64]:
    """What clips express of each emotion, (clips, 7), before habits and noise."""
    clips = np.arange(len(stories))
    total = np.zeros((len(stories), len(EMOTIONS)))
    met = np.zeros(total.shape, dtype=bool)
    before = np.zeros(len(stories))  # valence of the last emotion that was expressed
    low, high = _LENGTH
    for slot in range(SLOTS):
        emotion, expressed = stories.emotion[:, slot], stories.expressed[:, slot]
        valence = _VALENCE[emotion]
        amount = stories.strength[:, slot] * _WEIGHT[expressed]
        amount *= 0.6 + 0.4 * (stories.length[:, slot] - low) / (high - low)
        amount = np.where(met[clips, emotion], _REPEATED * amount, amount)
        amount = np.where(before * valence < 0, _CONTRASTED * amount, amount)
        total[clips, emotion] += amount
        met[clips, emotion] |= expressed != _NOWHERE
        before = np.where(expressed != _NOWHERE, valence, before)
    rated: NDArray[np.float64] = _BASE + (1 - np.exp(-_SATURATION * (total @ _SPILL)))
    return rated


def draw_ratings(rng: np.random.Generator, expressed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Labels of clips of such intensity, (clips, 7): each row's largest is exactly 1."""
    shape = expressed.shape
    ratings = expressed * np.exp(rng.normal(0, _TASTE, shape)) + rng.normal(0, _NOISE, shape)
    # A rater's scale begins at 1 of 100.
    ratings = np.clip(ratings, 0.01, None)
    labels: NDArray[np.float64] = ratings / ratings.max(axis=1, keepdims=True)
    return labels


def expected_rating(
    rng: np.random.Generator, stories: Stories, clip: int, stream: str
) -> NDArray[np.float64]:
    """The mean label (7,) over all that a clip may hold, given what a stream reveals of it.

    The picture reveals the emotions on the face, the sound the kinds of burst; what a stream does
    not reveal is drawn from the generator's own distribution, so that this is the prediction of
    least squared error.
    """
    possible = consistent_stories(rng, stories, clip, stream)
    expected: NDArray[np.float64] = draw_ratings(rng, intensity(possible)).mean(axis=0)
    return expected


def consistent_stories(
    rng: np.random.Generator, stories: Stories, clip: int, stream: str, draws: int = _DRAWS
) -> Stories:
    """Draws of a whole story that agree with what a stream reveals of a clip."""
    drawn = draw_stories(rng, draws)
    ways, emotions = np.meshgrid(np.arange(len(_EXPRESSED)), np.arange(len(EMOTIONS)))
    for slot in range(SLOTS):
        true_way, true = stories.expressed[clip, slot], stories.emotion[clip, slot]
        possible = np.ones(ways.shape, dtype=bool)
        if stream in ("picture", "both"):
            possible &= _VISIBLE[ways] == _VISIBLE[true_way]
            if _VISIBLE[true_way]:
                possible &= emotions == true
        if stream in ("sound", "both"):
            possible &= _AUDIBLE[ways] == _AUDIBLE[true_way]
            if _AUDIBLE[true_way]:
                possible &= _KIND[emotions] == _KIND[true]
        chance = np.where(possible, _EXPRESSED[ways], 0.0).ravel()
        chosen = rng.choice(chance.size, p=chance / chance.sum(), size=draws)
        drawn.expressed[:, slot] = ways.ravel()[chosen]
        drawn.emotion[:, slot] = emotions.ravel()[chosen]
        seen = stream in ("picture", "both") and _VISIBLE[true_way]
        heard = stream in ("sound", "both") and _AUDIBLE[true_way]
        if seen or heard:
            drawn.strength[:, slot] = stories.strength[clip, slot]
            drawn.length[:, slot] = stories.length[clip, slot]
    return drawn
