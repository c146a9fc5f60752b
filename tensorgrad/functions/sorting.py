"""Order: sorting, and the elements that have a certain place in it. nan is the largest of all."""

from __future__ import annotations

from operator import index as as_int
from typing import Any

from .. import ops
from ..backend import xp
from ..variable import Variable, wrap
from .dims import ValuesIndices, dim_of
from .reductions import along, chosen, no_bools, rearranged


def argsort(
    input: Any, dim: int = -1, descending: bool = False, *, stable: bool | None = False
) -> Any:
    """The int64 indices that sort along ``dim``; equal elements keep their order in any case."""
    return along(lambda x, axis: ops.argsort(x, axis, descending), input, dim)


def sort(
    input: Any, dim: int = -1, descending: bool = False, *, stable: bool | None = False
) -> ValuesIndices:
    """(values, indices) sorted along ``dim``, stable in any case; the gradient follows the values.

    >>> from tensorgrad import tensor
    >>> sort(tensor([3.0, 1.0, 2.0])).indices
    tensor([1, 2, 0])
    """
    return rearranged(input, dim, lambda x, axis: ops.argsort(x, axis, descending))


def msort(input: Any) -> Any:
    """The values sorted along the first dim."""
    return sort(input, 0).values


def topk(
    input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> ValuesIndices:
    """The ``k`` largest (or smallest) along ``dim``, in order in any case: (values, indices)."""
    no_bools(input, "topk")
    axis = dim_of(input, dim)
    n = input.shape[axis] if input.array.ndim else 1
    if not 0 <= as_int(k) <= n:
        raise RuntimeError(f"topk: k is {k} but dim {dim} of {tuple(input.shape)} has {n} elements")
    if not input.array.ndim:
        return sort(input)

    def first(x: Any, axis: int) -> Any:
        order = ops.argsort(x, axis, largest)
        return ops.clone(ops.getitem(order, (slice(None),) * axis + (slice(0, k),)))

    return rearranged(input, dim, first)


def _at_place(x: Any, axis: int, place: Any) -> Any:
    """The indices of the elements at ``place`` in the order along ``axis``, which is kept; the
    places are an integer or integers of the shape of the result."""
    order = xp.argsort(x.array, axis=axis)
    shape = order.shape[:axis] + (1,) + order.shape[axis + 1 :]
    places = xp.broadcast_to(xp.asarray(place), shape)
    return wrap(xp.take_along_axis(order, places, axis=axis))


def kthvalue(input: Any, k: int, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
    """The ``k``-th smallest element along ``dim``, counted from 1: (values, indices)."""
    no_bools(input, "kthvalue")
    axis = dim_of(input, dim)
    n = input.shape[axis] if input.array.ndim else 1
    if n and not 1 <= as_int(k) <= n:
        raise RuntimeError(
            f"kthvalue: k is {k} but dim {dim} of {tuple(input.shape)} has {n} elements, "
            "counted from 1"
        )
    return chosen("kthvalue", input, dim, keepdim, lambda x, axis: _at_place(x, axis, k - 1))


def _median(name: str, input: Any, dim: int | None, keepdim: bool, ignore_nan: bool) -> Any:
    no_bools(input, name)
    if dim is None:
        return ops.median(input, ignore_nan)

    def find(x: Any, axis: int) -> Any:
        n = x.shape[axis]
        nans = xp.sum(xp.isnan(x.array), axis=axis, keepdims=True)
        if ignore_nan:
            return _at_place(x, axis, xp.maximum(n - nans - 1, 0) // 2)
        return _at_place(x, axis, xp.where(nans > 0, n - nans, (n - 1) // 2))  # the first nan

    return chosen(name, input, dim, keepdim, find)


def median(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle element in order, of two the lower; nan if there is one.

    With ``dim`` (values, indices), the gradient going to the element of that index; without it
    the median of all, whose gradient all equal elements share.
    """
    return _median("median", input, dim, keepdim, False)


def nanmedian(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """:func:`median` of the elements that are not nan."""
    return _median("nanmedian", input, dim, keepdim, True)


# --- quantiles ------------------------------------------------------------------------------------

_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def quantile(input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *,
             interpolation: str = "linear") -> Any:  # fmt: skip
    """The values below which the fractions ``q`` of the elements along ``dim`` (default: all) lie.

    Between two elements ``interpolation`` decides: "linear", "lower", "higher", "midpoint" or
    "nearest". ``q`` is a number or a tensor, whose dim the result has in front: [q, ...]. The
    quantile of elements with a nan is nan.

    >>> from tensorgrad import tensor
    >>> quantile(tensor([1.0, 2.0, 4.0]), tensor([0.25, 0.5]))
    tensor([1.5000, 2.0000])
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation, False)


def nanquantile(input: Any, q: Any, dim: int | None = None, keepdim: bool = False, *,
                interpolation: str = "linear") -> Any:  # fmt: skip
    """:func:`quantile` of the elements that are not nan."""
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation, True)


def _fractions(name: str, input: Any, q: Any) -> Any:
    """``q`` as a checked tensor of the dtype of ``input``."""
    if input.dtype not in ("float32", "float64"):
        raise RuntimeError(f"{name}: needs float32 or float64, not {input.dtype}")
    if not input.array.size:
        raise RuntimeError(f"{name}: a tensor without elements has no quantiles")
    if not isinstance(q, (Variable, int, float)):
        raise TypeError(f"{name}: q is a number or a tensor, not a {type(q).__name__}")
    if not isinstance(q, Variable):
        q = wrap(xp.asarray(float(q), dtype=input.dtype))
    if q.dtype != input.dtype or q.array.ndim > 1:
        raise RuntimeError(
            f"{name}: q must be a number or a tensor of {input.dtype} with at most one dim, "
            f"not one of {q.dtype} of shape {tuple(q.shape)}"
        )
    if not ((q.array >= 0) & (q.array <= 1)).all():
        raise RuntimeError(f"{name}: q must lie between 0 and 1, got {q.tolist()}")
    return q


def _quantile(name: str, input: Any, q: Any, dim: int | None, keepdim: bool,
              interpolation: str, ignore_nan: bool) -> Any:  # fmt: skip
    q = _fractions(name, input, q)
    if interpolation not in _INTERPOLATIONS:
        raise RuntimeError(
            f"{name}: interpolation is {', '.join(_INTERPOLATIONS)}, not {interpolation!r}"
        )
    axis = 0 if dim is None else dim_of(input, dim)
    whole = dim is None or not input.array.ndim
    ordered = sort(ops.reshape(input, (-1,)) if whole else input, axis).values  # nan comes last
    n, ndim = ordered.shape[axis], ordered.array.ndim

    # The places between 0 and n - 1 where to look, the fractions along the axis: [..., q, ...]
    nans = xp.sum(xp.isnan(ordered.array), axis=axis, keepdims=True)
    along_axis = tuple(-1 if a == axis else 1 for a in range(ndim))
    last = xp.maximum(n - nans, 1) - 1 if ignore_nan else xp.asarray(n - 1)
    places = ops.multiply(ops.reshape(q, along_axis), xp.astype(last, input.dtype))
    if not ignore_nan:
        places = ops.where(nans > 0, float(n - 1), places)
    shape = tuple(q.array.size if a == axis else ordered.shape[a] for a in range(ndim))
    places = ops.broadcast_to(places, shape)

    found = _between(ordered, places, axis, interpolation)
    if q.array.ndim:  # the fractions come first
        found = ops.permute_dims(found, (axis, *(a for a in range(ndim) if a != axis)))
    else:
        found = ops.squeeze(found, axis)
    if keepdim:
        kept = tuple(1 for _ in input.shape) if whole else (
            *ordered.shape[:axis], 1, *ordered.shape[axis + 1 :]
        )  # fmt: skip
        found = ops.reshape(found, (*q.shape, *kept))
    return found


def _between(ordered: Any, places: Any, axis: int, interpolation: str) -> Any:
    """The values of ``ordered`` at ``places``, which lie between two elements in general."""

    def at(whole_places: Any) -> Any:
        return ops.take_along_axis(ordered, ops.astype(whole_places, "int64"), axis)

    whole = {"lower": ops.floor, "higher": ops.ceil, "nearest": ops.round}.get(interpolation)
    if whole:
        return at(whole(places))
    lower, upper = ops.floor(places), ops.ceil(places)
    if interpolation == "midpoint":
        places = (lower + upper) * 0.5
    low, high, weight = at(lower), at(upper), places - lower
    # Exact at both ends, as torch.lerp is.
    return ops.where(
        weight < 0.5, low + weight * (high - low), high - (1.0 - weight) * (high - low)
    )


IN_PLACE = ()
FUNCTIONS_ONLY = ()
METHODS_ONLY = ()
__all__ = [
    "argsort", "sort", "msort", "topk", "kthvalue", "median", "nanmedian", "quantile",
    "nanquantile",
]  # fmt: skip
