"""Clips and weights -> features, each of them computed once."""

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.streams.clip_features import Machines, extract_features, features_of
from harness.streams.sources import real_sources
from tests.networks import save_tiny
from tests.trees import plain_tree

CPU = Machines(torch.device("cpu"))


@pytest.mark.parametrize(("outputs", "width"), [("outputs", 22), ("shared", 512)])
def test_what_is_stored_with_both_is_not_computed_again(
    tmp_path: Path, outputs: str, width: int
) -> None:
    given = real_sources(
        plain_tree(tmp_path, "frames"), save_tiny(tmp_path / "net.safetensors"), crop="none"
    )

    def nothing(*_: object) -> None: ...

    fresh = features_of(given, tmp_path / "fresh", (1,), outputs, CPU, nothing)
    cache = tmp_path / "cache"
    extract_features(given, cache, (2,), "both", CPU, nothing)
    part = features_of(given, cache, (1,), outputs, CPU, nothing)
    assert part.extraction is not None
    assert part.extraction.clips == 20, "both lack frames, so that these are computed alone"
    other = tmp_path / "other"
    extract_features(given, other, (1,), "both", CPU, nothing)
    found = features_of(given, other, (1,), outputs, CPU, nothing)
    assert found.extraction is not None
    assert found.extraction.frames == 0
    assert found.fingerprint == fresh.fingerprint
    assert found.recipe == fresh.recipe
    assert found.frames.features.shape == (60, width)
    difference = np.linalg.norm(found.frames.features - fresh.frames.features)
    assert difference < 1e-5 * np.linalg.norm(fresh.frames.features)
