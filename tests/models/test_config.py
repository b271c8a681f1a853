"""The configuration of a trial: what it accepts, what it says about itself, what it still reads."""

import ast
import dataclasses
import inspect
import itertools
import textwrap
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from harness.errors import InputError
from harness.models.config import TrialConfig, memory
from harness.models.families import FAMILIES
from harness.models.families.lstm import LSTM
from harness.models.hyperparameters import Hyperparameters, Memory, Range
from harness.models.model_file import read_model
from harness.models.training import exact_float32
from harness.trials.trial import Trial
from tests.datasets import CONFIG, make_data

BAD = [
    ({"loss": "cc"}, "loss must be one of ccc, pcc, mse, got 'cc'"),
    ({"bidirectional": 1}, "bidirectional must be of type bool, got 1"),
    ({"layers": 2.0}, "layers must be of type int, got 2.0"),
    ({"layers": True}, "layers must be of type int, got True"),
    ({"layers": 65}, "layers must be at least 1 and at most 64, got 65"),
    ({"stride": 0}, "stride must be at least 1 and at most 100000, got 0"),
    ({"interval": -1}, "interval must be at least 0 and at most 3600, got -1"),
    ({"interval": 0.001}, "interval must be at least 0.01 seconds, got 0.001"),
    ({"interval": 0.5, "stride": 10}, "stride 10 and interval 0.5 are both set; keep one .*"),
    ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
    ({"lr": 0.0}, "lr must be above 0 and finite, got 0.0"),
    ({"lr": float("inf")}, "lr must be above 0 and finite, got inf"),
    ({"weight_decay": float("nan")}, "weight_decay must be at least 0 and finite, got nan"),
    ({"clip_norm": -1}, "clip_norm must be at least 0 and finite, got -1"),
    ({"streams": 3}, "streams must be of type str, got 3"),
    (
        {"streams": "a++b"},
        "streams must be .* without spaces, got 'a[+][+]b'",
    ),
    (
        {"streams": "a+b+a"},
        "streams must be .* without spaces, got 'a[+]b[+]a'",
    ),
    ({"streams": "a + b"}, "streams must be .* [+] without spaces, got 'a [+] b'"),
    ({"fusion": "middle"}, "fusion must be one of early, late, got 'middle'"),
    ({"stream_dropout": 1.0}, "stream_dropout must be at least 0 and below 1, got 1.0"),
]


@pytest.mark.parametrize(("values", "message"), BAD)
def test_a_value_that_is_not_accepted_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        TrialConfig.of(**values)


def test_bounds_are_accepted() -> None:
    TrialConfig.of(layers=1, hidden=16_384, dropout=0, lr=1, clip_norm=0.0, ema=0.999, seed=2**32)


def test_streams_have_one_order() -> None:
    assert TrialConfig.of(streams="sound+mtl-dan") == TrialConfig.of(streams="mtl-dan+sound")
    assert TrialConfig.of(streams="b+a+c").to_dict()["streams"] == "a+b+c"


@pytest.mark.parametrize("record", [TrialConfig, *(f.Options for f in FAMILIES.values())])
def test_every_field_says_what_it_means(record: type) -> None:
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(record))).body
    assert isinstance(node, ast.ClassDef)
    told = {
        field.target.id
        for field, text in itertools.pairwise(node.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
    assert told == {field.name for field in dataclasses.fields(record)}


def test_memory_goes_by_the_marks_of_the_fields() -> None:
    assert memory("layers", [1, 3, 2]) == 3
    assert memory("stride", [10, 5, 30]) == 5
    assert memory("interval", [0.0, 1.0, 0.5]) == 0.5
    assert memory("bidirectional", [False]) is False
    assert memory("features", ["both", "outputs", "shared"]) == "both"
    assert memory("lr", [0.1, 0.2]) is None


class Tempo(LSTM):
    """A family with a hyperparameter of its own."""

    @dataclasses.dataclass(frozen=True)
    class Options(Hyperparameters):
        beat: Annotated[float, Range(least=0, most=1), Memory()] = 0.5


def test_a_family_brings_its_own_hyperparameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "tempo", Tempo)
    config = TrialConfig.of(**{"family": "tempo", "tempo.beat": 0.25})
    assert config.own == Tempo.Options(beat=0.25)
    assert config.to_dict()["tempo.beat"] == 0.25
    assert TrialConfig.from_dict(config.to_dict()) == config
    assert "layers" not in config.to_dict(), "of another family"
    assert config.changed(family="lstm", layers=3) == TrialConfig.of(layers=3)
    assert memory("tempo.beat", [0.2, 0.8]) == 0.8
    with pytest.raises(ValueError, match="beat must be at least 0 and at most 1, got 2"):
        config.changed(**{"tempo.beat": 2})
    for wrong in ({"tempo.beat": 0.5}, {"family": "tempo", "layers": 2}):
        with pytest.raises(TypeError, match="is no hyperparameter of this family"):
            TrialConfig.from_dict(wrong)
    with pytest.raises(ValueError, match="family must be one of lstm, tempo, got 'waltz'"):
        TrialConfig.of(family="waltz")


def test_what_is_no_configuration_is_refused() -> None:
    with pytest.raises(TypeError, match="tempo"):
        TrialConfig.from_dict({"tempo": 1})
    with pytest.raises(TypeError, match="expected hyperparameters by name"):
        TrialConfig.from_dict([])  # type: ignore[arg-type]


def test_models_of_earlier_versions_are_refused_by_their_schema(tmp_path: Path) -> None:
    save_file({"mean": np.zeros(4, np.float32)}, tmp_path / "old", {"schema": "head 2"})
    with pytest.raises(InputError, match="old: schema 'head 2', this harness reads 'model 3'"):
        read_model(tmp_path / "old")


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
    training.head.regressor.out.register_full_backward_hook(
        lambda *_: during.append(("backward", recurrent()))
    )
    training.epoch()
    assert set(during) == {("train", "ieee"), ("backward", "ieee"), ("val", "ieee")}
    assert recurrent() == before
    with pytest.raises(RuntimeError), exact_float32():
        raise RuntimeError
    assert recurrent() == before
