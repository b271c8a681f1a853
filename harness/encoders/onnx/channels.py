"""Which axis of a value of four axes holds its channels, by what made it."""

from typing import TYPE_CHECKING

from harness.encoders.onnx.graph import OnnxFile

if TYPE_CHECKING:
    import onnx

# Operations whose output has its channels on the second or the last axis, whatever they read.
_SECOND = (
    *("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv"),
    *("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"),
    *("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN"),
    *("DepthToSpace", "SpaceToDepth", "QLinearAveragePool", "QLinearGlobalAveragePool"),
)
_LAST = (
    *("MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul"),
    *("LayerNormalization", "SkipLayerNormalization", "RMSNormalization"),
)
# Operations that leave the axes as they are: of their first input, or of all, which are broadcast.
_KEEP_FIRST = (
    *("Abs", "Cast", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid"),
    *("HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "PRelu", "QuickGelu", "Relu"),
    *("Reciprocal", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu"),
    *("Softmax", "LogSoftmax", "LpNormalization", "ReduceMean", "ReduceSum", "ReduceMax"),
    *("QuantizeLinear", "DequantizeLinear", "Pad", "Resize", "Upsample", "Slice", "Split"),
    *("Swish", "BiasGelu", "QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu"),
)
_KEEP_ALL = ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "Concat")
# Permutations between channels second and channels last, and where they put the channels.
_PERMUTED = {(0, 3, 1, 2): 1, (0, 2, 3, 1): 3}


def channel_axis(file: OnnxFile, wanted: str, of_input: int) -> int | None:
    """Follows a value of four axes back to what fixes its channels; None: nothing does, or several
    operations contradict each other.

    Args:
        of_input: the axis of the colours of the graph's input.
    """
    made_by = {name: node for node in file.model.graph.node for name in node.output}
    # Each with the axes of the value that axes 0 to 3 of the wanted one are.
    waiting: list[tuple[str, tuple[int, ...]]] = [(wanted, (0, 1, 2, 3))]
    seen: set[tuple[str, tuple[int, ...]]] = set()
    known, guessed = set(), set()
    while waiting:
        name, axes = waiting.pop()
        if (name, axes) in seen:
            continue
        seen.add((name, axes))
        node = made_by.get(name)
        if node is None:
            known.add(axes.index(of_input))
        elif node.op_type in _SECOND or (node.op_type in _LAST and _is_last(node)):
            known.add(axes.index(1 if node.op_type in _SECOND else 3))
        elif node.op_type == "Transpose" and len(perm := _integers(node, "perm")) == len(axes):
            waiting.append((node.input[0], tuple(perm[axis] for axis in axes)))
        elif followed := _followed(file, node, made_by):
            waiting += [(each, axes) for each in followed]
        elif axes in _PERMUTED:  # such as a transposed reshape
            guessed.add(_PERMUTED[axes])
    found = known or guessed
    return found.pop() if len(found) == 1 else None


def _followed(
    file: OnnxFile, node: "onnx.NodeProto", made_by: "dict[str, onnx.NodeProto]"
) -> list[str]:
    """The inputs of an operation whose axes are those of its output; none if it moves axes."""
    if node.op_type == "Where":
        return [name for name in node.input[1:] if name not in file.constants]
    if node.op_type == "Reshape" and (grouped := _grouped(made_by, node)):
        return [grouped]
    if node.op_type in _LAST:  # a normalisation over other axes
        return [node.input[0]]
    reduces = node.op_type.startswith("Reduce")
    if node.op_type in _KEEP_ALL:
        return [name for name in node.input if name and name not in file.constants]
    if node.op_type in _KEEP_FIRST and not (reduces and _integers(node, "keepdims") == [0]):
        return [node.input[0]]
    return []


def _grouped(made_by: "dict[str, onnx.NodeProto]", node: "onnx.NodeProto") -> str:
    """What a group normalisation reads, as torch writes it: reshaped, normalised, reshaped back;
    empty if it is none."""
    for kind in ("InstanceNormalization", "Reshape"):
        before = made_by.get(node.input[0])
        if before is None or before.op_type != kind:
            return ""
        node = before
    return str(node.input[0])


def _is_last(node: "onnx.NodeProto") -> bool:
    """Whether what is normalised, if it is, is the last axis alone."""
    return "Normalization" not in node.op_type or _integers(node, "axis") in ([], [-1], [3])


def _integers(node: "onnx.NodeProto", name: str) -> list[int]:
    """An attribute that is a number or a list of numbers; empty if it is not given."""
    return [
        number
        for attribute in node.attribute
        if attribute.name == name
        for number in (attribute.ints or [attribute.i])
    ]
