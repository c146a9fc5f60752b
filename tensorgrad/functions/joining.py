"""Tensors joined and cut, and all combinations of their elements."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from operator import index as as_int
from typing import Any

from .. import ops
from ..backend import result_dtype, xp
from ..variable import Variable, wrap
from .dims import dim_of, dim_of_some
from .shapes import atleast_1d, atleast_2d, atleast_3d

# --- joined ---------------------------------------------------------------------------------------


def cat(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Join along an existing dim; the other sizes must agree, and the dtypes are promoted.

    A tensor of shape (0,) fits everywhere.
    """
    _check("cat", tensors)
    if not tensors:
        raise ValueError("cat: expected at least one tensor")
    like = next((t for t in tensors if t.shape != (0,)), tensors[0])
    dim, shape = dim_of(like, dim), tuple(like.shape)
    if len(shape) != 1:
        empty = (*shape[:dim], 0, *shape[dim + 1 :])
        tensors = [t if t.shape != (0,) else ops.reshape(t, empty) for t in tensors]
    shapes = [tuple(t.shape) for t in tensors]
    if () in shapes or len({(s[:dim], s[dim + 1 :]) for s in shapes}) > 1:
        listed = " and ".join(map(str, shapes))
        raise RuntimeError(f"cat: shapes {listed} must be equal but for the size of dim {dim}")
    return ops.concat(tensors, dim)


concat = concatenate = cat


def stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Join tensors of one shape along a new dim; the dtypes are promoted."""
    _check("stack", tensors)
    if len({tuple(t.shape) for t in tensors}) != 1:
        raise RuntimeError(f"stack: shapes must be equal, got {[list(t.shape) for t in tensors]}")
    return ops.stack(tensors, dim_of(tensors[0], dim, extra=1))


def _check(name: str, tensors: Any) -> None:
    """Refuse what is no sequence of tensors; of a tensor's rows torch makes none either."""
    if not isinstance(tensors, (list, tuple)):
        raise TypeError(f"{name}: expected a list of tensors, got {type(tensors).__name__}")
    for t in tensors:
        if not isinstance(t, Variable):
            raise TypeError(f"{name}: expected a list of tensors, one is a {type(t).__name__}")


def _joined(name: str, tensors: Sequence[Any], deepen: Callable, dim: int) -> Any:
    _check(name, tensors)
    if not tensors:
        raise RuntimeError(f"{name}: expected at least one tensor")
    return cat([deepen(t) for t in tensors], dim)


def hstack(tensors: Sequence[Any]) -> Any:
    """Join side by side: vectors along dim 0, all others along dim 1."""
    _check("hstack", tensors)
    flat = not tensors or tensors[0].array.ndim < 2
    return _joined("hstack", tensors, atleast_1d, 0 if flat else 1)


def vstack(tensors: Sequence[Any]) -> Any:
    """Join one below the other along dim 0; a vector is a row."""
    return _joined("vstack", tensors, atleast_2d, 0)


row_stack = vstack


def dstack(tensors: Sequence[Any]) -> Any:
    """Join one behind the other along dim 2; a matrix [n, m] is [n, m, 1]."""
    return _joined("dstack", tensors, atleast_3d, 2)


def column_stack(tensors: Sequence[Any]) -> Any:
    """Join along dim 1; a vector is a column."""

    def column(t: Any) -> Any:
        return t if t.array.ndim > 1 else ops.reshape(t, (t.array.size, 1))

    return _joined("column_stack", tensors, column, 1)


def block_diag(*tensors: Any) -> Any:
    """A matrix with the tensors (two dims or fewer) along its diagonal, zeros elsewhere."""
    _check("block_diag", tensors)
    if any(t.array.ndim > 2 for t in tensors):
        raise RuntimeError("block_diag: needs tensors of two dims or fewer")
    blocks = atleast_2d(list(tensors) or [wrap(xp.zeros(0, "float32"))])
    dtype = result_dtype(*(b.array for b in blocks))
    width, left, rows = sum(b.shape[1] for b in blocks), 0, []
    for block in blocks:
        n, m = block.shape
        sides = (wrap(xp.zeros((n, k), dtype)) for k in (left, width - left - m))
        rows.append(ops.concat([next(sides), block, next(sides)], 1))
        left += m
    return ops.concat(rows, 0)


# --- combined -------------------------------------------------------------------------------------


def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple:
    """Each vector along a dim of its own, all expanded to one shape: [n], [m] → twice [n, m].

    Views. With ``indexing="xy"`` the first two dims are swapped, ``"ij"`` is the default.
    """
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    _check("meshgrid", tensors)
    if not tensors or any(t.array.ndim > 1 for t in tensors):
        raise RuntimeError("meshgrid: needs at least one tensor, and each of one dim or none")
    if len({t.dtype for t in tensors}) > 1:
        raise RuntimeError("meshgrid: the dtypes must be equal; .to() casts")
    if indexing not in (None, "ij", "xy"):
        raise RuntimeError(f"meshgrid: indexing is 'ij' or 'xy', not {indexing!r}")
    axes = list(range(len(tensors)))  # the dim of each tensor
    if indexing == "xy":
        axes[:2] = axes[1::-1]
    shape = tuple(tensors[a].array.size for a in axes)
    return tuple(
        ops.broadcast_to(ops.reshape(t, (-1,) + (1,) * (len(axes) - 1 - axis)), shape)
        for t, axis in zip(tensors, axes)
    )


def cartesian_prod(*tensors: Any) -> Any:
    """All tuples with one element of each vector, in order: [n], [m], … → [n * m * …, k]."""
    if any(t.array.ndim != 1 for t in tensors):
        raise RuntimeError("cartesian_prod: needs tensors of one dim")
    grids = meshgrid(*tensors)
    if len(tensors) == 1:
        return tensors[0]
    return ops.stack([ops.reshape(g, (g.array.size,)) for g in grids], 1)


def combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Any:
    """All choices of ``r`` elements of a vector in their order: [n] → [choices, r]."""
    if input.array.ndim != 1 or r < 0:
        raise RuntimeError(
            f"combinations: needs a tensor of one dim and r at least 0, got {input.array.ndim} "
            f"dims and r = {r}"
        )
    if not r:
        return wrap(xp.zeros(0, input.dtype))
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    chosen = list(choose(range(input.array.size), r))
    return ops.getitem(input, (xp.reshape(xp.asarray(chosen, dtype="int64"), (-1, r)),))


# --- cut: views -----------------------------------------------------------------------------------


def _part(input: Any, dim: int, which: Any) -> Any:
    return ops.getitem(input, index=(slice(None),) * dim + (which,))


def narrow(input: Any, dim: int, start: Any, length: int) -> Any:
    """``length`` positions of ``dim`` from ``start``, an int or a 0-dim tensor: a view."""
    dim, start = dim_of_some(input, dim, "narrow"), as_int(start)
    n = input.shape[dim]
    first = start + n if start < 0 else start
    if not 0 <= first <= first + length <= n:
        kind = RuntimeError if 0 <= first <= n else IndexError
        raise kind(
            f"narrow: start {start} and length {length} do not lie in dim {dim} of shape "
            f"{tuple(input.shape)}"
        )
    return _part(input, dim, slice(first, first + length))


def select(input: Any, dim: int, index: Any) -> Any:
    """One position of ``dim``, an int or a 0-dim tensor, without the dim: a view."""
    if not input.array.ndim:
        raise IndexError("select: a 0-dim tensor has no dim to select from")
    return _part(input, dim_of(input, dim), as_int(index))


def split(input: Any, split_size: int | Sequence[int], dim: int = 0) -> tuple:
    """Views of ``split_size`` positions each (the last may be shorter), or of the sizes given."""
    dim = dim_of_some(input, dim, "split")
    n = input.shape[dim]
    if isinstance(split_size, int):
        starts = range(0, n, max(split_size, 1))
        sizes = [split_size if i + split_size <= n else n - i for i in starts] or [0]
    else:
        sizes = list(split_size)
    ends = list(itertools.accumulate(sizes))
    if ends[-1:] != [n] or [s for s in sizes if s < 0]:
        raise RuntimeError(f"split: sizes of {split_size} do not add up to {n}")
    return tuple(_part(input, dim, slice(end - size, end)) for end, size in zip(ends, sizes))


def split_with_sizes(input: Any, split_sizes: Sequence[int], dim: int = 0) -> tuple:
    """:func:`split` into the sizes given."""
    return split(input, list(split_sizes), dim)


def chunk(input: Any, chunks: int, dim: int = 0) -> tuple:
    """At most ``chunks`` views of equal size; the last may be shorter."""
    n = input.shape[dim_of_some(input, dim, "chunk")]
    if chunks < 1:
        raise RuntimeError(f"chunk: the number of chunks must be positive, not {chunks}")
    if not n:  # as many of size 0 as asked for
        return split(input, [0] * chunks, dim)
    return split(input, -(-n // chunks), dim)


def tensor_split(input: Any, indices_or_sections: Any, dim: int = 0) -> tuple:
    """That many views, the first ones longer by one where needed; or views between indices.

    The indices, a list or an int64 tensor, mean what they mean in slices; a 0-dim tensor is a
    number of views.

    >>> import tensorgrad
    >>> [part.tolist() for part in tensorgrad.arange(5).tensor_split(2)]
    [[0, 1, 2], [3, 4]]
    """
    dim, where = dim_of_some(input, dim, "tensor_split"), indices_or_sections
    if isinstance(where, Variable):
        if where.dtype != "int64" or where.array.ndim > 1:
            raise RuntimeError("tensor_split: indices in a tensor must be int64, in one dim")
        where = where.array.tolist()
    if isinstance(where, (list, tuple)):
        cuts = list(where)
    else:
        n, sections = input.shape[dim], as_int(where)
        if sections < 1:
            raise RuntimeError(f"tensor_split: the number of parts is at least 1, not {sections}")
        cuts = [i * (n // sections) + min(i, n % sections) for i in range(1, sections)]
    return tuple(
        _part(input, dim, slice(*bounds)) for bounds in itertools.pairwise([None, *cuts, None])
    )


def hsplit(input: Any, indices_or_sections: Any) -> tuple:
    """:func:`tensor_split` along dim 1, of vectors along dim 0, into equal parts."""
    return _equal_parts("hsplit", input, indices_or_sections, 1, 0 if input.array.ndim == 1 else 1)


def vsplit(input: Any, indices_or_sections: Any) -> tuple:
    """:func:`tensor_split` along dim 0 into equal parts."""
    return _equal_parts("vsplit", input, indices_or_sections, 2, 0)


def dsplit(input: Any, indices_or_sections: Any) -> tuple:
    """:func:`tensor_split` along dim 2 into equal parts."""
    return _equal_parts("dsplit", input, indices_or_sections, 3, 2)


def _equal_parts(name: str, input: Any, where: Any, least: int, dim: int) -> tuple:
    if input.array.ndim < least:
        raise RuntimeError(
            f"{name}: needs {least} dims or more, this tensor has {input.array.ndim}"
        )
    n = input.shape[dim]
    if isinstance(where, int) and (where < 1 or n % where):
        raise RuntimeError(f"{name}: dim {dim} of size {n} has no {where} equal parts")
    return tensor_split(input, where, dim)


def unbind(input: Any, dim: int = 0) -> tuple:
    """The slices along ``dim``, which they no longer have: views."""
    if not input.array.ndim:
        raise IndexError("unbind: a 0-dim tensor has no dim to cut")
    dim = dim_of(input, dim)
    return tuple(_part(input, dim, i) for i in range(input.shape[dim]))


IN_PLACE = ()
FUNCTIONS_ONLY = (
    "cat", "concat", "concatenate", "stack", "hstack", "vstack", "row_stack", "dstack",
    "column_stack", "block_diag", "meshgrid", "cartesian_prod", "combinations",
)  # fmt: skip
METHODS_ONLY = ()
__all__ = [
    "cat", "concat", "concatenate", "stack", "hstack", "vstack", "row_stack", "dstack",
    "column_stack", "block_diag", "meshgrid", "cartesian_prod", "combinations", "narrow", "select",
    "split", "split_with_sizes", "chunk", "tensor_split", "hsplit", "vsplit", "dsplit", "unbind",
]  # fmt: skip
