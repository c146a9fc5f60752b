"""Order: sorting, and what is found by it."""

from __future__ import annotations

from typing import Any

from .. import ops
from .dims import ValuesIndices, axis_of, dim_of
from .joining import narrow
from .reductions import _extreme, argmax


def argsort(input: Any, dim: int = -1, descending: bool = False) -> Any:
    """The int64 indices that sort along ``dim``, stable."""
    return ops.argsort(input, axis_of(input, dim), descending)


def sort(input: Any, dim: int = -1, descending: bool = False) -> ValuesIndices:
    """(values, indices) sorted along ``dim``, stable; the gradient follows the values."""
    if not input.array.ndim:
        return _extreme(input, dim, False, argmax)
    indices = argsort(input, dim, descending)
    return ValuesIndices(ops.take_along_axis(input, indices, axis_of(input, dim)), indices)


def topk(input: Any, k: int, dim: int = -1, largest: bool = True) -> ValuesIndices:
    """The ``k`` largest (or smallest) along ``dim`` in order: (values, indices)."""
    n = input.shape[dim_of(input, dim)]
    if not 0 <= k <= n:
        raise RuntimeError(f"topk: k is {k} but dim {dim} of {tuple(input.shape)} has {n} elements")
    values, indices = sort(input, dim, descending=largest)
    return ValuesIndices(narrow(values, dim, 0, k), narrow(indices, dim, 0, k))


IN_PLACE = ()
FUNCTIONS_ONLY = ()
METHODS_ONLY = ()
__all__ = ["argsort", "sort", "topk"]
