"""Arguments, checked: one number for all spatial dims or one for each, floats, indices."""

from __future__ import annotations

from typing import Any

from tensorgrad import Tensor


def each(value: Any, dims: int, name: str, least: int = 1) -> tuple[int, ...]:
    """An argument as one integer per dim, none less than ``least``."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(values) == 1:
        values *= dims
    if len(values) != dims or not all(type(v) is int and v >= least for v in values):
        raise RuntimeError(
            f"{name} must be an integer, or {dims} of them, {least} or greater, not {value!r}"
        )
    return values


def check_float(input: Any, name: str) -> None:
    """Integers are refused where PyTorch refuses them, though there would be a result."""
    if isinstance(input, Tensor) and not input.is_floating_point():
        raise NotImplementedError(
            f"{name}: needs a float dtype, not {input.dtype}; call .float() first"
        )


def all_within(index: Tensor, size: int) -> bool:
    """Whether all integers are in 0..size-1; on the array, for every step looks."""
    array = index.numpy()
    return not array.size or bool(array.min() >= 0 and array.max() < size)


def batched(input: Tensor, dims: int, name: str) -> tuple[Tensor, bool]:
    """[n, c, ...] of [n, c, ...] or [c, ...], and whether the input was that already."""
    if input.ndim not in (dims + 1, dims + 2):
        raise RuntimeError(
            f"{name}: the input must be [n, c, ...] or [c, ...] with {dims} more dims, its shape "
            f"is {tuple(input.shape)}"
        )
    whole = input.ndim == dims + 2
    return (input if whole else input.unsqueeze(0)), whole


def window_counts(
    sizes: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    name: str,
) -> tuple[int, ...]:
    """How many windows fit along each dim, after checking that one does."""
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    if any(n < span for n, span in zip(sizes, spans)):
        raise RuntimeError(
            f"{name}: a kernel that spans {tuple(spans)} is larger than the padded input, which "
            f"has {sizes}"
        )
    return tuple((n - span) // s + 1 for n, span, s in zip(sizes, spans, stride))
