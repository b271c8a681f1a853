"""Shared fixtures: tiny synthetic clips, made once a run."""

import signal
from pathlib import Path

import pytest

from harness.clips.demo import Demo, Plan, ensure_demo

# A shell's background job ignores Ctrl-C, and so would the commands that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

TINY = Plan(clips=(10, 6, 4), faces=(64, 24), frames=31)


@pytest.fixture(scope="session")
def tiny_demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Twenty clips of 31 frames; do not change them."""
    return ensure_demo(tmp_path_factory.mktemp("demo"), TINY, processes=1)


@pytest.fixture(scope="session")
def tiny_demo_faces(tiny_demo: Demo) -> Path:
    """88 annotated faces in the s-Aff-Wild2 form."""
    return tiny_demo.annotations
