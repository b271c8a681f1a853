"""MTL-DAN: one ResNet18 trunk, nine attention heads for expressions and nine for action units.

The same function and state-dict names as the authors' public code for CVPR 2023 ABAW; it builds on
DAN (arXiv 2109.07270).
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

#: Channels of the published trunk's feature map, and of each of its heads' output.
WIDTH = 512
#: Columns of the representation that the branches share, whatever the trunk's width.
SHARED = 512
#: What a narrower trunk may have: its first stage takes an eighth, a head's bottleneck a sixteenth.
WIDTHS = (128, 256, WIDTH)
EXPRESSIONS = (
    "neutral",
    "anger",
    "disgust",
    "fear",
    "happiness",
    "sadness",
    "surprise",
    "other",
)
ACTION_UNITS = (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)
#: Expression logits, action units, valence and arousal of a frame.
OUTPUTS = len(EXPRESSIONS) + len(ACTION_UNITS) + 2


class Branches(NamedTuple):
    """What training needs: logits (batch, 8), action-unit logits (batch, 12), valence and arousal
    (batch, 2) in [-1, 1], and each branch's head vectors (batch, heads, width)."""

    expression: Tensor
    action_units: Tensor
    valence_arousal: Tensor
    expression_heads: Tensor
    action_unit_heads: Tensor


class SpatialAttention(nn.Module):
    """Weighs positions: (batch, width, h, w) -> the same, times a map (batch, 1, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1x1 = nn.Sequential(nn.Conv2d(width, half, 1), nn.BatchNorm2d(half))
        self.conv_3x3 = nn.Sequential(nn.Conv2d(half, width, 3, padding=1), nn.BatchNorm2d(width))
        self.conv_1x3 = nn.Sequential(
            nn.Conv2d(half, width, (1, 3), padding=(0, 1)), nn.BatchNorm2d(width)
        )
        self.conv_3x1 = nn.Sequential(
            nn.Conv2d(half, width, (3, 1), padding=(1, 0)), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1x1(x)
        y = torch.relu(self.conv_3x3(y) + self.conv_1x3(y) + self.conv_3x1(y))
        return x * y.sum(dim=1, keepdim=True)


class ChannelAttention(nn.Module):
    """Weighs channels: (batch, width, h, w) -> (batch, width), pooled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = width // 16
        self.attention = nn.Sequential(
            nn.Linear(width, narrow),
            nn.BatchNorm1d(narrow),
            nn.ReLU(inplace=True),
            nn.Linear(narrow, width),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean(dim=(2, 3))
        weights: Tensor = self.attention(pooled)
        return pooled * weights


class AttentionHead(nn.Module):
    """One cross-attention head of DAN: (batch, width, h, w) -> (batch, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sa = SpatialAttention(width)
        self.ca = ChannelAttention(width)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.ca(self.sa(x))
        return pooled


class DAN(nn.Module):
    """The trunk and the expression heads; `fc`, `bn` and `fc2` exist in published files alone."""

    def __init__(self, num_heads: int, width: int) -> None:
        super().__init__()
        self.features = _resnet18_trunk(width)
        for head in range(num_heads):
            self.add_module(f"cat_head{head}", AttentionHead(width))
        self.fc = nn.Linear(width, len(EXPRESSIONS))
        self.bn = nn.BatchNorm1d(len(EXPRESSIONS))
        self.fc2 = nn.Linear(len(EXPRESSIONS), len(ACTION_UNITS))


class BasicBlock(nn.Module):
    """Two convolutions of 3 x 3 and a shortcut (He et al., 2016, arXiv 1512.03385, figure 5).

    Its parameters have torchvision's names; torchvision takes a second to import, which what is
    stored need not wait for.
    """

    def __init__(self, before: int, after: int, stride: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        found: Tensor = self.relu(self.bn2(self.conv2(x)) + shortcut)
        return found


def _resnet18_trunk(width: int) -> nn.Sequential:
    """ResNet18 without pooling and classifier: (batch, 3, h, w) -> (batch, width, h / 32, w / 32).

    The names of its parameters are torchvision's. A narrower one than `WIDTH` has proportionally
    fewer channels in every stage.
    """
    channels = [width // 8, width // 8, width // 4, width // 2, width]
    first = nn.Conv2d(3, channels[0], 7, stride=2, padding=3, bias=False)
    trunk = nn.Sequential(
        first, nn.BatchNorm2d(channels[0]), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1)
    )
    for stage, (before, after) in enumerate(pairwise(channels)):
        stride = 1 if stage == 0 else 2
        shortcut = (
            nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            if stage
            else None
        )
        blocks = BasicBlock(before, after, stride, shortcut), BasicBlock(after, after, 1, None)
        trunk.append(nn.Sequential(*blocks))
    for module in trunk.modules():
        # On the meta device, torch imports its compiler for this, which takes a second.
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return trunk


class MTLDAN(nn.Module):
    """The frozen network of the paper (arXiv 2303.09240): (batch, 3, height, width) -> (batch, 22).

    Input is float32, RGB, ImageNet-normalised, at least 32 pixels a side (224 in the paper).
    Output: 8 expression logits, 12 action units in [0, 1], valence and arousal in [-1, 1].
    With 9 heads it has 50,175,402 parameters. Weights are random until a file is read:
    `harness.encoders.mtl_dan.checkpoints.load_mtl_dan` gives the network of one, in eval.

    Args:
        num_heads: of each of the two branches.
        width: channels of the trunk's last stage, one of WIDTHS. Published files have 512; the
            network of the synthetic demo has fewer, to train in seconds.

    Raises:
        ValueError: fewer heads than 1, or no such width.
    """

    def __init__(self, num_heads: int = 9, width: int = WIDTH) -> None:
        super().__init__()
        if num_heads < 1:
            raise ValueError(f"num_heads must be at least 1, got {num_heads}")
        if width not in WIDTHS:
            raise ValueError(f"width must be one of {WIDTHS}, got {width}")
        self.num_heads, self.width = num_heads, width
        self.DAN = DAN(num_heads, width)
        for head in range(num_heads):
            self.add_module(f"cat_head{head}", AttentionHead(width))
        self.encoder = nn.Sequential(nn.Linear(2 * width, SHARED), nn.BatchNorm1d(SHARED))
        self.fc1 = nn.Linear(width + SHARED, len(EXPRESSIONS))
        self.bn1 = nn.BatchNorm1d(len(EXPRESSIONS))
        self.fc2 = nn.Linear(width + SHARED, len(ACTION_UNITS))
        self.fc3 = nn.Linear(width + SHARED, 2)

    def expression_heads(self) -> list[AttentionHead]:
        """The heads of the expression branch, in order."""
        return [self.DAN.get_submodule(f"cat_head{i}") for i in range(self.num_heads)]  # type: ignore[misc]

    def action_unit_heads(self) -> list[AttentionHead]:
        """The heads of the action-unit branch, in order."""
        return [self.get_submodule(f"cat_head{i}") for i in range(self.num_heads)]  # type: ignore[misc]

    def branches(self, images: Tensor) -> Branches:
        """Everything that training needs of a batch of images."""
        x = self.DAN.features(images)
        expression_heads = torch.stack([head(x) for head in self.expression_heads()], dim=1)
        action_unit_heads = torch.stack([head(x) for head in self.action_unit_heads()], dim=1)
        expression, units = over_heads(expression_heads), over_heads(action_unit_heads)
        # Action units first, as the published weights were trained.
        shared = self.encoder(torch.cat([units, expression], dim=1))
        pooled = x.mean(dim=(2, 3))
        return Branches(
            self.bn1(self.fc1(torch.cat([expression, shared], dim=1))),
            self.fc2(torch.cat([units, shared], dim=1)),
            torch.tanh(self.fc3(torch.cat([pooled, shared], dim=1))),
            expression_heads,
            action_unit_heads,
        )

    def forward(self, images: Tensor) -> Tensor:
        out = self.branches(images)
        return torch.cat(
            [out.expression, torch.sigmoid(out.action_units), out.valence_arousal], dim=1
        )


def over_heads(heads: Tensor) -> Tensor:
    """Fuses head vectors: (batch, heads, width) -> (batch, width)."""
    if heads.shape[1] > 1:
        heads = torch.log_softmax(heads, dim=1)
    return heads.sum(dim=1)
