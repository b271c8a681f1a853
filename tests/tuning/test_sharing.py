"""How many trials share a GPU."""

from pathlib import Path

import pytest
import torch
from optuna.trial import TrialState

from harness.clips.demo import Demo
from harness.models.config import TrialConfig
from harness.models.families import FAMILIES
from harness.models.families.lstm import LSTM
from harness.space.file import read_space
from harness.spaces import SPACES
from harness.tuning.sharing import CONTEXT, MOST, by_streams, fraction, largest, measured_need
from tests.commands import command
from tests.datasets import make_data, make_fused
from tests.searches import trials_of


def test_the_largest_of_a_space_is_measured() -> None:
    (config,) = largest(read_space(SPACES / "demo.toml"))
    assert (config.own.layers, config.own.hidden, config.stride) == (3, 128, 5)


def test_the_largest_counts_the_default_of_what_is_searched_under_a_condition(
    tmp_path: Path,
) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        "[budget]\ntrials = 3\nepochs = 2\n[fixed]\nbatch_size = 7\n"
        "[parameters.features]\ntype = 'categorical'\nchoices = ['shared', 'outputs']\n"
        "[parameters.bidirectional]\ntype = 'categorical'\nchoices = [true, false]\n"
        "[parameters.hidden]\ntype = 'int'\nlow = 8\nhigh = 16\n"
        "only_if = { features = ['shared'] }\n"
        "[parameters.stride]\ntype = 'int'\nlow = 40\nhigh = 80\nstep = 40\n"
        "only_if = { features = ['shared'] }\n"
    )
    (config,) = largest(read_space(path))
    assert (config.features, config.own.bidirectional, config.batch_size) == ("shared", True, 7)
    assert (config.own.hidden, config.stride) == (LSTM.Options.hidden, TrialConfig.stride)


def test_each_family_is_measured_with_its_own_hyperparameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class GRU(LSTM):
        """Another family."""

    monkeypatch.setitem(FAMILIES, "gru", GRU)
    path = tmp_path / "space.toml"
    path.write_text(
        "[budget]\ntrials = 3\nepochs = 2\n"
        "[parameters.family]\ntype = 'categorical'\nchoices = ['lstm', 'gru']\n"
        "[parameters.layers]\ntype = 'int'\nlow = 1\nhigh = 3\n"
        "only_if = { family = ['lstm'] }\n"
        "[parameters.'gru.hidden']\ntype = 'int'\nlow = 4\nhigh = 512\n"
        "only_if = { family = ['gru'] }\n"
    )
    one, other = largest(read_space(path))
    assert (one.family, one.own.layers) == ("lstm", 3)
    assert (other.family, other.own.hidden) == ("gru", 512)


def test_each_choice_of_streams_is_measured_the_larger_fusion_alone(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(
        "[budget]\ntrials = 3\nepochs = 2\n"
        "[parameters.fusion]\ntype = 'categorical'\nchoices = ['late', 'early']\n"
        "[parameters.streams]\ntype = 'categorical'\nchoices = ['eye', 'ear', 'eye+ear']\n"
        "[parameters.clock]\ntype = 'categorical'\nchoices = ['eye', 'ear']\n"
    )
    found = {
        (config.streams, config.clock, config.fusion)
        for config in by_streams(read_space(path), make_fused())
    }
    both = {("ear+eye", clock, "late") for clock in ("eye", "ear")}
    assert found == both | {("eye", "", "late"), ("ear", "", "late")}


@pytest.mark.parametrize(
    ("need", "total", "trials"),
    [(2**30, 80 * 2**30, MOST), (2**30, 8 * 2**30, 4), (2**34, 2**33, 1)],
)
def test_trials_share_by_memory(need: int, total: int, trials: int) -> None:
    share, told = fraction(need, total)
    assert share == 1 / trials
    assert f"{need / 2**20:.0f} MiB" in told
    assert trials == 1 or trials * (need + CONTEXT) <= total


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_need_is_measured_on_the_gpu() -> None:
    space = read_space(SPACES / "smoke.toml").without("stride", 1)
    assert 0 < measured_need(space, make_data()) < 2**30


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_trials_share_the_gpu(tmp_path: Path, tiny_demo: Demo, weights: Path) -> None:
    data = ["--data", tiny_demo.root, "--weights", weights, "--space", SPACES / "smoke.toml"]
    share = ["--gpus-per-trial", 0.25, "--concurrency", 3, "--scheduler", "none"]
    done = command("search", "--results", tmp_path, "--study", "s", *data, *share)
    assert done.returncode == 0, done.stderr
    found = trials_of(tmp_path, "s")
    assert [trial.state for trial in found] == [TrialState.COMPLETE] * 3
