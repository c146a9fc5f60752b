"""Pooling: one number for each window of a channel, its mean or its maximum.

Sizes are one number, or one for each dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorgrad
from tensorgrad import Tensor

from . import functional as F
from .complaints import channels_first
from .functional.arguments import each
from .module import Module


class _MaxPool(Module):
    """The base of maximum poolings."""

    function: Callable

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Tensor) -> Any:
        return type(self).function(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode,
            self.return_indices,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The largest element of each window: [n, c, length] → [n, c, number of windows].

    ``stride`` is by default the kernel size; ``padding`` is never chosen; ``ceil_mode`` lets the
    last window stick out; ``return_indices`` adds the elements' positions in their channel.
    """

    _expects = channels_first("C", 1)
    function = staticmethod(F.max_pool1d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return MaxPool1d(3, stride=2, padding=1), (tensorgrad.randn(2, 2, 5),)


class MaxPool2d(_MaxPool):
    """:class:`MaxPool1d` over two dims."""

    _expects = channels_first("C", 2)
    function = staticmethod(F.max_pool2d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return MaxPool2d(2), (tensorgrad.randn(2, 2, 4, 5),)


class MaxPool3d(_MaxPool):
    """:class:`MaxPool1d` over three dims."""

    _expects = channels_first("C", 3)
    function = staticmethod(F.max_pool3d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return MaxPool3d(2, 1), (tensorgrad.randn(1, 2, 2, 3, 2),)


class _AvgPool(Module):
    """The base of mean poolings."""

    function: Callable

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad, self.divisor_override,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """The mean of each window: [n, c, length] → [n, c, number of windows].

    ``stride`` is by default the kernel size; zeros of ``padding`` count as elements if
    ``count_include_pad``; ``ceil_mode`` lets the last window stick out.
    """

    _expects = channels_first("C", 1)

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        # PyTorch prints the sizes of this class, and of no other pooling, one for each dim.
        kernel_size = each(kernel_size, 1, "AvgPool1d: kernel_size")
        stride = kernel_size if stride is None else each(stride, 1, "AvgPool1d: stride")
        padding = each(padding, 1, "AvgPool1d: padding", 0)
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode,
            self.count_include_pad,
        )  # fmt: skip

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return AvgPool1d(3, stride=2, padding=1), (tensorgrad.randn(2, 2, 5),)


class AvgPool2d(_AvgPool):
    """:class:`AvgPool1d` over two dims; ``divisor_override`` divides instead of the number."""

    _expects = channels_first("C", 2)
    function = staticmethod(F.avg_pool2d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return AvgPool2d(2), (tensorgrad.randn(2, 2, 4, 5),)


class AvgPool3d(_AvgPool):
    """:class:`AvgPool2d` over three dims."""

    _expects = channels_first("C", 3)
    function = staticmethod(F.avg_pool3d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return AvgPool3d(2, 1), (tensorgrad.randn(1, 2, 2, 3, 2),)


class _AdaptiveAvgPool(Module):
    """The base of adaptive mean poolings."""

    function: Callable

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class _AdaptiveMaxPool(Module):
    """The base of adaptive maximum poolings."""

    function: Callable

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, input: Tensor) -> Any:
        return type(self).function(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The mean of each of ``output_size`` windows that cover [n, c, length] evenly."""

    _expects = channels_first("C", 1)
    function = staticmethod(F.adaptive_avg_pool1d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return AdaptiveAvgPool1d(3), (tensorgrad.randn(2, 2, 5),)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """:class:`AdaptiveAvgPool1d` over two dims; None keeps a size."""

    _expects = channels_first("C", 2)
    function = staticmethod(F.adaptive_avg_pool2d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return AdaptiveAvgPool2d((2, None)), (tensorgrad.randn(1, 2, 3, 3),)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """:class:`AdaptiveAvgPool2d` over three dims."""

    _expects = channels_first("C", 3)
    function = staticmethod(F.adaptive_avg_pool3d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return AdaptiveAvgPool3d(2), (tensorgrad.randn(1, 1, 2, 3, 2),)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest of each of ``output_size`` windows that cover [n, c, length] evenly."""

    _expects = channels_first("C", 1)
    function = staticmethod(F.adaptive_max_pool1d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return AdaptiveMaxPool1d(3), (tensorgrad.randn(2, 2, 5),)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """:class:`AdaptiveMaxPool1d` over two dims; None keeps a size."""

    _expects = channels_first("C", 2)
    function = staticmethod(F.adaptive_max_pool2d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return AdaptiveMaxPool2d((2, None)), (tensorgrad.randn(1, 2, 3, 3),)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """:class:`AdaptiveMaxPool2d` over three dims."""

    _expects = channels_first("C", 3)
    function = staticmethod(F.adaptive_max_pool3d)

    @staticmethod
    def example() -> tuple[Module, tuple]:
        return AdaptiveMaxPool3d(2), (tensorgrad.randn(1, 1, 2, 3, 2),)
