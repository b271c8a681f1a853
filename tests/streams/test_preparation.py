"""Clips and weights -> features, each of them computed once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.progress import silent
from harness.sampling import EVERY, strides
from harness.streams.features import Machines
from harness.streams.sources import Source, extract_all, read_all, real_sources
from harness.tuning.preparation import unit_notes
from tests.datasets import make_stream
from tests.networks import save_tiny
from tests.trees import plain_tree

CPU = Machines(torch.device("cpu"))


@pytest.mark.parametrize(("outputs", "width"), [("outputs", 22), ("shared", 512)])
def test_what_is_stored_with_both_is_not_computed_again(
    tmp_path: Path, outputs: str, width: int
) -> None:
    root, file = plain_tree(tmp_path, "frames"), save_tiny(tmp_path / "net.safetensors")

    def given(kind: str) -> list[Source]:
        return real_sources(root, file, crop="none", outputs=kind)

    (fresh,) = read_all(given(outputs), tmp_path / "fresh", [EVERY], CPU, silent)
    cache = tmp_path / "cache"
    extract_all(given("both"), cache, strides(2), CPU, silent)
    (part,) = read_all(given(outputs), cache, [EVERY], CPU, silent)
    assert part.extraction is not None
    assert part.extraction.clips == 20, "both lack frames, so that these are computed alone"
    other = tmp_path / "other"
    extract_all(given("both"), other, EVERY, CPU, silent)
    (found,) = read_all(given(outputs), other, [EVERY], CPU, silent)
    assert found.extraction is not None
    assert found.extraction.frames == 0
    assert found.stream.specification == fresh.stream.specification
    assert found.stream.values.shape == (60, width)
    difference = np.linalg.norm(found.stream.values - fresh.stream.values)
    assert difference < 1e-5 * np.linalg.norm(fresh.stream.values)


@pytest.mark.parametrize(("step", "doubted"), [(0.005, False), (5.0, True)])
def test_times_of_two_units_are_doubted(step: float, doubted: bool) -> None:
    """Five milliseconds without a unit look like five seconds."""
    offsets = [0, 800]
    slow = make_stream(np.zeros((800, 1)), np.arange(800), offsets)
    streams = {
        "face": replace(slow, times=np.arange(800, dtype=np.float32) * 0.005),
        "voice": replace(slow, times=np.arange(800, dtype=np.float32) * step),
    }
    assert bool(unit_notes(streams)) == doubted
