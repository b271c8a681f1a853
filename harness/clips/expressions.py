"""How synthetic emotions show on a face: action units over time, and a face's labels.

Each emotion has a script: which units rise, how strongly, and in which part of the episode.
"""

import numpy as np
from numpy.typing import NDArray

from harness.clips.drawing import UNITS
from harness.clips.stories import Episode
from harness.clips.table import EMOTIONS

_COLUMN = {unit: column for column, unit in enumerate(UNITS)}
# Shares of an episode in which a unit shows: throughout, late, or in one of two parts that overlap,
# so that the part seen alone says as little as the part seen with the other.
_WHOLE, _LATE, _FIRST, _SECOND = (0.0, 1.0), (0.3, 1.0), (0.0, 0.6), (0.4, 1.0)
_Script = tuple[tuple[int, float, tuple[float, float]], ...]


def _in_order(first: tuple[int, ...], second: tuple[int, ...]) -> _Script:
    """Units that come and go, then others: equal except for the order."""
    shares = [(unit, _FIRST) for unit in first] + [(unit, _SECOND) for unit in second]
    return tuple((unit, 0.95, share) for unit, share in shares)


#: For each emotion: (unit, peak, share of the episode in which it shows). Surprise and fear differ
#: in the order of their units alone: the same frames, shuffled, would fit both.
SCRIPTS: dict[str, _Script] = {
    "Adoration": ((12, 0.8, _WHOLE), (6, 0.7, _WHOLE)),
    "Amusement": (
        (12, 1.0, _WHOLE),
        (6, 0.8, _WHOLE),
        (25, 0.7, (0.1, 1.0)),
        (26, 0.4, (0.1, 1.0)),
    ),
    "Anxiety": ((1, 0.6, _WHOLE), (4, 0.5, _WHOLE), (24, 0.9, _LATE), (23, 0.7, _LATE)),
    "Disgust": ((10, 1.0, _WHOLE), (7, 0.6, (0.1, 1.0)), (4, 0.4, (0.2, 1.0))),
    "Empathic-Pain": ((4, 0.9, _WHOLE), (7, 0.8, _WHOLE), (15, 0.9, _LATE)),
    # Mouth first, then brows: fear. Brows first, then mouth: surprise.
    "Fear": _in_order((26, 25), (1, 2)),
    "Surprise": _in_order((1, 2), (26, 25)),
}


def unit_curves(episodes: list[Episode], frames: int) -> NDArray[np.float64]:
    """The action units over time, (frames, 12) in [0, 1]; the strongest episode shows."""
    curves = np.zeros((frames, len(UNITS)))
    for episode in episodes:
        for unit, peak, share in SCRIPTS[EMOTIONS[episode.emotion]]:
            wave = _wave(episode, share, frames) * peak * episode.strength
            column = curves[:, _COLUMN[unit]]
            np.maximum(column, wave, out=column)
    return curves


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
