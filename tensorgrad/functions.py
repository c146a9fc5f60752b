"""Functions with PyTorch's names and arguments over the ops, which have NumPy's.

Each is also a method of Tensor: its first argument is the tensor. ``dim`` is an int or a tuple of
ints, negative from the end; all shapes are in the docstrings where they change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import ops

# The ops whose torch name and arguments are those of the op itself.
abs, exp, log, sqrt, sin, cos = ops.abs, ops.exp, ops.log, ops.sqrt, ops.sin, ops.cos
tanh, erf, relu, sign, neg = ops.tanh, ops.erf, ops.relu, ops.sign, ops.negative
mul, pow = ops.multiply, ops.power
maximum, minimum = ops.maximum, ops.minimum
eq, ne, lt, le = ops.equal, ops.not_equal, ops.less, ops.less_equal
gt, ge = ops.greater, ops.greater_equal
logical_not, logical_and, logical_or = ops.logical_not, ops.logical_and, ops.logical_or
isfinite, isnan, matmul, where = ops.isfinite, ops.isnan, ops.matmul, ops.where
clone = ops.clone
embedding = ops.take_rows  # (weight [rows, d], indices [...]) → [..., d]


def add(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``input + alpha * other``."""
    return ops.add(input, other if alpha == 1 else ops.multiply(other, alpha))


def sub(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``input - alpha * other``."""
    return ops.subtract(input, other if alpha == 1 else ops.multiply(other, alpha))


def div(input: Any, other: Any) -> Any:
    """True division; integers give the default float."""
    return ops.divide(input, other)


def masked_fill(input: Any, mask: Any, value: float) -> Any:
    """``value`` where the boolean ``mask`` is True, ``input`` elsewhere; the shapes broadcast."""
    if mask.dtype != "bool":
        raise RuntimeError(f"masked_fill: the mask must be of dtype bool, not {mask.dtype}")
    return ops.masked_fill(input, mask, value)


# --- reductions -----------------------------------------------------------------------------------


class ValuesIndices(NamedTuple):
    """What reductions and sorts along one dim return."""

    values: Any
    indices: Any


def _axis(input: Any, dim: Any) -> Any:
    """A dim or several as ops take them, after checking that the tensor has them."""
    if dim is None:
        return None
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    n = input.array.ndim
    for d in dims:
        if not -max_(n, 1) <= d < max_(n, 1):
            raise IndexError(
                f"dim {d} is out of range for a tensor of {n} dimensions; "
                f"expected {-max_(n, 1)} to {max_(n, 1) - 1}"
            )
    if not n:
        return None if dims else ()
    return dims[0] if isinstance(dim, int) else tuple(d % n for d in dims)


def max_(a: int, b: int) -> int:
    return a if a > b else b


def sum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The sum over ``dim`` (default: all); bools and integers give int64."""
    if dtype is not None:
        input = ops.astype(input, dtype)
    elif input.dtype.kind in "bu" or input.dtype.kind == "i":
        input = ops.astype(input, "int64")
    return ops.sum(input, _axis(input, dim), keepdim)


def mean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The mean over ``dim`` (default: all) of a float tensor."""
    if dtype is not None:
        input = ops.astype(input, dtype)
    if input.dtype.kind != "f":
        raise RuntimeError(f"mean: needs a float dtype, not {input.dtype}; call .float() first")
    return ops.mean(input, _axis(input, dim), keepdim)


def var(input: Any, dim: Any = None, keepdim: bool = False, *, correction: int = 1,
        unbiased: bool | None = None) -> Any:  # fmt: skip
    """The variance over ``dim``, divided by n - ``correction`` (``unbiased=False``: 0)."""
    if unbiased is not None:
        correction = int(unbiased)
    return ops.var(input, _axis(input, dim), keepdim, correction)


def std(input: Any, dim: Any = None, keepdim: bool = False, *, correction: int = 1,
        unbiased: bool | None = None) -> Any:  # fmt: skip
    """The square root of :func:`var`."""
    return ops.sqrt(var(input, dim, keepdim, correction=correction, unbiased=unbiased))


def amax(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest element over ``dim``; ties share the gradient equally."""
    return ops.max(input, _axis(input, dim), keepdim)


def amin(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest element over ``dim``; ties share the gradient equally."""
    return ops.min(input, _axis(input, dim), keepdim)


def _extreme(input: Any, dim: Any, keepdim: bool, find: Any) -> ValuesIndices:
    """Values and indices along one dim; the gradient goes to the index found."""
    dim = _axis(input, dim)
    indices = find(input, dim, keepdims=True)
    values = ops.take_along_axis(input, indices, dim)
    if not keepdim:
        values, indices = ops.squeeze(values, dim), ops.squeeze(indices, dim)
    return ValuesIndices(values, indices)


def max(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest element; with ``dim`` an int (values, indices); with a tensor, elementwise."""
    if dim is None:
        return ops.max(input)
    return (
        _extreme(input, dim, keepdim, ops.argmax) if isinstance(dim, int) else maximum(input, dim)
    )


def min(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest element; with ``dim`` an int (values, indices); with a tensor, elementwise."""
    if dim is None:
        return ops.min(input)
    return (
        _extreme(input, dim, keepdim, ops.argmin) if isinstance(dim, int) else minimum(input, dim)
    )


def argmax(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The index of the first largest element, int64; without ``dim`` in the flattened tensor."""
    return ops.argmax(input, _axis(input, dim), keepdim)


def argmin(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The index of the first smallest element, int64; without ``dim`` in the flattened tensor."""
    return ops.argmin(input, _axis(input, dim), keepdim)


def any(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Whether some element is true."""
    return ops.any(input, _axis(input, dim), keepdim)


def all(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Whether every element is true."""
    return ops.all(input, _axis(input, dim), keepdim)


def logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Any:
    """log(sum(exp(input))) over ``dim``, without overflow."""
    return ops.logsumexp(input, _axis(input, dim), keepdim)


def softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """exp(input) / sum(exp(input)) along ``dim``: same shape, positive, sums to 1.

    >>> from tensorgrad import tensor
    >>> softmax(tensor([0.0, 0.0]), 0)
    tensor([0.5000, 0.5000])
    """
    return ops.softmax(input if dtype is None else ops.astype(input, dtype), _axis(input, dim))


def log_softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    """The logarithm of :func:`softmax`, without its cancellation."""
    return ops.log_softmax(input if dtype is None else ops.astype(input, dtype), _axis(input, dim))


def argsort(input: Any, dim: int = -1, descending: bool = False) -> Any:
    """The int64 indices that sort along ``dim``, stable."""
    return ops.argsort(ops.negative(input) if descending else input, dim)


def sort(input: Any, dim: int = -1, descending: bool = False) -> ValuesIndices:
    """(values, indices) sorted along ``dim``, stable; the gradient follows the values."""
    indices = argsort(input, dim, descending)
    return ValuesIndices(ops.take_along_axis(input, indices, dim), indices)


def topk(input: Any, k: int, dim: int = -1, largest: bool = True) -> ValuesIndices:
    """The ``k`` largest (or smallest) along ``dim`` in order: (values, indices)."""
    n = input.shape[dim]
    if not 0 <= k <= n:
        raise RuntimeError(f"topk: k is {k} but the dimension has {n} elements")
    values, indices = sort(input, dim, descending=largest)
    return ValuesIndices(narrow(values, dim, 0, k), narrow(indices, dim, 0, k))


def gather(input: Any, dim: int, index: Any) -> Any:
    """``out[i][j] = input[index[i][j]][j]`` for ``dim=0``; the other sizes of ``index`` are
    at most those of ``input``."""
    cut = tuple(
        slice(None) if d == dim % input.ndim else slice(0, n) for d, n in enumerate(index.shape)
    )
    return ops.take_along_axis(ops.getitem(input, cut), index, dim)


# --- shapes ---------------------------------------------------------------------------------------


def _sizes(sizes: tuple) -> tuple[int, ...]:
    """Sizes given one by one or as one sequence."""
    if len(sizes) == 1 and not isinstance(sizes[0], int):
        return tuple(int(s) for s in sizes[0])
    return tuple(int(s) for s in sizes)


def reshape(input: Any, *shape: Any) -> Any:
    """The same elements in another shape, one size may be -1; a view where strides allow."""
    sizes, n = _sizes(shape), input.array.size
    known = math.prod(s for s in sizes if s != -1)
    if (sizes.count(-1) > 1) or (known != n and (-1 not in sizes or not known or n % known)):
        raise RuntimeError(f"shape {list(sizes)} is invalid for a tensor of {n} elements")
    return ops.reshape(input, sizes)


def view(input: Any, *shape: Any) -> Any:
    """:func:`reshape` that never copies; or, given a dtype, the elements cast to it."""
    out = reshape(input, *shape)
    if out.storage is not input.storage and input.array.size:
        raise RuntimeError(
            f"view: shape {list(out.shape)} needs a copy for these strides; use reshape()"
        )
    return out


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Dims ``start_dim`` to ``end_dim`` (included) as one: [a, b, c] → [a * b * c]."""
    n = max_(input.array.ndim, 1)
    start, end = start_dim % n, end_dim % n
    shape = input.shape or (1,)
    return ops.reshape(
        input, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
    )


def transpose(input: Any, dim0: int, dim1: int) -> Any:
    """Swap two dims: a view."""
    return ops.swapaxes(input, _axis(input, dim0), _axis(input, dim1))


def permute(input: Any, *dims: Any) -> Any:
    """Reorder the dims: a view."""
    axes = _sizes(dims)
    if sorted(a % max_(input.array.ndim, 1) for a in axes) != list(range(input.array.ndim)):
        raise RuntimeError(
            f"permute: {list(axes)} is no order of the {input.array.ndim} dims of this tensor"
        )
    return ops.permute_dims(input, axes)


def expand(input: Any, *sizes: Any) -> Any:
    """Repeat dims of size 1, and new ones in front, without copying; -1 keeps a size."""
    wanted = _sizes(sizes)
    old = (1,) * (len(wanted) - len(input.shape)) + tuple(input.shape)
    return ops.broadcast_to(input, tuple(o if w == -1 else w for w, o in zip(wanted, old)))


def broadcast_to(input: Any, shape: Sequence[int]) -> Any:
    """:func:`expand`, for a shape in one piece."""
    return expand(input, *shape)


def squeeze(input: Any, dim: Any = None) -> Any:
    """Drop dims of size 1: all of them, or those of ``dim`` that have size 1."""
    axes = range(input.array.ndim) if dim is None else _axis(input, dim)
    axes = (axes,) if isinstance(axes, int) else axes or ()
    return ops.squeeze(input, tuple(a for a in axes if input.shape[a] == 1))


def unsqueeze(input: Any, dim: int) -> Any:
    """Insert a dim of size 1 before position ``dim``."""
    n = input.array.ndim
    if not -n - 1 <= dim <= n:
        raise IndexError(f"dim {dim} is out of range; expected {-n - 1} to {n}")
    return ops.expand_dims(input, dim)


def cat(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Join along an existing dim; the other sizes must agree."""
    if not tensors:
        raise RuntimeError("cat: expected at least one tensor")
    return ops.concat(list(tensors), _axis(tensors[0], dim))


def stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Join tensors of one shape along a new dim."""
    if len({tuple(t.shape) for t in tensors}) != 1:
        raise RuntimeError(f"stack: shapes must be equal, got {[list(t.shape) for t in tensors]}")
    return ops.stack(list(tensors), dim % (tensors[0].array.ndim + 1))


def narrow(input: Any, dim: int, start: int, length: int) -> Any:
    """``length`` positions of ``dim`` from ``start``: a view."""
    return ops.getitem(input, (slice(None),) * (dim % input.array.ndim)
                       + (slice(start, start + length),))  # fmt: skip


def split(input: Any, split_size: int | Sequence[int], dim: int = 0) -> tuple:
    """Views of ``split_size`` positions each (the last may be shorter), or of the sizes given."""
    n = input.shape[dim]
    sizes = split_size
    if isinstance(split_size, int):
        sizes = [m if m < split_size else split_size for m in range(n, 0, -split_size)] or [0]
    total, parts = 0, []
    for size in sizes:  # type: ignore[union-attr]
        parts.append(narrow(input, dim, total, size))
        total += size
    if total != n:
        raise RuntimeError(f"split: sizes {list(sizes)} do not add up to {n}")  # type: ignore
    return tuple(parts)


def chunk(input: Any, chunks: int, dim: int = 0) -> tuple:
    """At most ``chunks`` views of equal size; the last may be shorter."""
    return split(input, max_(-(-input.shape[dim] // chunks), 1), dim)


def unbind(input: Any, dim: int = 0) -> tuple:
    """The slices along ``dim``, which they no longer have."""
    before = (slice(None),) * (dim % input.array.ndim)
    return tuple(ops.getitem(input, (*before, i)) for i in range(input.shape[dim]))


def tril(input: Any, diagonal: int = 0) -> Any:
    """The lower triangle of the last two dims, zeros above ``diagonal``."""
    return ops.tril(input, diagonal)


def triu(input: Any, diagonal: int = 0) -> Any:
    """The upper triangle of the last two dims, zeros below ``diagonal``."""
    return ops.triu(input, diagonal)
