"""Weight files: the published forms and safetensors in, safetensors out.

Nothing is ever unpickled but tensors and plain containers.
"""

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from harness.atomic import write_bytes
from harness.backbone.mtl_dan import MTLDAN
from harness.errors import InputError

_HEAD = re.compile(r"DAN\.cat_head(\d+)\.")
_PARALLEL = "module."
_HELD_UNDER = ("model_state_dict", "state_dict")
_NAMED = 3


def load_mtl_dan(path: Path) -> MTLDAN:
    """Reads an MTL-DAN, frozen in `eval`; the number of heads follows from the file.

    Accepts a bare state dict or one under `model_state_dict`, with or without the `module.` that
    DataParallel puts before every name, as a torch file or as safetensors.

    Raises:
        InputError: the file is missing, damaged, holds anything but tensors, or does not fit; the
            message says which keys are missing, unexpected or of another shape.
    """
    state = read_state(path)
    heads = {int(found[1]) for key in state if (found := _HEAD.match(key))}
    if not heads:
        raise InputError(
            f"{path}: no MTL-DAN: no key DAN.cat_head0...; its keys begin {some(list(state))}"
        )
    with torch.device("meta"):
        model = MTLDAN(max(heads) + 1)
    check_fit(path, state, model.state_dict(), "MTL-DAN")
    model.load_state_dict(state, assign=True)
    model.requires_grad_(False)
    return model.float().eval()


def save_mtl_dan(path: Path, model: MTLDAN, metadata: Mapping[str, str]) -> None:
    """Writes safetensors atomically; metadata such as {"input_size": "64"} travels with it."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    # Not save_file, whose files their owner alone may read.
    write_bytes(path, save(state, dict(metadata)))


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty for a torch file."""
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {error}") from error


def weights_fingerprint(path: Path) -> str:
    """sha256 of a weight file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file by name.

    Accepts safetensors, or a torch file of a bare state dict or of one under `model_state_dict`
    or `state_dict`; the `module.` of DataParallel is taken away where every name has it.

    Raises:
        InputError: the file is missing, damaged, or holds anything but tensors.
    """
    return _without_prefix(_read(path))


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU: tensors and plain containers, nothing that runs code.

    Raises:
        InputError: the file is damaged or holds more than that.
    """
    try:
        _check_stored(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: refused: damaged, or it holds more than tensors and could run code; "
            "give a file of a state_dict alone"
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise InputError(f"{path}: damaged or no weight file: {error}") from error


def _check_stored(path: Path) -> None:
    """torch.save compresses nothing; what is compressed may be far larger than its file."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise InputError(f"{path}: {entry.filename} in it is compressed: refused")


def check_fit(
    path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str
) -> None:
    """Raises InputError unless names and shapes agree; the message says which do not."""
    shapes = [
        f"{name} is {list(found[name].shape)}, not {list(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    problems = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": shapes,
    }
    parts = [f"{len(keys)} keys {how}: {some(keys)}" for how, keys in problems.items() if keys]
    if parts:
        raise InputError(f"{path}: does not fit {what}: {'; '.join(parts)}")


def some(items: Sequence[str]) -> str:
    """The first few of many, for a message."""
    return ", ".join(items[:_NAMED]) + (", ..." if len(items) > _NAMED else "")


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(
            f"{path}: no such weight file; give a checkpoint or the --out of harness.pretrain"
        )
    if path.suffix != ".safetensors":
        return _state_dict(path, read_torch(path))
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: damaged or no weight file: {error}") from error


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        held = next((key for key in _HELD_UNDER if key in content), None)
        content = content if held is None else content[held]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path}: expected a state dict, found {type(content).__name__}")
    odd = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if odd:
        raise InputError(f"{path}: expected tensors, but {', '.join(odd[:_NAMED])} are none")
    return {str(name): value for name, value in content.items()}


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    if not all(name.startswith(_PARALLEL) for name in state):
        return state
    return {name.removeprefix(_PARALLEL): value for name, value in state.items()}
