"""Convolutions: the windows that a kernel sees, as the columns of one matrix product."""

from __future__ import annotations

import math
from typing import Any

from tensorgrad import Tensor
from tensorgrad import patch as _patch

from .arguments import batched, each, window_counts

__all__ = [
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "unfold", "fold",
]  # fmt: skip


def same_padding(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[tuple[int, int]]:
    """What to add before and after each dim so that a convolution of stride 1 keeps its size."""
    totals = [d * (k - 1) for k, d in zip(kernel, dilation)]
    return [(total // 2, total - total // 2) for total in totals]


def _framed(input: Tensor, widths: Any, value: float = 0.0) -> Tensor:
    """``input`` with (before, after) of ``value`` added to its last dims."""
    if not any(map(any, widths)):
        return input
    lead = ((0, 0),) * (input.ndim - len(widths))
    return _patch.pad(input, widths=(*lead, *widths), value=value)


def _convolution(
    name: str, dims: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any,
    padding: Any, dilation: Any, groups: int,
) -> Tensor:  # fmt: skip
    """input [n, c, *sizes], weight [out, c / groups, *kernel] → [n, out, *counts]."""
    x, whole = batched(input, dims, name)
    if weight.ndim != dims + 2:
        raise RuntimeError(f"{name}: the weight must have {dims + 2} dims, it is {weight.shape}")
    n, channels = x.shape[:2]
    out, kernel = weight.shape[0], tuple(weight.shape[2:])
    if groups < 1 or out % groups or weight.shape[1] * groups != channels:
        raise RuntimeError(
            f"{name}: in {groups} groups a weight {tuple(weight.shape)} takes "
            f"{weight.shape[1] * groups} channels and gives a multiple of {groups}; the input "
            f"{tuple(input.shape)} has {channels}"
        )
    stride = each(stride, dims, f"{name}: stride")
    dilation = each(dilation, dims, f"{name}: dilation")
    if padding == "same":
        if set(stride) != {1}:
            raise RuntimeError(f"{name}: padding='same' needs stride 1, not {stride}")
        widths = same_padding(kernel, dilation)
    elif isinstance(padding, str) and padding != "valid":
        raise RuntimeError(f"{name}: padding is 'valid', 'same' or numbers, not {padding!r}")
    else:
        padding = 0 if padding == "valid" else padding
        widths = [(p, p) for p in each(padding, dims, f"{name}: padding", 0)]
    x = _framed(x, widths)
    counts = window_counts(tuple(x.shape[2:]), kernel, stride, dilation, name)
    if set(kernel) != {1} or set(stride) != {1}:
        x = _patch.patches(x, size=kernel, step=stride, dilation=dilation)
    size, many = math.prod(weight.shape[1:]), math.prod(counts)
    if groups == 1:
        y = weight.reshape(out, size) @ x.reshape(n, size, many)
    else:
        columns = x.reshape(n, groups, size, many)
        y = weight.reshape(groups, out // groups, size) @ columns  # [n, groups, out / groups, many]
    y = y.reshape(n, out, *counts)
    return _finished(y, bias, whole, name)


def _finished(y: Tensor, bias: Tensor | None, whole: bool, name: str) -> Tensor:
    """The bias added, and the batch dim taken away if the input had none."""
    if bias is not None:
        if tuple(bias.shape) != (y.shape[1],):
            raise RuntimeError(
                f"{name}: the bias must be of shape ({y.shape[1]},), not {tuple(bias.shape)}"
            )
        y = y + bias.reshape(-1, *[1] * (y.ndim - 2))
    return y if whole else y.squeeze(0)


def _transposed(
    name: str, dims: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any,
    padding: Any, output_padding: Any, groups: int, dilation: Any,
) -> Tensor:  # fmt: skip
    """input [n, c, *sizes], weight [c, out / groups, *kernel] → [n, out, *larger sizes]."""
    x, whole = batched(input, dims, name)
    if weight.ndim != dims + 2:
        raise RuntimeError(f"{name}: the weight must have {dims + 2} dims, it is {weight.shape}")
    n, channels = x.shape[:2]
    sizes, kernel = tuple(x.shape[2:]), tuple(weight.shape[2:])
    if groups < 1 or channels % groups or weight.shape[0] != channels:
        raise RuntimeError(
            f"{name}: a weight {tuple(weight.shape)} takes {weight.shape[0]} channels, in "
            f"{groups} equal groups; the input {tuple(input.shape)} has {channels}"
        )
    stride = each(stride, dims, f"{name}: stride")
    dilation = each(dilation, dims, f"{name}: dilation")
    padding = each(padding, dims, f"{name}: padding", 0)
    extra = each(output_padding, dims, f"{name}: output_padding", 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation)):
        raise RuntimeError(
            f"{name}: output_padding {extra} must be less than the stride {stride} or the "
            f"dilation {dilation}"
        )
    grown = [s * (m - 1) + d * (k - 1) + 1 for m, k, s, d in zip(sizes, kernel, stride, dilation)]
    if any(g + e - 2 * p < 1 for g, e, p in zip(grown, extra, padding)):
        raise RuntimeError(f"{name}: padding {padding} leaves nothing of the size {tuple(grown)}")
    # Each input element puts the kernel, times its value, into the output, where they add up.
    kernels = weight.reshape(groups, channels // groups, -1).mT
    y = kernels @ x.reshape(n, groups, channels // groups, math.prod(sizes))
    y = y.reshape(n, weight.shape[1] * groups, *kernel, *sizes)
    y = _patch.add_patches(y, shape=tuple(grown), step=stride, dilation=dilation)
    y = _framed(y, [(0, e) for e in extra])
    if any(padding):
        inner = (Ellipsis, *(slice(p, g + e - p) for g, e, p in zip(grown, extra, padding)))
        y = y[inner]
    return _finished(y, bias, whole, name)


# --- the functions --------------------------------------------------------------------------------


def conv1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
           padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Tensor:  # fmt: skip
    """input [n, c, length] with weight [out, c / groups, k] → [n, out, length of the result].

    The cross-correlation: the kernel is not flipped. ``padding`` is a number of zeros at both
    ends, ``"valid"`` for none or ``"same"`` to keep the length. The input may lack n.
    """
    return _convolution(
        "conv1d", 1, input, weight, bias, stride, padding, dilation, groups
    )  # fmt: skip


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
           padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Tensor:  # fmt: skip
    """:func:`conv1d` over two dims: [n, c, h, w] with [out, c / groups, kh, kw].

    >>> import tensorgrad
    >>> conv2d(tensorgrad.ones(1, 1, 3, 3), tensorgrad.ones(1, 1, 2, 2))
    tensor([[[[4., 4.],
              [4., 4.]]]])
    """
    return _convolution("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
           padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Tensor:  # fmt: skip
    """:func:`conv1d` over three dims."""
    return _convolution("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
                     padding: Any = 0, output_padding: Any = 0, groups: int = 1,
                     dilation: Any = 1) -> Tensor:  # fmt: skip
    """The transpose of :func:`conv1d` with the same arguments, its derivative by the input:
    [n, c, length] with weight [c, out / groups, k] → [n, out, length of the result].

    ``output_padding`` is added at the end only, for where a stride makes the length ambiguous.
    """
    return _transposed("conv_transpose1d", 1, input, weight, bias, stride, padding,
                       output_padding, groups, dilation)  # fmt: skip


def conv_transpose2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
                     padding: Any = 0, output_padding: Any = 0, groups: int = 1,
                     dilation: Any = 1) -> Tensor:  # fmt: skip
    """:func:`conv_transpose1d` over two dims."""
    return _transposed("conv_transpose2d", 2, input, weight, bias, stride, padding,
                       output_padding, groups, dilation)  # fmt: skip


def conv_transpose3d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
                     padding: Any = 0, output_padding: Any = 0, groups: int = 1,
                     dilation: Any = 1) -> Tensor:  # fmt: skip
    """:func:`conv_transpose1d` over three dims."""
    return _transposed("conv_transpose3d", 3, input, weight, bias, stride, padding,
                       output_padding, groups, dilation)  # fmt: skip


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0,
           stride: Any = 1) -> Tensor:  # fmt: skip
    """The windows of [n, c, h, w] as columns: [n, c kh kw, number of windows]."""
    x, whole = batched(input, 2, "unfold")
    kernel, stride = each(kernel_size, 2, "unfold: kernel_size"), each(stride, 2, "unfold: stride")
    dilation = each(dilation, 2, "unfold: dilation")
    x = _framed(x, [(p, p) for p in each(padding, 2, "unfold: padding", 0)])
    counts = window_counts(tuple(x.shape[2:]), kernel, stride, dilation, "unfold")
    columns = _patch.patches(x, size=kernel, step=stride, dilation=dilation)
    y = columns.reshape(x.shape[0], x.shape[1] * math.prod(kernel), math.prod(counts))
    return y if whole else y.squeeze(0)


def fold(input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0,
         stride: Any = 1) -> Tensor:  # fmt: skip
    """The transpose of :func:`unfold`, columns added up where they overlap: → [n, c, h, w]."""
    if input.ndim not in (2, 3):
        raise RuntimeError(f"fold: the input must have 2 or 3 dims, it is {tuple(input.shape)}")
    x = input if input.ndim == 3 else input.unsqueeze(0)
    kernel, stride = each(kernel_size, 2, "fold: kernel_size"), each(stride, 2, "fold: stride")
    dilation = each(dilation, 2, "fold: dilation")
    padding = each(padding, 2, "fold: padding", 0)
    size = each(output_size, 2, "fold: output_size")
    padded = tuple(s + 2 * p for s, p in zip(size, padding))
    counts = window_counts(padded, kernel, stride, dilation, "fold")
    rows, columns = math.prod(kernel), math.prod(counts)
    if x.shape[1] % rows or x.shape[2] != columns:
        raise RuntimeError(
            f"fold: an output of {size} has {columns} windows of {rows} elements for each "
            f"channel, the input {tuple(input.shape)} does not"
        )
    w = x.reshape(x.shape[0], x.shape[1] // rows, *kernel, *counts)
    y = _patch.add_patches(w, shape=padded, step=stride, dilation=dilation)
    if any(padding):
        inner = (Ellipsis, *(slice(p, p + s) for p, s in zip(padding, size)))
        y = y[inner]
    return y if input.ndim == 3 else y.squeeze(0)
