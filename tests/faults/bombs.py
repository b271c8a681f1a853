"""What comes in is small and would grow, or would be waited for: bombs, pipes, endless numbers."""

import io
import json
import os
import pickle
import random
import struct
import threading
import time
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from safetensors.torch import save_file

from harness.clips.csv_file import read_csv
from harness.clips.table import ClipTable
from harness.clips.video import sampled_frames
from harness.encoders.encoder import EncoderOptions
from harness.encoders.mtl_dan.checkpoints import load_mtl_dan
from harness.encoders.registry import Wanted
from harness.errors import InputError
from harness.parquet import writing
from harness.pictures import read_picture
from harness.predictions import MOST_CLIPS, _metadata, read_clips
from harness.space.file import read_space
from harness.streams.precomputed import read_foreign
from harness.streams.sources import real_sources
from tests import graphs
from tests.faults import models
from tests.faults.fault import fault, turn
from tests.networks import make_network

# Of a processor, which a busy machine does not lengthen; what is meant is for ever.
SECONDS = 60
# More than any of these files may take: a gigabyte is what they would.
MIB = 400


def refused(read: Callable[[], object]) -> str:
    """The message of a clear refusal that took neither time nor memory."""
    before, begun = _resident_mib(), time.process_time()
    with _Peak() as peak:
        try:
            read()
            raise AssertionError("it was read")
        except InputError as error:
            said = str(error)
    assert peak.mib - before < MIB, f"took {peak.mib - before:.0f} MiB: {said}"
    assert time.process_time() - begun < SECONDS, said
    return said


class _Peak:
    """The most memory of this process while a block runs."""

    def __enter__(self) -> "_Peak":
        self.mib, self._stop = _resident_mib(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.mib = max(self.mib, _resident_mib())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _postscript(file: Path) -> None:
    head = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    file.write_bytes(head + b"(mark) (w) file closefile\n")


@cache
def _picture(kind: str) -> bytes:
    content = io.BytesIO()
    # Above what a film may have, below what PIL refuses by itself.
    Image.new("L", (13_000, 13_000)).save(content, kind)
    return content.getvalue()


PICTURES: dict[str, Callable[[Path], None]] = {
    "huge.png": lambda file: _write(file, _picture("PNG")),
    "huge.jpg": lambda file: _write(file, _picture("JPEG")),
    "script.png": _postscript,
    "script.jpg": _postscript,
    "pipe.png": os.mkfifo,
    "folder.jpg": Path.mkdir,
}


def _write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


@fault(
    "hostile", "an image that is a decompression bomb, a script, a pipe or a folder", len(PICTURES)
)
def _(folder: Path, rng: random.Random) -> None:
    name = turn(PICTURES, "pictures")
    PICTURES[name](folder / name)
    refused(lambda: read_picture(folder / name))
    assert not (folder / "mark").exists()
    assert not Path("mark").exists()


@fault("hostile", "a video with more pixels than fit in memory", 1)
def _(folder: Path, rng: random.Random) -> None:
    import av

    file = folder / "film.mkv"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width = stream.height = 8448
        stream.pix_fmt = "yuvj420p"
        frame = av.VideoFrame(8448, 8448, "yuvj420p")
        for plane in frame.planes:  # what PyAV leaves as memory had it
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert file.stat().st_size < 1 << 22
    refused(lambda: list(sampled_frames(file, (1,))))


def _array(values: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, np.array(values))
    return content.getvalue()


def _archive() -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, a=np.zeros((1000, 1000)))
    return content.getvalue()


def _promising() -> bytes:
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 22), }"
    return b"\x93NUMPY\x01\x00v\x00" + head.ljust(117) + b"\n" + bytes(100)


ARRAYS: dict[str, bytes | Callable[[Path], None]] = {
    "archive.npy": _archive(),
    "complex.npy": _array([[1 + 1j]]),
    "text.npy": _array([["2026-01-01"]]),
    "days.npy": _array(np.array([["2026-01-01"]], dtype="M8[D]")),
    "header.npy": b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
    "promise.npy": _promising(),
    "pipe.npy": os.mkfifo,
    "wide.csv": b"a" + b",a" * 300_000 + b"\n1" + b",1" * 300_000,
    "shifted.csv": b"a,b\n" + b"1,2,3,4\n" * 3,
    "quote.csv": b'"' * 1_000_000,
    "pipe.csv": os.mkfifo,
}


@fault("hostile", "feature files that are bombs, pipes or not numeric", len(ARRAYS))
def _(folder: Path, rng: random.Random) -> None:
    name = turn(ARRAYS, "arrays")
    file, content = folder / name, ARRAYS[name]
    file.write_bytes(content) if isinstance(content, bytes) else content(file)
    clips = ClipTable(
        ("c1",), ("train",), np.ones((1, 1), np.float32), ("joy",), (file,), "features"
    )
    refused(lambda: read_foreign(clips))


TABLES = {
    "wide": b"clip_id" + b",a" * 300_000 + b"\nc1" + b",1" * 300_000,
    "wide below": b"clip_id\nc1" + b",1" * 300_000,
    "shifted": b"clip_id,split,joy\n" + b"c1,train,0.5,0.5\n" * 3,
    "one cell": b'clip_id,split,joy\n"' + b"x" * 2_000_000,
    "no end": b"\0" * 1_000_000,
}


@fault("hostile", "a table of clips with too many or too large cells", len(TABLES))
def _(folder: Path, rng: random.Random) -> None:
    (folder / "clips.csv").write_bytes(TABLES[turn(TABLES, "tables")])
    refused(lambda: read_csv(folder / "clips.csv"))


_BUDGET = "[budget]\ntrials = 3\nepochs = 2\n"
_LR = "[parameters.lr]\ntype = 'float'\nlow = 0.1\n"
_STRIDE = "[parameters.stride]\ntype = 'int'\nlow = 1\n"
SPACES = {
    "deep": "x = " + "[" * 20_000,
    "digits": _BUDGET + _STRIDE + "high = " + "9" * 5000,
    "many strides": _BUDGET + _STRIDE + "high = 1_000_000_000_000",
    "no step": _BUDGET + _LR + "high = 1.0\nstep = -1.0",
    "step of logarithms": _BUDGET + _LR + "high = 1.0\nlog = true\nstep = 0.1",
    "infinite": _BUDGET + _LR + "high = inf",
    "no number": _BUDGET + _LR + "high = nan",
    "no choices": _BUDGET + "[parameters.lr]\ntype = 'categorical'\nchoices = [nan, nan]",
    "twice": _BUDGET + "[parameters.loss]\ntype = 'categorical'\nchoices = ['ccc', 'ccc']",
    "layers": _BUDGET + _LR + "high = 1.0\n[fixed]\nlayers = 10_000_000_000",
    "hidden": _BUDGET + _LR + "high = 1.0\n[fixed]\nhidden = 10_000_000_000",
}


@fault("hostile", "a search space that takes unlimited time or memory", len(SPACES))
def _(folder: Path, rng: random.Random) -> None:
    (folder / "space.toml").write_text(SPACES[turn(SPACES, "spaces")])
    refused(lambda: read_space(folder / "space.toml"))


class _Zeros:
    """Asks for 64 GiB when it is unpickled, in 60 bytes; PyTorch's safe reader allows that."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return bytearray, (1 << 36,)


def _overlapping(file: Path) -> None:
    """A zip of a thousand names for the same megabyte."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data/0", bytes(1 << 20))
        entry = archive.infolist()[0]
        for number in range(1, 1000):
            twin = zipfile.ZipInfo(f"a/data/{number}")
            twin.header_offset, twin.CRC = entry.header_offset, entry.CRC
            twin.file_size = twin.compress_size = entry.file_size
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin


def _in_capitals(file: Path) -> None:
    """torch finds its pickle under a name in any case."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/DATA.PKL", pickle.dumps(_Zeros(), 2))
        archive.writestr("a/version", "3\n")


def _with_a_zip_at_its_end(file: Path) -> None:
    """torch looks at the first bytes of a file, zip's own readers at the last."""
    _write(file, pickle.dumps(_Zeros(), 2))
    with zipfile.ZipFile(file, "a"):
        pass


def _odd(file: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    state = make_network(1).state_dict()
    name = next(name for name, value in state.items() if value.ndim == 2)
    torch.save(state | {name: change(state[name])}, file)


WEIGHTS: dict[str, Callable[[Path], None]] = {
    "a billion heads.safetensors": lambda file: save_file(
        {"DAN.cat_head999999999.x": torch.zeros(1)}, file
    ),
    "memory for nothing.pth": lambda file: torch.save({"x": _Zeros()}, file),
    "memory for nothing, old.pth": lambda file: torch.save(
        {"x": _Zeros()}, file, _use_new_zipfile_serialization=False
    ),
    "bare pickle.pth": lambda file: _write(file, pickle.dumps({"x": _Zeros()}, 2)),
    "overlapping.pth": _overlapping,
    "in capitals.pth": _in_capitals,
    "a zip at its end.pth": _with_a_zip_at_its_end,
    "sparse.pth": lambda file: _odd(file, torch.Tensor.to_sparse),
    "without numbers.pth": lambda file: _odd(file, lambda t: torch.empty_like(t, device="meta")),
    "whole numbers.pth": lambda file: _odd(file, lambda t: t.to(torch.int8)),
    "complex.pth": lambda file: _odd(file, lambda t: t.to(torch.complex64)),
    "nest.pth": lambda file: _write(file, b"\x80\x02" + b"(" * 50_000 + b"l" * 50_000 + b"."),
    "half a number.pth": lambda file: _write(file, b"\x80\x02\x8b" + struct.pack("<i", 1 << 30)),
}


@fault("hostile", "weights that claim more memory than they contain", len(WEIGHTS))
def _(folder: Path, rng: random.Random) -> None:
    name = turn(WEIGHTS, "weights")
    WEIGHTS[name](folder / name)
    refused(lambda: load_mtl_dan(folder / name))


SIZES = ("1000000000", "0", "-1", "x", "", "9" * 5000, "32\n", "\u0663\u0662")


@fault("hostile", "weights with an invalid input size", len(SIZES))
def _(folder: Path, rng: random.Random) -> None:
    size = turn(SIZES, "sizes")
    file = folder / "net.safetensors"
    save_file(make_network(1).state_dict(), file, {"input_size": size})
    assert "input_size" in refused(lambda: real_sources(models.clips(), file, crop="none"))


def _parquet(file: Path, columns: dict[str, Any]) -> None:
    notes = {"targets": ["joy"], "synthetic": False}
    table = pa.table(columns).replace_schema_metadata(_metadata(notes))
    with writing(file, table.schema) as writer:
        writer.write_table(table)


def _many_rows(file: Path) -> None:
    number = MOST_CLIPS + 1
    ids = pa.DictionaryArray.from_arrays(pa.array(np.zeros(number, np.int32)), pa.array(["c"]))
    _parquet(file, {"clip_id": ids, "split": ids, "joy": pa.array(np.zeros(number, np.float32))})


def _long_cells(file: Path) -> None:
    cells, splits = pa.array(["x" * (1 << 26)] * 3), pa.array(["val"] * 3)
    joy = pa.array(np.zeros(3, np.float32))
    _parquet(file, {"clip_id": cells, "split": splits, "joy": joy})


PARQUET = {"many rows": _many_rows, "long cells": _long_cells}


@fault("hostile", "a Parquet bomb with a valid checksum", len(PARQUET))
def _(folder: Path, rng: random.Random) -> None:
    file = folder / "clips.parquet"
    PARQUET[turn(PARQUET, "parquet")](file)
    assert file.stat().st_size < 1 << 20
    refused(lambda: read_clips(file))


@fault("hostile", "a JSON bomb in place of study.json", 3)
def _(folder: Path, rng: random.Random) -> None:
    from harness.sealed import MANIFEST, read_sealed

    file = folder / "study.json"
    text = {"deep": "[" * 100_000, "digits": "9" * 100_000, "pairs": json.dumps({"schema": "x"})}
    file.write_text(text[turn(text, "json")])
    refused(lambda: read_sealed(file, MANIFEST))


@fault("hostile", "damaged or demanding ONNX encoders", len(graphs.FAULTS))
def _(folder: Path, rng: random.Random) -> None:
    name = turn(graphs.FAULTS, "onnx")
    make, message = graphs.FAULTS[name]
    output = (graphs.READ[name],) if name in graphs.READ else ()
    file = make(folder / "net.onnx")
    said = refused(
        lambda: Wanted(encoder=(str(file),), encoder_output=output).load(EncoderOptions())
    )
    assert message in said, said
    assert "\n" not in said, said
