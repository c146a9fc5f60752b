"""Pooling: one number for each window of a channel, its mean or its maximum."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import tensorgrad
from tensorgrad import Tensor
from tensorgrad import patch as _patch

from .arguments import batched, each

__all__ = [
    "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d",
]  # fmt: skip


class _Windows:
    """The windows of a pooling: its arguments checked, and where each window lies."""

    def __init__(self, name: str, input: Tensor, dims: int, kernel_size: Any, stride: Any,
                 padding: Any, dilation: Any, ceil_mode: bool) -> None:  # fmt: skip
        self.x, self.whole = batched(input, dims, name)
        self.kernel = each(kernel_size, dims, f"{name}: kernel_size")
        no_stride = stride is None or stride == []
        self.stride = self.kernel if no_stride else each(stride, dims, f"{name}: stride")
        self.padding = each(padding, dims, f"{name}: padding", 0)
        self.dilation = each(dilation, dims, f"{name}: dilation")
        self.sizes = tuple(self.x.shape[2:])
        if any(p > k // 2 for p, k in zip(self.padding, self.kernel)):
            raise RuntimeError(
                f"{name}: padding {self.padding} must be at most half the kernel {self.kernel}"
            )
        spans = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation)]
        counts = []
        for n, p, s, span in zip(self.sizes, self.padding, self.stride, spans):
            steps, rest = divmod(n + 2 * p - span, s)
            # Rounding up must not make a window that starts in the padding after the end.
            more = ceil_mode and rest and (steps + 1) * s < n + p
            counts.append(steps + 1 + bool(more))
        if min(counts) < 1:
            raise RuntimeError(
                f"{name}: a kernel that spans {tuple(spans)} is larger than the padded input, "
                f"which is {tuple(input.shape)} with padding {self.padding}"
            )
        self.counts = tuple(counts)
        self.needed = [s * (c - 1) + span for s, c, span in zip(self.stride, counts, spans)]

    def taken(self, outside: float) -> Tensor:
        """[n, c, elements of a window, *counts], with ``outside`` for what is not in the input."""
        x = self.x
        after = [m - n - p for m, n, p in zip(self.needed, self.sizes, self.padding)]
        if any(self.padding) or max(after) > 0:
            widths = ((0, 0), (0, 0), *((p, max(a, 0)) for p, a in zip(self.padding, after)))
            x = _patch.pad(x, widths=widths, value=outside)
        w = _patch.patches(x, size=self.kernel, step=self.stride, dilation=self.dilation)
        return w.reshape(*x.shape[:2], math.prod(self.kernel), *self.counts)

    def finished(self, y: Tensor) -> Tensor:
        return y if self.whole else y.squeeze(0)


def _largest(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The maximum along ``dim`` and its index; the first of equal ones gets the gradient."""
    index = x.detach().argmax(dim, keepdim=True)
    places = tensorgrad.arange(x.shape[dim]).reshape(-1, *[1] * (x.ndim - 1 - dim))
    # A sum of one chosen element and zeros: its derivative is a mask, where that of gather would
    # add element by element.
    return tensorgrad.where(places == index, x, 0.0).sum(dim), index.squeeze(dim)


# --- the largest ----------------------------------------------------------------------------------


def _max_pool(name: str, dims: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any,
              dilation: Any, ceil_mode: bool, return_indices: bool) -> Any:  # fmt: skip
    w = _Windows(name, input, dims, kernel_size, stride, padding, dilation, ceil_mode)
    values, index = _largest(w.taken(-math.inf), 2)
    if not return_indices:
        return w.finished(values)
    # Along each dim: where the window starts, and how far into it the element is.
    flat, size = 0 * index, 1
    for d in reversed(range(dims)):
        inside, index = index % w.kernel[d], index // w.kernel[d]
        start = tensorgrad.arange(w.counts[d]) * w.stride[d] - w.padding[d]
        place = start.reshape(-1, *[1] * (dims - 1 - d)) + inside * w.dilation[d]
        flat, size = flat + place * size, size * w.sizes[d]
    return w.finished(values), w.finished(flat)


def max_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               dilation: Any = 1, ceil_mode: bool = False,
               return_indices: bool = False) -> Any:  # fmt: skip
    """The largest element of each window: [n, c, length] → [n, c, number of windows].

    ``stride`` is by default the kernel size; ``padding``, at most half of that, is never chosen;
    ``ceil_mode`` lets the last window stick out; ``return_indices`` adds the elements' positions
    in their channel.
    """
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode,
                     return_indices)  # fmt: skip


def max_pool2d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               dilation: Any = 1, ceil_mode: bool = False,
               return_indices: bool = False) -> Any:  # fmt: skip
    """:func:`max_pool1d` over two dims."""
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode,
                     return_indices)  # fmt: skip


def max_pool3d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               dilation: Any = 1, ceil_mode: bool = False,
               return_indices: bool = False) -> Any:  # fmt: skip
    """:func:`max_pool1d` over three dims."""
    return _max_pool("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode,
                     return_indices)  # fmt: skip


# --- the mean -------------------------------------------------------------------------------------


def _avg_pool(name: str, dims: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any,
              ceil_mode: bool, count_include_pad: bool,
              divisor_override: int | None) -> Tensor:  # fmt: skip
    if divisor_override == 0:
        raise RuntimeError(f"{name}: divisor_override must not be 0")
    w = _Windows(name, input, dims, kernel_size, stride, padding, 1, ceil_mode)
    total = w.taken(0.0).sum(2)
    if divisor_override is not None:
        return w.finished(total / divisor_override)
    # How many elements a window has along each dim: padding counts or not, what ceil_mode lets
    # stick out never does.
    parts = []
    for n, p, k, s, count in zip(w.sizes, w.padding, w.kernel, w.stride, w.counts):
        start = tensorgrad.arange(count) * s - p
        end = tensorgrad.clamp_max(start + k, n + p)
        if not count_include_pad:
            start, end = tensorgrad.clamp_min(start, 0), tensorgrad.clamp_max(end, n)
        parts.append(end - start)
    if all((part == k).all() for part, k in zip(parts, w.kernel)):
        return w.finished(total / math.prod(w.kernel))
    number = parts[0]
    for part in parts[1:]:
        number = number.unsqueeze(-1) * part
    return w.finished(total / number.to(total.dtype))


def avg_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               ceil_mode: bool = False, count_include_pad: bool = True) -> Tensor:  # fmt: skip
    """The mean of each window: [n, c, length] → [n, c, number of windows].

    ``stride`` is by default the kernel size; zeros of ``padding`` count as elements if
    ``count_include_pad``; ``ceil_mode`` lets the last window stick out.
    """
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode,
                     count_include_pad, None)  # fmt: skip


def avg_pool2d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               ceil_mode: bool = False, count_include_pad: bool = True,
               divisor_override: int | None = None) -> Tensor:  # fmt: skip
    """:func:`avg_pool1d` over two dims; ``divisor_override`` divides instead of the number."""
    return _avg_pool("avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode,
                     count_include_pad, divisor_override)  # fmt: skip


def avg_pool3d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               ceil_mode: bool = False, count_include_pad: bool = True,
               divisor_override: int | None = None) -> Tensor:  # fmt: skip
    """:func:`avg_pool2d` over three dims."""
    return _avg_pool("avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode,
                     count_include_pad, divisor_override)  # fmt: skip


# --- windows of as many as are wanted -------------------------------------------------------------


def _adaptive(name: str, dims: int, input: Tensor, output_size: Any, reduce: Callable) -> Any:
    """``reduce`` of each of ``output_size`` windows, the i-th of n from floor(i size / n) to
    ceil((i + 1) size / n)."""
    x, whole = batched(input, dims, name)
    sizes = tuple(x.shape[2:])
    given = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * dims
    if len(given) == dims:
        given = [n if size is None else size for size, n in zip(given, sizes)]
    wanted = each(given, dims, f"{name}: output_size")
    parts = []
    for place in itertools.product(*map(range, wanted)):
        bounds = [(i * n // w, -(-(i + 1) * n // w)) for i, w, n in zip(place, wanted, sizes)]
        inside = (Ellipsis, *(slice(a, b) for a, b in bounds))
        parts.append(reduce(x[inside], bounds))
    results = []
    for values in zip(*parts):
        y = tensorgrad.stack(values, -1).reshape(*x.shape[:2], *wanted)
        results.append(y if whole else y.squeeze(0))
    return results


def _adaptive_avg(name: str, dims: int, input: Tensor, output_size: Any) -> Tensor:
    def mean(window: Tensor, bounds: list) -> tuple[Tensor]:
        return (window.flatten(2).mean(2),)

    return _adaptive(name, dims, input, output_size, mean)[0]


def _adaptive_max(name: str, dims: int, input: Tensor, output_size: Any,
                  return_indices: bool) -> Any:  # fmt: skip
    sizes = tuple(input.shape[-dims:])

    def largest(window: Tensor, bounds: list) -> tuple[Tensor, Tensor]:
        values, index = _largest(window.flatten(2), 2)
        flat, size = 0 * index, 1
        for (a, b), n in zip(reversed(bounds), reversed(sizes)):
            flat, size = flat + (index % (b - a) + a) * size, size * n
            index = index // (b - a)
        return values, flat

    values, indices = _adaptive(name, dims, input, output_size, largest)
    return (values, indices) if return_indices else values


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """The mean of each of ``output_size`` windows that cover [n, c, length] evenly."""
    return _adaptive_avg("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """:func:`adaptive_avg_pool1d` over two dims; None keeps a size."""
    return _adaptive_avg("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """:func:`adaptive_avg_pool2d` over three dims."""
    return _adaptive_avg("adaptive_avg_pool3d", 3, input, output_size)


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The largest of each of ``output_size`` windows that cover [n, c, length] evenly."""
    return _adaptive_max("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """:func:`adaptive_max_pool1d` over two dims; None keeps a size."""
    return _adaptive_max("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """:func:`adaptive_max_pool2d` over three dims."""
    return _adaptive_max("adaptive_max_pool3d", 3, input, output_size, return_indices)
