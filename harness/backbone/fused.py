"""The same function as a frozen MTL-DAN, exactly, in fewer and larger operations.

In `eval` a batch norm is an affine map and folds into its convolution. The three parallel
convolutions of a spatial unit are linear in one input and sum to one 3x3. The first convolutions
of all heads become one, their second ones a grouped one, and a head's product with the feature map
followed by pooling is an inner product over positions.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from harness.backbone.mtl_dan import MTLDAN, AttentionHead, over_heads


class FusedMTLDAN(nn.Module):
    """(batch, 3, height, width) float32 -> (batch, 22), as MTLDAN; for inference alone."""

    squeeze_weight: Tensor
    squeeze_bias: Tensor
    excite_weight: Tensor
    excite_bias: Tensor

    def __init__(self, model: MTLDAN) -> None:
        super().__init__()
        if model.training:
            raise ValueError("only a frozen model can be fused; call model.eval() first")
        self.num_heads = model.num_heads
        # Folding multiplies weights: in float64, so that only the result is rounded.
        model = copy.deepcopy(model).double()
        heads = [*model.expression_heads(), *model.action_unit_heads()]
        self.trunk = _folded_trunk(model.DAN.features)
        self.reduce = _all_heads_reduce(heads)
        self.attend = _all_heads_attend(heads)
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

    def forward(self, images: Tensor) -> Tensor:
        x = self.trunk(images.contiguous(memory_format=torch.channels_last))
        pooled = x.mean(dim=(2, 3))
        heads = self._channels(self._positions(x))
        expression, units = (over_heads(half) for half in torch.split(heads, self.num_heads, dim=1))
        shared = self.encoder(torch.cat([units, expression], dim=1))
        return torch.cat(
            [
                self.expression(torch.cat([expression, shared], dim=1)),
                torch.sigmoid(self.action_units(torch.cat([units, shared], dim=1))),
                torch.tanh(self.valence_arousal(torch.cat([pooled, shared], dim=1))),
            ],
            dim=1,
        )

    def _positions(self, x: Tensor) -> Tensor:
        """The spatial units and the pooling: (batch, 512, h, w) -> (batch, all heads, 512)."""
        batch, width, height, breadth = x.shape
        maps = torch.relu_(self.attend(self.reduce(x)))
        maps = maps.view(batch, 2 * self.num_heads, width, height, breadth).sum(dim=2)
        return torch.einsum("bchw,bkhw->bkc", x, maps) / (height * breadth)

    def _channels(self, pooled: Tensor) -> Tensor:
        """The channel units of all heads: (batch, all heads, 512) -> the same."""
        by_head = pooled.transpose(0, 1)
        hidden = torch.relu(torch.baddbmm(self.squeeze_bias, by_head, self.squeeze_weight))
        weights = torch.sigmoid(torch.baddbmm(self.excite_bias, hidden, self.excite_weight))
        return (by_head * weights).transpose(0, 1)


def fuse(model: MTLDAN) -> FusedMTLDAN:
    """The fused twin of a frozen model; the model is left as it is.

    Raises:
        ValueError: the model is in training mode.
    """
    return FusedMTLDAN(model).eval()


def _folded_trunk(features: nn.Sequential) -> nn.Sequential:
    conv, norm, relu, pool, *stages = features
    blocks = [block for stage in stages for block in _children(stage)]
    return nn.Sequential(_conv_bn(conv, norm), relu, pool, *(_Block(block) for block in blocks))


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
    width = parts[0].in_channels
    return _conv(torch.cat([p.weight for p in parts]), torch.cat([_bias(p) for p in parts]), width)


def _all_heads_attend(heads: Sequence[AttentionHead]) -> nn.Conv2d:
    weights, biases = [], []
    for head in heads:
        square, row, column = (
            _conv_bn(*_children(unit))
            for unit in (head.sa.conv_3x3, head.sa.conv_1x3, head.sa.conv_3x1)
        )
        # A 1x3 kernel is a 3x3 with zeros above and below, a 3x1 one with zeros beside it.
        tall, wide = F.pad(row.weight, (0, 0, 1, 1)), F.pad(column.weight, (1, 1, 0, 0))
        weights.append(square.weight + tall + wide)
        biases.append(_bias(square) + _bias(row) + _bias(column))
    width = weights[0].shape[1] * len(heads)
    return _conv(torch.cat(weights), torch.cat(biases), width, groups=len(heads), padding=1)


def _conv(
    weight: Tensor, bias: Tensor, channels: int, groups: int = 1, padding: int = 0
) -> nn.Conv2d:
    kernel = (weight.shape[2], weight.shape[3])
    conv = nn.Conv2d(channels, weight.shape[0], kernel, padding=padding, groups=groups)
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
