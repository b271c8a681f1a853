"""An ONNX file: its graph without its weights, its checksum, and the values that it can give.

Only `onnx` is needed here. The sizes of the weights are read, their numbers are not.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import InputError, printable

if TYPE_CHECKING:
    import onnx

#: The value of `--encoder-output` that asks for the input of the last fully connected layer.
FEATURES = "features"
# Operations that give for each element of one value an element, or only change its shape.
_ELEMENTWISE = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Clip", "Relu", "Sigmoid", "HardSigmoid", "Tanh"),
    *("Softmax", "LogSoftmax", "BatchNormalization", "Dropout", "Identity", "Cast"),
    *("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Concat", "Slice", "Split"),
)
# The operations of a fully connected layer, and those that pool positions.
_LINEAR, _POOLING = ("Gemm", "MatMul"), ("GlobalAveragePool", "ReduceMean")
# Values that a message or a description lists.
_LISTED = 12


@dataclass(frozen=True)
class Value:
    """A value of a graph. shape: numbers, names of dynamic axes, or `?`; None: unknown rank."""

    name: str
    type: str
    shape: tuple[int | str, ...] | None

    def __str__(self) -> str:
        shape = "of unknown shape" if self.shape is None else f"({', '.join(map(str, self.shape))})"
        return printable(f"{self.name} {self.type} {shape}")


@dataclass(frozen=True)
class OnnxFile:
    """A file that was read. model: without weights in other files. digest: sha256 of the file and
    of the files that hold its weights."""

    path: Path
    model: "onnx.ModelProto"
    digest: str

    @cached_property
    def constants(self) -> frozenset[str]:
        """Names of values that do not depend on the input: weights, and what is computed of them
        alone."""
        graph = self.model.graph
        found = {tensor.name for tensor in graph.initializer}
        found |= {tensor.values.name for tensor in graph.sparse_initializer}
        for node in graph.node:  # in topological order
            if all(name in found for name in node.input if name):
                found.update(node.output)
        return frozenset(found)

    @cached_property
    def inputs(self) -> tuple[Value, ...]:
        """What has to be given; older files list their weights among the inputs, too."""
        weights = {tensor.name for tensor in self.model.graph.initializer}
        return tuple(_value(v) for v in self.model.graph.input if v.name not in weights)

    @cached_property
    def outputs(self) -> tuple[Value, ...]:
        """In the file's order."""
        return tuple(_value(v) for v in self.model.graph.output)

    @cached_property
    def values(self) -> dict[str, Value]:
        """Every value that depends on the input, with its shape where it can be inferred."""
        import onnx

        try:
            graph = onnx.shape_inference.infer_shapes(self.model).graph
        except Exception:  # shapes are only shown: what is wrong with a graph onnxruntime says
            graph = self.model.graph
        known = {v.name: _value(v) for v in (*graph.value_info, *graph.input, *graph.output)}
        names = [name for node in graph.node for name in node.output if name]
        return {
            name: known.get(name, Value(name, "?", None))
            for name in names
            if name not in self.constants
        }

    @cached_property
    def mixes(self) -> bool:
        """Whether a dynamically quantised value takes its scale over the whole batch, so that the
        features of an item depend on the others."""
        return any(node.op_type.startswith("DynamicQuantize") for node in self.model.graph.node)

    def resolve(self, wanted: str) -> str:
        """The name of the value that a user asks for; empty: the first output.

        Raises:
            InputError: there is no such value, or no such layer.
        """
        if not self.outputs:
            raise InputError(f"{self.path}: the graph has no output")
        if not wanted:
            return self.outputs[0].name
        if wanted in self.values:
            return wanted
        if wanted != FEATURES:
            given = _listed([value.name for value in self.outputs])
            raise InputError(
                f"{wanted!r}: {self.path} has no such output or intermediate value; its outputs: "
                f"{given}; `describe_encoder` lists values with their widths",
                "encoder_output",
            )
        found = self.last_linear_inputs()
        if len(found) != 1:
            what = f"several values ({_listed(found)})" if found else "no value"
            raise InputError(
                f"{FEATURES}: in {self.path} {what} would be the input of the last fully connected "
                f"layer before {self.outputs[0].name}; name a value: "
                f"{_listed(self.candidates()) or 'none found'}",
                "encoder_output",
            )
        return found[0]

    def last_linear_inputs(self) -> list[str]:
        """The inputs of the fully connected layers after which only elementwise operations lead to
        the first output."""
        made_by = {name: node for node in self.model.graph.node for name in node.output}
        found: dict[str, None] = {}
        seen, waiting = set(), [self.outputs[0].name]
        while waiting:
            node = made_by.get(waiting.pop())
            if node is None or id(node) in seen:
                continue
            seen.add(id(node))
            variable = [name for name in node.input if name and name not in self.constants]
            if node.op_type in _LINEAR and len(variable) == 1:
                found[variable[0]] = None
            elif node.op_type in _ELEMENTWISE and (len(variable) == 1 or node.op_type == "Concat"):
                waiting += variable
            else:
                return []  # another layer is the last one
        return list(found)

    def candidates(self) -> list[str]:
        """Values that may serve as features, the deepest first: outputs, inputs of fully connected
        layers and convolutions, and pooled maps."""
        found = dict.fromkeys(value.name for value in self.outputs)
        for node in reversed(self.model.graph.node):
            names = node.output if node.op_type in _POOLING else node.input
            if node.op_type in (*_LINEAR, *_POOLING, "Conv"):
                found.update(dict.fromkeys(name for name in names[:1] if name in self.values))
        return list(found)[:_LISTED]


def read_onnx(path: Path, expected: str = "") -> OnnxFile:
    """Reads a file and checks it; nothing of it is run.

    Args:
        expected: the digest that it must have; empty: any.

    Raises:
        InputError: it is no ONNX file or truncated, or its weights are in a file that is missing,
            too short or outside its folder; it has another digest; or `onnx` is not installed.
    """
    onnx = library("onnx")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    content = path.read_bytes()
    digest = hashlib.sha256(content)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's own, whose class depends on its version
        raise InputError(f"{path}: truncated, or no ONNX file ({error})") from error
    if not model.graph.node:
        raise InputError(f"{path}: no ONNX file: it holds no graph")
    parts = (model.graph, *model.functions)
    external = {_weight_file(path, tensor) for part in parts for tensor in _external(part)}
    for file in sorted(external):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    if expected and digest.hexdigest() != expected:  # a worker on another machine may have another
        raise InputError(f"{path}: changed since it was first read, or differs between machines")
    return OnnxFile(path, model, digest.hexdigest())


def only_input(file: OnnxFile, types: Sequence[str] = ()) -> Value:
    """The only input; types: of its elements, empty: any.

    Raises:
        InputError: there are several, or it has elements of another type.
    """
    if len(file.inputs) != 1:
        listed = _listed([value.name for value in file.inputs]) or "none"
        raise InputError(
            f"{file.path}: {len(file.inputs)} inputs ({listed}); expected one, of images or sound"
        )
    value = file.inputs[0]
    if types and value.type not in types:
        raise InputError(
            f"{file.path}: input {value}: expected elements of type {', '.join(types)}; export the "
            "network in float32"
        )
    return value


def library(name: str) -> Any:
    """Imports `onnx` or `onnxruntime`.

    Raises:
        InputError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"an ONNX encoder needs {name}, which is not installed: "
            "pip install 'reaction-harness[onnx]'",
            "encoder",
        ) from error


def _value(value: "onnx.ValueInfoProto") -> Value:
    import onnx

    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return Value(value.name, "no tensor", None)
    try:
        type_name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    except ValueError:
        type_name = "?"
    type_name = {"float": "float32", "double": "float64"}.get(type_name, type_name)
    shape = None
    if tensor.HasField("shape"):
        # Some exporters write a dynamic axis as -1 or 0.
        shape = tuple(
            d.dim_value if d.dim_value > 0 else d.dim_param or "?" for d in tensor.shape.dim
        )
    return Value(value.name, type_name, shape)


def _external(part: "onnx.GraphProto | onnx.FunctionProto") -> Iterator["onnx.TensorProto"]:
    """The tensors whose numbers are in other files, those of subgraphs included."""
    tensors: list[onnx.TensorProto] = [*getattr(part, "initializer", ())]
    for sparse in getattr(part, "sparse_initializer", ()):
        tensors += [sparse.values, sparse.indices]
    for node in part.node:
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
            for inner in (attribute.g, *attribute.graphs):
                yield from _external(inner)
    yield from (t for t in tensors if t.data_location == t.EXTERNAL)


def _weight_file(path: Path, tensor: "onnx.TensorProto") -> Path:
    """The file that holds a tensor's numbers."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    folder = path.parent.resolve()
    file: Path = (folder / location).resolve()
    what = f"{path}: the weights {printable(tensor.name)} are in {printable(location)!r}"
    if not location or folder not in file.parents:
        raise InputError(f"{what}, outside the folder of the file; expected a file beside it")
    if not file.is_file():
        raise InputError(f"{what}, which is missing; copy it beside the ONNX file")
    try:
        end = int(entries.get("offset", 0)) + int(entries.get("length", 0))
    except ValueError:
        end = -1
    if not 0 <= end <= file.stat().st_size:
        raise InputError(f"{what}, which is too short; copy it again")
    return file


def _listed(names: "list[str]") -> str:
    return printable(", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else ""))
