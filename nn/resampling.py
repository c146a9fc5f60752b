"""Other sizes of the same picture: padding, upsampling, and channels turned into pixels."""

from __future__ import annotations

from typing import Any

import tensorgrad
from tensorgrad import Tensor

from . import functional as F
from .complaints import channels_first
from .module import Module


class _Pad(Module):
    """The base of paddings: ``padding`` is a number, or (before, after) of the last dim, then of
    the one before it, and so on."""

    dims: int
    mode = "constant"

    def __init__(self, padding: Any) -> None:
        super().__init__()
        several = isinstance(padding, (tuple, list))
        self.padding = tuple(padding) if several else (padding,) * (2 * self.dims)
        if len(self.padding) != 2 * self.dims:
            raise ValueError(
                f"{type(self).__name__}: padding must be a number or {2 * self.dims} of them, not "
                f"{padding!r}"
            )

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """``value`` around the last dim."""

    _expects = channels_first("C", 1)
    dims = 1

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ConstantPad1d((1, 2), 3.5), (tensorgrad.randn(2, 2, 3),)


class ConstantPad2d(_ConstantPad):
    """``value`` around the last two dims."""

    _expects = channels_first("C", 2)
    dims = 2

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ConstantPad2d(1, 3.5), (tensorgrad.randn(1, 2, 3, 3),)


class ConstantPad3d(_ConstantPad):
    """``value`` around the last three dims."""

    _expects = channels_first("C", 3)
    dims = 3

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ConstantPad3d(1, 3.5), (tensorgrad.randn(1, 1, 2, 3, 2),)


class ZeroPad1d(_Pad):
    """Zeros around the last dim."""

    _expects = channels_first("C", 1)
    dims = 1

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ZeroPad1d((1, 2)), (tensorgrad.randn(2, 2, 3),)


class ZeroPad2d(_Pad):
    """Zeros around the last two dims."""

    _expects = channels_first("C", 2)
    dims = 2

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ZeroPad2d(1), (tensorgrad.randn(1, 2, 3, 3),)


class ZeroPad3d(_Pad):
    """Zeros around the last three dims."""

    _expects = channels_first("C", 3)
    dims = 3

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ZeroPad3d(1), (tensorgrad.randn(1, 1, 2, 3, 2),)


class ReflectionPad1d(_Pad):
    """Around the last dim what lies on the other side of the edge."""

    _expects = channels_first("C", 1)
    dims, mode = 1, "reflect"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ReflectionPad1d((1, 2)), (tensorgrad.randn(2, 2, 3),)


class ReflectionPad2d(_Pad):
    """Around the last two dims what lies on the other side of the edge."""

    _expects = channels_first("C", 2)
    dims, mode = 2, "reflect"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ReflectionPad2d(1), (tensorgrad.randn(1, 2, 3, 3),)


class ReflectionPad3d(_Pad):
    """Around the last three dims what lies on the other side of the edge."""

    _expects = channels_first("C", 3)
    dims, mode = 3, "reflect"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ReflectionPad3d(1), (tensorgrad.randn(1, 1, 2, 3, 2),)


class ReplicationPad1d(_Pad):
    """Around the last dim the elements at the edge."""

    _expects = channels_first("C", 1)
    dims, mode = 1, "replicate"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ReplicationPad1d((1, 2)), (tensorgrad.randn(2, 2, 3),)


class ReplicationPad2d(_Pad):
    """Around the last two dims the elements at the edge."""

    _expects = channels_first("C", 2)
    dims, mode = 2, "replicate"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ReplicationPad2d(1), (tensorgrad.randn(1, 2, 3, 3),)


class ReplicationPad3d(_Pad):
    """Around the last three dims the elements at the edge."""

    _expects = channels_first("C", 3)
    dims, mode = 3, "replicate"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ReplicationPad3d(1), (tensorgrad.randn(1, 1, 2, 3, 2),)


class CircularPad1d(_Pad):
    """Around the last dim what is at the opposite end."""

    _expects = channels_first("C", 1)
    dims, mode = 1, "circular"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return CircularPad1d((1, 2)), (tensorgrad.randn(2, 2, 3),)


class CircularPad2d(_Pad):
    """Around the last two dims what is at the opposite end."""

    _expects = channels_first("C", 2)
    dims, mode = 2, "circular"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return CircularPad2d(1), (tensorgrad.randn(1, 2, 3, 3),)


class CircularPad3d(_Pad):
    """Around the last three dims what is at the opposite end."""

    _expects = channels_first("C", 3)
    dims, mode = 3, "circular"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return CircularPad3d(1), (tensorgrad.randn(1, 1, 2, 3, 2),)


class Upsample(Module):
    """[n, c, ...] at another resolution; see :func:`nn.functional.interpolate`."""

    _expects = "[N, C, L], [N, C, H, W] or [N, C, D, H, W], as the mode has it"

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        self.size, self.mode, self.align_corners = size, mode, align_corners
        self.recompute_scale_factor = recompute_scale_factor
        if isinstance(scale_factor, (tuple, list)):
            self.scale_factor: Any = tuple(map(float, scale_factor))
        else:
            self.scale_factor = float(scale_factor) if scale_factor else None

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners,
            self.recompute_scale_factor,
        )  # fmt: skip

    def extra_repr(self) -> str:
        given = "size" if self.scale_factor is None else "scale_factor"
        return f"{given}={getattr(self, given)!r}, mode={self.mode!r}"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Upsample(scale_factor=2, mode="bilinear"), (tensorgrad.randn(1, 2, 2, 3),)


class UpsamplingNearest2d(Upsample):
    """:class:`Upsample` of [n, c, h, w] with mode ``"nearest"``."""

    _expects = "[N, C, H, W]"

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, mode="nearest")

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return UpsamplingNearest2d(scale_factor=2), (tensorgrad.randn(1, 2, 2, 2),)


class UpsamplingBilinear2d(Upsample):
    """:class:`Upsample` of [n, c, h, w] with mode ``"bilinear"`` and aligned corners."""

    _expects = "[N, C, H, W]"

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return UpsamplingBilinear2d(size=(3, 5)), (tensorgrad.randn(1, 2, 2, 2),)


class PixelShuffle(Module):
    """[..., c r², h, w] → [..., c, h r, w r]: r² channels become squares (Shi et al. 2016)."""

    _expects = "[..., C, H, W] with C a multiple of {0.upscale_factor}²"

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return PixelShuffle(2), (tensorgrad.randn(2, 4, 1, 2),)


class PixelUnshuffle(Module):
    """The inverse of :class:`PixelShuffle`: [..., c, h r, w r] → [..., c r², h, w]."""

    _expects = "[..., C, H, W] with H and W multiples of {0.downscale_factor}"

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return PixelUnshuffle(2), (tensorgrad.randn(2, 1, 2, 4),)


class ChannelShuffle(Module):
    """[n, c, ...] with the channels of ``groups`` groups dealt out in turns (Zhang et al. 2018)."""

    _expects = "[N, C, ...] with C a multiple of {0.groups}"

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, input: Tensor) -> Tensor:
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ChannelShuffle(2), (tensorgrad.randn(1, 4, 2, 2),)
