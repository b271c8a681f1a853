"""Draws synthetic faces: identity parameters and action-unit curves in, RGB frames out.

Vectorised over the frames of a clip. Coordinates run from -1 to 1 across the picture, x to the
right and y down; every part of the face is computed only inside its own window.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Pixels a side; even, as H.264 wants it.
SIZE = 64
#: Columns of the action-unit arrays.
UNITS = (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)
_COLUMN = {unit: column for column, unit in enumerate(UNITS)}
# Width of a soft edge, about one and a half pixels.
_EDGE = 3.0 / SIZE

# float32 throughout, for speed; numpy types the results of mixed arithmetic more widely.
Array = NDArray[np.floating]


@dataclass(frozen=True)
class Identity:
    """How a person and the room look; lengths in picture coordinates, colours in 0..255."""

    skin: tuple[float, float, float]
    hair: tuple[float, float, float]
    lips: tuple[float, float, float]
    iris: tuple[float, float, float]
    wall: tuple[float, float, float]
    width: float
    height: float
    eye_distance: float
    eye_height: float
    brow: float
    mouth: float
    light: float


def draw_identity(rng: np.random.Generator) -> Identity:
    """A random person."""
    tone = rng.uniform(0.0, 1.0)
    skin = (1 - tone) * np.array([236.0, 196, 170]) + tone * np.array([112.0, 74, 54])
    lips = 0.6 * skin + 0.4 * np.array([190.0, 60, 70])
    return Identity(
        skin=_colour(skin + rng.normal(0, 6, 3)),
        hair=_colour(rng.uniform(0.05, 0.55) * np.array([180.0, 130, 80]) + rng.uniform(0, 30)),
        lips=_colour(lips + rng.normal(0, 6, 3)),
        iris=_colour(rng.uniform([30, 40, 20], [100, 110, 130])),
        wall=_colour(rng.uniform(60, 220, 3)),
        width=rng.uniform(0.54, 0.66),
        height=rng.uniform(0.72, 0.82),
        eye_distance=rng.uniform(0.23, 0.29),
        eye_height=rng.uniform(-0.2, -0.13),
        brow=rng.uniform(0.022, 0.04),
        mouth=rng.uniform(0.2, 0.25),
        light=rng.uniform(-0.25, 0.25),
    )


def draw_faces(
    person: Identity, units: NDArray[np.floating], sway: NDArray[np.floating], noise: Array | None
) -> NDArray[np.uint8]:
    """Frames of one person.

    Args:
        units: (frames, 12) action-unit intensities in [0, 1], in the order of UNITS.
        sway: (frames, 2) displacement of the head, in picture coordinates.
        noise: (SIZE, SIZE) grain of the sensor in grey levels, or None.

    Returns:
        (frames, SIZE, SIZE, 3) uint8 RGB.
    """
    a = {unit: units[:, c, None, None].astype(np.float32) for unit, c in _COLUMN.items()}
    canvas = _Canvas(person, sway.astype(np.float32), len(units))
    _head(canvas, person, a)
    for side in (-1.0, 1.0):
        _eye(canvas, person, a, side)
        _brow(canvas, person, a, side)
        _cheek(canvas, person, a, side)
    _nose(canvas, person)
    _mouth(canvas, person, a)
    return canvas.finish(person.light, noise)


class _Canvas:
    """The pictures under the brush: a plane a colour, (3, frames, SIZE, SIZE) float32."""

    def __init__(self, person: Identity, sway: Array, frames: int) -> None:
        self.sway = sway
        self.axis = ((np.arange(SIZE, dtype=np.float32) + 0.5) / SIZE) * 2 - 1
        self.planes = np.empty((3, frames, SIZE, SIZE), np.float32)
        self.planes[:] = np.array(person.wall, np.float32)[:, None, None, None]

    def window(self, x0: float, x1: float, y0: float, y1: float) -> "_Window":
        """The part of the pictures between the bounds, widened by the sway's reach."""
        reach = float(np.abs(self.sway).max(initial=0)) + _EDGE
        columns = _range(self.axis, x0 - reach, x1 + reach)
        rows = _range(self.axis, y0 - reach, y1 + reach)
        x = self.axis[None, None, columns] - self.sway[:, 0, None, None]
        y = self.axis[None, rows, None] - self.sway[:, 1, None, None]
        return _Window(self.planes[:, :, rows, columns], x, y)

    def finish(self, light: float, noise: Array | None) -> NDArray[np.uint8]:
        # Light from one side.
        self.planes *= 1 + np.float32(light) * self.axis
        if noise is not None:
            self.planes += noise
        pixels = np.clip(self.planes, 0, 255, out=self.planes).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(1, 2, 3, 0))


@dataclass(frozen=True)
class _Window:
    planes: Array
    x: Array
    y: Array

    def paint(self, mask: Array, colour: tuple[float, float, float], shade: float = 1.0) -> None:
        """Lays a colour over the pixels; mask (frames, rows, columns) in [0, 1] is its opacity."""
        for plane, value in zip(self.planes, colour, strict=True):
            plane += mask * (np.float32(value * shade) - plane)


def _head(canvas: _Canvas, person: Identity, a: dict[int, Array]) -> None:
    view = canvas.window(-1, 1, -1, 1)
    # The whole head is drawn at its mean size first, the jaw follows AU 26.
    hair = _ellipse(view.x, view.y + 0.12, person.width * 1.16, person.height * 1.08)
    view.paint(hair, person.hair)
    drop = np.where(view.y > 0, 1 + 0.14 * a[26], 1.0)
    view.paint(_ellipse(view.x, view.y - 0.04, person.width, person.height * drop), person.skin)
    fringe = _ellipse(view.x, view.y + 0.74, person.width * 0.95, 0.26)
    view.paint(fringe, person.hair)


def _eye(canvas: _Canvas, person: Identity, a: dict[int, Array], side: float) -> None:
    cx, cy = side * person.eye_distance, person.eye_height
    view = canvas.window(cx - 0.16, cx + 0.16, cy - 0.14, cy + 0.14)
    x, y = view.x - cx, view.y - cy
    arc = np.clip(1 - (x / 0.13) ** 2, 0, 1)
    upper = -0.085 * arc * (1 - 0.62 * a[7])
    lower = 0.07 * arc * (1 - 0.25 * a[7]) - 0.055 * a[6] * arc
    opened = _step(y - upper) * _step(lower - y) * _step(0.13 - np.abs(x))
    view.paint(opened, (244, 242, 238))
    view.paint(opened * _disc(x, y + 0.005, 0.058), person.iris)
    view.paint(opened * _disc(x, y + 0.005, 0.028), (12, 10, 10))
    lid = _line(y - upper, 0.014) * _step(0.14 - np.abs(x))
    view.paint(lid, person.skin, 0.35)
    # AU 6 folds the skin below the eye.
    view.paint(0.7 * a[6] * _line(y - 0.105, 0.016) * _step(0.12 - np.abs(x)), person.skin, 0.6)


def _brow(canvas: _Canvas, person: Identity, a: dict[int, Array], side: float) -> None:
    inner, outer = 0.1 - 0.035 * a[4], 0.44
    level = person.eye_height - 0.17
    x0, x1 = sorted((side * 0.04, side * 0.48))
    view = canvas.window(x0, x1, level - 0.2, level + 0.16)
    along = np.clip((side * view.x - inner) / (outer - inner), 0, 1)
    inner_y = -0.11 * a[1] + 0.1 * a[4]
    outer_y = -0.11 * a[2] + 0.04 * a[4] + 0.03
    curve = level + inner_y * (1 - along) + outer_y * along - 0.05 * np.sin(np.pi * along)
    inside = _step(side * view.x - inner) * _step(outer - side * view.x)
    view.paint(_line(view.y - curve, person.brow) * inside, person.hair, 0.8)
    # AU 4 draws a furrow between the brows.
    furrow = _line(side * view.x - 0.055, 0.014) * _line(view.y - level - 0.06, 0.09)
    view.paint(0.8 * a[4] * furrow, person.skin, 0.5)


def _cheek(canvas: _Canvas, person: Identity, a: dict[int, Array], side: float) -> None:
    cx, cy = side * 0.34, 0.12
    view = canvas.window(cx - 0.2, cx + 0.2, cy - 0.16, cy + 0.34)
    blush = tuple(min(255.0, c * s) for c, s in zip(person.skin, (1.12, 0.94, 0.92), strict=True))
    x, y = view.x - cx, view.y - cy + 0.06 * a[6]
    view.paint(0.75 * a[6] * _ellipse(x, y, 0.15, 0.1), (blush[0], blush[1], blush[2]))
    # AU 10 deepens the fold from the nose to the mouth.
    fold = _line(side * view.x - 0.16 - 0.35 * np.clip(view.y - 0.1, 0, 1), 0.02)
    view.paint(0.85 * a[10] * fold * _line(view.y - 0.2, 0.11), person.skin, 0.5)


def _nose(canvas: _Canvas, person: Identity) -> None:
    view = canvas.window(-0.14, 0.14, -0.1, 0.22)
    view.paint(0.5 * _ellipse(view.x, view.y - 0.14, 0.1, 0.05), person.skin, 0.72)
    view.paint(0.35 * _line(view.x - 0.05, 0.014) * _line(view.y, 0.1), person.skin, 0.6)


def _mouth(canvas: _Canvas, person: Identity, a: dict[int, Array]) -> None:
    level = 0.4
    view = canvas.window(-0.42, 0.42, level - 0.22, level + 0.36)
    half = person.mouth * (1 + 0.42 * a[12] - 0.3 * a[24] - 0.24 * a[23])
    t = np.clip(np.abs(view.x) / half, 0, 1)
    # Corners rise with AU 12 and fall with AU 15; the middle goes the other way.
    bend = (-0.14 * a[12] + 0.12 * a[15]) * (t**2 - 0.35)
    arc = np.sqrt(np.clip(1 - t**2, 0, 1))
    thin = (1 - 0.7 * a[23]) * (1 - 0.75 * a[24])
    gap_up = (0.022 * a[25] + 0.06 * a[10]) * arc
    gap_down = (0.04 * a[25] + 0.2 * a[26]) * arc
    y = view.y - level - bend
    inside = _step(half - np.abs(view.x))
    lips = _step(y + gap_up + 0.055 * thin * arc) * _step(gap_down + 0.065 * thin * arc - y)
    view.paint(lips * inside, person.lips)
    hole = _step(y + gap_up - 0.004) * _step(gap_down - 0.004 - y) * inside
    view.paint(hole * np.clip(12 * (gap_up + gap_down), 0, 1), (52, 18, 22))
    teeth = hole * _step(-gap_up + 0.05 - y) * np.clip(14 * gap_up, 0, 1)
    view.paint(teeth, (238, 234, 226))
    view.paint(
        _line(y, 0.01) * inside * (1 - np.clip(12 * (gap_up + gap_down), 0, 1)), (80, 30, 34)
    )


def _step(distance: Array) -> Array:
    """0 outside, 1 inside, soft over one edge; distance is positive inside."""
    inside: Array = np.clip(distance / _EDGE + 0.5, 0, 1)
    return inside


def _line(distance: Array, width: float) -> Array:
    return _step(width - np.abs(distance))


def _disc(x: Array, y: Array, radius: float) -> Array:
    return _step(radius - np.sqrt(x * x + y * y))


def _ellipse(x: Array, y: Array, width: float, height: float | Array) -> Array:
    # The distance of a stretched circle, near enough for a soft edge.
    return _step((1 - np.sqrt((x / width) ** 2 + (y / height) ** 2)) * min(width, 0.6))


def _range(axis: Array, low: float, high: float) -> slice:
    start, stop = np.searchsorted(axis, [low, high])
    return slice(int(start), int(stop))


def _colour(values: NDArray[np.floating]) -> tuple[float, float, float]:
    r, g, b = np.clip(values, 0, 255)
    return float(r), float(g), float(b)
