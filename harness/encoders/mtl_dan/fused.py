"""The same function as a frozen MTL-DAN, exactly, in fewer and larger operations.

In `eval` a batch norm is an affine map and folds into its convolution. The three parallel
convolutions of a spatial unit are linear in one input and sum to one 3x3. The first convolutions
of all heads become one, all channel units two batched products, and a head's product with the
feature map followed by pooling is an inner product over positions. tests/benchmarks/extraction.py
measures it and lists what was tried without a gain; tests/benchmarks/variants.py measures memory
formats, batch sizes, threads and compilation.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from harness.encoders.mtl_dan.network import MTLDAN, OUTPUTS, SHARED, AttentionHead, over_heads

#: What the convolutions may run in; everything behind the pooling stays in float32.
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: For each choice of outputs, its columns within those of `both`.
COLUMNS = {
    "outputs": slice(0, OUTPUTS),
    "shared": slice(OUTPUTS, OUTPUTS + SHARED),
    "both": slice(0, OUTPUTS + SHARED),
}
# Images that pass the trunk's widest maps together on a CPU: as many as its cache holds.
_TOGETHER = 4


class FusedMTLDAN(nn.Module):
    """(batch, 3, height, width) float32 -> (batch, columns) float32; for inference alone.

    Columns: the 22 of MTLDAN (`outputs`), the 512 of the representation that its branches share
    (`shared`), or the 22 and then the 512 (`both`).
    """

    squeeze_weight: Tensor
    squeeze_bias: Tensor
    excite_weight: Tensor
    excite_bias: Tensor

    def __init__(self, model: MTLDAN, dtype: torch.dtype, outputs: str) -> None:
        super().__init__()
        if model.training:
            raise ValueError("only a frozen model can be fused; call model.eval() first")
        if outputs not in COLUMNS:
            raise ValueError(f"unknown outputs {outputs!r}; choose one of {', '.join(COLUMNS)}")
        self.outputs = outputs
        self.num_heads = model.num_heads
        self.dtype = dtype
        # Folding multiplies weights: in float64, so that only the result is rounded.
        model = copy.deepcopy(model).double()
        heads = [*model.expression_heads(), *model.action_unit_heads()]
        self.stem, self.trunk = _folded_trunk(model.DAN.features)
        self.reduce = _all_heads_reduce(heads)
        # One convolution a head measures faster than one grouped one: 8 against 12 ms an image.
        self.attend = nn.ModuleList(_attend(head) for head in heads)
        first = [_linear_bn(head.ca.attention[0], head.ca.attention[1]) for head in heads]
        second = [head.ca.attention[3] for head in heads]
        self.register_buffer("squeeze_weight", torch.stack([m.weight.detach().T for m in first]))
        self.register_buffer("squeeze_bias", torch.stack([m.bias.detach() for m in first])[:, None])
        self.register_buffer("excite_weight", torch.stack([_detached(m.weight).T for m in second]))
        self.register_buffer(
            "excite_bias", torch.stack([_detached(m.bias) for m in second])[:, None]
        )
        self.encoder = _linear_bn(model.encoder[0], model.encoder[1])
        self.expression = _linear_bn(model.fc1, model.bn1)
        self.action_units, self.valence_arousal = model.fc2, model.fc3
        self.requires_grad_(False)
        self.float().to(memory_format=torch.channels_last)
        for part in (self.stem, self.trunk, self.reduce, self.attend):
            part.to(dtype)

    def forward(self, images: Tensor) -> Tensor:
        x = self._features(images.to(self.dtype, memory_format=torch.channels_last))
        pooled = x.float().mean(dim=(2, 3))
        heads = self._channels(self._positions(x))
        expression, units = (over_heads(half) for half in torch.split(heads, self.num_heads, dim=1))
        shared: Tensor = self.encoder(torch.cat([units, expression], dim=1))
        if self.outputs == "shared":
            return shared
        parts = [
            self.expression(torch.cat([expression, shared], dim=1)),
            torch.sigmoid(self.action_units(torch.cat([units, shared], dim=1))),
            torch.tanh(self.valence_arousal(torch.cat([pooled, shared], dim=1))),
        ]
        return torch.cat([*parts, shared] if self.outputs == "both" else parts, dim=1)

    def _features(self, images: Tensor) -> Tensor:
        """The trunk: (batch, 3, height, width) -> (batch, channels, height / 32, width / 32)."""
        together = _TOGETHER if images.device.type == "cpu" else len(images)
        starts = range(0, max(len(images), 1), max(together, 1))
        parts = [self.stem(images[i : i + together]) for i in starts]
        x: Tensor = self.trunk(torch.cat(parts) if len(parts) > 1 else parts[0])
        return x

    def _positions(self, x: Tensor) -> Tensor:
        """Spatial units and pooling: (batch, channels, h, w) -> (batch, all heads, channels)."""
        reduced = self.reduce(x).chunk(2 * self.num_heads, dim=1)
        maps = [
            torch.relu_(attend(part.contiguous(memory_format=torch.channels_last))).sum(dim=1)
            for attend, part in zip(self.attend, reduced, strict=True)
        ]
        weights = torch.stack(maps, dim=1).flatten(2).float()
        # Sums of products over positions, in float32 whatever the convolutions ran in.
        return torch.bmm(weights, x.flatten(2).float().transpose(1, 2)) / weights.shape[2]

    def _channels(self, pooled: Tensor) -> Tensor:
        """The channel units of all heads: (batch, all heads, channels) -> the same."""
        by_head = pooled.transpose(0, 1)
        hidden = torch.relu(torch.baddbmm(self.squeeze_bias, by_head, self.squeeze_weight))
        weights = torch.sigmoid(torch.baddbmm(self.excite_bias, hidden, self.excite_weight))
        return (by_head * weights).transpose(0, 1)


def fuse(
    model: MTLDAN, dtype: torch.dtype = torch.float32, outputs: str = "outputs"
) -> FusedMTLDAN:
    """The fused copy of a frozen model; the model itself is not changed.

    Args:
        dtype: of the convolutions; one of PRECISIONS. In float32 the result is the model's but
            for rounding; in the others it is near (tests/benchmarks/extraction.py says how near).
        outputs: one of COLUMNS.

    Raises:
        ValueError: the model is in training mode, or no such outputs.
    """
    return FusedMTLDAN(model, dtype, outputs).eval()


def _folded_trunk(features: nn.Sequential) -> tuple[nn.Sequential, nn.Sequential]:
    """The part with the widest maps, and the rest."""
    conv, norm, relu, pool, *stages = features
    first, *others = [[_Block(block) for block in _children(stage)] for stage in stages]
    # The maximum of rectified values is the rectified maximum, of a quarter as many.
    stem = nn.Sequential(_conv_bn(conv, norm), pool, relu, *first)
    return stem, nn.Sequential(*(block for stage in others for block in stage))


class _Block(nn.Module):
    """A basic block of ResNet without its batch norms."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.first = _conv_bn(block.get_submodule("conv1"), block.get_submodule("bn1"))
        self.second = _conv_bn(block.get_submodule("conv2"), block.get_submodule("bn2"))
        down = dict(block.named_children()).get("downsample")
        self.down = _conv_bn(*_children(down)) if down is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(torch.relu_(self.first(x)))
        y += self.down(x)
        return torch.relu_(y)


def _all_heads_reduce(heads: Sequence[AttentionHead]) -> nn.Conv2d:
    parts = [_conv_bn(*_children(head.sa.conv1x1)) for head in heads]
    return _conv(torch.cat([p.weight for p in parts]), torch.cat([_bias(p) for p in parts]))


def _attend(head: AttentionHead) -> nn.Conv2d:
    """The three parallel convolutions of a head's spatial unit in one."""
    square, row, column = (
        _conv_bn(*_children(unit))
        for unit in (head.sa.conv_3x3, head.sa.conv_1x3, head.sa.conv_3x1)
    )
    # A 1x3 kernel is a 3x3 with zeros above and below, a 3x1 one with zeros beside it.
    tall, wide = F.pad(row.weight, (0, 0, 1, 1)), F.pad(column.weight, (1, 1, 0, 0))
    bias = _bias(square) + _bias(row) + _bias(column)
    return _conv(square.weight + tall + wide, bias, padding=1)


def _conv(weight: Tensor, bias: Tensor, padding: int = 0) -> nn.Conv2d:
    out, channels, *kernel = weight.shape
    conv = nn.Conv2d(channels, out, (kernel[0], kernel[1]), padding=padding)
    conv.weight.data, _bias(conv).data = weight.detach().clone(), bias.detach().clone()
    return conv


def _conv_bn(conv: nn.Module, norm: nn.Module) -> nn.Conv2d:
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm)


def _linear_bn(linear: nn.Module, norm: nn.Module) -> nn.Linear:
    assert isinstance(linear, nn.Linear)
    assert isinstance(norm, nn.BatchNorm1d)
    return fuse_linear_bn_eval(linear, norm)


def _children(module: nn.Module) -> tuple[nn.Module, ...]:
    return tuple(module.children())


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None  # folding a batch norm always leaves one
    return conv.bias


def _detached(x: object) -> Tensor:
    assert isinstance(x, Tensor)
    return x.detach()
