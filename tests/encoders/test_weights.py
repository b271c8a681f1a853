"""Weight files as people save them: wrapped, nested, beside other things."""

import codecs
import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.clips.table import ClipTable
from harness.encoders.encoder import EncoderOptions
from harness.encoders.mtl_dan.checkpoints import (
    load_mtl_dan,
    load_with_report,
    read_metadata,
    read_state,
    read_torch,
    save_mtl_dan,
    weights_fingerprint,
)
from harness.encoders.registry import encoder_of
from harness.errors import InputError
from harness.pretraining.initial import initial_network
from harness.progress import silent
from harness.sampling import EVERY
from harness.streams.features import Machines
from harness.streams.sources import Source, read_all
from tests.networks import make_network
from tests.trees import picture

State = dict[str, Tensor]
CPU = Machines(torch.device("cpu"))


@pytest.fixture(scope="module")
def state() -> State:
    return make_network(1).state_dict()


@pytest.fixture(scope="module")
def other() -> State:
    return make_network(1, seed=1).state_dict()


def named(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def optimizer(state: State) -> dict[str, Any]:
    """The state of an optimizer that has made a step: tensors under numbers."""
    parameter = nn.Parameter(state["fc1.weight"].clone())
    adam = torch.optim.Adam([parameter])
    parameter.sum().backward()
    adam.step()
    return adam.state_dict()


FORMS: dict[str, Callable[[State], Any]] = {
    "torch.compile": lambda s: named("_orig_mod.", s),
    "compiled and parallel": lambda s: named("module._orig_mod.", s),
    "a compiled part": lambda s: {n.replace("DAN.", "DAN._orig_mod.", 1): v for n, v in s.items()},
    "Lightning": lambda s: {
        "state_dict": named("model.", s) | {"criterion.weight": torch.ones(8)},
        "epoch": 3,
        "hyper_parameters": {"lr": 0.1},
        "optimizer_states": [optimizer(s)],
    },
    "Lightning, parallel": lambda s: {"state_dict": named("model.module.", s)},
    "model": lambda s: {"model": s, "optimizer": optimizer(s), "args": Namespace(lr=0.1)},
    "net": lambda s: {"net": s, "acc": 0.6},
    "numbers of numpy": lambda s: {
        "epoch": np.int64(3),
        "state_dict": s,
        "best": [np.float32(0.5), np.float64(0.25), np.float16(0.5), np.bool_(True)],
        "args": Namespace(lr=np.float64(0.1), seed=np.uint8(1)),
    },
    "ema": lambda s: {"ema": s},
    "ema in a module": lambda s: {"ema": {"module": s, "decay": 0.99}},
    "network": lambda s: {"weights": named("network.", s)},
    "twice the same": lambda s: {"model": s, "state_dict": s},
    "a number beside it": lambda s: {"epoch": 3, **s},
    "counted operations": lambda s: s | {"DAN.total_ops": torch.zeros(1)},
    "no counters": lambda s: {n: v for n, v in s.items() if "num_batches" not in n},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_other_programs_load(tmp_path: Path, state: State, form: str) -> None:
    file = tmp_path / "m.pth"
    torch.save(FORMS[form](state), file)
    loaded = load_mtl_dan(file).state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_prefixes_in_safetensors_load(tmp_path: Path, state: State) -> None:
    save_file(named("model.", state), tmp_path / "m.SAFETENSORS")
    assert read_state(tmp_path / "m.SAFETENSORS").keys() == state.keys()


SEVERAL: dict[str, tuple[Callable[[State, State], Any], str]] = {
    "mappings": (lambda s, o: {"model": o, "ema": s}, "ema"),
    "prefixes": (lambda s, o: {"state_dict": named("model.", o) | named("ema.", s)}, "ema"),
    "with and without a wrapper": (lambda s, o: o | named("module.", s), "module"),
    "inside": (lambda s, o: {"a": {"model": o}, "b": {"model": s}}, "b"),
    "the whole place": (lambda s, o: {"a": {"model": o}, "b": {"model": s}}, "b.model"),
}


@pytest.mark.parametrize("form", SEVERAL)
def test_a_key_chooses_among_several_networks(
    tmp_path: Path, state: State, other: State, form: str
) -> None:
    file = tmp_path / "m.pth"
    content, key = SEVERAL[form]
    torch.save(content(state, other), file)
    with pytest.raises(InputError, match="several networks; `weights_key`: choose one of"):
        load_mtl_dan(file)
    assert torch.equal(load_mtl_dan(file, key).fc1.weight, state["fc1.weight"])
    with pytest.raises(
        InputError, match="no weights under 'teacher'; `weights_key`: choose one of"
    ):
        load_mtl_dan(file, "teacher")


def test_networks_are_named(tmp_path: Path, state: State, other: State) -> None:
    torch.save({"model": state, "ema": other}, tmp_path / "m.pth")
    with pytest.raises(InputError, match=r"m\.pth: holds several .* of model, ema$"):
        read_state(tmp_path / "m.pth")


def test_what_is_not_used_is_reported(tmp_path: Path, state: State) -> None:
    torch.save({"net": state | {"loss.centers": torch.ones(3)}}, tmp_path / "m.pth")
    loaded = load_with_report(tmp_path / "m.pth")
    assert (loaded.key, loaded.unused) == ("net", ("loss.centers",))
    count = sum(p.numel() for p in make_network(1).parameters())
    assert loaded.lines() == [
        f"MTL-DAN under net: {count:,} parameters",
        "1 other tensors are not used: loss.centers",
    ]


@pytest.mark.parametrize("name", ["DAN.features.7.2.conv1.weight", "fc4.weight", "cat_head0.x"])
def test_a_larger_network_does_not_fit(tmp_path: Path, state: State, name: str) -> None:
    torch.save(state | {name: torch.ones(1)}, tmp_path / "m.pth")
    with pytest.raises(InputError, match=f"1 keys unexpected: {name}"):
        load_mtl_dan(tmp_path / "m.pth")


def test_the_key_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    file = tmp_path / "m.pth"
    file.write_bytes(b"x")
    assert len({weights_fingerprint(file, key) for key in (None, "model", "ema")}) == 3


def test_a_mapping_that_holds_itself_ends(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    content |= {"": content, "a": content}
    torch.save(content, tmp_path / "m.pth")
    with pytest.raises(InputError, match="found no tensors"):
        read_state(tmp_path / "m.pth")


def test_more_networks_than_a_file_holds_are_refused(tmp_path: Path) -> None:
    many = {f"{n}.DAN.cat_head0.x": torch.ones(1) for n in range(1000)}
    torch.save(many, tmp_path / "m.pth")
    with pytest.raises(InputError, match="holds 1000 networks"):
        read_state(tmp_path / "m.pth")


def test_options_with_code_are_refused(tmp_path: Path, state: State) -> None:
    torch.save({"model": state, "args": Namespace(path=Path("x"))}, tmp_path / "m.pth")
    with pytest.raises(InputError, match="more than tensors"):
        load_mtl_dan(tmp_path / "m.pth")
    (tmp_path / "n.pth").write_bytes(pickle.dumps(Namespace(x=1), 2))
    with pytest.raises(InputError):
        load_mtl_dan(tmp_path / "n.pth")


NUMBERS = [
    np.int64(-3), np.uint8(200), np.float32(0.5), np.float64(0.1), np.float16(2), np.bool_(1),
]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: type(number).__name__)
@pytest.mark.parametrize("zipped", [True, False])
def test_numbers_of_numpy_become_those_of_python(
    tmp_path: Path, number: np.generic, zipped: bool
) -> None:
    torch.save({"x": number}, tmp_path / "m.pth", _use_new_zipfile_serialization=zipped)
    found = read_torch(tmp_path / "m.pth")["x"]
    assert found == number.item()
    assert type(found) is type(number.item())


HOSTILE = {
    "a large type": lambda: np.zeros((), "V100000000")[()],
    "text": lambda: np.str_("x"),
    "a date": lambda: np.datetime64("2026-01-01"),
    "a complex number": lambda: np.complex64(1),
    "an array": lambda: np.ones(2),
    "a slow encoding": lambda: Encoded(),
}


class Encoded:
    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return codecs.encode, ("\u4e00" * 100_000, "punycode")


@pytest.mark.parametrize("kind", HOSTILE)
def test_other_values_of_numpy_are_refused(tmp_path: Path, kind: str) -> None:
    torch.save({"x": HOSTILE[kind]()}, tmp_path / "m.pth")
    with pytest.raises(InputError, match=r"refused|expected the type of a plain number"):
        read_torch(tmp_path / "m.pth")


def test_paths_may_be_text(tmp_path: Path, state: State) -> None:
    name = str(tmp_path / "m.safetensors")
    save_mtl_dan(name, make_network(1), {"input_size": "32"})
    assert read_metadata(name) == {"input_size": "32"}
    assert load_mtl_dan(name).state_dict().keys() == read_state(name).keys()
    assert weights_fingerprint(name) == weights_fingerprint(Path(name))


def test_a_pretraining_begins_with_wrapped_weights(tmp_path: Path, state: State) -> None:
    torch.save({"state_dict": named("model._orig_mod.", state)}, tmp_path / "m.pth")
    initial = initial_network(tmp_path / "m.pth", 1, seed=0)
    assert torch.equal(initial.model.fc1.weight, state["fc1.weight"])


def test_a_pretraining_lists_what_it_does_not_use(
    tmp_path: Path, state: State, other: State
) -> None:
    content = {"model": other, "ema": state | {"loss.centers": torch.ones(3)}}
    torch.save(content, tmp_path / "m.pth")
    initial = initial_network(str(tmp_path / "m.pth"), 1, seed=0, key="ema")
    assert torch.equal(initial.model.fc1.weight, state["fc1.weight"])
    assert initial.summary()[-1] == "  not used: 1 tensors: loss.centers"
    assert initial.fingerprint != weights_fingerprint(tmp_path / "m.pth")


@pytest.mark.slow
def test_features_of_two_networks_of_a_file_are_kept_apart(
    tmp_path: Path, state: State, other: State
) -> None:
    file = tmp_path / "m.pth"
    torch.save({"model": other, "ema": state}, file)
    (tmp_path / "c").mkdir()
    picture(np.random.default_rng(0)).save(tmp_path / "c" / "0.png")
    targets = np.zeros((1, 1), np.float32)
    clips = ClipTable(("c",), ("train",), targets, ("joy",), (tmp_path / "c",), "images")
    found = [
        each.stream
        for key in ("model", "ema")
        for each in read_all(
            [Source(clips, encoder_of(file, EncoderOptions(key=key)))],
            tmp_path / "cache", [EVERY], CPU, silent,
        )
    ]  # fmt: skip
    assert found[0].specification.differences(found[1].specification)
    assert not np.allclose(found[0].values, found[1].values)
