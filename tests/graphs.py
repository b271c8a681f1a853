"""Small ONNX graphs: made by hand, operation by operation, or exported by torch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

OPSET = 17


def save_graph(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    *,
    shape: Sequence[int | str] = ("batch", 3, 16, 16),
    element: int = TensorProto.FLOAT,
    outputs: Sequence[str] = ("y",),
    weights: Mapping[str, np.ndarray] | None = None,
    metadata: Mapping[str, str] | None = None,
    opset: int = OPSET,
) -> Path:
    """Writes a graph whose input is `x`; the ranks of its outputs are not declared."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", element, list(shape))],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    path.write_bytes(model.SerializeToString())
    return path


def means(path: Path, seed: int = 0, **how: Any) -> Path:
    """A classifier that anyone can check: the mean of each colour, a ReLU, two classes.

    `features` is the means after the ReLU.
    """
    rng = np.random.default_rng(seed)
    axes = how.pop("axes", [2, 3])
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=axes, keepdims=0),
        helper.make_node("Relu", ["mean"], ["relu"]),
        helper.make_node("Gemm", ["relu", "w", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["y"]),
    ]
    weights = {
        "w": rng.normal(size=(3, 2)).astype(np.float32),
        "b": rng.normal(size=2).astype(np.float32),
    }
    return save_graph(path, nodes, weights=weights, **how)


def one(path: Path, operation: str, **how: Any) -> Path:
    """A graph of one operation on its input; `attributes` are the operation's."""
    attributes = how.pop("attributes", {})
    inputs = how.pop("inputs", ["x"])
    return save_graph(path, [helper.make_node(operation, inputs, ["y"], **attributes)], **how)


def export(path: Path, network: nn.Module, size: int = 32, batch: int | None = None) -> Path:
    """torch's export of a network of images, with any batch or a fixed one."""
    axes = None if batch else {"input": {0: "batch"}, "output": {0: "batch"}}
    images = torch.zeros(batch or 2, 3, size, size)
    torch.onnx.export(
        network.eval(), (images,), path, input_names=["input"], output_names=["output"],
        dynamic_axes=axes, opset_version=OPSET, dynamo=False,
    )  # fmt: skip
    return path


def export_sound(path: Path, network: nn.Module, shape: Sequence[int | str]) -> Path:
    """torch's export of a network of waveforms; axes with a name are dynamic."""
    names = {axis: size for axis, size in enumerate(shape) if isinstance(size, str)}
    samples = torch.zeros([(2, 1, 8000)[axis - len(shape)] if axis in names else int(size)
                           for axis, size in enumerate(shape)])  # fmt: skip
    output = {"output": {0: "rows"}} if 0 in names else {}
    torch.onnx.export(
        network.eval(), (samples,), path, input_names=["input"], output_names=["output"],
        dynamic_axes={"input": names, **output}, opset_version=OPSET, dynamo=False,
    )  # fmt: skip
    return path


def external(folder: Path, location: str = "net.data", *, write: bool = True) -> Path:
    """A graph with a weight in a file beside it."""
    file = means(folder / "net.onnx")
    model = onnx.load(file)
    tensor = model.graph.initializer[0]
    content = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(content)))):
        tensor.external_data.add(key=key, value=value)
    file.write_bytes(model.SerializeToString())
    if write:
        (folder / location).write_bytes(content)
    return file


def two_inputs(path: Path) -> Path:
    file = one(path, "Identity")
    model = onnx.load(file)
    model.graph.input.add().CopyFrom(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1]))
    file.write_bytes(model.SerializeToString())
    return file


def bomb(path: Path) -> Path:
    """Asks for four terabytes."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("ReduceMean", ["big"], ["m"], keepdims=0),
        helper.make_node("ReduceMean", ["x"], ["p"], axes=[2, 3], keepdims=0),
        helper.make_node("Add", ["p", "m"], ["y"]),
    ]
    return save_graph(path, nodes, weights={"shape": np.array([1 << 20, 1 << 20])})


def quantised(path: Path, **how: Any) -> Path:
    """The mean of each colour and their products, as `quantize_dynamic` of onnxruntime writes a
    matrix product: the scale is that of the whole batch."""
    node = helper.make_node
    nodes = [
        node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
        node("DynamicQuantizeLinear", ["mean"], ["bytes", "scale", "zero"]),
        node("MatMulInteger", ["bytes", "w", "zero"], ["sums"]),
        node("Cast", ["sums"], ["float"], to=TensorProto.FLOAT),
        node("Mul", ["float", "scale"], ["y"]),
    ]
    weights = {"w": np.random.default_rng(0).integers(-9, 9, (3, 8)).astype(np.int8)}
    return save_graph(path, nodes, weights=weights, **how)


def centred(path: Path) -> Path:
    """Subtracts the mean over the batch."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMean", ["mean"], ["batch"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["mean", "batch"], ["y"]),
    ]
    return save_graph(path, nodes)


def truncated(path: Path) -> Path:
    path.write_bytes(means(path).read_bytes()[:-40])
    return path


def empty(path: Path) -> Path:
    path.touch()
    return path


def nan(path: Path) -> Path:
    nodes = [
        helper.make_node("ReduceL2", ["x"], ["l"], axes=[2, 3], keepdims=0),
        helper.make_node("Neg", ["l"], ["n"]),
        helper.make_node("Sqrt", ["n"], ["y"]),
    ]
    return save_graph(path, nodes)


#: How to make a file that is no encoder, and what its refusal says.
FAULTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "rank 5": (lambda p: one(p, "Unsqueeze", inputs=["x", "a"], weights={"a": np.array([1])}),
               "has rank 5"),
    "rank 1": (lambda p: one(p, "ReduceMean", attributes={"axes": [1, 2, 3], "keepdims": 0}),
               "has rank 1"),
    "a scalar for all": (lambda p: one(p, "ReduceMean", attributes={"axes": [0], "keepdims": 1}),
                         "has shape (1, 3, 16, 16) for 2 images; expected 2 rows"),
    "integers": (lambda p: one(p, "ArgMax", attributes={"axis": 1, "keepdims": 0}),
                 "is of type int64; expected floating-point numbers"),
    "float64": (lambda p: one(p, "Identity", element=TensorProto.DOUBLE),
                "input x float64 (batch, 3, 16, 16): expected elements of type float32"),
    "images or sound": (lambda p: one(p, "Identity", shape=("b", "c", "t")),
                        "if it is of kind waveform, give `encoder_input` kind=waveform"),
    "one colour": (lambda p: one(p, "Identity", shape=(1, 1, 16, 16)), "expected 3 colours"),
    "two inputs": (two_inputs, "2 inputs (x, z); expected one, of images"),
    "a new opset": (lambda p: means(p, opset=99), "export it again with a lower opset_version"),
    "all memory": (bomb, "it asks for more memory than is free"),
    "a mean over the batch": (centred, "depend on the others in a batch"),
    "NaN": (nan, "gave NaN or infinity"),
    "truncated": (truncated, "truncated, or no ONNX file"),
    "empty": (empty, "no ONNX file: it holds no graph"),
    "no such operation": (lambda p: one(p, "Nonsense"), "refuses it"),
    "weights outside": (lambda p: external(p.parent, "../net.data", write=False),
                        "'../net.data', outside the folder of the file"),
    "missing output": (means, "its outputs: y"),
    "weights missing": (lambda p: external(p.parent, "other.data", write=False), "is missing"),
}  # fmt: skip

#: What is read of a file of `FAULTS`, where it is not the first output.
READ = {"missing output": "z"}
