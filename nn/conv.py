"""Convolutions over one, two and three dims, their transposes, and the windows they are made of.

Sizes are one number, or one for each dim.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorgrad
from tensorgrad import Tensor

from . import functional as F
from . import init
from .complaints import channels_first
from .factory import check_sizes, new_parameter
from .functional.arguments import each
from .functional.conv import same_padding
from .module import Module, Parameter


class _Convolution(Module):
    """The base of all: ``weight`` and ``bias`` start uniform in ±1/sqrt(what an output sums)."""

    dims: int
    bias: Parameter | None
    function: Callable
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_sizes(self, in_channels, out_channels, groups)
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: {in_channels} and {out_channels} channels must be multiples of the "
                f"{groups} groups"
            )
        modes = ("zeros",) if self.transposed else ("zeros", "reflect", "replicate", "circular")
        if padding_mode not in modes:
            raise ValueError(f"{name}: padding_mode must be of {modes}, not {padding_mode!r}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = each(kernel_size, self.dims, f"{name}: kernel_size")
        self.stride = each(stride, self.dims, f"{name}: stride")
        self.dilation = each(dilation, self.dims, f"{name}: dilation")
        if isinstance(padding, str):
            if padding not in ("same", "valid") or (padding == "same" and set(self.stride) != {1}):
                raise ValueError(
                    f"{name}: padding is 'valid', 'same' (with stride 1) or numbers, not "
                    f"{padding!r} with stride {self.stride}"
                )
            self.padding: Any = padding
        else:
            self.padding = each(padding, self.dims, f"{name}: padding", 0)
        self.groups, self.padding_mode = groups, padding_mode
        outer = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        sizes = (outer[0], outer[1] // groups, *self.kernel_size)
        self.weight = new_parameter(self, *sizes, device=device, dtype=dtype)
        if bias:
            self.bias = new_parameter(self, out_channels, device=device, dtype=dtype)
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        terms = math.prod(self.weight.shape[1:])
        bound = 1 / math.sqrt(terms) if terms else 0.0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            widths = self._widths()
            flat = [width for pair in reversed(widths) for width in pair]
            input, padding = F.pad(input, flat, self.padding_mode), 0
        return type(self).function(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def _widths(self) -> list[tuple[int, int]]:
        """(before, after) of each dim."""
        if self.padding == "same":
            return same_padding(self.kernel_size, self.dilation)
        return [(p, p) for p in ((0,) * self.dims if self.padding == "valid" else self.padding)]

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}"
        )
        zeros, ones = (0,) * self.dims, (1,) * self.dims
        for name, default in (
            ("padding", zeros), ("dilation", ones), ("output_padding", zeros), ("groups", 1),
        ):  # fmt: skip
            value = getattr(self, name, default)
            if value != default:
                text += f", {name}={value}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text


class Conv1d(_Convolution):
    """[n, in_channels, length] → [n, out_channels, length of the result].

    The kernel, ``weight`` [out, in / groups, k], is not flipped. ``padding`` is a number,
    ``"same"`` or ``"valid"``; ``padding_mode`` says what is there: zeros, or as in ``F.pad``.
    """

    _expects = channels_first("{0.in_channels}", 1)
    dims, function = 1, staticmethod(F.conv1d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Conv1d(2, 3, 3, padding=1), (tensorgrad.randn(2, 2, 5),)


class Conv2d(_Convolution):
    """:class:`Conv1d` over two dims: [n, in_channels, h, w] → [n, out_channels, ...].

    >>> import nn, tensorgrad
    >>> nn.Conv2d(1, 8, kernel_size=3, padding="same")(tensorgrad.zeros(64, 1, 28, 28)).shape
    (64, 8, 28, 28)
    """

    _expects = channels_first("{0.in_channels}", 2)
    dims, function = 2, staticmethod(F.conv2d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Conv2d(2, 3, (2, 3), stride=(2, 1)), (tensorgrad.randn(2, 2, 4, 4),)


class Conv3d(_Convolution):
    """:class:`Conv1d` over three dims."""

    _expects = channels_first("{0.in_channels}", 3)
    dims, function = 3, staticmethod(F.conv3d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Conv3d(1, 2, 2), (tensorgrad.randn(1, 1, 2, 3, 3),)


class _Transposed(_Convolution):
    """The base of the transposed convolutions, the derivatives of convolutions by their inputs."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip
        name = f"{type(self).__name__}: output_padding"
        self.output_padding = each(output_padding, self.dims, name, 0)

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """``output_size``, that of the result's last dims, chooses the output_padding."""
        extra = self.output_padding
        if output_size is not None:
            extra = self._padding_for(input, tuple(output_size)[-self.dims :])
        return type(self).function(
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups,
            self.dilation,
        )  # fmt: skip

    def _padding_for(self, input: Tensor, wanted: tuple[int, ...]) -> tuple[int, ...]:
        least = [
            (n - 1) * s - 2 * p + d * (k - 1) + 1
            for n, s, p, d, k in zip(
                input.shape[-self.dims :], self.stride, self.padding, self.dilation,
                self.kernel_size,
            )
        ]  # fmt: skip
        extra = tuple(w - n for w, n in zip(wanted, least))
        if len(wanted) != self.dims or any(not 0 <= e < s for e, s in zip(extra, self.stride)):
            raise ValueError(
                f"{type(self).__name__}: output_size {wanted} must be {tuple(least)}, or less than "
                f"a stride {self.stride} more"
            )
        return extra


class ConvTranspose1d(_Transposed):
    """The transpose of :class:`Conv1d` from ``out_channels`` to ``in_channels``:
    [n, in_channels, length] → [n, out_channels, length of the result], by each element times the
    kernel, added up."""

    _expects = channels_first("{0.in_channels}", 1)
    dims, function = 1, staticmethod(F.conv_transpose1d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ConvTranspose1d(2, 3, 3, stride=2), (tensorgrad.randn(2, 2, 3),)


class ConvTranspose2d(_Transposed):
    """:class:`ConvTranspose1d` over two dims."""

    _expects = channels_first("{0.in_channels}", 2)
    dims, function = 2, staticmethod(F.conv_transpose2d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ConvTranspose2d(2, 3, 2, padding=1), (tensorgrad.randn(1, 2, 3, 3),)


class ConvTranspose3d(_Transposed):
    """:class:`ConvTranspose1d` over three dims."""

    _expects = channels_first("{0.in_channels}", 3)
    dims, function = 3, staticmethod(F.conv_transpose3d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return ConvTranspose3d(1, 2, 2), (tensorgrad.randn(1, 1, 2, 1, 2),)


class Unfold(Module):
    """The windows of [n, c, h, w] as columns: [n, c kh kw, number of windows]."""

    _expects = channels_first("C", 2)

    def __init__(
        self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        super().__init__()
        self.kernel_size, self.dilation = kernel_size, dilation
        self.padding, self.stride = padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, "
            f"stride={self.stride}"
        )

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Unfold(2), (tensorgrad.randn(2, 2, 3, 3),)


class Fold(Module):
    """The transpose of :class:`Unfold`: columns added up where they overlap, → [n, c, h, w]."""

    _expects = "[N, C · {0.kernel_size}, number of windows] or without N"

    def __init__(
        self,
        output_size: Any,
        kernel_size: Any,
        dilation: Any = 1,
        padding: Any = 0,
        stride: Any = 1,
    ) -> None:
        super().__init__()
        self.output_size, self.kernel_size, self.dilation = output_size, kernel_size, dilation
        self.padding, self.stride = padding, stride

    def forward(self, input: Tensor) -> Tensor:
        return F.fold(
            input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, kernel_size={self.kernel_size}, "
            f"dilation={self.dilation}, padding={self.padding}, stride={self.stride}"
        )

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return Fold((3, 3), 2), (tensorgrad.randn(2, 8, 4),)
