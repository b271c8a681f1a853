"""Synthetic reactions: scripts of action units over time, and the ratings that follow from them.

A clip holds a few episodes, each of one emotion's script: which units rise, how long after the
onset, how strongly, for how long. Ratings follow from the episodes' peaks and durations, through
a person's rating habits and noise; the oracle is the expectation over both.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.clips.drawing import UNITS
from harness.clips.table import EMOTIONS

_COLUMN = {unit: column for column, unit in enumerate(UNITS)}


# Shares of an episode in which a unit shows: throughout, or in one of two parts that overlap, so
# that the part seen alone says as little as the part seen with the other.
_WHOLE, _FIRST, _SECOND = (0.0, 1.0), (0.0, 0.6), (0.4, 1.0)


@dataclass(frozen=True)
class Script:
    """One emotion's way of showing: (unit, peak, share of the episode in which it shows).

    frames: shortest and longest episode. Surprise and fear differ in the order of their units
    alone: the same frames, shuffled, would fit both.
    """

    units: tuple[tuple[int, float, tuple[float, float]], ...]
    frames: tuple[int, int]


def _in_order(first: tuple[int, ...], second: tuple[int, ...]) -> Script:
    """Units that come and go, then others: equal but for the order."""
    shares = [(unit, _FIRST) for unit in first] + [(unit, _SECOND) for unit in second]
    return Script(tuple((unit, 0.95, share) for unit, share in shares), (24, 48))


_LATE = (0.3, 1.0)
SCRIPTS = {
    "Adoration": Script(((12, 0.8, _WHOLE), (6, 0.7, _WHOLE)), (55, 90)),
    "Amusement": Script(
        ((12, 1.0, _WHOLE), (6, 0.8, _WHOLE), (25, 0.7, (0.1, 1.0)), (26, 0.4, (0.1, 1.0))),
        (16, 45),
    ),
    "Anxiety": Script(
        ((1, 0.6, _WHOLE), (4, 0.5, _WHOLE), (24, 0.9, _LATE), (23, 0.7, _LATE)), (24, 60)
    ),
    "Disgust": Script(((10, 1.0, _WHOLE), (7, 0.6, (0.1, 1.0)), (4, 0.4, (0.2, 1.0))), (12, 36)),
    "Empathic-Pain": Script(((4, 0.9, _WHOLE), (7, 0.8, _WHOLE), (15, 0.9, _LATE)), (24, 70)),
    # Mouth first, then brows: fear. Brows first, then mouth: surprise.
    "Fear": _in_order((26, 25), (1, 2)),
    "Surprise": _in_order((1, 2), (26, 25)),
}
# How much of one emotion's showing counts towards the rating of another: rows show, columns rate.
_SPILL = np.eye(len(EMOTIONS)) + np.array(
    [
        # Ado  Amu  Anx  Dis  EmP  Fea  Sur
        [0.0, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.1],
        [0.0, 0.0, 0.0, 0.0, 0.1, 0.35, 0.1],
        [0.0, 0.0, 0.0, 0.0, 0.15, 0.0, 0.0],
        [0.0, 0.0, 0.1, 0.2, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.45, 0.0, 0.0, 0.0, 0.15],
        [0.0, 0.1, 0.1, 0.0, 0.0, 0.15, 0.0],
    ]
)
# Ratings do not start at nothing, and amusement and surprise are rated high throughout.
_BASE = np.array([0.06, 0.14, 0.08, 0.05, 0.04, 0.06, 0.12])
# Rating habits: spread of a person's taste for each emotion (of its logarithm), and noise.
_TASTE, _NOISE = 0.6, 0.12
# Labels are drawn this often for the oracle: its own error is then far below a clip's noise.
ORACLE_DRAWS = 256


@dataclass(frozen=True)
class Episode:
    """emotion: index into EMOTIONS; begin, frames: in frames; strength in (0, 1]."""

    emotion: int
    begin: int
    frames: int
    strength: float


def draw_episodes(rng: np.random.Generator, frames: int) -> list[Episode]:
    """One to four episodes within a clip of so many frames."""
    count = int(rng.choice([1, 2, 3, 4], p=[0.25, 0.4, 0.25, 0.1]))
    episodes = []
    for _ in range(count):
        emotion = int(rng.integers(len(EMOTIONS)))
        low, high = SCRIPTS[EMOTIONS[emotion]].frames
        length = min(int(rng.integers(low, high + 1)), frames)
        begin = int(rng.integers(0, max(1, frames - length)))
        episodes.append(Episode(emotion, begin, length, float(rng.uniform(0.45, 1.0))))
    return episodes


def unit_curves(episodes: list[Episode], frames: int) -> NDArray[np.float64]:
    """The action units over time, (frames, 12) in [0, 1]; the strongest episode shows."""
    curves = np.zeros((frames, len(UNITS)))
    for episode in episodes:
        for unit, peak, share in SCRIPTS[EMOTIONS[episode.emotion]].units:
            wave = _wave(episode, share, frames) * peak * episode.strength
            column = curves[:, _COLUMN[unit]]
            np.maximum(column, wave, out=column)
    return curves


def intensity(episodes: list[Episode]) -> NDArray[np.float64]:
    """What a clip shows of each emotion, (7,), before habits and noise."""
    shown = np.zeros(len(EMOTIONS))
    for episode in episodes:
        low, high = SCRIPTS[EMOTIONS[episode.emotion]].frames
        lasting = (episode.frames - low) / (high - low)
        shown[episode.emotion] += episode.strength * (0.6 + 0.4 * lasting)
    rated: NDArray[np.float64] = _BASE + (1 - np.exp(-1.6 * (shown @ _SPILL)))
    return rated


def draw_ratings(
    rng: np.random.Generator, shown: NDArray[np.float64], draws: int
) -> NDArray[np.float64]:
    """Labels of one clip by `draws` persons, (draws, 7): each row's largest is exactly 1."""
    shape = (draws, len(EMOTIONS))
    ratings = shown * np.exp(rng.normal(0, _TASTE, shape)) + rng.normal(0, _NOISE, shape)
    # A rater's scale begins at 1 of 100.
    ratings = np.clip(ratings, 0.01, None)
    labels: NDArray[np.float64] = ratings / ratings.max(axis=1, keepdims=True)
    return labels


def expression(units: NDArray[np.float64]) -> int:
    """The expression label of one face, in Aff-Wild2's order, by rules on its units (12,)."""
    on = {unit: units[column] > 0.35 for unit, column in _COLUMN.items()}
    if units.max() < 0.25:
        return 0  # neutral
    if on[12]:
        return 4  # happiness
    if on[1] and on[2] and on[26]:
        return 6  # surprise
    if on[26] or (on[1] and on[24]):
        return 3  # fear
    if on[10]:
        return 2  # disgust
    if on[15]:
        return 5  # sadness
    if on[4]:
        return 1  # anger
    return 7  # other


def valence_arousal(units: NDArray[np.float64]) -> tuple[float, float]:
    """Valence and arousal of one face in [-1, 1], by weights on its units (12,)."""
    u = {unit: units[column] for unit, column in _COLUMN.items()}
    valence = 0.8 * u[12] + 0.2 * u[6] - 0.4 * (u[4] + u[15]) - 0.5 * u[10] - 0.25 * u[24]
    arousal = -0.3 + 0.5 * u[26] + 0.3 * (u[1] + u[2]) + 0.25 * u[25] + 0.3 * u[12] + 0.2 * u[4]
    return float(np.clip(valence, -1, 1)), float(np.clip(arousal, -1, 1))


def _wave(episode: Episode, share: tuple[float, float], frames: int) -> NDArray[np.float64]:
    """Within its share of the episode: a rise over a quarter, a plateau, a fall over a quarter."""
    begin, end = (episode.begin + part * episode.frames for part in share)
    ramp = max(2.0, 0.25 * (end - begin))
    t = np.arange(frames)
    trapezium = np.clip(np.minimum((t - begin) / ramp, (end - t) / ramp), 0, 1)
    smooth: NDArray[np.float64] = trapezium**2 * (3 - 2 * trapezium)
    return smooth
