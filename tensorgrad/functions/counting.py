"""Counting: which values there are, how often, and between which boundaries."""

from __future__ import annotations

import math
from typing import Any

from .. import ops
from ..backend import xp
from ..backend.promotion import result_dtype
from ..variable import Variable, wrap
from .dims import ValuesIndices, dim_of
from .reductions import chosen


def mode(input: Any, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """The most frequent element along ``dim``, the smallest of several: (values, indices).

    The index is that of its last occurrence; the gradient goes there.
    """

    def find(x: Any, axis: int) -> Any:
        order = xp.swapaxes(xp.argsort(x.array, axis=axis), axis, -1)
        ordered = xp.take_along_axis(xp.swapaxes(x.array, axis, -1), order, axis=-1)
        places = xp.arange(ordered.shape[-1])
        # A run of equal elements starts where one differs from the one before it.
        starts = xp.ones_like(ordered, dtype=bool)
        starts[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
        start = xp.maximum.accumulate(xp.where(starts, places, 0), axis=-1)
        end_of_longest = xp.argmax(places - start, axis=-1, keepdims=True)
        return wrap(xp.swapaxes(xp.take_along_axis(order, end_of_longest, axis=-1), axis, -1))

    return chosen("mode", input, dim, keepdim, find)


def unique(input: Any, sorted: bool = True, return_inverse: bool = False,
           return_counts: bool = False, dim: int | None = None) -> Any:  # fmt: skip
    """The distinct elements in order, or with ``dim`` the distinct slices along it.

    ``return_inverse`` adds where in the result each element is, ``return_counts`` how often each
    occurs. A nan differs from every other. The gradient goes to the first of equal elements
    (PyTorch has none).

    >>> from tensorgrad import tensor
    >>> unique(tensor([3, 1, 3]), return_counts=True)
    (tensor([1, 3]), tensor([1, 2]))
    """
    return _distinct("unique", input, dim, True, return_inverse, return_counts)


def unique_consecutive(input: Any, return_inverse: bool = False, return_counts: bool = False,
                       dim: int | None = None) -> Any:  # fmt: skip
    """:func:`unique` of neighbours only: of each run of equal elements the first."""
    return _distinct("unique_consecutive", input, dim, False, return_inverse, return_counts)


def _distinct(
    name: str, input: Any, dim: int | None, ordered: bool, return_inverse: bool, return_counts: bool
) -> Any:
    axis = 0 if dim is None else dim_of(input, dim)
    if dim is not None and not input.array.ndim:
        raise IndexError(f"{name}: a 0-dim tensor has no dim {dim}")
    x = ops.reshape(input, (-1,)) if dim is None else input
    n, size = x.shape[axis], math.prod(x.shape[:axis] + x.shape[axis + 1 :])
    if not size:
        raise RuntimeError(f"{name}: the slices along dim {dim} of {tuple(x.shape)} are empty")

    front = (axis, *(a for a in range(x.array.ndim) if a != axis))
    rows = xp.reshape(xp.permute_dims(x.array, front), (n, size))
    order = xp.arange(n)
    if ordered:
        order = xp.lexsort(tuple(rows[:, ::-1].T))  # by the first column, then by the next
        rows = rows[order]
    first = xp.ones(n, dtype=bool)
    first[1:] = xp.any(rows[1:] != rows[:-1], axis=1)
    starts = xp.nonzero(first)[0]

    results = [ops.getitem(x, (slice(None),) * axis + (order[starts],))]
    if return_inverse:
        inverse = xp.empty(n, dtype="int64")
        inverse[order] = xp.cumsum(xp.astype(first, "int64"), 0) - 1
        results.append(wrap(xp.reshape(inverse, input.shape) if dim is None else inverse))
    if return_counts:
        results.append(wrap(xp.concat([starts[1:], xp.asarray([n])[: len(starts)]]) - starts))
    return tuple(results) if len(results) > 1 else results[0]


# --- between boundaries ---------------------------------------------------------------------------


def searchsorted(sorted_sequence: Any, input: Any, *, out_int32: bool = False, right: bool = False,
                 side: str | None = None, sorter: Any = None) -> Any:  # fmt: skip
    """Where in the sorted last dim elements would have to be inserted to keep it sorted.

    ``sorted_sequence`` [n], or [..., n] for an ``input`` [..., m] of the same leading sizes. Equal
    elements are passed with ``right`` (or ``side="right"``). ``sorter`` holds the indices that
    sort a sequence that is not. A number gives a 0-dim tensor.

    >>> from tensorgrad import tensor
    >>> searchsorted(tensor([1, 3, 5]), tensor([3, 6]))
    tensor([1, 3])
    """
    sequence = sorted_sequence.array
    if side not in (None, "left", "right") or (side == "left" and right):
        raise RuntimeError(f"searchsorted: side={side!r} and right={right} name no side")
    if sorter is not None:
        sequence = _reordered(sequence, sorter)
    return _search("searchsorted", sequence, input, right or side == "right", out_int32)


def bucketize(input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Any:
    """The number of the interval between the sorted ``boundaries`` [n] where each element lies.

    Interval i is boundaries[i-1] < x <= boundaries[i], with ``right`` it holds its left end
    instead of its right one.
    """
    if boundaries.array.ndim != 1:
        raise RuntimeError(
            f"bucketize: boundaries must have one dim, not the shape {tuple(boundaries.shape)}"
        )
    return _search("bucketize", boundaries.array, input, right, out_int32)


def _reordered(sequence: Any, sorter: Any) -> Any:
    indices, n = sorter.array, sequence.shape[-1] if sequence.ndim else 0
    if indices.dtype != "int64" or indices.shape != sequence.shape:
        raise RuntimeError(
            f"searchsorted: the sorter must be int64 of shape {sequence.shape}, not "
            f"{indices.dtype} of {indices.shape}"
        )
    if indices.size and not 0 <= indices.min() <= indices.max() < n:
        raise RuntimeError(f"searchsorted: the sorter's indices must lie in 0..{n - 1}")
    return xp.take_along_axis(sequence, indices, axis=-1)


def _search(name: str, sequence: Any, input: Any, right: bool, out_int32: bool) -> Any:
    """A binary search for all elements at once, PyTorch's step for step: nan comes last."""
    values = input.array if isinstance(input, Variable) else xp.asarray(input)
    if not sequence.ndim or (
        sequence.ndim > 1 and sequence.shape[:-1] != (values.shape[:-1] if values.ndim else None)
    ):
        raise RuntimeError(
            f"{name}: boundaries of shape {sequence.shape} must have one dim, or the leading "
            f"sizes of the values, whose shape is {values.shape}"
        )
    if sequence.dtype != values.dtype:
        common = result_dtype(sequence, values if isinstance(input, Variable) else input)
        sequence, values = xp.astype(sequence, common), xp.astype(values, common)
    if values.dtype == "bool":
        raise RuntimeError(f"{name}: takes no bools")

    n = sequence.shape[-1]
    flat = sequence if sequence.ndim > 1 else xp.reshape(sequence, (n,))
    start = xp.zeros(values.shape, dtype="int64")
    end = xp.full(values.shape, n, dtype="int64")
    while (searching := start < end).any():
        middle = (start + end) // 2
        here = xp.minimum(middle, n - 1)
        found = flat[here] if flat.ndim == 1 else xp.take_along_axis(flat, here, axis=-1)
        below = ~(found > values if right else found >= values)  # nan is not below anything
        start = xp.where(searching & below, middle + 1, start)
        end = xp.where(searching & ~below, middle, end)
    return wrap(xp.astype(start, "int32") if out_int32 else xp.asarray(start))


def bincount(input: Any, weights: Any = None, minlength: int = 0) -> Any:
    """How often each of the integers 0, 1, … occurs in ``input`` [n], or its total weight.

    The gradient of ``weights`` is that of a sum (PyTorch has none).

    >>> from tensorgrad import tensor
    >>> bincount(tensor([1, 3, 1]))
    tensor([0, 2, 0, 1])
    """
    values = input.array
    if values.dtype.kind not in "iu" or values.ndim != 1 or (values.size and values.min() < 0):
        raise RuntimeError(
            "bincount: needs integers, none negative, in one dim; got "
            f"{input.dtype} of shape {tuple(input.shape)}"
        )
    if minlength < 0:
        raise RuntimeError(f"bincount: minlength is {minlength}, must not be negative")
    if weights is not None and tuple(weights.shape) != values.shape:
        raise RuntimeError(
            f"bincount: weights must have the shape {values.shape}, not {tuple(weights.shape)}"
        )
    length = max(minlength, int(values.max()) + 1 if values.size else 0)
    if weights is None or not values.size:
        return wrap(xp.bincount(values, minlength=length))
    weights = weights if weights.dtype == "float32" else ops.astype(weights, "float64")
    return ops.scatter(weights, index=xp.astype(values, "int64"), shape=(length,))


def histc(input: Any, bins: int = 100, min: float = 0, max: float = 0) -> Any:
    """How many elements lie in each of ``bins`` equal intervals from ``min`` to ``max``.

    Equal bounds stand for the smallest and the largest element; others and nan are not counted.
    """
    x = input.array
    if x.dtype.kind != "f":
        raise RuntimeError(f"histc: needs a float dtype, not {input.dtype}; call .float() first")
    if bins < 1:
        raise RuntimeError(f"histc: needs at least one bin, not {bins}")
    low, high = float(min), float(max)
    if low == high and x.size:
        low, high = float(x.min()), float(x.max())
    if low == high:
        low, high = low - 1, high + 1
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise RuntimeError(f"histc: the range from {low} to {high} is empty or not finite")
    x = x[(x >= low) & (x <= high)]
    places = xp.astype((x - low) / (high - low) * bins, "int64")
    return wrap(xp.astype(xp.bincount(xp.minimum(places, bins - 1), minlength=bins), input.dtype))


IN_PLACE = ()
FUNCTIONS_ONLY = ("searchsorted", "bucketize")
METHODS_ONLY = ()
__all__ = [
    "mode", "unique", "unique_consecutive", "searchsorted", "bucketize", "bincount", "histc",
]  # fmt: skip
