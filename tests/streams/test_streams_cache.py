"""The cache of streams: listed, pruned, read-only."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from harness.dataset import Specification
from harness.errors import InputError
from harness.sampling import EVERY
from harness.streams.cache import chosen, entries, remove
from harness.streams.store import ClipFrames, FeatureStore
from tests.commands import command

DAY = 24 * 3600


def store(cache: Path, name: str, days: float = 0) -> FeatureStore:
    """A stored stream of about 100 kB that was last used some days ago."""
    made = FeatureStore(cache / "features", Specification(name, {}, (), 8))
    values = np.random.default_rng(0).random((3000, 8), np.float32)
    made.append([ClipFrames("c", "f", EVERY, np.arange(3000, dtype=np.int32), values)])
    used = time.time() - days * DAY
    os.utime(made.folder / "specification.json", (used, used))
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Streams that were used today, 10 and 100 days ago, and one of another version."""
    for name, days in (("old", 100), ("new", 0), ("middle", 10)):
        store(tmp_path, name, days)
    folder = store(tmp_path, "foreign").folder
    folder.rename(folder.with_name(folder.name.rpartition("-")[0] + "-1"))
    (tmp_path / "features" / "other").mkdir()
    return tmp_path


def test_streams_are_listed_by_their_last_use(cache: Path) -> None:
    known = entries(cache)
    assert [entry.name for entry in known] == ["foreign", "new", "middle", "old"]
    assert all(
        entry.size == sum(f.stat().st_size for f in entry.folder.iterdir()) for entry in known
    )
    assert "of another version" in str(known[0])
    FeatureStore(cache / "features", Specification("old", {}, (), 8))
    assert {entry.name for entry in entries(cache)[:2]} == {"foreign", "old"}, "opening is use"


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("middle", {"middle"}),
        ("30d", {"old", "foreign"}),
        ("5d", {"old", "middle", "foreign"}),
        ("290kB", {"old", "foreign"}),
        ("10GB", {"foreign"}),
        ("0GB", {"old", "middle", "new", "foreign"}),
    ],
)
def test_what_is_pruned(cache: Path, what: str, names: set[str]) -> None:
    assert {entry.name for entry in chosen(entries(cache), what)} == names


def test_a_key_chooses_one_of_several_of_a_name(cache: Path) -> None:
    known = entries(cache)
    (entry,) = chosen(known, known[1].key)
    remove(entry)
    assert [each.name for each in entries(cache)] == ["foreign", "middle", "old"]
    with pytest.raises(InputError, match="new: no stored stream of this name or key; there are fo"):
        chosen(entries(cache), "new")


def test_a_read_only_cache_gives_what_it_has(tmp_path: Path) -> None:
    made = store(tmp_path, "there")
    root = tmp_path / "features"
    for folder in (made.folder, root):
        folder.chmod(0o555)
    try:
        if os.access(root, os.W_OK):
            pytest.skip("this user may write everywhere")
        assert FeatureStore(root, made.specification).load([("c", "f")], EVERY).counts == [3000]
        with pytest.raises(InputError, match="is read-only and has no features of this stream"):
            FeatureStore(root, Specification("absent", {}, (), 8))
    finally:
        for folder in (root, made.folder):
            folder.chmod(0o755)


@pytest.mark.slow
def test_the_command_lists_and_prunes(cache: Path) -> None:
    done = command("extract", "--cache", cache, "--prune-cache", "30d", "--list-cache")
    assert done.returncode == 0, done.stderr
    removed, last = done.stdout.splitlines()[0], done.stdout.splitlines()[-1]
    assert removed.startswith("Removed: ")
    assert last.startswith(f"{cache}: 2 stored streams, ")
