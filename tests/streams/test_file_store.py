"""The store of feature files: a second read gives the same, and notices each change."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.clips.table import ClipTable
from harness.dataset import Stream
from harness.streams import contents, file_store
from harness.streams.cache import entries, remove
from harness.streams.file_store import FileStore
from harness.streams.precomputed import FeatureColumns, read_foreign

KINDS = (".npy", ".csv", ".parquet")


@pytest.fixture(autouse=True)
def _old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a test count as older than the seconds in which a change may not show."""
    monkeypatch.setattr(contents, "_YOUNG", 0.0)


def write(path: Path, seed: int) -> None:
    """Features of a clip of several steps, in csv and Parquet with two faces and times."""
    values = np.random.default_rng(seed).random((2 + seed % 3, 4), np.float32)
    if path.suffix == ".npy":
        np.save(path, values)
        return
    table = pd.DataFrame(values, columns=["AU01", "AU02", "AU06", "AU12"])
    table.insert(0, "timestamp", np.arange(len(table)) / 4)
    table.insert(0, "success", [0, *[1] * (len(table) - 1)])
    if seed == 1:
        table = pd.concat([table.assign(face_id=0), table.assign(face_id=1)]).sort_values(
            "timestamp", kind="stable"
        )
    else:
        table = table.assign(face_id=0)
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)


def table_of(folder: Path) -> ClipTable:
    paths = sorted(folder.iterdir())
    ids, count = tuple(path.stem for path in paths), len(paths)
    targets = np.zeros((count, 1), np.float32)
    return ClipTable(ids, ("train",) * count, targets, ("joy",), tuple(paths), "features")


@pytest.fixture(params=KINDS)
def clips(request: pytest.FixtureRequest, tmp_path: Path) -> ClipTable:
    (tmp_path / "FAUs").mkdir()
    for number in range(5):
        write(tmp_path / "FAUs" / f"{number}{request.param}", number)
    return table_of(tmp_path / "FAUs")


def read(
    clips: ClipTable, cache: Path
) -> tuple[FileStore, tuple[Stream, dict[str, str], FeatureColumns]]:
    store = FileStore(cache / "features")
    return store, read_foreign(clips, store=store)


def counts(store: FileStore) -> tuple[int, int, int, int]:
    return store.parsed, store.compared, store.kept, store.gone


def same(one: Stream, other: Stream) -> bool:
    assert one.specification == other.specification
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("values", "positions", "offsets", "times")
    )


def test_a_second_read_opens_no_file_and_gives_the_same(clips: ClipTable, tmp_path: Path) -> None:
    plain, *told = read_foreign(clips)
    for expected in ((5, 0, 0, 0), (0, 0, 5, 0)):
        store, (stream, *again) = read(clips, tmp_path)
        assert counts(store) == expected
        assert same(stream, plain)
        assert again == told
    assert store.problem == ""


def other_contents(file: Path) -> None:
    """The same size, and the old modification time."""
    before, content = file.stat(), bytearray(file.read_bytes())
    place = content.rindex(b"\n") - 1 if file.suffix == ".csv" else len(content) - 5
    content[place] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def copied(file: Path) -> None:
    """The same contents, as a copy or a restored backup has them."""
    shutil.copy2(file, file.with_suffix(".copy"))
    file.with_suffix(".copy").replace(file)


CHANGES: dict[str, tuple[Callable[[Path], None], tuple[int, int, int, int]]] = {
    "other contents": (other_contents, (1, 0, 4, 0)),
    "touched": (lambda file: os.utime(file, (1, 1)), (0, 1, 4, 0)),
    "a copy": (copied, (0, 1, 4, 0)),
    "removed": (Path.unlink, (0, 0, 4, 1)),
    "added": (lambda file: write(file.with_stem("9"), 9), (1, 0, 5, 0)),
    "unreadable": (lambda file: file.write_text("x"), (0, 0, 4, 0)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("clips", [".npy", ".csv"], indirect=True)
def test_each_change_of_a_file_is_noticed(clips: ClipTable, change: str, tmp_path: Path) -> None:
    read(clips, tmp_path)
    change_file, expected = CHANGES[change]
    file = clips.paths[2]
    assert file
    change_file(file)
    # A removed file stays in the table, as the labels name its clip.
    changed = table_of(file.parent) if change == "added" else clips
    store, (stream, problems, _) = read(changed, tmp_path)
    assert counts(store) == expected
    plain, reasons, _ = read_foreign(changed)
    assert same(stream, plain)
    assert problems == reasons
    if change not in ("removed", "unreadable"):
        again, _ = read(changed, tmp_path)
        assert counts(again) == (0, 0, len(changed), 0), "the new state is stored"


@pytest.mark.parametrize("clips", [".csv"], indirect=True)
def test_young_files_are_compared_by_their_contents(
    clips: ClipTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_YOUNG", 60.0)
    read(clips, tmp_path)
    store, _ = read(clips, tmp_path)
    assert counts(store) == (0, 5, 0, 0)


@pytest.mark.parametrize("clips", [".csv"], indirect=True)
def test_another_version_of_the_reader_reads_again(
    clips: ClipTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(clips, tmp_path)
    monkeypatch.setattr(file_store, "_reader", lambda: b"another")
    assert counts(read(clips, tmp_path)[0]) == (5, 0, 0, 0)


@pytest.mark.parametrize("clips", [".csv"], indirect=True)
def test_other_columns_are_stored_apart(clips: ClipTable, tmp_path: Path) -> None:
    read(clips, tmp_path)
    store = FileStore(tmp_path / "features")
    stream, *_ = read_foreign(clips, ("success", "AU01"), store)
    assert store.parsed == 5, "success is no feature unless it is wanted"
    assert stream.width == 2


@pytest.mark.parametrize("clips", [".npy"], indirect=True)
def test_a_part_of_the_clips_keeps_what_is_stored_of_the_others(
    clips: ClipTable, tmp_path: Path
) -> None:
    read(clips, tmp_path)
    part = replace(
        clips, clip_ids=("0",), splits=("train",), targets=clips.targets[:1], paths=clips.paths[:1]
    )
    assert part.paths[0]
    write(part.paths[0], 7)
    assert counts(read(part, tmp_path)[0]) == (1, 0, 0, 0)
    assert counts(read(clips, tmp_path)[0]) == (0, 0, 5, 0)


@pytest.mark.parametrize("clips", [".npy"], indirect=True)
def test_a_damaged_store_is_reported_and_made_again(clips: ClipTable, tmp_path: Path) -> None:
    read(clips, tmp_path)
    (file,) = (tmp_path / "features").glob("*/files.parquet")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    store, (stream, *_) = read(clips, tmp_path)
    assert "files.parquet: damaged (its checksum does not fit)" in store.problem
    assert same(stream, read_foreign(clips)[0])
    assert counts(read(clips, tmp_path)[0]) == (0, 0, 5, 0)


@pytest.mark.parametrize("clips", [".npy"], indirect=True)
def test_a_cache_that_cannot_be_written_is_reported(clips: ClipTable, tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file")
    store, (stream, *_) = read(clips, tmp_path)
    assert "Not a directory; the feature files are not stored" in store.problem
    assert len(stream.counts) == 5


@pytest.mark.parametrize("clips", [".npy"], indirect=True)
def test_names_that_are_no_text_are_stored(clips: ClipTable, tmp_path: Path) -> None:
    assert clips.paths[0]
    clips.paths[0].rename(clips.paths[0].with_name(os.fsdecode(b"\xff.npy")))
    odd = table_of(tmp_path / "FAUs")
    read(odd, tmp_path)
    assert counts(read(odd, tmp_path)[0]) == (0, 0, 5, 0)


@pytest.mark.parametrize("clips", [".npy"], indirect=True)
def test_large_arrays_are_not_copied(clips: ClipTable, tmp_path: Path) -> None:
    assert clips.paths[0]
    np.save(clips.paths[0], np.ones((1 << 16, 4), np.float32))
    for kept in (0, 4):
        store, _ = read(clips, tmp_path)
        assert (store.kept, store.parsed) == (kept, 5 - kept)


@pytest.mark.parametrize("clips", [".npy"], indirect=True)
def test_the_store_is_listed_and_removed_like_a_stream(clips: ClipTable, tmp_path: Path) -> None:
    read(clips, tmp_path)
    (entry,) = entries(tmp_path)
    assert "FAUs, 4 columns" in str(entry)
    remove(entry)
    assert counts(read(clips, tmp_path)[0])[0] == 5
