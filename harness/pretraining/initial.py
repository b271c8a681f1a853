"""The initial network of a pretraining: random weights, or those of a weight file."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from harness.encoders.mtl_dan.checkpoints import (
    check_fit,
    load_mtl_dan,
    read_weights,
    some,
    weights_fingerprint,
)
from harness.encoders.mtl_dan.network import EXPRESSIONS, MTLDAN, WIDTH
from harness.errors import InputError

#: The classes of DAN's AffectNet-8 files in their order, under Aff-Wild2's names.
AFFECTNET = (
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
)
_DAN_HEAD = re.compile(r"cat_head(\d+)\.")
# The index of each module of ResNet18 in DAN's trunk, which is a sequence.
_TRUNK = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
# Classifiers of a DAN and of a ResNet18. In an MTL-DAN they affect no output.
_UNUSED = ("fc", "bn")
_REST = "shared layer", "expression, action-unit and valence-arousal layers"


@dataclass(frozen=True)
class Initial:
    """A network and where its weights come from.

    source: the kind of weights. fingerprint: of the file, or `random`. loaded, random: the parts
    with weights of the file, and those with random weights. unused: tensors of the file that affect
    no output.
    """

    model: MTLDAN
    source: str
    fingerprint: str
    loaded: tuple[str, ...]
    random: tuple[str, ...]
    unused: tuple[str, ...] = ()

    def summary(self) -> list[str]:
        """The source, the loaded, random and unused parts, one line each."""
        unused = [f"  not used: {len(self.unused)} tensors: {some(self.unused)}"]
        return [
            f"initial weights: {self.source}",
            *(f"  loaded: {part}" for part in self.loaded),
            *(f"  random: {part}" for part in self.random),
            *(unused if self.unused else ()),
        ]


def initial_network(
    file: str | PathLike[str] | None,
    num_heads: int,
    seed: int,
    width: int = WIDTH,
    *,
    key: str | None = None,
) -> Initial:
    """An MTL-DAN to train.

    Args:
        file: a published DAN checkpoint, a ResNet18 (bare or under `state_dict`, as the trunk
            trained on MS-Celeb-1M is), or an MTL-DAN, recognised by their keys; None: all random.
        seed: of the random weights.
        width: of the trunk; published files need the default.
        key: which network of the file, where it holds several.

    Raises:
        InputError: the file is none of the three, has other shapes, or could run code.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MTLDAN(num_heads, width)
    if file is None:
        everything = ("trunk", *_heads(0, num_heads), *_REST)
        return Initial(model, "random weights", "random", (), everything)
    file = Path(file)
    weights = read_weights(file, key)
    source, load = _kind(file, weights.tensors, key)
    loaded, random = load(file, weights.tensors, model)
    unused = weights.unused
    if source != "MTL-DAN":
        unused += tuple(name for name in weights.tensors if _part(name) in _UNUSED)
    return Initial(model, source, weights_fingerprint(file, key), loaded, random, unused)


_Parts = tuple[tuple[str, ...], tuple[str, ...]]
_Loader = Callable[[Path, dict[str, Tensor], MTLDAN], _Parts]


def _kind(file: Path, state: Mapping[str, Tensor], key: str | None) -> tuple[str, _Loader]:
    if any(name.startswith("DAN.cat_head") for name in state):
        return "MTL-DAN", partial(_load_mtl_dan, key)
    if any(_DAN_HEAD.match(name) for name in state):
        return "DAN", _load_dan
    if "conv1.weight" in state and any(name.startswith("layer1.") for name in state):
        return "ResNet18 trunk", _load_trunk
    raise InputError(
        f"{file}: expected a DAN checkpoint (keys features.0..., cat_head0...), a ResNet18 (conv1, "
        f"layer1...) or an MTL-DAN (DAN.features.0...); its keys begin {some(list(state))}"
    )


def _load_mtl_dan(key: str | None, file: Path, _: dict[str, Tensor], model: MTLDAN) -> _Parts:
    found = load_mtl_dan(file, key)
    if found.num_heads != model.num_heads:
        raise InputError(
            f"{file}: an MTL-DAN of {found.num_heads} heads a branch, expected {model.num_heads}; "
            f"give `heads` {found.num_heads}"
        )
    model.load_state_dict(found.state_dict())
    return ("everything",), ()


def _load_dan(file: Path, state: dict[str, Tensor], model: MTLDAN) -> _Parts:
    count = 1 + max(int(found[1]) for key in state if (found := _DAN_HEAD.match(key)))
    if count > model.num_heads:
        raise InputError(
            f"{file}: a DAN of {count} heads, expected at most {model.num_heads}; "
            f"give `heads` {count} or more"
        )
    target = model.DAN.state_dict()
    kept = {name for name in target if _part(name) in _dan_parts(count)}
    last = {name for name in target if _part(name) in ("fc", "bn")}
    classes = state["fc.bias"].numel() if "fc.bias" in state else len(AFFECTNET)
    expected = {name: target[name] for name in kept}
    for name in last:
        # Everything except the counter of bn has a row for each class.
        shape = (classes, *target[name].shape[1:]) if target[name].ndim else ()
        expected[name] = target[name].new_empty(shape)
    check_fit(file, state, expected, "DAN")
    target |= {name: state[name] for name in kept}
    loaded = ["trunk", *_branch("expression", 0, count)]
    random = [
        *_branch("expression", count, model.num_heads),
        *_branch("action-unit", 0, model.num_heads),
    ]
    if classes == len(AFFECTNET):
        target |= {name: _in_our_order(state[name], target[name]) for name in last}
    model.DAN.load_state_dict(target)
    return tuple(loaded), (*random, *_REST)


def _dan_parts(count: int) -> tuple[str, ...]:
    return ("features", *(f"cat_head{head}" for head in range(count)))


def _part(name: str) -> str:
    return name.split(".")[0]


def _in_our_order(theirs: Tensor, ours: Tensor) -> Tensor:
    """Rows in AffectNet's order -> rows in Aff-Wild2's. The row of `other` is that of `ours`."""
    if not theirs.ndim:
        return theirs
    rows = ours.clone()
    for place, expression in enumerate(EXPRESSIONS):
        if expression in AFFECTNET:
            rows[place] = theirs[AFFECTNET.index(expression)]
    return rows


def _load_trunk(file: Path, state: dict[str, Tensor], model: MTLDAN) -> _Parts:
    ours = model.DAN.features.state_dict()
    names = {str(place): part for part, place in _TRUNK.items()}
    # From our names to the file's: 4.0.conv1.weight is layer1.0.conv1.weight there.
    theirs = {name: f"{names[_part(name)]}.{name.partition('.')[2]}" for name in ours}
    # fc classifies people or the classes of ImageNet; it is not used.
    found = {name: value for name, value in state.items() if _part(name) != "fc"}
    check_fit(file, found, {theirs[name]: value for name, value in ours.items()}, "ResNet18")
    model.DAN.features.load_state_dict({name: found[theirs[name]] for name in ours})
    return ("trunk",), (*_heads(0, model.num_heads), *_REST)


def _heads(first: int, end: int) -> tuple[str, ...]:
    return (*_branch("expression", first, end), *_branch("action-unit", first, end))


def _branch(name: str, first: int, end: int) -> tuple[str, ...]:
    return (f"{name} heads {first} to {end - 1}",) if first < end else ()
