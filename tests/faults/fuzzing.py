"""`python -m tests.faults.fuzzing READER [SECONDS]`: bytes that find their way, guided by coverage.

The suite's own fuzzing changes whole files at random; here atheris (the extra `fuzz`) watches
which lines of the harness a file reaches, and keeps what reaches new ones. What a reader does
other than read or refuse clearly ends the run, with the bytes in the file `crash-...`.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["harness", "tomllib"]):
    from harness.clips.csv_file import read_csv
    from harness.clips.labels import labels_of
    from harness.encoders.mtl_dan.checkpoints import read_state
    from harness.errors import InputError
    from harness.models.model_file import read_model
    from harness.pictures import read_picture
    from harness.predictions import read_clips, read_predictions
    from harness.pretraining.annotations import read_annotations
    from harness.sealed import MANIFEST, read_sealed
    from harness.space.file import read_space
    from harness.spaces import SPACES
    from harness.streams.feature_file import read_feature_file as read_features

import numpy as np
import torch
from PIL import Image

from tests.faults import models
from tests.studies import make_index
from tests.trees import hume_table


def _labels(file: Path) -> None:
    names = ("Adoration", "Amusement")
    table = read_csv(file)
    labels_of(file, table, id_column="File_ID", split_column="Split", target_names=names,
              raw_ratings=True)  # fmt: skip


def _picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "PNG")
    return content.getvalue()


def _state() -> bytes:
    content = io.BytesIO()
    torch.save({"model_state_dict": {"x": torch.zeros(2)}}, content)
    return content.getvalue()


def _array() -> bytes:
    content = io.BytesIO()
    np.save(content, np.ones((3, 2), np.float32))
    return content.getvalue()


def _face() -> bytes:
    header = "image,valence,arousal,expression,aus\n"
    return (header + "1/1.jpg,0.5,-5,3," + ",".join("0" * 12)).encode()


def _of(kind: str, pattern: str) -> bytes:
    home = {"library": models.library, "searched": models.searched}[kind]()
    return sorted(home.glob(pattern))[0].read_bytes()


#: Name -> (name of the file, what reads it, a file to begin with).
READERS: dict[str, tuple[str, Callable[[Path], object], Callable[[], bytes]]] = {
    "labels": ("l.csv", _labels, lambda: hume_table()[:3].to_csv(index=False).encode()),
    "space": ("s.toml", read_space, lambda: (SPACES / "paper.toml").read_bytes()),
    "annotations": ("a.txt", lambda file: read_annotations(file, file.parent), _face),
    "clips": ("c.parquet", read_clips, lambda: _of("library", "s/clips.parquet")),
    "predictions": (
        "p.parquet",
        lambda file: read_predictions(file, make_index(), "val"),
        lambda: _of("library", "s/predictions/*.parquet"),
    ),
    "study": ("s.json", lambda f: read_sealed(f, MANIFEST), lambda: _of("library", "s/study.json")),
    "weights": ("w.pth", read_state, _state),
    "head": ("h.safetensors", read_model, lambda: _of("searched", "s/heads/*")),
    "features": ("f.npy", read_features, _array),
    "features-csv": ("f.csv", read_features, lambda: b"timestamp,a,b\n0,1,2\n1,3,4\n"),
    "picture": ("p.png", read_picture, _picture),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader", choices=sorted(READERS))
    parser.add_argument("seconds", nargs="?", type=int, default=60)
    options = parser.parse_args()
    name, read, beginning = READERS[options.reader]
    with tempfile.TemporaryDirectory(prefix="fuzzing-") as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        (corpus / "whole").write_bytes(beginning())
        file = Path(folder) / name

        def once(content: bytes) -> None:
            file.write_bytes(content)
            try:
                read(file)
            except InputError:
                return

        limits = [f"-max_total_time={options.seconds}", "-timeout=30", "-rss_limit_mb=4096"]
        atheris.Setup([sys.argv[0], *limits, str(corpus)], once)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
