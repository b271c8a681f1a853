"""What only a GPU can show of heads; needs torch and pytest alone."""

import dataclasses

import pytest
import torch

from harness.models.config import TrialConfig
from harness.models.head import Head
from harness.models.losses import reduced_loss
from harness.models.training import exact_float32
from harness.trials.trial import Trial, run_trial
from tests.datasets import CONFIG, make_data, make_fused

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
@pytest.mark.parametrize("bidirectional", [False, True])
@exact_float32()
def test_the_gpu_computes_what_the_cpu_does(pooling: str, bidirectional: bool) -> None:
    torch.manual_seed(0)
    config = TrialConfig.of(layers=2, hidden=16, bidirectional=bidirectional, pooling=pooling)
    head = Head([5], 3, config)
    lengths, features = torch.tensor([4, 1, 9, 4, 2, 9, 6, 3]), torch.randn(8, 9, 5)
    targets = torch.rand(8, 3)
    found = []
    for device in ("cpu", "cuda"):
        head.to(device).zero_grad()
        predicted = head(features.to(device), lengths.to(device))
        value = reduced_loss("ccc", "both")(predicted, targets.to(device))
        value.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in head.parameters() if p.grad is not None]
        gradient = torch.cat([part.flatten() for part in gradients])
        found.append([each.detach().cpu() for each in (predicted, value, gradient)])
    for cpu, cuda in zip(*found, strict=True):
        assert (cuda - cpu).norm() <= 1e-5 * cpu.norm()


@pytest.mark.parametrize("fusion", ["", "early", "late"])
def test_no_batch_of_an_epoch_waits_for_the_gpu(fusion: str) -> None:
    config, data = CONFIG.changed(ema=0.9, dropout=0.1, layers=2), make_data()
    if fusion:
        config, data = config.changed(fusion=fusion, stream_dropout=0.2), make_fused()
    training = Trial(config, data, torch.device("cuda")).trainings[0]
    training.pass_over_train()  # the libraries' first calls may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        training.pass_over_train()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_a_fused_model_predicts_on_the_gpu_as_on_the_cpu(fusion: str) -> None:
    data = make_fused()
    model = run_trial(CONFIG.changed(fusion=fusion), data).model
    found = model.predict(data, device=torch.device("cuda"))
    assert abs(found - model.predict(data)).max() < 1e-5


def test_a_trial_on_the_gpu_learns_as_on_the_cpu() -> None:
    config = dataclasses.replace(CONFIG, epochs=20, patience=20)
    data = make_data(600)
    scores = [run_trial(config, data, device=torch.device(d)).score for d in ("cpu", "cuda")]
    assert scores[0] == pytest.approx(scores[1], abs=0.03)
