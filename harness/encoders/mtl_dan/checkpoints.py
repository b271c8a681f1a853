"""Weight files: the published forms and safetensors in, safetensors out.

Nothing is ever unpickled but tensors and plain containers.
"""

import hashlib
import io
import pickle
import pickletools
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from harness.atomic import write_bytes
from harness.encoders.mtl_dan.network import MTLDAN, WIDTH, WIDTHS
from harness.errors import InputError

_HEAD = re.compile(r"DAN\.cat_head(\d+)\.")
_PARALLEL = "module."
_HELD_UNDER = ("model_state_dict", "state_dict")
_NAMED = 3
# What tensors and plain containers are made of, in a pickle. PyTorch's own list is longer: with
# `bytearray`, some bytes would ask for all memory.
_MADE_OF = re.compile(
    r"collections OrderedDict|torch (\w+Storage|Size|device|Tensor|[a-z]+[0-9]*)"
    r"|torch\.nn\.parameter Parameter|torch\._tensor _rebuild_from_type_v2"
    r"|torch\._utils _rebuild_(tensor(_v2|_v3)?|parameter(_with_state)?)"
)
# A file of before 2020 is this many pickles, and then the numbers.
_OLD_PICKLES = 5
# How a zip begins, which torch.save has written since 1.6.
_ZIP = b"PK\x03\x04"


def load_mtl_dan(path: Path) -> MTLDAN:
    """Reads an MTL-DAN, frozen in `eval`; its heads and its width follow from the file.

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
    # A name alone must not ask for a billion heads.
    if heads != set(range(len(heads))):
        raise InputError(f"{path}: no MTL-DAN: its heads are numbered {some(sorted(heads))}")
    with torch.device("meta"):
        model = MTLDAN(max(heads) + 1, _width(state))
    check_fit(path, state, model.state_dict(), "MTL-DAN")
    model.load_state_dict(state, assign=True)
    model.requires_grad_(False)
    return model.float().eval()


def _width(state: Mapping[str, Tensor]) -> int:
    """Channels of a file's trunk; the published number where the file does not fit any."""
    stem = state.get("DAN.features.0.weight")
    width = 8 * len(stem) if stem is not None and stem.ndim else WIDTH
    return width if width in WIDTHS else WIDTH


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
    """InputError if a torch file is more than it seems: compressed, or of more than tensors.

    torch.save compresses nothing, and its entries lie side by side; others may hold far more than
    their file's size.
    """
    with path.open("rb") as file:
        # As torch tells: by how it begins, not by what may have been hung on its end.
        zipped = file.read(len(_ZIP)) == _ZIP
        file.seek(0)
        if not zipped:
            for _ in range(_OLD_PICKLES):
                _check_pickle(path, file)
            return
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            for entry in entries:
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise InputError(f"{path}: {entry.filename} in it is compressed: refused")
            if sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise InputError(f"{path}: its entries overlap: refused")
            for entry in entries:
                # torch looks for the name in any case.
                if entry.filename.lower().endswith("data.pkl"):
                    _check_pickle(path, io.BytesIO(archive.read(entry)))


def _check_pickle(path: Path, file: IO[bytes]) -> None:
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "GLOBAL" and not _MADE_OF.fullmatch(str(argument)):
            raise InputError(
                f"{path}: refused: it holds more than tensors ({argument}) and could run code; "
                "give a file of a state_dict alone"
            )


def check_fit(
    path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str
) -> None:
    """Raises InputError unless names, shapes and kinds of numbers agree; the message says which do
    not."""
    shapes = [
        f"{name} is {list(found[name].shape)}, not {list(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    problems = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": shapes,
        "of other numbers": [
            f"{name} is {found[name].dtype}"
            for name in expected
            if name in found
            and expected[name].is_floating_point()
            and not found[name].is_floating_point()
        ],
    }
    parts = [f"{len(keys)} keys {how}: {some(keys)}" for how, keys in problems.items() if keys]
    if parts:
        raise InputError(f"{path}: does not fit {what}: {'; '.join(parts)}")


def some(items: Sequence[object]) -> str:
    """The first few of many, for a message."""
    return ", ".join(map(str, items[:_NAMED])) + (", ..." if len(items) > _NAMED else "")


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
    odd = [str(name) for name, value in content.items() if not _is_plain(value)]
    if odd:
        raise InputError(f"{path}: expected tensors, but {', '.join(odd[:_NAMED])} are none")
    return {str(name): value for name, value in content.items()}


def _is_plain(value: object) -> bool:
    """Whether it is a tensor with all of its numbers."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_meta or value.is_quantized or value.is_nested)
    )


def _without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    if not all(name.startswith(_PARALLEL) for name in state):
        return state
    return {name.removeprefix(_PARALLEL): value for name, value in state.items()}
