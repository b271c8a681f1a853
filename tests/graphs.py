"""Small ONNX graphs: made by hand, operation by operation, or exported by torch."""

from collections.abc import Mapping, Sequence
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
