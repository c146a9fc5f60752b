"""Reductions over one, several or all dims: sums, means, extremes, softmax."""

from __future__ import annotations

from typing import Any

from .. import ops
from .dims import ValuesIndices, axis_of, dim_of, need_float
from .elementwise import maximum, minimum


def sum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The sum over ``dim`` (default: all); bools and integers give int64."""
    if dtype is not None or input.dtype.kind != "f":
        input = ops.astype(input, dtype or "int64")
    return ops.sum(input, axis_of(input, dim), keepdim)


def mean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The mean over ``dim`` (default: all) of a float tensor."""
    if dtype is not None:
        input = ops.astype(input, dtype)
    need_float(input, "mean")
    return ops.mean(input, axis_of(input, dim), keepdim)


def var(input: Any, dim: Any = None, keepdim: bool = False, *, correction: int = 1,
        unbiased: bool | None = None) -> Any:  # fmt: skip
    """The variance over ``dim``, divided by n - ``correction`` (``unbiased=False``: 0)."""
    need_float(input, "var")
    if unbiased is not None:
        correction = int(unbiased)
    return ops.var(input, axis_of(input, dim), keepdim, correction)


def std(input: Any, dim: Any = None, keepdim: bool = False, *, correction: int = 1,
        unbiased: bool | None = None) -> Any:  # fmt: skip
    """The square root of :func:`var`; where it is 0 so is its gradient, as in PyTorch."""
    v = var(input, dim, keepdim, correction=correction, unbiased=unbiased)
    constant = v == 0
    return ops.where(constant, 0.0, ops.sqrt(ops.where(constant, 1.0, v)))


def amax(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest element over ``dim``; ties share the gradient equally."""
    return ops.max(input, axis_of(input, dim), keepdim)


def amin(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest element over ``dim``; ties share the gradient equally."""
    return ops.min(input, axis_of(input, dim), keepdim)


def _extreme(input: Any, dim: int, keepdim: bool, find: Any) -> ValuesIndices:
    """Values and indices along one dim; the gradient goes to the index found."""
    dim = dim_of(input, dim)
    x = input if input.array.ndim else ops.reshape(input, (1,))
    indices = find(x, dim, True)
    values = ops.take_along_axis(x, indices, dim)
    if not keepdim or x is not input:
        values, indices = ops.squeeze(values, dim), ops.squeeze(indices, dim)
    return ValuesIndices(values, indices)


def max(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest element; with ``dim`` an int (values, indices); with a tensor, elementwise."""
    if dim is None:
        return ops.max(input)
    return _extreme(input, dim, keepdim, argmax) if isinstance(dim, int) else maximum(input, dim)


def min(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest element; with ``dim`` an int (values, indices); with a tensor, elementwise."""
    if dim is None:
        return ops.min(input)
    return _extreme(input, dim, keepdim, argmin) if isinstance(dim, int) else minimum(input, dim)


def argmax(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The index of the first largest element, int64; without ``dim`` in the flattened tensor."""
    return ops.argmax(input, _nonempty(input, dim, "argmax"), keepdim)


def argmin(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The index of the first smallest element, int64; without ``dim`` in the flattened tensor."""
    return ops.argmin(input, _nonempty(input, dim, "argmin"), keepdim)


def _nonempty(input: Any, dim: int | None, name: str) -> Any:
    axis = axis_of(input, dim)
    if not (input.array.size if axis is None else input.shape[axis]):
        raise IndexError(f"{name}: nothing to choose from in shape {tuple(input.shape)}")
    return axis


def any(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Whether some element is true."""
    return ops.any(input, axis_of(input, dim), keepdim)


def all(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Whether every element is true."""
    return ops.all(input, axis_of(input, dim), keepdim)


def logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Any:
    """log(sum(exp(input))) over ``dim``, without overflow."""
    return ops.logsumexp(input, axis_of(input, dim), keepdim)


def softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """exp(input) / sum(exp(input)) along ``dim``: same shape, positive, sums to 1.

    >>> from tensorgrad import tensor
    >>> softmax(tensor([0.0, 0.0]), 0)
    tensor([0.5000, 0.5000])
    """
    return ops.softmax(input if dtype is None else ops.astype(input, dtype), axis_of(input, dim))


def log_softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """The logarithm of :func:`softmax`, without its cancellation."""
    return ops.log_softmax(
        input if dtype is None else ops.astype(input, dtype), axis_of(input, dim)
    )


IN_PLACE = ()
FUNCTIONS_ONLY = ()
METHODS_ONLY = ()
__all__ = [
    "sum", "mean", "var", "std", "amax", "amin", "max", "min", "argmax", "argmin", "any", "all",
    "logsumexp", "softmax", "log_softmax",
]  # fmt: skip
