"""The networks in the content of a weight file, wherever people keep them.

Weights may be at the top level or under keys such as `model_state_dict`, `state_dict`, `model`,
`net` or `ema`, beside an epoch or an optimizer, and their names may begin with those of wrappers:
`module.` (DataParallel), `_orig_mod.` (torch.compile), `model.` (Lightning).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from harness.errors import InputError, printable

#: The kinds of networks that are looked for, each by a name that only it has, and the first parts
#: of its names. A file of several kinds is taken for the first.
MTL_DAN, DAN, RESNET = "MTL-DAN", "DAN", "ResNet"
_KINDS = {
    MTL_DAN: (r"DAN\.cat_head\d+\.", r"DAN|cat_head\d+|encoder|fc\d*|bn\d*"),
    DAN: (r"cat_head\d+\.", r"features|cat_head\d+|fc\d*|bn\d*"),
    RESNET: (r"layer1\.0\.conv1\.weight", r"conv\d*|bn\d*|layer\d+|fc\d*"),
}
# Parts of names that wrappers add anywhere.
_WRAPPERS = ("module", "_orig_mod")
# Counts of operations that some profilers leave as buffers.
_PROFILED = ("total_ops", "total_params")
# Files nest no deeper, and hold no more networks.
_DEEPEST = 3
_MOST_NETWORKS = 20
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Weights:
    """The weights of one network in a file.

    key: where they are, as `key` of `read_weights` takes it; "" at the top level. kind: one of the
    kinds above; "" if it is none. tensors: by name, without wrappers. unused: the names of other
    tensors beside them.
    """

    key: str
    kind: str
    tensors: dict[str, Tensor]
    unused: tuple[str, ...] = ()


def find_weights(content: Mapping[Any, Any], key: str | None, kind: str | None) -> Weights:
    """The only network in the content of a file, or that of a key.

    Args:
        key: a key of the file, such as `ema`, or several with dots between them; None: the only
            network.
        kind: ignore networks of other kinds, if there is one of this kind.

    Raises:
        InputError: no such key, several networks, or no tensors at all. The message names no file.
    """
    found = list(_networks(content))
    of_kind = [weights for weights in found if weights.kind == kind]
    found = of_kind or found
    if not found:  # as it is; who asked says what does not fit
        found = [Weights(name, "", tensors) for name, tensors in _mappings(content)]
    chosen = found if key is None else [weights for weights in found if _is_at(weights.key, key)]
    # With a key, a place named exactly goes before places within it.
    chosen = [weights for weights in chosen if weights.key == key] or chosen
    if len(chosen) == 1 or (len(chosen) > 1 and not chosen[0].kind):
        return _complete(chosen[0])
    names = ", ".join(printable(weights.key) or '""' for weights in found)
    if not found:
        raise InputError("expected a state dict, found no tensors")
    if not chosen:
        raise InputError(f"no weights under {key!r}; `weights_key`: choose one of {names}")
    raise InputError(f"holds several networks; `weights_key`: choose one of {names}")


def _networks(content: Mapping[Any, Any]) -> Iterator[Weights]:
    for place, tensors in _mappings(content):
        for kind, (sign, parts) in _KINDS.items():
            found = [re.match(rf"((?:.*\.)?){sign}", name) for name in tensors]
            # dict keeps the order of the file.
            prefixes = dict.fromkeys(match[1] for match in found if match)
            if len(prefixes) > _MOST_NETWORKS:
                raise InputError(f"holds {len(prefixes)} networks; give a file with one")
            for prefix in prefixes:
                yield _network(place, kind, tensors, prefix, parts)
            if prefixes:
                break


def _network(
    place: str, kind: str, tensors: Mapping[str, Tensor], prefix: str, parts: str
) -> Weights:
    used, unused = {}, []
    for name, value in tensors.items():
        rest = name.removeprefix(prefix)
        first, dot, _ = rest.partition(".")
        profiled = rest.rpartition(".")[2] in _PROFILED
        if name.startswith(prefix) and dot and re.fullmatch(parts, first) and not profiled:
            used[rest] = value
        else:
            unused.append(name)
    return Weights(_join(place, prefix.rstrip(".")), kind, used, tuple(unused))


def _mappings(content: Mapping[Any, Any]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The mappings that hold tensors, from outside to inside, with their places.

    One that is in several places is given once, so that a hostile file takes no longer.
    """
    seen: set[int] = set()
    level: list[tuple[str, Mapping[Any, Any]]] = [("", content)]
    for _ in range(1 + _DEEPEST):
        inner = []
        for place, mapping in level:
            if id(mapping) in seen:
                continue
            seen.add(id(mapping))
            tensors = {str(k): v for k, v in mapping.items() if isinstance(v, Tensor)}
            if tensors:
                yield place, _without_wrappers(tensors)
            inner += [
                (_join(place, str(k)), v) for k, v in mapping.items() if isinstance(v, Mapping)
            ]
        level = inner


def _without_wrappers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    short = {
        ".".join(part for part in name.split(".") if part not in _WRAPPERS): value
        for name, value in tensors.items()
    }
    # A name with and without a wrapper: two networks.
    return short if len(short) == len(tensors) else tensors


def _complete(weights: Weights) -> Weights:
    """Adds the counters of batches that old versions of torch do not save; no output needs them."""
    names = weights.tensors
    norms = [n.removesuffix("running_mean") for n in names if n.endswith(".running_mean")]
    missing = {n + _COUNTER: torch.tensor(0) for n in norms if n + _COUNTER not in names}
    return replace(weights, tensors=weights.tensors | missing)


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place and name else place or name


def _is_at(place: str, key: str) -> bool:
    """Whether a key names a place: all of it, or its first or last parts."""
    if not key:
        return not place
    return f"{place}.".startswith(f"{key}.") or f".{place}".endswith(f".{key}")
