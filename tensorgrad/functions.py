"""Functions with PyTorch's names and arguments over the ops, which have NumPy's.

Each is also a method of Tensor: its first argument is the tensor. ``dim`` is an int or a tuple of
ints, negative from the end; all shapes are in the docstrings where they change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from operator import index as as_int
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
bitwise_and, bitwise_or, bitwise_xor = ops.bitwise_and, ops.bitwise_or, ops.bitwise_xor
bitwise_not = ops.bitwise_invert
isfinite, isnan, matmul, where = ops.isfinite, ops.isnan, ops.matmul, ops.where
clone = ops.clone
embedding = ops.take_rows  # (weight [rows, d], indices [...]) → [..., d]


def add(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``input + alpha * other``."""
    return ops.add(input, other if alpha == 1 else ops.multiply(other, alpha))


def sub(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``input - alpha * other``."""
    return ops.subtract(input, other if alpha == 1 else ops.multiply(other, alpha))


def masked_fill(input: Any, mask: Any, value: Any) -> Any:
    """``value`` where the boolean ``mask`` is True, ``input`` elsewhere; the shapes broadcast.

    The result has the dtype of ``input``. ``value`` is a number or a 0-dim tensor.
    """
    if mask.dtype != "bool":
        raise RuntimeError(f"masked_fill: the mask must be of dtype bool, not {mask.dtype}")
    if hasattr(value, "array"):
        return ops.where(mask, ops.astype(value, input.dtype), input)
    return ops.masked_fill(input, mask, value)


# --- reductions -----------------------------------------------------------------------------------


class ValuesIndices(NamedTuple):
    """What reductions and sorts along one dim return."""

    values: Any
    indices: Any


def _axis(input: Any, dim: Any) -> Any:
    """A dim or several as ops take them, after checking that the tensor has them; () is all."""
    if dim is None or dim == ():
        return None
    several = isinstance(dim, (tuple, list))
    dims = tuple(_dim(input, d) for d in (dim if several else (dim,)))
    if not input.array.ndim:
        return None
    return dims if several else dims[0]


def _dim(input: Any, dim: int, extra: int = 0) -> int:
    """A dim counted from the front; 0-dim tensors have a dim 0, ``extra`` is 1 for a new one."""
    n = max_(input.array.ndim + extra, 1)
    if not -n <= as_int(dim) < n:
        raise IndexError(
            f"dim {dim} is out of range for a tensor of shape {tuple(input.shape)}: "
            f"expected {-n} to {n - 1}"
        )
    return dim % n


def max_(a: int, b: int) -> int:
    return a if a > b else b


def _is_float(input: Any, name: str) -> None:
    if input.dtype.kind != "f":
        raise RuntimeError(f"{name}: needs a float dtype, not {input.dtype}; call .float() first")


def sum(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The sum over ``dim`` (default: all); bools and integers give int64."""
    if dtype is not None or input.dtype.kind != "f":
        input = ops.astype(input, dtype or "int64")
    return ops.sum(input, _axis(input, dim), keepdim)


def mean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The mean over ``dim`` (default: all) of a float tensor."""
    if dtype is not None:
        input = ops.astype(input, dtype)
    _is_float(input, "mean")
    return ops.mean(input, _axis(input, dim), keepdim)


def var(input: Any, dim: Any = None, keepdim: bool = False, *, correction: int = 1,
        unbiased: bool | None = None) -> Any:  # fmt: skip
    """The variance over ``dim``, divided by n - ``correction`` (``unbiased=False``: 0)."""
    _is_float(input, "var")
    if unbiased is not None:
        correction = int(unbiased)
    return ops.var(input, _axis(input, dim), keepdim, correction)


def std(input: Any, dim: Any = None, keepdim: bool = False, *, correction: int = 1,
        unbiased: bool | None = None) -> Any:  # fmt: skip
    """The square root of :func:`var`; where it is 0 so is its gradient, as in PyTorch."""
    v = var(input, dim, keepdim, correction=correction, unbiased=unbiased)
    constant = v == 0
    return ops.where(constant, 0.0, ops.sqrt(ops.where(constant, 1.0, v)))


def amax(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest element over ``dim``; ties share the gradient equally."""
    return ops.max(input, _axis(input, dim), keepdim)


def amin(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest element over ``dim``; ties share the gradient equally."""
    return ops.min(input, _axis(input, dim), keepdim)


def _extreme(input: Any, dim: int, keepdim: bool, find: Any) -> ValuesIndices:
    """Values and indices along one dim; the gradient goes to the index found."""
    dim = _dim(input, dim)
    x = input if input.array.ndim else ops.reshape(input, (1,))
    indices = find(x, dim, True)
    values = ops.take_along_axis(x, indices, dim)
    if not keepdim or x is not input:
        values, indices = ops.squeeze(values, dim), ops.squeeze(indices, dim)
    return ValuesIndices(values, indices)


def max(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The largest element; with ``dim`` an int (values, indices); with a tensor, elementwise."""
    if dim is None:
        return ops.max(input)
    return _extreme(input, dim, keepdim, argmax) if isinstance(dim, int) else maximum(input, dim)


def min(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest element; with ``dim`` an int (values, indices); with a tensor, elementwise."""
    if dim is None:
        return ops.min(input)
    return _extreme(input, dim, keepdim, argmin) if isinstance(dim, int) else minimum(input, dim)


def argmax(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The index of the first largest element, int64; without ``dim`` in the flattened tensor."""
    return ops.argmax(input, _nonempty(input, dim, "argmax"), keepdim)


def argmin(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The index of the first smallest element, int64; without ``dim`` in the flattened tensor."""
    return ops.argmin(input, _nonempty(input, dim, "argmin"), keepdim)


def _nonempty(input: Any, dim: int | None, name: str) -> Any:
    axis = _axis(input, dim)
    if not (input.array.size if axis is None else input.shape[axis]):
        raise IndexError(f"{name}: nothing to choose from in shape {tuple(input.shape)}")
    return axis


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
    return ops.argsort(input, _axis(input, dim), descending)


def sort(input: Any, dim: int = -1, descending: bool = False) -> ValuesIndices:
    """(values, indices) sorted along ``dim``, stable; the gradient follows the values."""
    if not input.array.ndim:
        return _extreme(input, dim, False, argmax)
    indices = argsort(input, dim, descending)
    return ValuesIndices(ops.take_along_axis(input, indices, _axis(input, dim)), indices)


def topk(input: Any, k: int, dim: int = -1, largest: bool = True) -> ValuesIndices:
    """The ``k`` largest (or smallest) along ``dim`` in order: (values, indices)."""
    n = input.shape[_dim(input, dim)]
    if not 0 <= k <= n:
        raise RuntimeError(f"topk: k is {k} but dim {dim} of {tuple(input.shape)} has {n} elements")
    values, indices = sort(input, dim, descending=largest)
    return ValuesIndices(narrow(values, dim, 0, k), narrow(indices, dim, 0, k))


def gather(input: Any, dim: int, index: Any) -> Any:
    """``out[i][j] = input[index[i][j]][j]`` for ``dim=0``; the other sizes of ``index`` are
    at most those of ``input``."""
    dim, n = _dim(input, dim), tuple(input.shape)
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


# --- shapes ---------------------------------------------------------------------------------------


def _sizes(sizes: tuple) -> tuple[int, ...]:
    """Sizes given one by one or as one sequence."""
    one = len(sizes) == 1 and isinstance(sizes[0], (tuple, list))
    return tuple(map(as_int, sizes[0] if one else sizes))


def reshape(input: Any, *shape: Any) -> Any:
    """The same elements in another shape, one size may be -1; a view where strides allow."""
    sizes, n = _sizes(shape), input.array.size
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
    start, end = _dim(input, start_dim), _dim(input, end_dim)
    if start > end:
        raise RuntimeError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
    shape = input.shape or (1,)
    return ops.reshape(
        input, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
    )


def transpose(input: Any, dim0: int, dim1: int) -> Any:
    """Swap two dims: a view."""
    dims = _dim(input, dim0), _dim(input, dim1)
    return ops.swapaxes(input, *dims) if input.array.ndim else ops.alias(input)


def permute(input: Any, *dims: Any) -> Any:
    """Reorder the dims: a view."""
    axes = tuple(_dim(input, d) for d in _sizes(dims))
    if sorted(axes) != list(range(input.array.ndim)):
        raise RuntimeError(
            f"permute: {list(_sizes(dims))} is no order of the {input.array.ndim} dims of this "
            "tensor"
        )
    return ops.permute_dims(input, axes)


def expand(input: Any, *sizes: Any) -> Any:
    """Repeat dims of size 1, and new ones in front, without copying; -1 keeps a size."""
    wanted, shape = _sizes(sizes), tuple(input.shape)
    new = len(wanted) - len(shape)
    kept = [w in (-1, n) or n == 1 for w, n in zip(wanted[max_(new, 0) :], shape)]
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
    axes = {_dim(input, d) for d in (several if not isinstance(several, int) else (several,))}
    return ops.squeeze(input, tuple(a for a in axes if input.shape[a : a + 1] == (1,)))


def unsqueeze(input: Any, dim: int) -> Any:
    """Insert a dim of size 1 before position ``dim``."""
    return ops.expand_dims(input, _dim(input, dim, extra=1))


def cat(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Join along an existing dim; the other sizes must agree."""
    tensors = list(tensors)
    if not tensors:
        raise ValueError("cat: expected at least one tensor")
    dim, shapes = _dim(tensors[0], dim), [tuple(t.shape) for t in tensors]
    if () in shapes or len({(s[:dim], s[dim + 1 :]) for s in shapes}) > 1:
        listed = " and ".join(map(str, shapes))
        raise RuntimeError(f"cat: shapes {listed} must be equal but for the size of dim {dim}")
    return ops.concat(tensors, dim)


def stack(tensors: Sequence[Any], dim: int = 0) -> Any:
    """Join tensors of one shape along a new dim."""
    tensors = list(tensors)
    if len({tuple(t.shape) for t in tensors}) != 1:
        raise RuntimeError(f"stack: shapes must be equal, got {[list(t.shape) for t in tensors]}")
    return ops.stack(tensors, _dim(tensors[0], dim, extra=1))


def narrow(input: Any, dim: int, start: int, length: int) -> Any:
    """``length`` positions of ``dim`` from ``start``: a view."""
    dim = _of_some(input, dim, "narrow")
    n = input.shape[dim]
    first = start + n if start < 0 else start
    if not 0 <= first <= first + length <= n:
        kind = RuntimeError if 0 <= first <= n else IndexError
        raise kind(
            f"narrow: start {start} and length {length} do not lie in dim {dim} of shape "
            f"{tuple(input.shape)}"
        )
    return ops.getitem(input, (slice(None),) * dim + (slice(first, first + length),))


def _of_some(input: Any, dim: int, name: str) -> int:
    """A dim of a tensor that must have some."""
    if not input.array.ndim:
        raise RuntimeError(f"{name}: a 0-dim tensor has no dim to cut")
    return _dim(input, dim)


def split(input: Any, split_size: int | Sequence[int], dim: int = 0) -> tuple:
    """Views of ``split_size`` positions each (the last may be shorter), or of the sizes given."""
    dim = _of_some(input, dim, "split")
    n = input.shape[dim]
    if isinstance(split_size, int):
        starts = range(0, n, max_(split_size, 1))
        sizes = [split_size if i + split_size <= n else n - i for i in starts] or [0]
    else:
        sizes = list(split_size)
    ends = list(accumulate(sizes))
    if ends[-1:] != [n] or [s for s in sizes if s < 0]:
        raise RuntimeError(f"split: sizes of {split_size} do not add up to {n}")
    return tuple(narrow(input, dim, end - size, size) for end, size in zip(ends, sizes))


def chunk(input: Any, chunks: int, dim: int = 0) -> tuple:
    """At most ``chunks`` views of equal size; the last may be shorter."""
    n = input.shape[_of_some(input, dim, "chunk")]
    if chunks < 1:
        raise RuntimeError(f"chunk: the number of chunks must be positive, not {chunks}")
    return split(input, max_(-(-n // chunks), 1), dim)


def unbind(input: Any, dim: int = 0) -> tuple:
    """The slices along ``dim``, which they no longer have: views."""
    if not input.array.ndim:
        raise IndexError("unbind: a 0-dim tensor has no dim to cut")
    dim = _dim(input, dim)
    before = (slice(None),) * dim
    return tuple(ops.getitem(input, (*before, i)) for i in range(input.shape[dim]))


def tril(input: Any, diagonal: int = 0) -> Any:
    """The lower triangle of the last two dims, zeros above ``diagonal``."""
    return ops.tril(_matrix(input, "tril"), diagonal)


def triu(input: Any, diagonal: int = 0) -> Any:
    """The upper triangle of the last two dims, zeros below ``diagonal``."""
    return ops.triu(_matrix(input, "triu"), diagonal)


def _matrix(input: Any, name: str) -> Any:
    if input.array.ndim < 2:
        raise RuntimeError(f"{name}: needs two dims or more, this tensor has {input.array.ndim}")
    return input
