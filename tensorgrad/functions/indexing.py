"""Elements chosen by masks and by tensors of indices."""

from __future__ import annotations

from typing import Any

from .. import ops
from .dims import dim_of

where = ops.where
embedding = ops.take_rows  # (weight [rows, d], indices [...]) → [..., d]


def masked_fill(input: Any, mask: Any, value: Any) -> Any:
    """``value`` where the boolean ``mask`` is True, ``input`` elsewhere; the shapes broadcast.

    The result has the dtype of ``input``. ``value`` is a number or a 0-dim tensor.
    """
    if mask.dtype != "bool":
        raise RuntimeError(f"masked_fill: the mask must be of dtype bool, not {mask.dtype}")
    if hasattr(value, "array"):
        return ops.where(mask, ops.astype(value, input.dtype), input)
    return ops.masked_fill(input, mask, value)


def gather(input: Any, dim: int, index: Any) -> Any:
    """``out[i][j] = input[index[i][j]][j]`` for ``dim=0``; the other sizes of ``index`` are
    at most those of ``input``."""
    dim, n = dim_of(input, dim), tuple(input.shape)
    if index.ndim != input.ndim or not input.ndim:
        raise RuntimeError(
            f"gather: index and input must have the same number of dims, at least 1; got shapes "
            f"{tuple(index.shape)} and {n}"
        )
    if [d for d, size in enumerate(index.shape) if d != dim and size > n[d]]:
        raise RuntimeError(f"gather: index of shape {tuple(index.shape)} is larger than {n}")
    if index.array.size and not 0 <= index.array.min() <= index.array.max() < n[dim]:
        raise RuntimeError(f"gather: an index along dim {dim} of {n} is not in 0..{n[dim] - 1}")
    cut = tuple(slice(None) if d == dim else slice(0, size) for d, size in enumerate(index.shape))
    return ops.take_along_axis(ops.getitem(input, cut), index, dim)


IN_PLACE = ("masked_fill",)
FUNCTIONS_ONLY = ("where", "embedding")
METHODS_ONLY = ()
__all__ = ["masked_fill", "gather", "where", "embedding"]
