"""Weight files: torch files and safetensors are read, safetensors are written.

Only tensors and plain containers are unpickled.
"""

import hashlib
import io
import json
import pickle
import pickletools
import re
import zipfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from harness.atomic import write_bytes
from harness.encoders.mtl_dan.candidates import MTL_DAN, Weights, find_weights
from harness.encoders.mtl_dan.network import MTLDAN, WIDTH, WIDTHS
from harness.encoders.mtl_dan.numpy_scalars import STAND_INS
from harness.errors import InputError, printable

_HEAD = re.compile(r"DAN\.cat_head(\d+)\.")
_NAMED = 3
# The classes and functions in a pickle of tensors, plain containers, numbers of numpy and the
# options of a script.
# PyTorch allows more, such as `bytearray`, with which a small file could take all memory.
_MADE_OF = re.compile(
    r"collections OrderedDict|argparse Namespace|torch (\w+Storage|Size|device|Tensor|[a-z]+[0-9]*)"
    r"|torch\.nn\.parameter Parameter|torch\._tensor _rebuild_from_type_v2"
    r"|torch\._utils _rebuild_(tensor(_v2|_v3)?|parameter(_with_state)?)"
    r"|numpy\.(_core|core)\.multiarray scalar|numpy dtype|_codecs encode"
)
# The only encoding of Python whose time grows faster than the text.
_SLOW_ENCODING = "punycode"
# Files of torch before 1.6 begin with this many pickles; the numbers follow.
_OLD_PICKLES = 5
# The first bytes of a zip file, which torch.save has written since 1.6.
_ZIP = b"PK\x03\x04"


@dataclass(frozen=True)
class Loaded:
    """A network from a file.

    model: frozen, in eval. key: where its weights are in the file; "" at the top level. unused: the
    names of other tensors beside them.
    """

    model: MTLDAN
    key: str
    unused: tuple[str, ...]

    def lines(self) -> list[str]:
        """The number of parameters, and what of the file is not used, for the terminal."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        place = f" under {printable(self.key)}" if self.key else ""
        lines = [f"MTL-DAN{place}: {parameters:,} parameters"]
        if self.unused:
            lines.append(f"{len(self.unused)} other tensors are not used: {some(self.unused)}")
        return lines


def load_mtl_dan(path: str | PathLike[str], key: str | None = None) -> MTLDAN:
    """Reads an MTL-DAN, frozen in `eval`; its heads and its width follow from the file.

    Accepts a torch file or safetensors; `read_weights` says where the weights may be in it.

    Args:
        key: which weights, where a file holds several, such as `ema`.

    Raises:
        InputError: the file is missing, damaged, holds no MTL-DAN or several, or code, or does not
            fit; the message says which keys are missing, unexpected or of another shape.
    """
    return load_with_report(path, key).model


def load_with_report(path: str | PathLike[str], key: str | None = None) -> Loaded:
    """As `load_mtl_dan`, with what a user should know about the file."""
    path = Path(path)
    weights = read_weights(path, key, kind=MTL_DAN)
    state = weights.tensors
    heads = {int(found[1]) for name in state if (found := _HEAD.match(name))}
    if not heads:
        raise InputError(
            f"{path}: no MTL-DAN: no key DAN.cat_head0...; its keys begin {some(list(state))}"
        )
    # A hostile name must not create a billion heads.
    if heads != set(range(len(heads))):
        raise InputError(f"{path}: no MTL-DAN: its heads are numbered {some(sorted(heads))}")
    with torch.device("meta"):
        model = MTLDAN(max(heads) + 1, _width(state))
    check_fit(path, state, model.state_dict(), "MTL-DAN")
    model.load_state_dict(state, assign=True)
    model.requires_grad_(False)
    return Loaded(model.float().eval(), weights.key, weights.unused)


def _width(state: Mapping[str, Tensor]) -> int:
    """Channels of the trunk in a file; the published number if the file has none of WIDTHS."""
    stem = state.get("DAN.features.0.weight")
    width = 8 * len(stem) if stem is not None and stem.ndim else WIDTH
    return width if width in WIDTHS else WIDTH


def save_mtl_dan(path: str | PathLike[str], model: MTLDAN, metadata: Mapping[str, str]) -> None:
    """Writes safetensors atomically, with metadata such as {"input_size": "64"}."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    # save_file would write files that only their owner can read.
    write_bytes(Path(path), save(state, dict(metadata)))


def read_metadata(path: str | PathLike[str]) -> dict[str, str]:
    """The metadata of a safetensors file; empty for a torch file."""
    if not _is_safetensors(path):
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {error}") from error


def weights_fingerprint(path: str | PathLike[str], key: str | None = None) -> str:
    """sha256 of a weight file, and of the key where one chooses among its networks.

    Of safetensors it is that of metadata and tensors, sorted by name: the library writes metadata
    in random order, so that equal files can differ in their bytes.
    """
    try:
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        if _is_safetensors(path):
            digest = _content_digest(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except SafetensorError as error:
        raise InputError(f"{path}: damaged or no weight file: {error}") from error
    if key is not None:
        digest.update(f"key={key}".encode())
    return digest.hexdigest()


def _content_digest(path: str | PathLike[str]) -> "hashlib._Hash":
    with safe_open(path, framework="pt") as file:
        digest = hashlib.sha256(json.dumps(file.metadata() or {}, sort_keys=True).encode())
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name)
            digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest


def read_state(path: str | PathLike[str], key: str | None = None) -> dict[str, Tensor]:
    """The tensors of the network in a weight file by name; as `read_weights`."""
    return read_weights(path, key).tensors


def read_weights(
    path: str | PathLike[str], key: str | None = None, kind: str | None = None
) -> Weights:
    """The weights of the only network in a weight file, or of that under a key.

    Accepts safetensors and torch files. In both, the weights may be at the top level or under other
    keys, beside anything else; the names of wrappers are removed, and missing counters of batches
    are added. `harness.encoders.mtl_dan.candidates` lists what is recognised.

    Args:
        key: where the weights are, such as `ema` or `state_dict.model`; None: the only ones.
        kind: the kind of network that is wanted, if the file holds several kinds.

    Raises:
        InputError: the file is missing or damaged, could run code, holds no tensors or several
            networks, or the tensors have no plain numbers.
    """
    path = Path(path)
    content = _read(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected a state dict, found {type(content).__name__}")
    try:
        weights = find_weights(content, key, kind)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    odd = [name for name, value in weights.tensors.items() if not _is_plain(value)]
    if odd:
        raise InputError(f"{path}: expected plain tensors; {some(odd)} are sparse, or have no data")
    return weights


def read_torch(path: str | PathLike[str]) -> Any:
    """What `torch.save` wrote, on the CPU: tensors and plain containers, nothing that runs code.

    A Namespace, in which scripts keep their options, counts as a container. Numbers of numpy become
    those of Python.

    Raises:
        InputError: the file is damaged or holds more than that.
    """
    path = Path(path)
    try:
        _check_stored(path)
        with torch.serialization.safe_globals([Namespace, *STAND_INS]):
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
    """InputError if a torch file is compressed, has overlapping entries or holds more than tensors.

    torch.save compresses nothing and overlaps no entries. A hostile file may do so to unpack to far
    more than its size.
    """
    with path.open("rb") as file:
        # As torch does: by the first bytes; zipfile would accept a zip at the end of the file.
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
                # torch ignores the case of the name.
                if entry.filename.lower().endswith("data.pkl"):
                    _check_pickle(path, io.BytesIO(archive.read(entry)))


def _check_pickle(path: Path, file: IO[bytes]) -> None:
    for opcode, argument, _ in pickletools.genops(file):
        slow = isinstance(argument, str) and _SLOW_ENCODING in argument.casefold()
        if slow or (opcode.name == "GLOBAL" and not _MADE_OF.fullmatch(str(argument))):
            raise InputError(
                f"{path}: refused: it holds more than tensors ({argument}) and could run code; "
                "give a file of a state_dict alone"
            )


def check_fit(
    path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str
) -> None:
    """Checks names, shapes and types of tensors.

    Raises:
        InputError: some do not agree; the message lists them.
    """
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
    return ", ".join(printable(str(item)) for item in items[:_NAMED]) + (
        ", ..." if len(items) > _NAMED else ""
    )


def _read(path: Path) -> Any:
    if not path.is_file():
        raise InputError(
            f"{path}: no such weight file; give a checkpoint or the `out` of harness.pretrain"
        )
    if not _is_safetensors(path):
        return read_torch(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: damaged or no weight file: {error}") from error


def _is_safetensors(path: str | PathLike[str]) -> bool:
    return Path(path).suffix.lower() == ".safetensors"


def _is_plain(value: object) -> bool:
    """Whether it is a tensor with all of its numbers."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_meta or value.is_quantized or value.is_nested)
    )
