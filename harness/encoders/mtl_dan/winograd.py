"""3 x 3 convolutions over small maps in fewer multiplications (Winograd; Lavin & Gray 2016).

F(4 x 4, 3 x 3): a tile of 4 x 4 outputs takes 36 products a channel instead of 144. On maps of a
few pixels the transforms before and behind are themselves two small matrix products over a whole
map, and the rest is one matrix product for each of the 36 places in a tile: nothing but what a
processor is best at.

Whether that is faster depends on the processor: where the library's matrix products come near its
peak, by half; where direct convolutions are far above them (MKL on an AMD Zen 5), not at all. So
both ways are timed once a process.
"""

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn

_TILE, _TAPS = 4, 6
# The transforms of the points 0, 1, -1, 2, -2 and infinity.
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)
# Pixels of a map whose transforms, dense matrices, are still a small part of the work.
_LARGEST = 64
# By so much must it be faster: noise of timing must not change the way, and with it the rounding.
_MARGIN = 1.15
# What is timed: a head of MTL-DAN over 64 pictures of 224 pixels.
_TRIED = (64, 256, 512, 7)


class WinogradConv2d(nn.Conv2d):
    """A 3 x 3 convolution, padded by 1, which takes Winograd's way where that is faster.

    The result is that of `nn.Conv2d` but for rounding: in float32 2e-6 off where the direct way is
    8e-7 off, in bf16 2.4e-2 where that is 3e-3. Behind it MTL-DAN sums 512 rectified channels, of
    which nothing is left in its outputs; a trunk of such layers would be twice as far off.
    """

    @classmethod
    def of(cls, conv: nn.Conv2d) -> "WinogradConv2d":
        """The same convolution. ValueError: its kernel, stride or padding is another one."""
        shape = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
        if shape != ((3, 3), (1, 1), (1, 1), (1, 1), 1):
            raise ValueError(f"expected 3 x 3 kernels, stride 1 and padding 1, got {conv}")
        new = cls(conv.in_channels, conv.out_channels, 3, padding=1, bias=conv.bias is not None)
        new.weight, new.bias = conv.weight, conv.bias
        return new

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, out channels, height, width)."""
        height, width = x.shape[2:]
        if x.device.type == "cpu" and saves(height, width) and pays(x.dtype):
            return self.by_winograd(x)
        return super().forward(x)

    def by_winograd(self, x: Tensor) -> Tensor:
        """`forward`, always Winograd's way, for inference alone; out in channels_last."""
        batch, channels, height, width = x.shape
        before, behind = _transforms(height, width, x.dtype)
        tiles = _tiles(height) * _tiles(width)
        pixels = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
        # Rows of a place in a tile lie apart, which a matrix product minds less than a copy.
        places = torch.matmul(before, pixels).view(batch * tiles, _TAPS**2, channels)
        products = x.new_empty(batch * tiles, _TAPS**2, self.out_channels)
        torch.bmm(places.transpose(0, 1), self._transformed(), out=products.transpose(0, 1))
        products = products.view(batch, tiles * _TAPS**2, self.out_channels)
        behind = behind.expand(batch, -1, -1)
        if self.bias is None:
            out = torch.bmm(behind, products)
        else:
            out = torch.baddbmm(self.bias, behind, products)
        return out.view(batch, height, width, self.out_channels).permute(0, 3, 1, 2)

    def _transformed(self) -> Tensor:
        """(36, channels, out channels); made once, since the convolution is frozen."""
        known: Tensor | None = self.__dict__.get("_known")
        if known is None or known.dtype != self.weight.dtype:
            kernel = torch.tensor(_KERNEL, dtype=torch.float64)
            places = torch.einsum("ax,ocxy,by->abco", kernel, self.weight.double(), kernel)
            known = places.reshape(_TAPS**2, self.in_channels, self.out_channels)
            # Beside the parameters: it is four times as large, and no part of what is stored.
            self.__dict__["_known"] = known = known.to(self.weight.dtype)
        return known

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_known"}


def saves(height: int, width: int) -> bool:
    """Whether a map's convolution takes half the multiplications or less, transforms included."""
    tiles = _tiles(height) * _tiles(width)
    return height * width <= _LARGEST and 9 * height * width >= 2 * _TAPS**2 * tiles


@cache
def pays(dtype: torch.dtype) -> bool:
    """Whether it is faster on this processor in a precision; timed at the first call."""
    batch, channels, out, side = _TRIED
    with torch.inference_mode():
        conv = WinogradConv2d(channels, out, 3, padding=1).to(dtype)
        conv.to(memory_format=torch.channels_last)
        x = torch.randn(batch, channels, side, side).to(dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        rounds = [
            (_seconds(lambda: nn.Conv2d.forward(conv, x)), _seconds(lambda: conv.by_winograd(x)))
            for _ in range(3)
        ]
    direct, winograd = map(min, zip(*rounds, strict=True))
    return bool(direct > _MARGIN * winograd)


def _seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def _tiles(side: int) -> int:
    return -(-side // _TILE)


@cache
def _transforms(height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A map's pixels -> the places of its tiles, (tiles * 36, pixels); and the way back."""
    (before_y, behind_y), (before_x, behind_x) = _line(height), _line(width)
    before = torch.einsum("sap,tbq->stabpq", before_y, before_x)
    behind = torch.einsum("psa,qtb->pqstab", behind_y, behind_x)
    pixels = height * width
    return before.reshape(-1, pixels).to(dtype), behind.reshape(pixels, -1).to(dtype)


def _line(side: int) -> tuple[Tensor, Tensor]:
    """The transforms along one side: (tiles, 6, side) and (side, tiles, 6)."""
    tiles = _tiles(side)
    # With a pixel of padding before, and behind as many as fill the last tile.
    before = torch.zeros(tiles, _TAPS, tiles * _TILE + 2, dtype=torch.float64)
    behind = torch.zeros(tiles * _TILE, tiles, _TAPS, dtype=torch.float64)
    for tile in range(tiles):
        first = tile * _TILE
        before[tile, :, first : first + _TAPS] = torch.tensor(_INPUT, dtype=torch.float64)
        behind[first : first + _TILE, tile] = torch.tensor(_OUTPUT, dtype=torch.float64)
    return before[:, :, 1 : side + 1], behind[:side]
