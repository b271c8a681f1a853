"""The demo's network: trained once, in a process of its own that never outlives its use."""

from pathlib import Path

import pytest

from harness.encoders.mtl_dan.checkpoints import load_mtl_dan, read_metadata
from harness.pretraining.demo_network import TRAINING, DemoNetwork, demo_weights


def test_the_network_is_trained_once(tiny_demo_faces: Path) -> None:
    weights = demo_weights(tiny_demo_faces)
    assert load_mtl_dan(weights).width == TRAINING.width
    assert read_metadata(weights)["trained_on"] == "synthetic faces"
    before = weights.stat().st_mtime_ns
    assert demo_weights(tiny_demo_faces) == weights
    assert weights.stat().st_mtime_ns == before


def test_a_training_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="training_set_annotations_22"):
        demo_weights(tmp_path)


def test_a_training_ends_with_its_use(tmp_path: Path, tiny_demo_faces: Path) -> None:
    for file in tiny_demo_faces.iterdir():
        if not file.name.startswith("mtl_dan"):
            (tmp_path / file.name).symlink_to(file)
    steps: list[tuple[int, int]] = []
    with DemoNetwork(lambda step, done, total: steps.append((done, total))) as network:
        network.start(tmp_path)
        process = network.process
        assert process is not None
        assert process.is_alive()
    assert not process.is_alive()
    assert steps == [(0, TRAINING.epochs)]
