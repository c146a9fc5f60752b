"""The same elements in other shapes: views, as far as strides allow."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import index as as_int
from typing import Any

from .. import ops
from ..backend import DTYPE, known_dtype, xp
from ..backend.dtypes import dtype
from ..variable import wrap
from .dims import dim_of, need_matrix, sizes_of

clone = ops.clone


def contiguous(input: Any) -> Any:
    """The tensor itself if its elements lie in memory one after the other, else such a copy."""
    return input if input.is_contiguous() else ops.contiguous(input)


# --- the elements in their order ------------------------------------------------------------------


def reshape(input: Any, shape: Any, *more: Any) -> Any:
    """The same elements in another shape, one size may be -1; a view where strides allow."""
    sizes, n = sizes_of((shape, *more)), input.array.size
    unknown = sizes.count(-1)
    known = math.prod(s for s in sizes if s != -1) if unknown else math.prod(sizes)
    if unknown > 1 or (known != n and (not unknown or not known or n % known)):
        raise RuntimeError(f"shape {list(sizes)} is invalid for a tensor of {n} elements")
    return ops.reshape(input, shape=sizes)


def view(input: Any, size: Any, *more: Any) -> Any:
    """:func:`reshape` that never copies."""
    if type(size) is not int and isinstance(size, (dtype, xp.dtype, type, str)):
        wanted = DTYPE[known_dtype(size)]
        if wanted is not input.dtype:
            raise RuntimeError(
                f"view: the bits of {input.dtype} cannot be read as {wanted}; "
                "to(dtype) converts the values"
            )
        return wrap(input.array, None, input.storage)  # a view of bits has no derivative
    out = reshape(input, size, *more)
    if out.storage is not input.storage:
        raise RuntimeError(
            f"view: shape {list(out.shape)} needs a copy for these strides; use reshape()"
        )
    return out


def view_as(input: Any, other: Any) -> Any:
    """:func:`view` in the shape of ``other``."""
    return view(input, tuple(other.shape))


def reshape_as(input: Any, other: Any) -> Any:
    """:func:`reshape` to the shape of ``other``."""
    return reshape(input, tuple(other.shape))


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Dims ``start_dim`` to ``end_dim`` (included) as one: [a, b, c] → [a * b * c]."""
    start, end = dim_of(input, start_dim), dim_of(input, end_dim)
    if start > end:
        raise RuntimeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    if start == end and input.array.ndim:
        return input
    shape = input.shape or (1,)
    return ops.reshape(
        input, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
    )


def ravel(input: Any) -> Any:
    """All elements in one dim."""
    return ops.reshape(input, (input.array.size,))


def unflatten(input: Any, dim: int, sizes: Any) -> Any:
    """One dim as several, one size may be -1: [.., a * b, ..] → [.., a, b, ..]."""
    dim, sizes, shape = dim_of(input, dim), sizes_of((sizes,)), tuple(input.shape)
    known = math.prod(s for s in sizes if s != -1)
    if shape and sizes.count(-1) == 1 and known:
        sizes = tuple(shape[dim] // known if s == -1 else s for s in sizes)
    if not shape or not sizes or min(sizes) < 0 or math.prod(sizes) != shape[dim]:
        raise RuntimeError(
            f"unflatten: sizes {list(sizes)} do not multiply up to dim {dim} of shape {shape}"
        )
    return ops.reshape(input, shape[:dim] + sizes + shape[dim + 1 :])


# --- dims in another order ------------------------------------------------------------------------


def transpose(input: Any, dim0: int, dim1: int) -> Any:
    """Swap two dims: a view."""
    axis1, axis2 = dim_of(input, dim0), dim_of(input, dim1)
    if not input.array.ndim:
        return ops.alias(input)
    return ops.swapaxes(input, axis1=axis1, axis2=axis2)


def swapaxes(input: Any, axis0: int, axis1: int) -> Any:
    """:func:`transpose` under NumPy's name."""
    return transpose(input, axis0, axis1)


swapdims = transpose


def t(input: Any) -> Any:
    """A matrix transposed: a view; a vector and a number stay as they are."""
    if input.array.ndim > 2:
        raise RuntimeError(
            f"t: needs two dims or fewer, this tensor has {input.array.ndim}; mT swaps the last two"
        )
    return ops.swapaxes(input, 0, 1) if input.array.ndim == 2 else ops.alias(input)


def adjoint(input: Any) -> Any:
    """The last two dims swapped: a view."""
    return ops.swapaxes(need_matrix(input, "mT"), -1, -2) if input.array.ndim else input


def permute(input: Any, dims: Any, *more: Any) -> Any:
    """Reorder the dims: a view."""
    dims, order = sizes_of((dims, *more)), list(range(input.array.ndim))
    if sorted(dims) == order:  # the common case, without a look at each
        return ops.permute_dims(input, axes=dims)
    axes = tuple(dim_of(input, d) for d in dims)
    if sorted(axes) != order:
        raise RuntimeError(
            f"permute: {list(dims)} is no order of the {input.array.ndim} dims of this tensor"
        )
    return ops.permute_dims(input, axes=axes)


def movedim(input: Any, source: Any, destination: Any) -> Any:
    """Move dims (an int or a tuple) to other places, the others stay in order: a view."""
    if isinstance(source, int) != isinstance(destination, int):
        raise TypeError("movedim: source and destination are two ints or two tuples of ints")
    origins, places = (dims_of(input, d, "movedim") for d in (source, destination))
    if len(origins) != len(places):
        raise RuntimeError(f"movedim: {source} are not as many dims as {destination}")
    if not input.array.ndim:
        return ops.alias(input)
    axes = [d for d in range(input.array.ndim) if d not in origins]
    for place, origin in sorted(zip(places, origins)):
        axes.insert(place, origin)
    return ops.permute_dims(input, tuple(axes))


moveaxis = movedim


def dims_of(input: Any, dims: Any, name: str) -> tuple[int, ...]:
    """Dims (an int or several) counted from the front, each at most once."""
    found = tuple(dim_of(input, d) for d in sizes_of((dims,)))
    if len(set(found)) < len(found):
        raise RuntimeError(f"{name}: a dim stands twice in {dims}")
    return found


# --- dims of size 1 -------------------------------------------------------------------------------


def expand(input: Any, size: Any, *more: Any) -> Any:
    """Repeat dims of size 1, and new ones in front, without copying; -1 keeps a size."""
    wanted, shape = sizes_of((size, *more)), tuple(input.shape)
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


def expand_as(input: Any, other: Any) -> Any:
    """:func:`expand` to the shape of ``other``."""
    return expand(input, tuple(other.shape))


def broadcast_to(input: Any, size: Any) -> Any:
    """:func:`expand`, for a shape in one piece."""
    return expand(input, tuple(size))


def broadcast_shapes(*shapes: Any) -> tuple[int, ...]:
    """The shape that tensors of these shapes have together."""
    sizes = [sizes_of((s,)) for s in shapes]
    try:
        return xp.broadcast_shapes(*sizes)
    except ValueError:
        listed = " and ".join(map(str, sizes))
        raise RuntimeError(
            f"shapes {listed} do not broadcast: from the end, sizes must be equal or 1"
        ) from None


def broadcast_tensors(*tensors: Any) -> tuple:
    """All tensors expanded to their common shape: views."""
    shape = broadcast_shapes(*(tuple(t.shape) for t in tensors))
    return tuple(ops.broadcast_to(t, shape) for t in tensors)


def squeeze(input: Any, dim: Any = None) -> Any:
    """Drop dims of size 1: all of them, or those of ``dim`` that have size 1."""
    axes = dims_of(input, tuple(range(input.array.ndim)) if dim is None else dim, "squeeze")
    return ops.squeeze(input, tuple(a for a in axes if input.shape[a : a + 1] == (1,)))


def unsqueeze(input: Any, dim: int) -> Any:
    """Insert a dim of size 1 before position ``dim``."""
    return ops.expand_dims(input, dim_of(input, dim, extra=1))


def atleast_1d(*tensors: Any) -> Any:
    """Numbers as [1]; several tensors give a tuple."""
    return _each(tensors, lambda t: t if t.array.ndim else ops.reshape(t, (1,)))


def atleast_2d(*tensors: Any) -> Any:
    """Numbers as [1, 1], vectors as [1, n]; several tensors give a tuple."""
    return _each(tensors, lambda t: t if t.array.ndim > 1 else ops.reshape(t, (1, t.array.size)))


def atleast_3d(*tensors: Any) -> Any:
    """Numbers as [1, 1, 1], vectors as [1, n, 1], matrices as [n, m, 1]; several give a tuple."""

    def deepened(t: Any) -> Any:
        if t.array.ndim > 2:
            return t
        return ops.reshape(t, (*t.shape, 1) if t.array.ndim == 2 else (1, t.array.size, 1))

    return _each(tensors, deepened)


def _each(tensors: tuple, change: Callable) -> Any:
    if len(tensors) == 1 and not isinstance(tensors[0], (tuple, list)):
        return change(tensors[0])
    one = len(tensors) == 1
    return tuple(change(t) for t in (tensors[0] if one else tensors))


# --- strides --------------------------------------------------------------------------------------


def unfold(input: Any, dimension: int, size: int, step: int) -> Any:
    """Windows of ``size`` along a dim, a new last one, every ``step``: [.., n, ..] → [.., m, ..,
    size], m = (n - size) // step + 1.

    A view; it can be written if no two windows overlap. The gradients of what they share add up.

    >>> import tensorgrad
    >>> tensorgrad.arange(5).unfold(0, 3, 1).tolist()
    [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    """
    if not input.array.ndim:
        return ops.getitem(unfold(ops.reshape(input, (1,)), dimension, size, step), 0)
    dim = dim_of(input, dimension)
    if not 0 <= size <= input.shape[dim] or step < 1:
        raise RuntimeError(
            f"unfold: dim {dim} of shape {tuple(input.shape)} has no windows of {size} every "
            f"{step}: a window is at most as large as the dim, and the step at least 1"
        )
    return ops.windows(input, dim, as_int(size), as_int(step))


def as_strided(input: Any, size: Any, stride: Any, storage_offset: int | None = None) -> Any:
    """Refused: a tensor here is an array and not a piece of memory to cut anew."""
    raise RuntimeError(
        "as_strided: tensors have no strides of their own; indexing, expand, unfold and diagonal "
        "make views"
    )


IN_PLACE = ("squeeze", "unsqueeze", "t", "transpose", "swapaxes", "swapdims")
FUNCTIONS_ONLY = ("atleast_1d", "atleast_2d", "atleast_3d", "broadcast_shapes", "broadcast_tensors")
METHODS_ONLY = (
    "contiguous", "view", "view_as", "reshape_as", "expand", "expand_as", "unfold"
)  # fmt: skip
__all__ = [
    "clone", "reshape", "flatten", "ravel", "unflatten", "transpose", "swapaxes", "swapdims", "t",
    "adjoint", "permute", "movedim", "moveaxis", "broadcast_to", "broadcast_shapes",
    "broadcast_tensors", "squeeze", "unsqueeze", "atleast_1d", "atleast_2d", "atleast_3d",
    "as_strided",
]  # fmt: skip
