"""The same elements in other shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import ops
from .dims import dim_of, need_matrix, sizes_of

clone = ops.clone


def reshape(input: Any, *shape: Any) -> Any:
    """The same elements in another shape, one size may be -1; a view where strides allow."""
    sizes, n = sizes_of(shape), input.array.size
    known = math.prod(s for s in sizes if s != -1)
    if (sizes.count(-1) > 1) or (known != n and (-1 not in sizes or not known or n % known)):
        raise RuntimeError(f"shape {list(sizes)} is invalid for a tensor of {n} elements")
    return ops.reshape(input, sizes)


def view(input: Any, *shape: Any) -> Any:
    """:func:`reshape` that never copies."""
    out = reshape(input, *shape)
    if out.storage is not input.storage:
        raise RuntimeError(
            f"view: shape {list(out.shape)} needs a copy for these strides; use reshape()"
        )
    return out


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Dims ``start_dim`` to ``end_dim`` (included) as one: [a, b, c] → [a * b * c]."""
    start, end = dim_of(input, start_dim), dim_of(input, end_dim)
    if start > end:
        raise RuntimeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    shape = input.shape or (1,)
    return ops.reshape(
        input, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
    )


def transpose(input: Any, dim0: int, dim1: int) -> Any:
    """Swap two dims: a view."""
    dims = dim_of(input, dim0), dim_of(input, dim1)
    return ops.swapaxes(input, *dims) if input.array.ndim else ops.alias(input)


def permute(input: Any, *dims: Any) -> Any:
    """Reorder the dims: a view."""
    axes = tuple(dim_of(input, d) for d in sizes_of(dims))
    if sorted(axes) != list(range(input.array.ndim)):
        raise RuntimeError(
            f"permute: {list(sizes_of(dims))} is no order of the {input.array.ndim} dims of this "
            "tensor"
        )
    return ops.permute_dims(input, axes)


def expand(input: Any, *sizes: Any) -> Any:
    """Repeat dims of size 1, and new ones in front, without copying; -1 keeps a size."""
    wanted, shape = sizes_of(sizes), tuple(input.shape)
    new = len(wanted) - len(shape)
    kept = [w in (-1, n) or n == 1 for w, n in zip(wanted[max(new, 0) :], shape)]
    if new < 0 or -1 in wanted[:new] or False in kept:
        raise RuntimeError(
            f"expand: shape {shape} does not expand to {wanted}: the last {len(shape)} sizes must "
            "be equal, or 1 before, or -1"
        )
    return ops.broadcast_to(
        input, wanted[:new] + tuple(n if w == -1 else w for w, n in zip(wanted[new:], shape))
    )


def broadcast_to(input: Any, shape: Sequence[int]) -> Any:
    """:func:`expand`, for a shape in one piece."""
    return expand(input, *shape)


def squeeze(input: Any, dim: Any = None) -> Any:
    """Drop dims of size 1: all of them, or those of ``dim`` that have size 1."""
    several = range(input.array.ndim) if dim is None else dim
    axes = {dim_of(input, d) for d in (several if not isinstance(several, int) else (several,))}
    return ops.squeeze(input, tuple(a for a in axes if input.shape[a : a + 1] == (1,)))


def unsqueeze(input: Any, dim: int) -> Any:
    """Insert a dim of size 1 before position ``dim``."""
    return ops.expand_dims(input, dim_of(input, dim, extra=1))


def tril(input: Any, diagonal: int = 0) -> Any:
    """The lower triangle of the last two dims, zeros above ``diagonal``."""
    return ops.tril(need_matrix(input, "tril"), diagonal)


def triu(input: Any, diagonal: int = 0) -> Any:
    """The upper triangle of the last two dims, zeros below ``diagonal``."""
    return ops.triu(need_matrix(input, "triu"), diagonal)


IN_PLACE = ()
FUNCTIONS_ONLY = ()
METHODS_ONLY = ("view", "expand")
__all__ = [
    "clone", "reshape", "flatten", "transpose", "permute", "broadcast_to", "squeeze", "unsqueeze",
    "tril", "triu",
]  # fmt: skip
