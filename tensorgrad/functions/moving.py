"""The same elements in other places: turned over, repeated, in triangles and on diagonals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import index as as_int
from typing import Any

from .. import ops
from ..backend import xp
from ..variable import Variable, wrap
from .dims import dim_of, need_matrix, sizes_of
from .joining import select
from .shapes import dims_of

# --- turned over and around -----------------------------------------------------------------------


def flip(input: Any, dims: Any, *more: Any) -> Any:
    """The elements in reverse order along each of ``dims``: a copy."""
    axes = dims_of(input, sizes_of((dims, *more)), "flip")
    return ops.flip(input, axes if input.array.ndim else ())


def fliplr(input: Any) -> Any:
    """The second dim in reverse order."""
    return flip(need_matrix(input, "fliplr"), 1)


def flipud(input: Any) -> Any:
    """The first dim in reverse order."""
    if not input.array.ndim:
        raise RuntimeError("flipud: a 0-dim tensor has no dim to turn over")
    return flip(input, 0)


def roll(input: Any, shifts: Any, dims: Any = ()) -> Any:
    """Elements moved on by ``shifts`` along ``dims``, those at the end come to the front.

    Without ``dims`` all elements are one row.
    """
    by, axes = sizes_of((shifts,)), sizes_of((dims,))
    if not axes and len(by) == 1:
        return ops.roll(input, by[0])
    if len(by) != len(axes):
        raise RuntimeError(f"roll: {len(by)} shifts {shifts} for {len(axes)} dims {dims}")
    if not input.array.ndim:
        raise IndexError("roll: a 0-dim tensor has no dim to roll along")
    return ops.roll(input, by, tuple(dim_of(input, d) for d in axes))


def rot90(input: Any, k: int = 1, dims: Sequence[int] = (0, 1)) -> Any:
    """``k`` quarter turns from the first of two dims towards the second: a copy."""
    if len(dims) != 2 or input.array.ndim < 2:
        raise RuntimeError(
            f"rot90: turns two dims, not {list(dims)}, of a tensor of two dims or more, not "
            f"{input.array.ndim}"
        )
    axes = dims_of(input, tuple(dims), "rot90")
    if k % 2 == 0:
        return ops.flip(input, axes if k % 4 else ())
    return ops.swapaxes(ops.flip(input, (axes[1 if k % 4 == 1 else 0],)), *axes)


# --- repeated -------------------------------------------------------------------------------------


def repeat(input: Any, repeats: Any, *more: Any) -> Any:
    """The whole tensor several times along each dim, new ones in front: a copy.

    >>> import tensorgrad
    >>> tensorgrad.tensor([1, 2]).repeat(2, 2).tolist()
    [[1, 2, 1, 2], [1, 2, 1, 2]]
    """
    times, shape = sizes_of((repeats, *more)), tuple(input.shape)
    if len(times) < len(shape) or min(times, default=0) < 0:
        raise RuntimeError(
            f"repeat: shape {shape} needs {len(shape)} numbers or more, none below 0, not {times}"
        )
    pairs = list(zip(times, (1,) * (len(times) - len(shape)) + shape))
    apart = [size for _, n in pairs for size in (1, n)]
    return _spread(
        input, apart, [size for pair in pairs for size in pair], [t * n for t, n in pairs]
    )


def tile(input: Any, dims: Any, *more: Any) -> Any:
    """:func:`repeat`, where numbers in front may be missing: they are 1."""
    times = sizes_of((dims, *more))
    return repeat(input, (1,) * (input.array.ndim - len(times)) + times)


def repeat_interleave(
    input: Any, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Any:
    """Each element along ``dim`` several times in a row: a copy. Without ``dim`` as one row.

    ``repeats`` is an int, or an int tensor with a number for each position. Alone,
    ``repeat_interleave(repeats)`` gives the position as often as its number says.

    >>> import tensorgrad
    >>> tensorgrad.tensor([7, 8]).repeat_interleave(tensorgrad.tensor([1, 2])).tolist()
    [7, 8, 8]
    """
    if repeats is None:
        return wrap(_positions(input, *input.shape).astype(input.dtype))
    if dim is None:
        input, dim = ops.reshape(input, (input.array.size,)), 0
    elif not input.array.ndim:
        raise IndexError("repeat_interleave: a 0-dim tensor has no dim to repeat along")
    dim, shape = dim_of(input, dim), tuple(input.shape)
    before, n, after = shape[:dim], shape[dim], shape[dim + 1 :]
    if isinstance(repeats, Variable):
        out = ops.getitem(input, (slice(None),) * dim + (_positions(repeats, n),))
    elif (times := as_int(repeats)) < 0:
        raise RuntimeError(f"repeat_interleave: repeats cannot be negative, got {times}")
    else:
        apart, wide = (*before, n, 1, *after), (*before, n, times, *after)
        out = _spread(input, apart, wide, (*before, n * times, *after))
    if output_size not in (None, out.shape[dim]):
        raise RuntimeError(
            f"repeat_interleave: output_size is {output_size}, but the repeats add up to "
            f"{out.shape[dim]}"
        )
    return out


def _positions(repeats: Any, *sizes: int) -> Any:
    """0, 1, … as often as ``repeats``, one number for all or one for each, says."""
    counts = repeats.array
    if counts.ndim > 1 or len(sizes) != 1 or counts.size not in (1, *sizes):
        raise RuntimeError(
            f"repeat_interleave: repeats of shape {tuple(counts.shape)}; it must be a number for "
            "each position of one dim"
        )
    if counts.dtype not in (xp.int32, xp.int64) or (counts < 0).any():
        raise RuntimeError("repeat_interleave: repeats must be int64 or int32, and not negative")
    return xp.repeat(xp.arange(*sizes), counts)


def _spread(input: Any, apart: Sequence[int], wide: Sequence[int], shape: Sequence[int]) -> Any:
    """``input`` as ``apart``, which has sizes of 1 to expand to ``wide``, as ``shape``: a copy."""
    expanded = ops.broadcast_to(ops.reshape(input, tuple(apart)), tuple(wide))
    out = ops.reshape(expanded, tuple(shape))
    return ops.contiguous(out) if out.storage is input.storage else out


# --- triangles and diagonals ----------------------------------------------------------------------


def tril(input: Any, diagonal: int = 0) -> Any:
    """The lower triangle of the last two dims, zeros above ``diagonal``."""
    return ops.tril(need_matrix(input, "tril"), diagonal)


def triu(input: Any, diagonal: int = 0) -> Any:
    """The upper triangle of the last two dims, zeros below ``diagonal``."""
    return ops.triu(need_matrix(input, "triu"), diagonal)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None) -> Any:
    """Where the lower triangle of a [row, col] matrix is: rows and columns, [2, n]."""
    return _indices("tril_indices", xp.tril_indices, row, col, offset, dtype)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None) -> Any:
    """Where the upper triangle of a [row, col] matrix is: rows and columns, [2, n]."""
    return _indices("triu_indices", xp.triu_indices, row, col, offset, dtype)


def _indices(name: str, find: Callable, row: int, col: int, offset: int, dtype: Any) -> Any:
    dtype = xp.dtype(dtype or "int64")
    if min(row, col) < 0 or dtype not in ("int32", "int64"):
        raise RuntimeError(
            f"{name}: sizes cannot be negative and the dtype is int32 or int64; got {row}, {col} "
            f"and {dtype}"
        )
    return wrap(xp.stack(find(row, offset, col)).astype(dtype))


def diag(input: Any, diagonal: int = 0) -> Any:
    """A vector as the diagonal of a matrix, or the diagonal of a matrix: a copy."""
    if input.array.ndim == 2:
        return ops.clone(ops.linalg.diagonal(input, diagonal))
    if input.array.ndim != 1:
        raise RuntimeError(
            f"diag: needs a vector or a matrix, this tensor has {input.array.ndim} dims; "
            "diag_embed and diagonal take stacks"
        )
    return diag_embed(input, diagonal)


def diagflat(input: Any, offset: int = 0) -> Any:
    """All elements on the diagonal of a matrix, zeros elsewhere."""
    return diag_embed(ops.reshape(input, (input.array.size,)), offset)


def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """Vectors as the diagonals over two new dims, zeros elsewhere: [.., n] → [.., n, n]."""
    axes = dim_of(input, dim1, extra=1), dim_of(input, dim2, extra=1)
    if axes[0] == axes[1]:
        raise RuntimeError(f"diag_embed: dim1 {dim1} and dim2 {dim2} must be different dims")
    *shape, n = input.shape
    for axis in sorted(axes):
        shape.insert(axis, n + abs(offset))
    return ops.linalg.onto_diagonal(ops, input, tuple(shape), offset, *axes)


# --- a copy with a part replaced ------------------------------------------------------------------


def diagonal_scatter(input: Any, src: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """A copy of ``input`` with ``src`` on its diagonals, in the shape of ``diagonal()``."""
    axes = dim_of(input, dim1), dim_of(input, dim2)
    return _replaced(input, src, lambda out: ops.linalg.diagonal(out, offset, *axes))


def select_scatter(input: Any, src: Any, dim: int, index: int) -> Any:
    """A copy of ``input`` with ``src`` at one position of ``dim``."""
    return _replaced(input, src, lambda out: select(out, dim, index))


def slice_scatter(
    input: Any, src: Any, dim: int = 0, start: int | None = None, end: int | None = None,
    step: int = 1,
) -> Any:  # fmt: skip
    """A copy of ``input`` with ``src`` at the positions ``start:end:step`` of ``dim``."""
    if step < 1:
        raise RuntimeError(f"slice_scatter: the step must be at least 1, not {step}")
    index = (slice(None),) * dim_of(input, dim) + (slice(start, end, step),)
    return _replaced(input, src, lambda out: ops.getitem(out, index))


def _replaced(input: Any, src: Any, part: Callable) -> Any:
    out = ops.clone(input)
    place = part(out)
    if tuple(place.shape) != tuple(src.shape):
        raise RuntimeError(
            f"src of shape {tuple(src.shape)} is to replace a part of shape {tuple(place.shape)}"
        )
    place.copy_(src)
    return out


IN_PLACE = ("tril", "triu")
FUNCTIONS_ONLY = ("tril_indices", "triu_indices")
METHODS_ONLY = ("repeat",)
__all__ = [
    "flip", "fliplr", "flipud", "roll", "rot90", "tile", "repeat_interleave", "tril", "triu",
    "tril_indices", "triu_indices", "diag", "diagflat", "diag_embed", "diagonal_scatter",
    "select_scatter", "slice_scatter",
]  # fmt: skip
