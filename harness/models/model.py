"""A trained model: everything that predicts clips from a data set, and its bytes on disk."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from harness.atomic import write_bytes
from harness.dataset import Dataset, Rows, Specification
from harness.errors import InputError
from harness.models.config import TrialConfig
from harness.models.head import Head
from harness.models.sequences import tensors
from harness.models.training import predict

_SCHEMA = "model 1"


@dataclass(frozen=True, repr=False)
class Model:
    """One or several trained heads, of which several are folds whose mean is the prediction.

    name: of the trial that trained it. config: what it was trained with. stream: the specification
    of the features that it reads. targets: names of its outputs. early_stop_split: what chose its
    epochs. fill: (targets,) the mean rating of train, which clips without features are predicted
    by. weights: of each head, its state dict as arrays.
    """

    name: str
    config: TrialConfig
    stream: Specification
    targets: tuple[str, ...]
    early_stop_split: str
    fill: NDArray[np.float32]
    weights: tuple[Mapping[str, NDArray[np.float32]], ...]

    def __repr__(self) -> str:
        return f"<Model {self.name}: {len(self.weights)} heads, {len(self.targets)} targets>"

    def heads(self, device: torch.device | None = None) -> list[Head]:
        """The modules, in eval."""
        return [self._head(state).to(device or torch.device("cpu")) for state in self.weights]

    def predict(
        self, data: Dataset, rows: Rows | None = None, device: torch.device | None = None
    ) -> NDArray[np.float32]:
        """Intensities (clips, targets); of clips without a step, `fill`.

        Args:
            rows: which clips; None: all.

        Raises:
            InputError: the data set's features are not those that the model reads.
        """
        rows = np.arange(len(data)) if rows is None else rows
        self.check(data)
        return predicted(self.heads(device), self.config, data, rows, self.fill, device)

    def reads(self, data: Dataset) -> NDArray[np.bool_]:
        """(clips,) True for those that have a step for this model."""
        return data.features.at(self.config.stride)

    def check(self, data: Dataset) -> None:
        """Compares features by their specification.

        Raises:
            InputError: they are others than those that the model was trained on.
        """
        given = data.features.specification_of(self.config.features)
        if differences := self.stream.differences(given):
            raise InputError(
                f"model {self.name}: reads other features than these: {'; '.join(differences)}"
            )

    def _head(self, state: Mapping[str, NDArray[np.float32]]) -> Head:
        # Without memory of its own: a configuration cannot ask for more than the file holds.
        with torch.device("meta"):
            head = Head(self.stream.width, len(self.targets), self.config)
        head.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, assign=True)
        return head.eval()


def predicted(
    heads: list[Head],
    config: TrialConfig,
    data: Dataset,
    rows: Rows,
    fill: NDArray[np.float32],
    device: torch.device | None = None,
) -> NDArray[np.float32]:
    """The heads' mean predictions (clips, targets) of some clips, `fill` for those without a
    step."""
    found = np.tile(fill, (len(rows), 1))
    seen = data.features.at(config.stride)[rows]
    if seen.any():
        given = tensors(data, rows[seen], config, device or torch.device("cpu"))
        found[seen] = np.mean([predict(head, given) for head in heads], axis=0)
    return found


def write_model(path: Path, model: Model) -> None:
    """Writes a model atomically, as safetensors with a checksum of everything."""
    said = {
        "schema": _SCHEMA,
        "name": model.name,
        "config": json.dumps(model.config.to_dict()),
        "stream": json.dumps(model.stream.to_dict()),
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
            config=TrialConfig.from_dict(json.loads(said["config"])),
            stream=Specification.from_dict(json.loads(said["stream"])),
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
