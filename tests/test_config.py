"""The configuration of a trial: what it accepts, what it says about itself, what it still reads."""

import ast
import dataclasses
import inspect
import itertools
import json
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from harness.errors import InputError
from harness.models import config as module
from harness.models.checkpoint import Head, _seal, read_head, write_head
from harness.models.config import Memory, Range, TrialConfig, memory
from harness.models.training import exact_float32
from harness.trials.trial import Trial, run_trial
from tests.test_trial import CONFIG, make_data

BAD = [
    ({"loss": "cc"}, "loss must be one of ccc, pcc, mse, got 'cc'"),
    ({"bidirectional": 1}, "bidirectional must be of type bool, got 1"),
    ({"layers": 2.0}, "layers must be of type int, got 2.0"),
    ({"layers": True}, "layers must be of type int, got True"),
    ({"layers": 65}, "layers must be at least 1 and at most 64, got 65"),
    ({"stride": 0}, "stride must be at least 1 and at most 100000, got 0"),
    ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
    ({"lr": 0.0}, "lr must be above 0 and finite, got 0.0"),
    ({"lr": float("inf")}, "lr must be above 0 and finite, got inf"),
    ({"weight_decay": float("nan")}, "weight_decay must be at least 0 and finite, got nan"),
    ({"clip_norm": -1}, "clip_norm must be at least 0 and finite, got -1"),
]


@pytest.mark.parametrize(("values", "message"), BAD)
def test_a_value_that_is_not_accepted_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        TrialConfig(**values)


def test_bounds_are_accepted() -> None:
    TrialConfig(layers=1, hidden=16_384, dropout=0, lr=1, clip_norm=0.0, ema=0.999, seed=2**32)


def test_every_field_says_what_it_means() -> None:
    tree = ast.parse(inspect.getsource(module))
    (body,) = [n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "TrialConfig"]
    told = {
        field.target.id
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
    assert told == {field.name for field in dataclasses.fields(TrialConfig)}


def test_memory_goes_by_the_marks_of_the_fields() -> None:
    assert memory("layers", [1, 3, 2]) == 3
    assert memory("stride", [10, 5, 30]) == 5
    assert memory("bidirectional", [False]) is False
    assert memory("features", ["both", "outputs", "shared"]) == "both"
    assert memory("lr", [0.1, 0.2]) is None


def test_a_subclass_adds_a_hyperparameter() -> None:
    @dataclasses.dataclass(frozen=True)
    class Wider(TrialConfig):
        noise: Annotated[float, Range(least=0, most=1), Memory()] = 0.5

    assert Wider.from_dict(Wider(noise=0.25).to_dict()) == Wider(noise=0.25)
    with pytest.raises(ValueError, match="noise must be at least 0 and at most 1, got 2"):
        Wider(noise=2)
    with pytest.raises(ValueError, match="stride must be at least 1"):
        Wider(stride=0)


def test_a_removed_hyperparameter_is_read_where_it_means_the_same() -> None:
    assert TrialConfig.from_dict({**CONFIG.to_dict(), "precision": "float32"}) == CONFIG
    with pytest.raises(ValueError, match="precision = 'bf16' is no longer supported"):
        TrialConfig.from_dict({**CONFIG.to_dict(), "precision": "bf16"})
    with pytest.raises(TypeError, match="tempo"):
        TrialConfig.from_dict({"tempo": 1})
    with pytest.raises(TypeError, match="expected hyperparameters by name"):
        TrialConfig.from_dict([])  # type: ignore[arg-type]


def test_heads_of_earlier_versions_are_read_or_refused(tmp_path: Path) -> None:
    result = run_trial(CONFIG, make_data())
    head = Head("00003", CONFIG, ("a", "b", "c"), "f", "val", result.fill, result.weights)
    file = tmp_path / "head.safetensors"
    for precision in ("float32", "bf16"):
        write_head(file, head)
        with safe_open(file, "np") as opened:
            said = dict(opened.metadata())
        del said["sha256"]
        said["config"] = json.dumps(CONFIG.to_dict() | {"precision": precision})
        save_file(head.weights, file, said | {"sha256": _seal(said, head.weights)})
        if precision == "float32":
            again = read_head(file)
            assert again.config == CONFIG
            assert len(again.models()) == 1
        else:
            with pytest.raises(InputError, match="precision = 'bf16' is no longer") as refused:
                read_head(file)
            assert str(file) in str(refused.value)
            assert "\n" not in str(refused.value)


def recurrent() -> Any:
    """What cuDNN makes of float32 in recurrent layers; it can be asked without a GPU."""
    return torch.backends.cudnn.rnn.fp32_precision


def test_recurrent_layers_are_exact_while_a_head_works_and_as_before_afterwards() -> None:
    before = recurrent()
    assert before != "ieee", "or nothing is tested here"
    training = Trial(dataclasses.replace(CONFIG, ema=0.5), make_data()).trainings[0]
    assert recurrent() == before, "a constructor sets nothing"
    during: list[tuple[str, str]] = []
    for name, head in (("train", training.head), ("val", training.scored_head)):
        head.register_forward_hook(lambda *_, name=name: during.append((name, recurrent())))
    training.head.out.register_full_backward_hook(
        lambda *_: during.append(("backward", recurrent()))
    )
    training.epoch()
    assert set(during) == {("train", "ieee"), ("backward", "ieee"), ("val", "ieee")}
    assert recurrent() == before
    with pytest.raises(RuntimeError), exact_float32():
        raise RuntimeError
    assert recurrent() == before
