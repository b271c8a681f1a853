"""An ONNX graph as a network of standardised images or sounds, run by onnxruntime."""

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.encoders.onnx.channels import channel_axis
from harness.encoders.onnx.graph import OnnxFile, Value, library
from harness.errors import InputError, printable

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# A cgroup's limit and use of memory, in its two versions; bytes.
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
# Characters of a message of onnxruntime that are shown.
_SHOWN = 300


class OnnxNetwork(nn.Module):
    """Items of the input's shape, (n, ...) float32 -> (n, columns) float32."""

    #: What an item is, for messages.
    item = "image"

    def __init__(
        self, file: OnnxFile, given: Value, wanted: str, axes: Mapping[int, tuple[int, ...] | None]
    ) -> None:
        """given: the input. wanted: the name of the value that becomes features. axes: of a value,
        by the ranks that it may have, those over which the mean is taken; None: not known."""
        super().__init__()
        self.path, self.given, self.wanted, self.axes = file.path, given, wanted, axes
        batch = given.shape[0] if given.shape else "?"
        #: Items that the graph takes at once; None: any number.
        self.batch = batch if isinstance(batch, int) else None
        self.mixes = file.mixes
        # Now, since an extraction limits the threads of torch while decoders need the cores.
        self.threads = torch.get_num_threads()
        self.kind = {"float16": np.float16, "uint8": np.uint8}.get(given.type, np.float32)
        # The wanted value alone, so that nothing behind it is computed.
        onnx = library("onnx")
        self.model = onnx.ModelProto()
        self.model.CopyFrom(file.model)
        for value in self.model.graph.input:
            for side in value.type.tensor_type.shape.dim:
                if side.dim_value <= 0:  # a dynamic axis of some exporters; 0 would be a size here
                    side.ClearField("dim_value")
        kept = [value for value in self.model.graph.output if value.name == wanted]
        del self.model.graph.output[:]
        self.model.graph.output.extend(kept or [onnx.ValueInfoProto(name=wanted)])
        self.sessions: dict[str, Any] = {}

    def forward(self, items: Tensor) -> Tensor:
        session = self._session(items.device)
        values = np.ascontiguousarray(items.cpu().numpy().astype(self.kind, copy=False))
        size = 1 if self.mixes else self.batch or len(values)
        parts = [self._run(session, values[i : i + size]) for i in range(0, len(values), size)]
        return torch.from_numpy(np.concatenate(parts)).to(items.device)

    def computed(self, session: Any, items: NDArray[Any]) -> Any:
        """The wanted value of a batch that the graph takes at once."""
        (found,) = session.run([self.wanted], {self.given.name: items})
        return found

    def _run(self, session: Any, items: NDArray[Any]) -> NDArray[np.float32]:
        count = len(items)
        if self.batch and count < self.batch:  # the graph takes no fewer
            items = np.concatenate([items, np.repeat(items[-1:], self.batch - count, axis=0)])
        with _reported(self.path), _within_memory(session.get_providers() == [_CPU]):
            found = self.computed(session, items)
        return self._pooled(found, len(items))[:count]

    def _pooled(self, found: Any, items: int) -> NDArray[np.float32]:
        """(items, columns)"""
        shape = getattr(found, "shape", None)
        what = f"{self.path}: output {printable(self.wanted)}"
        if shape is None or found.dtype.kind != "f":
            kind = type(found).__name__ if shape is None else str(found.dtype)
            raise InputError(f"{what} is of type {kind}; expected floating-point numbers")
        if len(shape) not in self.axes:
            ranks = f"{min(self.axes)} to {max(self.axes)}"
            raise InputError(f"{what} has rank {len(shape)}, shape {shape}; expected rank {ranks}")
        if shape[0] != items:
            raise InputError(
                f"{what} has shape {shape} for {items} {self.item}s; expected {items} rows, one "
                f"for each {self.item}; name another value by `encoder_output`"
            )
        axes = self.axes[len(shape)]
        if axes is None:
            raise InputError(
                f"{what} has shape {shape}, and the graph does not tell which axis holds the "
                "columns; name a value of two axes by `encoder_output`"
            )
        wide = found.astype(np.float32, copy=False)
        pooled: NDArray[np.float32] = wide.mean(axis=axes) if axes else wide
        if pooled.shape[1] < 1:
            raise InputError(f"{what} has no columns: shape {shape}")
        return pooled

    def _session(self, device: torch.device) -> Any:
        """Of onnxruntime, made at the first use on a device."""
        provider = provider_of(device)
        if provider not in self.sessions:
            onnxruntime = library("onnxruntime")
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4  # errors are raised
            options.intra_op_num_threads = self.threads
            # Threads that spin while they wait would take the cores from the decoders.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(self.path.parent)
            )
            # float32 is float32, as on a CPU, with whose features these are stored.
            settings = {"use_tf32": "0"} if provider == _CUDA else {}
            with _reported(self.path), _within_memory(provider == _CPU):
                self.sessions[provider] = onnxruntime.InferenceSession(
                    self.model.SerializeToString(), options, providers=[(provider, settings)]
                )
        return self.sessions[provider]


class ImageNetwork(OnnxNetwork):
    """(n, 3, height, width) float32 -> (n, columns) float32.

    Values of rank 3 or 4 are pooled: the mean over positions or tokens. Of rank 3 the columns are
    the last axis; of rank 4 they are where the operation that made the value has its channels.
    """

    def __init__(self, file: OnnxFile, given: Value, wanted: str, channels_last: bool) -> None:
        axis = channel_axis(file, wanted, 3 if channels_last else 1)
        positions = tuple({1, 2, 3} - {axis}) if axis else None
        super().__init__(file, given, wanted, {2: (), 3: (1,), 4: positions})
        self.channels_last = channels_last

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.permute(0, 2, 3, 1) if self.channels_last else images)


def batching(file: OnnxFile) -> dict[str, str]:
    """What a specification says of the batches of a graph."""
    return {"batch": "one at a time"} if file.mixes else {}


def provider_notes() -> list[str]:
    """A line if graphs run on the CPU although there is a GPU."""
    if not torch.cuda.is_available() or provider_of(torch.device("cuda")) == _CUDA:
        return []
    return [
        "The encoder runs on the CPU, since the installed onnxruntime has no CUDA; "
        "the package onnxruntime-gpu has it"
    ]


def provider_of(device: torch.device) -> str:
    """What onnxruntime runs on: the GPU where its package has CUDA, else the CPU."""
    known = library("onnxruntime").get_available_providers()
    return _CUDA if device.type == "cuda" and _CUDA in known else _CPU


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """What onnxruntime raises, as an InputError on one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # onnxruntime's errors have no common class
        text = printable(str(error)).removeprefix("[ONNXRuntimeError] : ")
        version = library("onnxruntime").__version__
        hint = ""
        if "pset" in text or "IR version" in text:
            hint = "export it again with a lower opset_version: "
        elif "allocate memory" in text or isinstance(error, MemoryError):
            hint = "it asks for more memory than is free: "
        raise InputError(f"{path}: onnxruntime {version} refuses it: {hint}{text[:_SHOWN]}") from (
            error
        )


@contextmanager
def _within_memory(limited: bool) -> Iterator[None]:
    """Lets allocations beyond the free memory fail. Without this, Linux may grant them and kill
    the process when it uses them."""
    free = _free_memory() if limited else None
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if free is None:
        yield
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + free
    bounds = [limit, *(b for b in (soft, hard) if b != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _free_memory() -> int | None:
    """Bytes that this process can still take; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    free = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")]
    for limit, used in _CGROUPS:
        try:
            free.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no such version, or no limit
            continue
    return max(0, min(free)) if free else None
