"""Shared fixtures: tiny synthetic clips, made once a run."""

from pathlib import Path

import pytest

from harness.clips.demo import Demo, Plan, ensure_demo

TINY = Plan(clips=(10, 6, 4), faces=(64, 24), frames=31)


@pytest.fixture(scope="session")
def tiny_demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Twenty clips of 31 frames; do not change them."""
    return ensure_demo(tmp_path_factory.mktemp("demo"), TINY, processes=1)


@pytest.fixture(scope="session")
def tiny_demo_faces(tiny_demo: Demo) -> Path:
    """88 annotated faces in the s-Aff-Wild2 form."""
    return tiny_demo.annotations
