"""From video files to stored features: each frame once, nothing lost, nothing stale."""

import dataclasses
import errno
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from harness.clips.demo import Demo
from harness.clips.layouts import read_clips
from harness.clips.table import ClipTable
from harness.clips.video import sampled_frames
from harness.cluster import Machine
from harness.dataset import Specification
from harness.errors import InputError
from harness.sampling import EVERY, Sampler, strides
from harness.streams import extraction, workers
from harness.streams.estimate import check_disk, estimate
from harness.streams.extraction import (
    Computed,
    Extraction,
    Extractor,
    Need,
    Work,
    extract,
    sources,
)
from harness.streams.store import ClipFrames, FeatureStore
from tests.datasets import make_stream
from tests.networks import SPECIFICATION, Means, small


@pytest.fixture
def clips(tiny_demo: Demo) -> ClipTable:
    return read_clips(tiny_demo.root)


def run(
    clips: ClipTable, store: FeatureStore, numbers: list[int], **options: int
) -> tuple[Extraction, Means]:
    network = Means()
    extractor = Extractor([small(network)], torch.device("cpu"), **options)
    return extract(clips, lambda: extractor, [store], [strides(*numbers)])[0], network


def keys(clips: ClipTable) -> list[tuple[str, str]]:
    return list(zip(clips.clip_ids, sources(clips), strict=True))


def test_every_sampled_frame_once(tmp_path: Path, clips: ClipTable) -> None:
    store = FeatureStore(tmp_path, SPECIFICATION)
    done, network = run(clips, store, [10, 15])
    # Of 31 frames: 0, 10, 15, 20, 30.
    assert (done.clips, done.frames, network.images) == (20, 100, 100)
    loaded = store.load(keys(clips), strides(10, 15))
    assert loaded.positions.reshape(20, 5).tolist() == [[0, 10, 15, 20, 30]] * 20
    again = store.load(keys(clips), strides(15))
    assert again.positions.reshape(20, 3).tolist() == [[0, 15, 30]] * 20


def test_features_belong_to_their_frame(tmp_path: Path, clips: ClipTable) -> None:
    store = FeatureStore(tmp_path, SPECIFICATION)
    run(clips, store, [15])
    loaded = store.load(keys(clips), strides(15))
    for clip in (0, 7, 19):
        pictures = [picture for _, picture in sampled_frames(clips.paths[clip], [15])]
        brightness = [picture.mean() for picture in pictures]
        rows = slice(loaded.offsets[clip], loaded.offsets[clip + 1])
        # ImageNet's normalisation is affine and nearly alike in the three colours.
        back = (loaded.values[rows].mean(axis=1) * 0.226 + 0.449) * 255
        np.testing.assert_allclose(back, brightness, atol=4)


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 7, "decoders": 1}])
def test_batching_changes_nothing(
    tmp_path: Path, clips: ClipTable, options: dict[str, int]
) -> None:
    one, other = (FeatureStore(tmp_path / name, SPECIFICATION) for name in "ab")
    run(clips, one, [5])
    run(clips, other, [5], **options)
    a, b = one.load(keys(clips), strides(5)), other.load(keys(clips), strides(5))
    np.testing.assert_allclose(a.values, b.values, atol=1e-6)


class Slow(Means):
    """Waits at each batch; knows how many images had been decoded by then and not yet seen."""

    def __init__(self, decoded: list[int]) -> None:
        super().__init__()
        self.decoded, self.ahead = decoded, 0

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(0.003)
        self.ahead = max(self.ahead, len(self.decoded) - self.images)
        return super().forward(images)


@pytest.mark.parametrize("length", [500, 4000])
def test_images_in_memory_are_bounded_whatever_the_length_of_a_clip(
    clips: ClipTable, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    decoded: list[int] = []

    def frames(*_: object) -> Iterator[tuple[int, float, np.ndarray]]:
        for index in range(length):
            decoded.append(index)
            yield index, index / 30, np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(extraction, "timed_frames", frames)
    network = Slow(decoded)
    extractor = Extractor([small(network)], torch.device("cpu"), batch_size=32, decoders=2)
    work = [Work(clips.clip_ids[row], row, "", (Need(0, EVERY),)) for row in range(2)]
    results = list(extractor(clips, work))
    assert [len(result.frames) for _, result in results] == [length] * 2
    # What waits between the threads, one chunk in the hands of each, and the batch itself.
    most = (8 * 2 + 2) * extraction.CHUNK + 32 + extraction.CHUNK
    assert 100 < network.ahead <= most


def test_a_second_run_does_nothing(tmp_path: Path, clips: ClipTable) -> None:
    run(clips, FeatureStore(tmp_path, SPECIFICATION), [10])
    for numbers in ([10], [30], [10, 20]):
        done, network = run(clips, FeatureStore(tmp_path, SPECIFICATION), numbers)
        assert (done.clips, network.images, done.kept) == (0, 0, 20)


def test_new_strides_compute_what_is_new(tmp_path: Path, clips: ClipTable) -> None:
    run(clips, FeatureStore(tmp_path, SPECIFICATION), [10])
    store = FeatureStore(tmp_path, SPECIFICATION)
    done, _ = run(clips, store, [10, 15])
    assert done.frames == 20, "frame 15 of each clip; 0 and 30 were there"
    again = FeatureStore(tmp_path, SPECIFICATION).load(keys(clips), strides(10, 15))
    whole = FeatureStore(tmp_path / "fresh", SPECIFICATION)
    run(clips, whole, [10, 15])
    np.testing.assert_array_equal(again.values, whole.load(keys(clips), strides(10, 15)).values)


def test_an_interrupted_run_keeps_what_was_done(tmp_path: Path, clips: ClipTable) -> None:
    def interrupt(done: int, total: int, frames: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    store = FeatureStore(tmp_path, SPECIFICATION)
    extractor = Extractor([small(Means())], torch.device("cpu"), batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        extract(clips, lambda: extractor, [store], [strides(10)], progress=interrupt)
    done, _ = run(clips, FeatureStore(tmp_path, SPECIFICATION), [10])
    assert (done.kept, done.clips) == (5, 15)


def test_one_bad_clip_is_named_and_the_others_are_kept(tmp_path: Path, clips: ClipTable) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    spoiled = dataclasses.replace(clips, paths=(*clips.paths[:3], bad, *clips.paths[4:]))
    store = FeatureStore(tmp_path / "store", SPECIFICATION)
    run(spoiled, store, [10])
    again = FeatureStore(tmp_path / "store", SPECIFICATION)
    problems = again.problems(keys(spoiled))
    assert list(problems) == [clips.clip_ids[3]]
    assert "bad.mp4: cannot be opened" in problems[clips.clip_ids[3]]
    loaded = again.load(keys(spoiled), strides(10))
    assert np.diff(loaded.offsets).tolist() == [4, 4, 4, 0] + [4] * 16
    # Mended, it is a new clip: the others stay.
    assert run(clips, again, [10])[0].clips == 1
    assert again.problems(keys(clips)) == {}


def test_a_store_of_nothing_but_bad_clips_is_an_error(tmp_path: Path, clips: ClipTable) -> None:
    nothing = dataclasses.replace(clips, paths=(None,) * len(clips))
    store = FeatureStore(tmp_path, SPECIFICATION)
    assert run(nothing, store, [10])[0].frames == 0
    with pytest.raises(InputError, match="none of 20 clips gave a frame"):
        FeatureStore(tmp_path, SPECIFICATION).load(keys(nothing), strides(10))


def test_a_changed_video_is_computed_again(tmp_path: Path, clips: ClipTable) -> None:
    copy = tmp_path / "clip.mp4"
    copy.write_bytes(clips.paths[3].read_bytes())
    moved = dataclasses.replace(clips, paths=(*clips.paths[:3], copy, *clips.paths[4:]))
    run(moved, FeatureStore(tmp_path / "s", SPECIFICATION), [10])
    copy.write_bytes(clips.paths[4].read_bytes())
    store = FeatureStore(tmp_path / "s", SPECIFICATION)
    assert run(moved, store, [10])[0].clips == 1
    loaded = store.load(keys(moved), strides(10))
    pair = (loaded.values[loaded.offsets[c] : loaded.offsets[c + 1]] for c in (3, 4))
    np.testing.assert_array_equal(*pair)


@pytest.mark.parametrize(
    "change",
    [
        {"source": "other"},
        {"details": {"weights": "other"}},
        {"columns": ("green", "red", "blue")},
        {"columns": ("red", "green"), "width": 2},
    ],
    ids=str,
)
def test_another_specification_is_another_store(tmp_path: Path, change: dict[str, Any]) -> None:
    other = dataclasses.replace(SPECIFICATION, **change)
    assert dataclasses.replace(SPECIFICATION).fingerprint() == SPECIFICATION.fingerprint()
    assert FeatureStore(tmp_path, other).folder != FeatureStore(tmp_path, SPECIFICATION).folder
    assert SPECIFICATION.differences(other)
    assert Specification.from_dict(other.to_dict()) == other


def test_equal_bytes_in_another_form_have_another_digest() -> None:
    values = np.arange(24, dtype=np.float32)
    wide = make_stream(values.reshape(4, 6), np.arange(4), [0, 4])
    tall = make_stream(values.reshape(6, 4), np.arange(6), [0, 6])
    split = dataclasses.replace(wide, offsets=np.array([0, 1, 4]))
    found = {stream.digest(["a", "b"]) for stream in (wide, tall, split)}
    assert len(found) == 3
    assert wide.digest(["a"]) != wide.digest(["b"])
    assert wide.digest(["a"]) == dataclasses.replace(wide).digest(["a"])


def test_a_shard_with_any_flipped_bit_is_refused_by_name(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, SPECIFICATION)
    values = np.random.default_rng(0).random((40, 3)).astype(np.float32)
    store.append([ClipFrames("a", "s", EVERY, np.arange(40, dtype=np.int32), values)])
    (shard,) = store.folder.glob("000000-*.parquet")
    whole = shard.read_bytes()
    for position in np.random.default_rng(1).choice(len(whole) * 8, 100, replace=False).tolist():
        content = bytearray(whole)
        content[position // 8] ^= 1 << (position % 8)
        shard.write_bytes(content)
        with pytest.raises(InputError, match=f"{shard.name}: a damaged feature shard"):
            FeatureStore(tmp_path, SPECIFICATION)
    shard.write_bytes(whole)
    read = FeatureStore(tmp_path, SPECIFICATION).load([("a", "s")], EVERY)
    np.testing.assert_array_equal(read.values, values)


def test_a_clip_that_was_still_being_copied_is_looked_at_again(
    tmp_path: Path, clips: ClipTable
) -> None:
    path = tmp_path / "a.mp4"
    assert clips.paths[0] is not None
    whole = clips.paths[0].read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    clip = dataclasses.replace(clips, paths=(path, *clips.paths[1:]))
    store = FeatureStore(tmp_path, SPECIFICATION)

    def meanwhile(table: ClipTable, work: Sequence[Work]) -> Iterator[Computed]:
        for found in Extractor([small(Means())], torch.device("cpu"))(table, work):
            path.write_bytes(whole)
            yield found

    extract(clip, lambda: meanwhile, [store], [strides(10)])
    done, _ = run(clip, store, [10])
    assert (done.clips, done.frames) == (1, 4)
    assert not store.problems(keys(clip))


def test_an_error_of_the_machine_is_tried_again_once(
    tmp_path: Path, clips: ClipTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Iterator[Any]:
        try:
            raise OSError(errno.EIO, "Input/output error")
        except OSError as error:
            raise InputError("a.mp4: cannot be read") from error

    store = FeatureStore(tmp_path, SPECIFICATION)
    with monkeypatch.context() as patch:
        patch.setattr(extraction, "timed_frames", fails)
        run(clips, store, [10])
        with pytest.raises(InputError, match=r"a.mp4: cannot be read.; run python"):
            store.load(keys(clips), strides(10))
        assert set(store.problems(keys(clips)).values()) == {"a.mp4: cannot be read"}
    again = FeatureStore(tmp_path, SPECIFICATION)
    assert run(clips, again, [10])[0].clips == len(clips)
    assert not again.problems(keys(clips))
    assert run(clips, again, [10])[0].clips == 0


def test_an_error_that_stays_is_a_problem_of_the_clip(
    tmp_path: Path, clips: ClipTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = extraction.timed_frames

    def fails(path: Path, sampler: Sampler) -> Iterator[Any]:
        if path == clips.paths[3]:
            raise InputError("a.mp4: cannot be read") from OSError(errno.EIO, "Input/output error")
        yield from whole(path, sampler)

    run(clips, FeatureStore(tmp_path, SPECIFICATION), [30])
    monkeypatch.setattr(extraction, "timed_frames", fails)
    store = FeatureStore(tmp_path, SPECIFICATION)
    assert [run(clips, store, [10])[0].clips for _ in range(3)] == [len(clips), 1, 0]
    assert list(store.problems(keys(clips))) == [clips.clip_ids[3]]
    assert store.load(keys(clips), strides(30)).counts[3] == 2, "what was read before is kept"
    assert [run(clips, store, [15])[0].clips for _ in range(2)] == [len(clips), 0]


def test_what_ffmpeg_calls_an_error_of_the_machine_may_be_damage(
    tmp_path: Path, clips: ClipTable
) -> None:
    path = tmp_path / "cut.mkv"
    with av.open(str(clips.paths[0])) as film, av.open(str(path), "w") as cut:
        stream = cut.add_stream_from_template(film.streams.video[0])
        for packet in film.demux(film.streams.video[0]):
            packet.stream = stream
            if packet.dts is not None:
                cut.mux(packet)
    path.write_bytes(path.read_bytes()[:300])
    clip = dataclasses.replace(clips, paths=(path, *clips.paths[1:]))
    store = FeatureStore(tmp_path / "store", SPECIFICATION)
    run(clip, store, [10])
    assert "cut.mkv: cannot be opened" in store.problems(keys(clip))[clips.clip_ids[0]]
    assert store.load(keys(clip), strides(10)).counts[0] == 0


@pytest.mark.parametrize(
    ("machines", "count", "gpus", "cpus"),
    [
        ([(8, 0), (4, 0)], None, 0, [8, 4]),  # one a machine, each with all of its cores
        ([(0, 0), (4, 0)], None, 0, [4]),  # a head that computes nothing
        ([(8, 0), (4, 0)], 3, 0, [4, 4, 4]),
        ([(32, 0), (16, 1), (16, 2)], None, 1, [8, 8, 8]),  # a head without a GPU takes none
        ([(16, 4)], 2, 1, [4, 4]),
        ([(1, 2)], None, 1, [0, 0]),  # fewer cores than GPUs
    ],
)
def test_every_worker_finds_a_place(
    machines: list[tuple[int, int]], count: int | None, gpus: int, cpus: list[int]
) -> None:
    assert workers.shares([Machine(*each) for each in machines], count) == (gpus, cpus)


def test_more_workers_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(InputError, match="`workers` 3: the cluster has 2 GPUs; one a worker"):
        workers.shares([Machine(8, 2)], 3)
    with pytest.raises(InputError, match="`workers` 3: the cluster has 2 CPUs; one a worker"):
        workers.shares([Machine(2, 0)], 3)


def test_what_is_not_stored_is_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no features of clip a .* python -m harness\.extract"):
        FeatureStore(tmp_path, SPECIFICATION).load([("a", "s")], EVERY)


# --- Half precision, and what an extraction will take.


def test_float16_takes_half_the_disk_and_reads_as_it_is_stored(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((500, 64)).astype(np.float32)
    clip = ClipFrames("a", "s", EVERY, np.arange(500, dtype=np.int32), values)
    sizes, read = {}, {}
    for kind in ("float32", "float16"):
        details = {"stored": kind}
        spec = Specification("means", details, (), 64)
        store = FeatureStore(tmp_path, spec)
        store.append([clip])
        first, again = (s.load([("a", "s")], EVERY) for s in (store, FeatureStore(tmp_path, spec)))
        assert first.values.dtype == np.float32
        np.testing.assert_array_equal(first.values, again.values)
        read[kind] = again.values
        sizes[kind] = sum(file.stat().st_size for file in store.folder.glob("*.parquet"))
    np.testing.assert_array_equal(read["float32"], values)
    np.testing.assert_array_equal(read["float16"], values.astype(np.float16).astype(np.float32))
    assert sizes["float16"] < 0.6 * sizes["float32"]


def test_values_beyond_float16_are_refused(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, Specification("means", {"stored": "float16"}, (), 1))
    large = np.array([[70_000]], np.float32)
    with pytest.raises(InputError, match="`stored`: a feature of 70000 is beyond the range"):
        store.append([ClipFrames("a", "s", EVERY, np.zeros(1, np.int32), large)])
    assert not list(store.folder.glob("*.parquet"))


def test_the_estimate_of_whole_clips_is_what_they_give(tmp_path: Path, clips: ClipTable) -> None:
    store = FeatureStore(tmp_path, SPECIFICATION)
    done, _ = run(clips, store, [10, 15])
    found = estimate(clips, range(len(clips)), strides(10, 15), SPECIFICATION)
    assert found.frames == done.frames
    assert found.memory == store.load(keys(clips), strides(10, 15)).values.nbytes == found.disk
    assert str(found) == (
        "To compute: about 100 frames of 3 columns, up to 1.2 kB on disk and 1.2 kB of memory"
    )
    with pytest.raises(InputError, match="the features take about 1000000000"):
        check_disk([found, dataclasses.replace(found, disk=10**18)], tmp_path)


def test_files_that_state_nothing_are_estimated_as_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    paths = (tmp_path / "broken.mp4", None, tmp_path / "missing.mp4")
    targets = np.zeros((3, 1), np.float32)
    table = ClipTable(("a", "b", "c"), ("train",) * 3, targets, ("joy",), paths, "video")
    assert estimate(table, [0, 1, 2], EVERY, SPECIFICATION).frames == 0
