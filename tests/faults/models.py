"""What the faults happen to: small data, made once a process; copies are spoiled, never these."""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from harness.clips.demo import Demo, ensure_demo
from harness.spaces import SPACES
from tests.faults.commands import command
from tests.networks import save_tiny
from tests.plans import TINY
from tests.studies import make_study
from tests.trees import plain_tree

SMOKE = SPACES / "smoke.toml"
CLIPS, TRIALS = 20, 3


@cache
def home() -> Path:
    """A folder that goes with the process."""
    path = Path(tempfile.mkdtemp(prefix="faults-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def at_the_end(act: Callable[[], object]) -> None:
    """Does something before the process ends."""
    atexit.register(act)


@cache
def weights() -> Path:
    return save_tiny(home() / "net.safetensors")


@cache
def clips() -> Path:
    """Twenty films of twelve frames, in the plain layout."""
    root = home() / "clips"
    root.mkdir()
    return plain_tree(root, "clips")


@cache
def given_features() -> Path:
    """Twenty clips with features of their own, in the plain layout."""
    root = home() / "features"
    root.mkdir()
    return plain_tree(root, "features")


@cache
def demo() -> Demo:
    return ensure_demo(home() / "demo", TINY, processes=1)


def extraction(results: Path) -> list[object]:
    """The arguments of an extraction."""
    line = ["--data", clips(), "--weights", weights(), "--stride", 3, "--crop", "none"]
    return [*line, "--results", results]


def searching(results: Path, trials: int = TRIALS) -> list[object]:
    """The arguments of a search over given features: study s."""
    line = ["--data", given_features(), "--space", small_space(), "--trials", trials]
    return [*line, "--results", results, "--study", "s", "--scheduler", "none"]


@cache
def small_space() -> Path:
    """The smoke space at stride 1, which given features have."""
    path = home() / "smoke.toml"
    text = SMOKE.read_text()
    before, _, after = text.partition("[parameters.stride]")
    path.write_text(before + after[after.index("[parameters.lr]") :])
    return path


@cache
def searched() -> Path:
    """Results with study s, which a real search made."""
    results = home() / "searched"
    done = command(home(), "search", *searching(results))
    assert done.code == 0, done.said
    return results


@cache
def library() -> Path:
    """Results with study s of twelve trials, whose predictions are ratings with noise."""
    make_study(home() / "library" / "s", 12)
    return home() / "library"


def copied(source: Path, folder: Path) -> Path:
    """A copy to be spoiled."""
    return Path(shutil.copytree(source, folder / source.name))
