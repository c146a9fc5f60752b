"""Reductions over one, several or all dims, and scans along one: sums, means, extremes, softmax."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from .. import ops
from ..backend import xp
from .dims import ValuesIndices, axis_of, dim_of, need_float
from .elementwise import maximum, minimum


class MinMax(NamedTuple):
    """What :func:`aminmax` returns."""

    min: Any
    max: Any


def _summable(input: Any, dtype: Any) -> Any:
    """``input`` in ``dtype``, by default its own, int64 for bools and integers."""
    if dtype is not None or input.dtype.kind != "f":
        input = ops.astype(input, dtype or "int64")
    return input


def sum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The sum over ``dim`` (default: all); bools and integers give int64."""
    if dtype is not None or input.dtype.kind != "f":
        input = ops.astype(input, dtype or "int64")
    return ops.sum(input, axis_of(input, dim), keepdim)


def nansum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """:func:`sum` with nan counted as 0."""
    return sum(ops.where(ops.isnan(input), 0, input), dim, keepdim, dtype=dtype)


def mean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The mean over ``dim`` (default: all) of a float tensor."""
    if dtype is not None:
        input = ops.astype(input, dtype)
    need_float(input, "mean")
    return ops.mean(input, axis_of(input, dim), keepdim)


def nanmean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The mean of the elements that are not nan."""
    need_float(input, "nanmean")
    number = sum(ops.logical_not(ops.isnan(input)), dim, keepdim)
    return ops.divide(nansum(input, dim, keepdim, dtype=dtype), number)


def prod(input: Any, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The product over one ``dim`` or all; bools and integers give int64.

    The derivative is right where factors are 0, too.

    >>> from tensorgrad import tensor
    >>> x = tensor([0.0, 2.0, 3.0], requires_grad=True)
    >>> prod(x).backward()
    >>> x.grad
    tensor([6., 0., 0.])
    """
    if dim is not None:
        dim = dim_of(input, dim) if input.array.ndim else axis_of(input, dim)
    return ops.prod(_summable(input, dtype), dim, keepdim)


def count_nonzero(input: Any, dim: Any = None) -> Any:
    """How many elements over ``dim`` (default: all) are not 0; nan is not."""
    return sum(ops.not_equal(input, 0), dim)


# --- variances ------------------------------------------------------------------------------------


def _variance(
    name: str, input: Any, dim: Any, unbiased: Any, keepdim: bool, correction: Any
) -> Any:
    """The variance and its axis. ``dim`` may be left out: ``var(x, False)`` is unbiased=False."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None and correction is not None:
        raise TypeError(f"{name}: give unbiased or correction, not both")
    need_float(input, name)
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    axis = axis_of(input, dim)
    n = _count(input, axis)
    if n > correction:
        return ops.var(input, axis, keepdim, correction), axis
    warnings.warn(
        f"{name}: {n} elements with correction={correction} have no degrees of freedom left; the "
        "result is nan or inf",
        stacklevel=3,
    )
    with xp.errstate(all="ignore"):
        return ops.var(input, axis, keepdim, correction), axis


def _root(v: Any) -> Any:
    """The square root; where it is 0 so is its gradient, as in PyTorch."""
    constant = v == 0
    return ops.where(constant, 0.0, ops.sqrt(ops.where(constant, 1.0, v)))


def var(input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: float | None = None) -> Any:  # fmt: skip
    """The variance over ``dim``, divided by n - ``correction`` (1; ``unbiased=False`` is 0).

    Where nothing is left to divide by it is nan, or inf, with a warning.
    """
    return _variance("var", input, dim, unbiased, keepdim, correction)[0]


def std(input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: float | None = None) -> Any:  # fmt: skip
    """The square root of :func:`var`; where it is 0 so is its gradient, as in PyTorch."""
    return _root(_variance("std", input, dim, unbiased, keepdim, correction)[0])


def var_mean(input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: float | None = None) -> tuple[Any, Any]:  # fmt: skip
    """(:func:`var`, :func:`mean`)."""
    v, axis = _variance("var_mean", input, dim, unbiased, keepdim, correction)
    return v, ops.mean(input, axis, keepdim)


def std_mean(input: Any, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: float | None = None) -> tuple[Any, Any]:  # fmt: skip
    """(:func:`std`, :func:`mean`)."""
    v, axis = _variance("std_mean", input, dim, unbiased, keepdim, correction)
    return _root(v), ops.mean(input, axis, keepdim)


# --- extremes -------------------------------------------------------------------------------------


def _count(input: Any, axis: Any) -> int:
    """The number of elements that are reduced to one."""
    if axis is None:
        return input.array.size
    return math.prod(input.shape[a] for a in (axis if isinstance(axis, tuple) else (axis,)))


def _nonempty(input: Any, dim: Any, name: str, kind: type[Exception] = IndexError) -> Any:
    """The axis of ``dim``, along which there must be something to choose from."""
    axis = axis_of(input, dim)
    if not _count(input, axis):
        raise (kind if axis is None else IndexError)(
            f"{name}: nothing to choose from in shape {tuple(input.shape)}"
        )
    return axis


def _every(input: Any, axis: Any) -> Any:
    """None as a tuple of axes: ``ops.max`` shares its gradient among nans only for None."""
    return tuple(range(input.array.ndim)) if axis is None else axis


def amax(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest element over ``dim``; ties share the gradient equally."""
    return ops.max(input, _every(input, _nonempty(input, dim, "amax", RuntimeError)), keepdim)


def amin(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest element over ``dim``; ties share the gradient equally."""
    return ops.min(input, _every(input, _nonempty(input, dim, "amin", RuntimeError)), keepdim)


def aminmax(input: Any, *, dim: int | None = None, keepdim: bool = False) -> MinMax:
    """(:func:`amin`, :func:`amax`) over one ``dim`` or all."""
    return MinMax(amin(input, dim, keepdim), amax(input, dim, keepdim))


def chosen(
    name: str, input: Any, dim: int, keepdim: bool, find: Callable[[Any, int], Any]
) -> ValuesIndices:
    """One element along ``dim`` and its index, which ``find(x, axis)`` tells keeping the axis;
    the gradient goes there."""
    dim = dim_of(input, dim)
    x = input if input.array.ndim else ops.reshape(input, (1,))
    _nonempty(x, dim, name)
    indices = find(x, dim)
    values = ops.take_along_axis(x, indices, dim)
    if not keepdim or x is not input:
        values, indices = ops.squeeze(values, dim), ops.squeeze(indices, dim)
    return ValuesIndices(values, indices)


def max(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest element; with ``dim`` an int (values, indices); with a tensor, elementwise."""
    if dim is None:
        return ops.max(input)
    if not isinstance(dim, int):
        return maximum(input, dim)
    return chosen("max", input, dim, keepdim, lambda x, axis: ops.argmax(x, axis, True))


def min(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest element; with ``dim`` an int (values, indices); with a tensor, elementwise."""
    if dim is None:
        return ops.min(input)
    if not isinstance(dim, int):
        return minimum(input, dim)
    return chosen("min", input, dim, keepdim, lambda x, axis: ops.argmin(x, axis, True))


def no_bools(input: Any, name: str) -> None:
    if input.dtype == "bool":
        raise RuntimeError(f"{name}: takes no bools; call .int() first")


def argmax(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The index of the first largest element, int64; without ``dim`` in the flattened tensor."""
    no_bools(input, "argmax")
    return ops.argmax(input, _nonempty(input, dim, "argmax"), keepdim)


def argmin(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The index of the first smallest element, int64; without ``dim`` in the flattened tensor."""
    no_bools(input, "argmin")
    return ops.argmin(input, _nonempty(input, dim, "argmin"), keepdim)


# --- truth ----------------------------------------------------------------------------------------


def _truth(reduce: Callable, input: Any, dim: Any, keepdim: bool) -> Any:
    if isinstance(dim, (tuple, list)) and not dim:  # unlike elsewhere, no dims are none
        found = ops.not_equal(input, 0)
    else:
        found = reduce(input, axis_of(input, dim), keepdim)
    return ops.astype(found, "uint8") if input.dtype == "uint8" else found


def any(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Whether some element is true; uint8 gives uint8."""
    return _truth(ops.any, input, dim, keepdim)


def all(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Whether every element is true; uint8 gives uint8."""
    return _truth(ops.all, input, dim, keepdim)


# --- exponentials ---------------------------------------------------------------------------------


def logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Any:
    """log(sum(exp(input))) over ``dim``, without overflow."""
    axis = axis_of(input, dim)
    if not _count(input, axis):  # no largest element to scale by: log(0)
        return ops.log(ops.sum(ops.exp(input), axis, keepdim))
    return ops.logsumexp(input, axis, keepdim)


def softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """exp(input) / sum(exp(input)) along ``dim``: same shape, positive, sums to 1.

    >>> from tensorgrad import tensor
    >>> softmax(tensor([0.0, 0.0]), 0)
    tensor([0.5000, 0.5000])
    """
    return _normalized(ops.softmax, input, dim, dtype)


def log_softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """The logarithm of :func:`softmax`, without its cancellation."""
    return _normalized(ops.log_softmax, input, dim, dtype)


def _normalized(function: Callable, input: Any, dim: int, dtype: Any) -> Any:
    axis = axis_of(input, dim)
    if dtype is not None:
        input = ops.astype(input, dtype)
    return function(input, axis) if input.array.size else ops.exp(input)  # empty as it is


# --- scans ----------------------------------------------------------------------------------------


def along(function: Callable[[Any, int], Any], input: Any, dim: int) -> Any:
    """``function(input, axis)``, for which a 0-dim tensor has one dim."""
    dim = dim_of(input, dim)
    if input.array.ndim:
        return function(input, dim)
    return ops.reshape(function(ops.reshape(input, (1,)), 0), ())


def cumsum(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """The sums of the elements up to each one; bools and integers give int64."""
    return along(ops.cumsum, _summable(input, dtype), dim)


def cumprod(input: Any, dim: int, *, dtype: Any = None) -> Any:
    """The products of the elements up to each one; bools and integers give int64."""
    return along(ops.cumprod, _summable(input, dtype), dim)


def logcumsumexp(input: Any, dim: int) -> Any:
    """log(cumsum(exp(input))), without overflow."""
    need_float(input, "logcumsumexp")
    return along(ops.logcumsumexp, input, dim)


def rearranged(input: Any, dim: int, find: Callable[[Any, int], Any]) -> ValuesIndices:
    """The elements at the indices along ``dim`` that ``find(x, axis)`` tells, and these; the
    gradients go to the elements."""
    dim = dim_of(input, dim)
    x = input if input.array.ndim else ops.reshape(input, (1,))
    indices = find(x, dim)
    values = ops.take_along_axis(x, indices, dim)
    if x is not input:
        values, indices = ops.reshape(values, ()), ops.reshape(indices, ())
    return ValuesIndices(values, indices)


def cummax(input: Any, dim: int) -> ValuesIndices:
    """The largest elements up to each one and the indices of the last of them."""
    return rearranged(input, dim, lambda x, axis: ops.cumargmax(x, axis, True))


def cummin(input: Any, dim: int) -> ValuesIndices:
    """The smallest elements up to each one and the indices of the last of them."""
    return rearranged(input, dim, lambda x, axis: ops.cumargmax(x, axis, False))


IN_PLACE = ("cumsum", "cumprod")
FUNCTIONS_ONLY = ("var_mean", "std_mean")
METHODS_ONLY = ()
__all__ = [
    "sum", "nansum", "mean", "nanmean", "prod", "count_nonzero", "var", "std", "var_mean",
    "std_mean", "amax", "amin", "aminmax", "max", "min", "argmax", "argmin", "any", "all",
    "logsumexp", "softmax", "log_softmax", "cumsum", "cumprod", "logcumsumexp", "cummax", "cummin",
]  # fmt: skip
