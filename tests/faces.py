"""Small s-Aff-Wild2 folders with faces whose labels can be seen, drawn in a moment."""

from pathlib import Path

import numpy as np
from PIL import Image

HEADER = "image,valence,arousal,expression,aus"
#: A row whose labels are all valid.
GOOD = "v/1.jpg,0.5,-0.5,4," + ",".join("0" * 12)
SIDE = 40


def write_faces(
    root: Path, train: int = 48, val: int = 24, *, seed: int = 0, authors: bool = False
) -> Path:
    """A folder of annotated pictures; some labels carry the invalid markers.

    Bright bars stand for action units, the colour for the expression, the brightness of the
    ground for valence and arousal.
    """
    rng = np.random.default_rng(seed)
    names = ("train_set.txt", "validation_set.txt")
    if not authors:
        names = ("training_set_annotations_22.txt", "validation_set_annotations_22.txt")
    for name, count in zip(names, (train, val), strict=True):
        rows = [_face(root, rng, f"{name[:5]}/{number:05d}.jpg", number) for number in range(count)]
        (root / name).write_text("\n".join([HEADER, *rows]) + "\n")
    return root


def write_tables(root: Path) -> Path:
    """The same faces, with expressions alone, as train.csv and val.csv."""
    write_faces(root)
    names = ("neutral", "anger", "disgust", "fear", "happy", "sad", "surprise", "other")
    for old, new in (("training", "train"), ("validation", "val")):
        file = root / f"{old}_set_annotations_22.txt"
        cells = [line.split(",") for line in file.read_text().splitlines()[1:]]
        rows = [f"{c[0]},{names[int(c[3])] if c[3] != '-1' else ''}" for c in cells]
        (root / f"{new}.csv").write_text("\n".join(["image,expression", *rows]) + "\n")
        file.unlink()
    return root


def _face(root: Path, rng: np.random.Generator, image: str, number: int) -> str:
    units = rng.integers(0, 2, 12)
    expression = number % 8
    ratings = rng.uniform(-1, 1, 2)
    picture = np.full((SIDE, SIDE, 3), 40, dtype=np.uint8)
    picture[:, :20] += np.uint8(40 * (1 + ratings[0]))
    picture[:, 20:] += np.uint8(40 * (1 + ratings[1]))
    for place, present in enumerate(units):
        picture[20 + place, 4:36] = 255 * present
    picture[2:18, 4:36] = [255 * (expression >> bit & 1) for bit in range(3)]
    file = root / "cropped_aligned" / image
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(file, quality=95)
    valence, arousal = (-5.0, -5.0) if number % 11 == 3 else ratings
    label = -1 if number % 13 == 5 else expression
    shown = [-1] * 12 if number % 17 == 7 else units
    return ",".join([image, f"{valence:.4f}", f"{arousal:.4f}", str(label), *map(str, shown)])
