"""A trained head on disk: its weights, and all that is needed to build it again."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from harness.atomic import write_bytes
from harness.errors import InputError
from harness.models.config import TrialConfig
from harness.models.head import LSTMHead

_SCHEMA = "head 2"


@dataclass(frozen=True)
class Head:
    """A trained head.

    trial: its id. config: what it was trained with. targets: names of its outputs. features:
    fingerprint of the features it reads. early_stop_split: what chose its epoch. fill: (targets,)
    the mean rating of train, which clips without features are predicted by. weights: its state
    dict as arrays.
    """

    trial: str
    config: TrialConfig
    targets: tuple[str, ...]
    features: str
    early_stop_split: str
    fill: NDArray[np.float32]
    weights: dict[str, NDArray[np.float32]]

    def models(self) -> list[LSTMHead]:
        """The module, in eval; one for each fold, in order, where it was trained on folds."""
        states: dict[int, dict[str, torch.Tensor]] = {}
        for name, array in self.weights.items():
            fold, _, rest = name.partition(".")
            of_fold = fold.isdecimal()
            state = states.setdefault(int(fold) if of_fold else 0, {})
            state[rest if of_fold else name] = torch.from_numpy(array)
        return [self._model(state) for _, state in sorted(states.items())]

    def _model(self, state: dict[str, torch.Tensor]) -> LSTMHead:
        # Without memory of its own: a configuration cannot ask for more than the file holds.
        with torch.device("meta"):
            model = LSTMHead(len(state["mean"]), len(self.targets), self.config)
        model.load_state_dict(state, assign=True)
        return model.eval()


def write_head(path: Path, head: Head) -> None:
    """Writes a head atomically, as safetensors with a checksum of everything."""
    said = {
        "schema": _SCHEMA,
        "trial": head.trial,
        "config": json.dumps(head.config.to_dict()),
        "targets": json.dumps(head.targets),
        "features": head.features,
        "early_stop_split": head.early_stop_split,
        "fill": json.dumps(head.fill.tolist()),
    }
    # In memory first: of a full disk the library's own writer says nothing that can be caught.
    write_bytes(path, save(head.weights, {**said, "sha256": _seal(said, head.weights)}))


def read_head(path: Path) -> Head:
    """Reads a head. InputError if the file is missing, damaged, or of another schema."""
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
        return Head(
            trial=said["trial"],
            config=TrialConfig.from_dict(json.loads(said["config"])),
            targets=tuple(json.loads(said["targets"])),
            features=said["features"],
            early_stop_split=said["early_stop_split"],
            fill=np.array(json.loads(said["fill"]), dtype=np.float32),
            weights=weights,
        )
    except KeyError as error:
        raise InputError(f"{path}: no head of this harness: it lacks {error}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: no head of this harness: {error}") from error


def _seal(said: dict[str, str], weights: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name in sorted(weights):
        digest.update(f"{name} {weights[name].shape} {weights[name].dtype}".encode())
        digest.update(np.ascontiguousarray(weights[name]).tobytes())
    return digest.hexdigest()
