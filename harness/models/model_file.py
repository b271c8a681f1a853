"""The file of a model: safetensors of its weights, with all that prediction needs beside them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from harness.atomic import write_bytes
from harness.dataset import Specification
from harness.earlier import completed
from harness.errors import InputError
from harness.models.config import TrialConfig
from harness.models.model import Model

_SCHEMA = "model 3"


def write_model(path: Path, model: Model) -> None:
    """Writes a model atomically, as safetensors with a checksum of everything."""
    said = {
        "schema": _SCHEMA,
        "name": model.name,
        "config": json.dumps(model.config.to_dict()),
        "streams": json.dumps({name: s.to_dict() for name, s in model.streams.items()}),
        "targets": json.dumps(model.targets),
        "early_stop_split": model.early_stop_split,
        "fill": json.dumps(model.fill.tolist()),
    }
    weights = {f"{n}.{k}": v for n, state in enumerate(model.weights) for k, v in state.items()}
    # In memory first: of a full disk the library's own writer says nothing that can be caught.
    write_bytes(path, save(weights, {**said, "sha256": _seal(said, weights)}))


def read_model(path: Path) -> Model:
    """Reads a model. InputError if the file is missing, damaged, or of another schema."""
    try:
        with safe_open(path, "np") as file:
            said: dict[str, str] = dict(file.metadata() or {})
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise InputError(f"{path}: not readable as safetensors: {error}") from error
    if said.get("schema") != _SCHEMA:
        raise InputError(f"{path}: schema {said.get('schema')!r}, this harness reads {_SCHEMA!r}")
    if said.pop("sha256", None) != _seal(said, weights):
        raise InputError(f"{path}: it was damaged or edited, its checksum does not fit")
    try:
        return Model(
            name=said["name"],
            config=TrialConfig.from_dict(completed(json.loads(said["config"]))),
            streams={
                name: Specification.from_dict(stream)
                for name, stream in sorted(json.loads(said["streams"]).items())
            },
            targets=tuple(json.loads(said["targets"])),
            early_stop_split=said["early_stop_split"],
            fill=np.array(json.loads(said["fill"]), dtype=np.float32),
            weights=_by_head(weights),
        )
    except KeyError as error:
        raise InputError(f"{path}: no model of this harness: it lacks {error}") from error
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: no model of this harness: {error}") from error


def _by_head(weights: Mapping[str, NDArray[np.float32]]) -> tuple[dict[str, Any], ...]:
    heads: dict[int, dict[str, NDArray[np.float32]]] = {}
    for name, array in weights.items():
        number, _, rest = name.partition(".")
        heads.setdefault(int(number), {})[rest] = array
    return tuple(state for _, state in sorted(heads.items()))


def _seal(said: Mapping[str, str], weights: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name in sorted(weights):
        digest.update(f"{name} {weights[name].shape} {weights[name].dtype}".encode())
        digest.update(np.ascontiguousarray(weights[name]).tobytes())
    return digest.hexdigest()
