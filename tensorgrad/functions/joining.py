"""Tensors joined and cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from .. import ops
from .dims import dim_of, dim_of_some


def cat(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Join along an existing dim; the other sizes must agree."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("cat: expected at least one tensor")
    dim, shapes = dim_of(tensors[0], dim), [tuple(t.shape) for t in tensors]
    if () in shapes or len({(s[:dim], s[dim + 1 :]) for s in shapes}) > 1:
        listed = " and ".join(map(str, shapes))
        raise RuntimeError(f"cat: shapes {listed} must be equal but for the size of dim {dim}")
    return ops.concat(tensors, dim)


def stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Join tensors of one shape along a new dim."""
    tensors = list(tensors)
    if len({tuple(t.shape) for t in tensors}) != 1:
        raise RuntimeError(f"stack: shapes must be equal, got {[list(t.shape) for t in tensors]}")
    return ops.stack(tensors, dim_of(tensors[0], dim, extra=1))


def narrow(input: Any, dim: int, start: int, length: int) -> Any:
    """``length`` positions of ``dim`` from ``start``: a view."""
    dim = dim_of_some(input, dim, "narrow")
    n = input.shape[dim]
    first = start + n if start < 0 else start
    if not 0 <= first <= first + length <= n:
        kind = RuntimeError if 0 <= first <= n else IndexError
        raise kind(
            f"narrow: start {start} and length {length} do not lie in dim {dim} of shape "
            f"{tuple(input.shape)}"
        )
    return ops.getitem(input, (slice(None),) * dim + (slice(first, first + length),))


def split(input: Any, split_size: int | Sequence[int], dim: int = 0) -> tuple:
    """Views of ``split_size`` positions each (the last may be shorter), or of the sizes given."""
    dim = dim_of_some(input, dim, "split")
    n = input.shape[dim]
    if isinstance(split_size, int):
        starts = range(0, n, max(split_size, 1))
        sizes = [split_size if i + split_size <= n else n - i for i in starts] or [0]
    else:
        sizes = list(split_size)
    ends = list(accumulate(sizes))
    if ends[-1:] != [n] or [s for s in sizes if s < 0]:
        raise RuntimeError(f"split: sizes of {split_size} do not add up to {n}")
    return tuple(narrow(input, dim, end - size, size) for end, size in zip(ends, sizes))


def chunk(input: Any, chunks: int, dim: int = 0) -> tuple:
    """At most ``chunks`` views of equal size; the last may be shorter."""
    n = input.shape[dim_of_some(input, dim, "chunk")]
    if chunks < 1:
        raise RuntimeError(f"chunk: the number of chunks must be positive, not {chunks}")
    return split(input, max(-(-n // chunks), 1), dim)


def unbind(input: Any, dim: int = 0) -> tuple:
    """The slices along ``dim``, which they no longer have: views."""
    if not input.array.ndim:
        raise IndexError("unbind: a 0-dim tensor has no dim to cut")
    dim = dim_of(input, dim)
    before = (slice(None),) * dim
    return tuple(ops.getitem(input, (*before, i)) for i in range(input.shape[dim]))


IN_PLACE = ()
FUNCTIONS_ONLY = ("cat", "stack")
METHODS_ONLY = ()
__all__ = ["cat", "stack", "narrow", "split", "chunk", "unbind"]
