"""MTL-DAN: one ResNet18 trunk, nine attention heads for expressions and nine for action units.

The same function and state-dict names as the authors' public code for CVPR 2023 ABAW; it builds on
DAN (arXiv 2109.07270).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

#: Width of the trunk's feature map and of every head's output.
WIDTH = 512
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
    (batch, 2) in [-1, 1], and each branch's head vectors (batch, heads, 512)."""

    expression: Tensor
    action_units: Tensor
    valence_arousal: Tensor
    expression_heads: Tensor
    action_unit_heads: Tensor


class SpatialAttention(nn.Module):
    """Weighs positions: (batch, 512, h, w) -> the same, times a map (batch, 1, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1x1 = nn.Sequential(nn.Conv2d(WIDTH, 256, 1), nn.BatchNorm2d(256))
        self.conv_3x3 = nn.Sequential(nn.Conv2d(256, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH))
        self.conv_1x3 = nn.Sequential(
            nn.Conv2d(256, WIDTH, (1, 3), padding=(0, 1)), nn.BatchNorm2d(WIDTH)
        )
        self.conv_3x1 = nn.Sequential(
            nn.Conv2d(256, WIDTH, (3, 1), padding=(1, 0)), nn.BatchNorm2d(WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1x1(x)
        y = torch.relu(self.conv_3x3(y) + self.conv_1x3(y) + self.conv_3x1(y))
        return x * y.sum(dim=1, keepdim=True)


class ChannelAttention(nn.Module):
    """Weighs channels: (batch, 512, h, w) -> (batch, 512), pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.Linear(WIDTH, 32),
            nn.BatchNorm1d(32),
            nn.ReLU(inplace=True),
            nn.Linear(32, WIDTH),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean(dim=(2, 3))
        weights: Tensor = self.attention(pooled)
        return pooled * weights


class AttentionHead(nn.Module):
    """One cross-attention head of DAN: (batch, 512, h, w) -> (batch, 512)."""

    def __init__(self) -> None:
        super().__init__()
        self.sa = SpatialAttention()
        self.ca = ChannelAttention()

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.ca(self.sa(x))
        return pooled


class DAN(nn.Module):
    """The trunk and the expression heads; `fc`, `bn` and `fc2` stand in published files alone."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        # torchvision takes a second to import, which what is stored need not wait for.
        from torchvision.models import resnet18

        trunk = resnet18(weights=None)
        self.features = nn.Sequential(*list(trunk.children())[:-2])
        for head in range(num_heads):
            self.add_module(f"cat_head{head}", AttentionHead())
        self.fc = nn.Linear(WIDTH, len(EXPRESSIONS))
        self.bn = nn.BatchNorm1d(len(EXPRESSIONS))
        self.fc2 = nn.Linear(len(EXPRESSIONS), len(ACTION_UNITS))


class MTLDAN(nn.Module):
    """The frozen network of the paper (arXiv 2303.09240): (batch, 3, height, width) -> (batch, 22).

    Input is float32, RGB, ImageNet-normalised, at least 32 pixels a side (224 in the paper).
    Output: 8 expression logits, 12 action units in [0, 1], valence and arousal in [-1, 1].
    With 9 heads it has 50,175,402 parameters. Weights are random until a file is read:
    `harness.backbone.checkpoints.load_mtl_dan` gives the network of one, in eval.

    Raises:
        ValueError: fewer heads than 1.
    """

    def __init__(self, num_heads: int = 9) -> None:
        super().__init__()
        if num_heads < 1:
            raise ValueError(f"num_heads must be at least 1, got {num_heads}")
        self.num_heads = num_heads
        self.DAN = DAN(num_heads)
        for head in range(num_heads):
            self.add_module(f"cat_head{head}", AttentionHead())
        self.encoder = nn.Sequential(nn.Linear(2 * WIDTH, WIDTH), nn.BatchNorm1d(WIDTH))
        self.fc1 = nn.Linear(2 * WIDTH, len(EXPRESSIONS))
        self.bn1 = nn.BatchNorm1d(len(EXPRESSIONS))
        self.fc2 = nn.Linear(2 * WIDTH, len(ACTION_UNITS))
        self.fc3 = nn.Linear(2 * WIDTH, 2)

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
    """Fuses head vectors: (batch, heads, 512) -> (batch, 512)."""
    if heads.shape[1] > 1:
        heads = torch.log_softmax(heads, dim=1)
    return heads.sum(dim=1)
