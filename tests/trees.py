"""Small trees of every layout, with files of the real form."""

import wave
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from harness.clips.table import EMOTIONS
from harness.clips.video import write_video
from tests.photographs import film

SPLITS = ("train",) * 10 + ("val",) * 6 + ("test",) * 4
STEPS = 12


def release_tree(root: Path) -> Path:
    """`data_info.csv` and `{train,val,test}/mp4`, of a person; the last clip shows nobody."""
    table = hume_table()
    table.loc[table["Split"] == "Test", list(EMOTIONS)] = ""
    table["Age"], table["Country"] = 22.5, "South Africa"
    table.to_csv(root / "data_info.csv", index=False)
    for number, split in enumerate(SPLITS):
        (root / split / "mp4").mkdir(parents=True, exist_ok=True)
        shown = film(11, seen=number < len(SPLITS) - 1, height=120, tilt=3 * number - 30)
        write_video(root / split / "mp4" / f"{number:05d}.mp4", shown)
    return root


def add_sounds(root: Path) -> Path:
    """`{train,val,test}/wav` beside the films of a release: half a second of noise each."""
    rng = np.random.default_rng(0)
    for film_file in sorted(root.glob("*/mp4/*.mp4")):
        folder = film_file.parent.parent / "wav"
        folder.mkdir(exist_ok=True)
        with wave.open(str(folder / f"{film_file.stem}.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(rng.integers(-9_000, 9_000, 8_000).astype("<i2").tobytes())
    return root


def authors_tree(root: Path, what: str) -> Path:
    """`Data/data_info.csv` and `Crop_data` (what = "crops") or `MTL_features` ("features")."""
    rng = np.random.default_rng(0)
    (root / "Data").mkdir(exist_ok=True)
    hume_table().to_csv(root / "Data" / "data_info.csv", index=False)
    for number, split in enumerate(SPLITS):
        if what == "crops":
            folder = root / "Crop_data" / split / f"{number:05d}"
            folder.mkdir(parents=True)
            for frame in range(3):
                picture(rng).save(folder / f"{frame}.jpg")
        else:
            fold = f"5_fold_train/fold{number % 5 + 1}" if split == "train" else split
            file = root / "MTL_features" / fold / f"{number:05d}.npy"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, rng.random((STEPS, 22), dtype=np.float32))
    return root


def muse_tree(root: Path) -> Path:
    """`c2_muse_reaction/` with two feature sets; test is unlabelled."""
    rng = np.random.default_rng(0)
    home = root / "c2_muse_reaction"
    parts = ("train",) * 6 + ("devel",) * 3 + ("test",) * 2
    ids = [f"[{n:05d}]" for n in range(len(parts))]
    home.mkdir()
    pd.DataFrame({"Id": ids, "Proposal": list(parts)}).to_csv(home / "partition.csv", index=False)
    labels = pd.DataFrame({"File_ID": ids[:9]})
    for column, name in enumerate(EMOTIONS):
        labels[name] = ratings(rng, 9)[:, column]
    labels.to_csv(home / "labels.csv", index=False)
    for name, width in (("FAUs", 5), ("VGGFace2", 8)):
        (home / "feats" / name).mkdir(parents=True)
        for number in range(len(parts)):
            steps = int(rng.integers(1, 9))
            table = pd.DataFrame({"timestamp": np.arange(steps) * 500, "subject_id": number})
            for column in range(width):
                table[f"f{column}"] = rng.random(steps)
            table.to_csv(home / "feats" / name / f"{number:05d}.csv", index=False)
    return root


def plain_tree(root: Path, folder: str, targets: tuple[str, ...] = ("joy", "awe")) -> Path:
    """`clips.csv` with targets and groups, beside `clips/`, `frames/` or `features/`."""
    rng = np.random.default_rng(0)
    (root / folder).mkdir(exist_ok=True)
    table = pd.DataFrame({"clip_id": [f"c{n}" for n in range(len(SPLITS))]})
    table["split"] = SPLITS
    table["group"] = [f"person{n // 2}" for n in range(len(SPLITS))]
    for name in targets:
        table[name] = rng.random(len(SPLITS))
    table.to_csv(root / "clips.csv", index=False)
    for clip_id in table["clip_id"]:
        if folder == "clips":
            frames = (np.asarray(picture(rng)) for _ in range(12))
            write_video(root / folder / f"{clip_id}.mp4", frames)
        elif folder == "frames":
            (root / folder / clip_id).mkdir()
            for frame in (2, 10, 1):
                picture(rng).save(root / folder / clip_id / f"{frame}.png")
        else:
            np.save(root / folder / f"{clip_id}.npy", rng.random((4, 6)))
    return root


def hume_table() -> pd.DataFrame:
    """`data_info.csv` of Hume-Reaction, small."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"File_ID": [f"[{n:05d}]" for n in range(len(SPLITS))]})
    table["Split"] = [split.capitalize() for split in SPLITS]
    rated = pd.DataFrame(ratings(rng, len(SPLITS)), columns=list(EMOTIONS), dtype=object)
    return pd.concat([table, rated], axis=1)


def picture(rng: np.random.Generator) -> Image.Image:
    """A coloured square of 32 pixels a side."""
    return Image.fromarray(np.full((32, 32, 3), rng.integers(0, 256, 3), np.uint8))


def ratings(rng: np.random.Generator, clips: int) -> np.ndarray:
    """(clips, 7) whose rows' largest is 1."""
    raw = rng.random((clips, len(EMOTIONS)))
    return raw / raw.max(axis=1, keepdims=True)
