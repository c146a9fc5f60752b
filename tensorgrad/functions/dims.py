"""What functions over dims share: dims and sizes as PyTorch's users write them, checked.

``dim`` is an int or a tuple of ints, negative from the end; ops take NumPy's ``axis``.
"""

from __future__ import annotations

from operator import index as as_int
from typing import Any, NamedTuple


class ValuesIndices(NamedTuple):
    """What reductions and sorts along one dim return."""

    values: Any
    indices: Any


def axis_of(input: Any, dim: Any) -> Any:
    """A dim or several as ops take them, after checking that the tensor has them; () is all."""
    if dim is None or dim == ():
        return None
    several = isinstance(dim, (tuple, list))
    dims = tuple(dim_of(input, d) for d in (dim if several else (dim,)))
    if not input.array.ndim:
        return None
    return dims if several else dims[0]


def dim_of(input: Any, dim: int, extra: int = 0) -> int:
    """A dim counted from the front; 0-dim tensors have a dim 0, ``extra`` is 1 for a new one."""
    n = max(input.array.ndim + extra, 1)
    if not -n <= as_int(dim) < n:
        raise IndexError(
            f"dim {dim} is out of range for a tensor of shape {tuple(input.shape)}: "
            f"expected {-n} to {n - 1}"
        )
    return dim % n


def dim_of_some(input: Any, dim: int, name: str) -> int:
    """A dim of a tensor that must have some."""
    if not input.array.ndim:
        raise RuntimeError(f"{name}: a 0-dim tensor has no dim to cut")
    return dim_of(input, dim)


def sizes_of(sizes: tuple) -> tuple[int, ...]:
    """Sizes given one by one or as one sequence."""
    one = len(sizes) == 1 and isinstance(sizes[0], (tuple, list))
    return tuple(map(as_int, sizes[0] if one else sizes))


def need_float(input: Any, name: str) -> None:
    if input.dtype.kind != "f":
        raise RuntimeError(f"{name}: needs a float dtype, not {input.dtype}; call .float() first")


def need_matrix(input: Any, name: str) -> Any:
    if input.array.ndim < 2:
        raise RuntimeError(f"{name}: needs two dims or more, this tensor has {input.array.ndim}")
    return input
