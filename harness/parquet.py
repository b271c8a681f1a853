"""Parquet files that show every damage: each holds the sha256 of itself.

Parquet's own checksums guard the values, but neither headers nor footer nor what no reader asks
for. Here the footer has a place for the checksum of the whole file, in which that place is zeros;
a file of which any bit was changed is refused before it is parsed.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.atomic import replacing

_KEY = b"harness.sha256"
_BLANK = b"0" * 64
# Between key and value are the value's type and its length.
_GAP = 2


@contextmanager
def writing(path: Path, schema: pa.Schema, **options: Any) -> Iterator[pq.ParquetWriter]:
    """A writer, zstd and with page checksums, whose file appears atomically and sealed.

    Args:
        options: of pyarrow's ParquetWriter.
    """
    with replacing(path) as temporary:
        # pyarrow would take the path of a file that is not there for an address: `s3:x` names one.
        with (
            temporary.open("wb") as sink,
            pq.ParquetWriter(
                sink, schema, compression="zstd", write_page_checksum=True, **options
            ) as writer,
        ):
            yield writer
            writer.add_key_value_metadata({_KEY.decode(): _BLANK.decode()})
        _seal(temporary)


def sealed_content(path: Path) -> pa.Buffer:
    """The bytes of a file that `writing` wrote.

    Raises:
        ValueError: any bit of it was changed, or something else wrote it. OSError: unreadable.
    """
    content = path.read_bytes()
    place = _place(content)
    digest = hashlib.sha256(memoryview(content)[:place])
    digest.update(_BLANK)
    digest.update(memoryview(content)[place + len(_BLANK) :])
    if digest.hexdigest().encode() != content[place : place + len(_BLANK)]:
        raise ValueError("its checksum does not fit")
    # A copy in Arrow's own memory: Arrow's threads may drop their last reference to it while the
    # interpreter ends, when they cannot free bytes of Python any more and abort the process.
    found = pa.allocate_buffer(len(content))
    memoryview(found).cast("B")[:] = content
    return found


def _seal(path: Path) -> None:
    content = path.read_bytes()
    place = _place(content)
    if content[place : place + len(_BLANK)] != _BLANK:
        raise RuntimeError(f"{path}: pyarrow writes footers in a way that was not foreseen")
    with path.open("r+b") as file:
        file.seek(place)
        file.write(hashlib.sha256(content).hexdigest().encode())


def _place(content: bytes) -> int:
    """Offset of the checksum."""
    found = content.rfind(_KEY)
    if found < 0:
        raise ValueError("it holds no checksum of itself, so no harness wrote it")
    return found + len(_KEY) + _GAP
