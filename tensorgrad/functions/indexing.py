"""Elements chosen by masks and by tensors of indices, to be read or written.

Most of it is reading and writing a flat tensor at flat positions. Where a position is written more
than once the last value stays and has the gradient; PyTorch leaves both undefined.
"""

from __future__ import annotations

from typing import Any

from .. import ops
from ..backend import xp
from ..variable import Variable, wrap
from .dims import dim_of
from .shapes import broadcast_to
from .subscripts import array_of

embedding = ops.take_rows  # (weight [rows, d], indices [...]) → [..., d]
LONG, LONG_OR_INT = ("int64",), ("int64", "int32")


# --- along a dim, an index for every element ------------------------------------------------------


def gather(input: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Any:
    """``out[i][j] = input[index[i][j]][j]`` for ``dim=0``; the other sizes of ``index`` are
    at most those of ``input``. ``sparse_grad`` changes nothing."""
    return ops.getitem(_flat(input), _places("gather", input, dim, index))


def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Any:
    """Like :func:`gather`, but the other sizes broadcast, and -1 is the last; without ``dim``
    both tensors are flattened first."""
    name = "take_along_dim"
    raw = _integers(indices, name, LONG)
    if dim is None:
        return gather(_flat(input), 0, _flat(indices))
    if not input.ndim:
        raise IndexError(f"{name}: dim is {dim}, but the tensor has no dims")
    dim = dim_of(input, dim)
    if raw.ndim != input.ndim:
        raise RuntimeError(
            f"{name}: input and indices must have the same number of dims; got shapes "
            f"{tuple(input.shape)} and {tuple(raw.shape)}"
        )
    n = input.shape[dim]
    _check_range(name, raw, n, dim, RuntimeError, negative=True)
    shape = list(_broadcast(name, _resized(input, dim, 1), _resized(raw, dim, 1)))
    read, picked = [*shape], [*shape]
    read[dim], picked[dim] = n, raw.shape[dim]
    return ops.take_along_axis(
        broadcast_to(input, tuple(read)), xp.array(xp.broadcast_to(raw, picked)), dim
    )


def scatter(
    input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None,
    reduce: str | None = None,
) -> Any:  # fmt: skip
    """A copy of ``input`` with ``out[index[i][j]][j] = src[i][j]`` for ``dim=0``.

    ``src`` is a tensor, at least as large as ``index`` in every dim, or a number. ``reduce`` is
    ``"add"`` or ``"multiply"`` to combine with what is there.

    >>> import tensorgrad
    >>> tensorgrad.zeros(3).scatter(0, tensorgrad.tensor([2, 0]), tensorgrad.tensor([5.0, 7.0]))
    tensor([7., 0., 5.])
    """
    if (src is None) == (value is None):
        raise TypeError("scatter: give either src or value")
    places = _places("scatter", input, dim, index)
    if src is None or not isinstance(src, Variable):
        number = _as_dtype(value if src is None else src, input.dtype, "scatter")
        values = wrap(xp.full(places.size, number, input.dtype))
    else:
        values = _cut("scatter", input, index, src)
    if reduce is None:
        return _like(ops.update_index(_flat(input), values, places.reshape(-1)), input)
    if reduce not in ("add", "multiply"):
        raise RuntimeError(f"scatter: reduce must be 'add' or 'multiply', not {reduce!r}")
    return _reduced(input, places, values, "sum" if reduce == "add" else "prod", True)


def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Any:
    """A copy of ``input`` with ``out[index[i][j]][j] += src[i][j]`` for ``dim=0``."""
    places = _places("scatter_add", input, dim, index)
    values = _cut("scatter_add", input, index, src)
    return _reduced(input, places, values, "sum", True)


def scatter_reduce(
    input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True
) -> Any:
    """Like :func:`scatter_add` with another combination than the sum.

    ``reduce`` is ``"sum"``, ``"prod"``, ``"mean"``, ``"amax"`` or ``"amin"``. Without
    ``include_self`` the elements of ``input`` that are written do not count. The gradient of an
    extreme is shared equally by those that tie for it; that of a product is exact at zeros.
    """
    if reduce not in _REDUCTIONS:
        raise RuntimeError(
            f"scatter_reduce: reduce must be one of {', '.join(_REDUCTIONS)}, not {reduce!r}"
        )
    places = _places("scatter_reduce", input, dim, index)
    values = _cut("scatter_reduce", input, index, src)
    return _reduced(input, places, values, reduce, include_self)


# --- along a dim, an index for every slice --------------------------------------------------------


def index_select(input: Any, dim: int, index: Any) -> Any:
    """The slices along ``dim`` that ``index`` [n] names."""
    picked = ops.getitem(_lined(input), _slices("index_select", input, dim, index))
    if input.ndim:
        return picked
    if picked.shape != (1,):
        raise RuntimeError("index_select: the index into a 0-dim tensor must have one element")
    return _like(picked, input)


def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
    """A copy of ``input`` with ``alpha`` times the slices of ``source`` added at ``index``."""
    where_to, source = _slices_and_source("index_add", input, dim, index, source)
    if alpha != 1:
        source = ops.multiply(source, _as_dtype(alpha, input.dtype, "index_add"))
    added = ops.scatter(source, index=where_to, shape=_lined(input).shape)
    return ops.add(input, _like(added, input))


def index_copy(input: Any, dim: int, index: Any, source: Any) -> Any:
    """A copy of ``input`` with the slices of ``source`` written at ``index``."""
    where_to, source = _slices_and_source("index_copy", input, dim, index, source, LONG)
    return _like(ops.update_index(_lined(input), source, where_to), input)


def index_fill(input: Any, dim: int, index: Any, value: Any) -> Any:
    """A copy of ``input`` with one value, a number or a 0-dim tensor, in the slices at ``index``.

    Negative indices count from the end.
    """
    value = _single(value, input.dtype, "index_fill")
    where_to = _slices("index_fill", input, dim, index, LONG, negative=True)
    return _like(ops.update_index(_lined(input), value, where_to), input)


def index_reduce(
    input: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True
) -> Any:
    """Like :func:`index_add` with ``"prod"``, ``"mean"``, ``"amax"`` or ``"amin"``; for
    ``include_self`` and the gradients see :func:`scatter_reduce`."""
    if reduce not in _REDUCTIONS or reduce == "sum":
        raise RuntimeError(f"index_reduce: reduce must be prod, mean, amax or amin, not {reduce!r}")
    where_to, source = _slices_and_source("index_reduce", input, dim, index, source)
    positions = xp.reshape(xp.arange(_numel(input)), _lined(input).shape)[where_to]
    return _reduced(input, positions, _flat(source), reduce, include_self)


# --- at positions ---------------------------------------------------------------------------------


def index_put(input: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    """A copy of ``input`` with ``out[indices] = values``, or ``+=`` with repeated indices adding
    up if ``accumulate``. ``indices`` is a tuple of integer or bool tensors."""
    if not isinstance(indices, (tuple, list)):
        raise TypeError(f"index_put: indices must be a tuple of tensors, not {_kind(indices)}")
    _need_same_dtype("index_put", input, values)
    for part in indices:
        _need_tensor(part, "index_put: an index")
    index = tuple(map(array_of, indices))
    selected = xp.broadcast_to(xp.asarray(False), input.shape)[index]
    values = broadcast_to(values, selected.shape)
    if not accumulate:
        return ops.update_index(input, values, index)
    return ops.add(input, ops.scatter(values, index=index, shape=tuple(input.shape)))


def take(input: Any, index: Any) -> Any:
    """The elements at positions in the flattened tensor, in the shape of ``index``; negative
    positions count from the end."""
    return ops.getitem(_flat(input), _flat_positions("take", input, index))


def put(input: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
    """A copy of ``input`` with the elements of ``source`` written (or added, if ``accumulate``) at
    positions in the flattened tensor."""
    places = _flat_positions("put", input, index).reshape(-1)
    _need_same_dtype("put", input, source)
    if source.array.size != places.size:
        raise IndexError(
            f"put: source and index must have as many elements, not {source.array.size} and "
            f"{places.size}"
        )
    if accumulate:
        added = ops.scatter(_flat(source), index=places, shape=(_numel(input),))
        return ops.add(input, _like(added, input))
    return _like(ops.update_index(_flat(input), _flat(source), places), input)


# --- by masks -------------------------------------------------------------------------------------


def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """``input`` where ``condition`` is True, ``other`` elsewhere; the shapes broadcast.

    With the condition alone the indices of its true elements: ``nonzero(as_tuple=True)``.
    """
    if input is None or other is None:
        if input is other:
            return nonzero(condition, as_tuple=True)
        raise TypeError("where: give both values, or the condition alone")
    if getattr(condition, "dtype", None) not in _CONDITIONS:
        _refuse_mask("where: the condition", condition)
    return ops.where(condition, input, other)


def masked_fill(input: Any, mask: Any, value: Any) -> Any:
    """``value`` where the boolean ``mask`` is True, ``input`` elsewhere; the shapes broadcast.

    The result has the dtype of ``input``. ``value`` is a number or a 0-dim tensor.
    """
    _need_mask("masked_fill", mask)
    value = _single(value, input.dtype, "masked_fill")
    if isinstance(value, Variable):
        return ops.where(mask, value, input)
    return ops.masked_fill(input, mask, value)


def masked_select(input: Any, mask: Any) -> Any:
    """The elements where ``mask`` is True, in one row; the shapes broadcast."""
    _need_mask("masked_select", mask)
    shape = _broadcast("masked_select", input.shape, mask.shape)
    chosen = xp.array(xp.broadcast_to(mask.array, shape))
    return ops.getitem(broadcast_to(input, shape), chosen)


def masked_scatter(input: Any, mask: Any, source: Any) -> Any:
    """``input`` with the elements of ``source``, in their order, where ``mask`` is True."""
    _need_mask("masked_scatter", mask)
    _need_same_dtype("masked_scatter", input, source)
    shape = _broadcast("masked_scatter", input.shape, mask.shape)
    chosen = xp.array(xp.broadcast_to(mask.array, shape))
    n = int(chosen.sum())
    if n > source.array.size:
        raise RuntimeError(
            f"masked_scatter: the mask has {n} true elements, the source only {source.array.size}"
        )
    values = ops.getitem(_flat(source), slice(0, n))
    return ops.update_index(broadcast_to(input, shape), values, chosen)


def nonzero(input: Any, *, as_tuple: bool = False) -> Any:
    """The indices of the elements that are not zero: [n, ndim], or a tuple of ndim tensors [n]."""
    found = xp.nonzero(_lined(input).array)
    if as_tuple:
        return tuple(map(wrap, found))
    return wrap(xp.stack(found, axis=1)[:, : input.ndim])


def argwhere(input: Any) -> Any:
    """:func:`nonzero`."""
    return nonzero(input)


# --- what combines at one position ----------------------------------------------------------------


def _reduced(input: Any, places: Any, values: Any, reduce: str, include_self: bool) -> Any:
    """``input`` combined with ``values`` [n] at flat positions: each position is a group."""
    size = _numel(input)
    touched = xp.zeros(size, dtype="bool")
    if not include_self:
        touched[places.reshape(-1)] = True
    kept = xp.nonzero(~touched)[0]
    groups = xp.concat([kept, places.reshape(-1)])
    members = ops.concat([ops.getitem(_flat(input), kept), values])
    return _like(_REDUCTIONS[reduce](members, groups, size), input)


def _sum(values: Any, groups: Any, size: int) -> Any:
    return ops.scatter(values, index=groups, shape=(size,))


def _mean(values: Any, groups: Any, size: int) -> Any:
    if values.dtype.kind == "b":
        raise RuntimeError("a mean of bools is not defined; call .float() first")
    counts = _sum(wrap(xp.ones(groups.shape, values.dtype)), groups, size)
    divide = ops.divide if values.dtype.kind == "f" else ops.floor_divide
    return divide(_sum(values, groups, size), counts)


def _product(values: Any, groups: Any, size: int) -> Any:
    """Neighbours in a group are multiplied, pair by pair, until one value is left in each.

    Nothing is divided, so that derivatives of every order are right at zeros.
    """
    order = xp.argsort(groups)
    values, groups = ops.getitem(values, order), groups[order]
    while len(groups) > size:
        first = xp.nonzero(groups[1:] != groups[:-1])[0] + 1  # where groups start, but for 0
        starts = xp.zeros(len(groups), dtype="int64")
        starts[first] = first
        rank = xp.arange(len(groups)) - xp.maximum.accumulate(starts)
        left = xp.nonzero(rank % 2 == 0)[0]
        paired = xp.nonzero(rank % 2 == 1)[0]
        products = ops.multiply(ops.getitem(values, paired - 1), ops.getitem(values, paired))
        alone = ops.getitem(values, left)
        slot = xp.zeros(len(groups), dtype="int64")
        slot[left] = xp.arange(len(left))
        values, groups = ops.update_index(alone, products, slot[paired - 1]), groups[left]
    return values


def _largest(values: Any, groups: Any, size: int) -> Any:
    return ops.group_extreme(values, groups=groups, size=size, largest=True)


def _smallest(values: Any, groups: Any, size: int) -> Any:
    return ops.group_extreme(values, groups=groups, size=size, largest=False)


_REDUCTIONS = {"sum": _sum, "prod": _product, "mean": _mean, "amax": _largest, "amin": _smallest}


# --- shapes and checks ----------------------------------------------------------------------------


def _numel(input: Any) -> int:
    return int(input.array.size)


def _flat(input: Any) -> Any:
    return input if input.ndim == 1 else ops.reshape(input, (_numel(input),))


def _lined(input: Any) -> Any:
    """A 0-dim tensor as one of shape [1]."""
    return input if input.ndim else ops.reshape(input, (1,))


def _like(result: Any, input: Any) -> Any:
    """The result of flat tensors in the shape of ``input``."""
    return result if result.shape == input.shape else ops.reshape(result, tuple(input.shape))


def _resized(tensor: Any, dim: int, n: int) -> tuple[int, ...]:
    return (*tensor.shape[:dim], n, *tensor.shape[dim + 1 :])


def _broadcast(name: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return tuple(xp.broadcast_shapes(*shapes))
    except ValueError:
        listed = " and ".join(str(tuple(s)) for s in shapes)
        raise RuntimeError(f"{name}: shapes {listed} do not broadcast") from None


def _kind(value: Any) -> str:
    return type(value).__name__


def _need_tensor(value: Any, what: str) -> None:
    if not isinstance(value, Variable):
        raise TypeError(f"{what} must be a tensor, not {_kind(value)}")


def _need_same_dtype(name: str, input: Any, source: Any) -> None:
    _need_tensor(source, f"{name}: the source")
    if source.dtype != input.dtype:
        raise RuntimeError(
            f"{name}: tensor and source must have one dtype, not {input.dtype} and {source.dtype}"
        )


_CONDITIONS = (xp.dtype("bool"), xp.dtype("uint8"))


def _need_mask(name: str, mask: Any) -> None:
    _need_tensor(mask, f"{name}: the mask")
    if mask.dtype != "bool":
        _refuse_mask(f"{name}: the mask", mask)


def _refuse_mask(what: str, mask: Any) -> None:
    if not hasattr(mask, "dtype"):
        raise TypeError(f"{what} must be a tensor, not {_kind(mask)}")
    raise RuntimeError(f"{what} must be of dtype bool, not {mask.dtype}")


def _as_dtype(number: Any, dtype: Any, name: str) -> Any:
    """A Python number cut to a dtype: fractions go, nan and what is too large are refused."""
    if isinstance(number, xp.generic):
        number = number.item()
    if not isinstance(number, (bool, int, float)):
        raise TypeError(f"{name}: expected a number, got {_kind(number)}")
    if dtype.kind == "f":
        return number
    try:
        kind = xp.dtype(dtype)
        if isinstance(number, int) and number < 0:  # wraps around, as in PyTorch
            return xp.asarray(number).astype(kind).item()
        return kind.type(number).item()
    except (ValueError, OverflowError):
        raise RuntimeError(f"{name}: {number} has no value of dtype {dtype}") from None


def _single(value: Any, dtype: Any, name: str) -> Any:
    """A number, or a 0-dim tensor, in a dtype."""
    if not isinstance(value, Variable):
        return _as_dtype(value, dtype, name)
    if value.array.ndim:
        raise RuntimeError(
            f"{name}: the value must be a number or a 0-dim tensor, not of shape "
            f"{tuple(value.shape)}"
        )
    return value if value.dtype == dtype else ops.astype(value, dtype)


def _integers(index: Any, name: str, dtypes: tuple[str, ...] = LONG_OR_INT) -> Any:
    """The array of an index tensor."""
    _need_tensor(index, f"{name}: the index")
    if index.dtype not in dtypes:
        raise RuntimeError(f"{name}: the index must be {' or '.join(dtypes)}, not {index.dtype}")
    return index.array


def _check_range(
    name: str, index: Any, n: int, dim: Any, error: type[Exception], negative: bool = False
) -> None:
    low = -n if negative else 0
    if index.size and not low <= index.min() <= index.max() < n:
        wrong = index.min() if index.min() < low else index.max()
        place = "the flattened tensor" if dim is None else f"dim {dim}"
        raise error(f"{name}: index {wrong} is out of range for {place} of size {n}")


def _places(name: str, input: Any, dim: int, index: Any) -> Any:
    """The flat positions that a tensor of indices along ``dim`` names, in its shape."""
    dim, raw = dim_of(input, dim), _integers(index, name)
    if not raw.size:
        return xp.zeros(raw.shape, dtype="int64")
    shape, sizes = input.shape or (1,), raw.shape or (1,)
    if len(shape) != len(sizes):
        raise RuntimeError(
            f"{name}: index and tensor must have the same number of dims; got shapes "
            f"{tuple(raw.shape)} and {tuple(input.shape)}"
        )
    if any(size > n for d, (size, n) in enumerate(zip(sizes, shape)) if d != dim):
        raise RuntimeError(
            f"{name}: index of shape {sizes} is larger than {tuple(shape)} apart from dim {dim}"
        )
    _check_range(name, raw, shape[dim], dim, RuntimeError)
    return xp.reshape(xp.places_along(xp.reshape(raw, sizes), dim, shape), raw.shape)


def _cut(name: str, input: Any, index: Any, src: Any) -> Any:
    """As much of ``src`` as ``index`` has positions for, flattened."""
    _need_same_dtype(name, input, src)
    if not index.array.size:
        return ops.getitem(_flat(src), slice(0, 0))
    sizes, src = index.shape or (1,), _lined(src)
    if len(sizes) != src.ndim or any(n > size for n, size in zip(sizes, src.shape)):
        raise RuntimeError(
            f"{name}: src of shape {tuple(src.shape)} must have the dims of index, "
            f"{tuple(sizes)}, and be at least as large"
        )
    whole = tuple(sizes) == tuple(src.shape)
    return _flat(src if whole else ops.getitem(src, tuple(slice(0, n) for n in sizes)))


def _slices(
    name: str, input: Any, dim: int, index: Any, dtypes: tuple[str, ...] = LONG_OR_INT,
    negative: bool = False,
) -> tuple:  # fmt: skip
    """The index of the slices along ``dim`` that a vector of integers names."""
    dim, raw = dim_of(input, dim), _integers(index, name, dtypes)
    if raw.ndim > 1:
        raise IndexError(f"{name}: the index must have one dim, not shape {tuple(raw.shape)}")
    n = input.shape[dim] if input.ndim else 1
    _check_range(name, raw, n, dim, IndexError, negative)
    return (slice(None),) * dim + (xp.array(xp.reshape(raw, (raw.size,))),)


def _slices_and_source(
    name: str, input: Any, dim: int, index: Any, source: Any,
    dtypes: tuple[str, ...] = LONG_OR_INT,
) -> tuple[tuple, Any]:  # fmt: skip
    """The index, and the source if it has a slice for each."""
    where_to = _slices(name, input, dim, index, dtypes)
    _need_same_dtype(name, input, source)
    source, lined = _lined(source), _lined(input)
    dim = dim_of(input, dim)
    needed = _resized(lined, dim, where_to[-1].size)
    if tuple(source.shape) != needed:
        raise RuntimeError(
            f"{name}: {where_to[-1].size} slices along dim {dim} of a tensor of shape "
            f"{tuple(input.shape)} need a source of shape {needed}, not {tuple(source.shape)}"
        )
    return where_to, source


def _flat_positions(name: str, input: Any, index: Any) -> Any:
    raw = _integers(index, name, LONG)
    _check_range(name, raw, _numel(input), None, IndexError, negative=True)
    return xp.array(raw, order="C")


IN_PLACE = (
    "masked_fill", "masked_scatter", "scatter", "scatter_add", "scatter_reduce", "index_add",
    "index_copy", "index_fill", "index_reduce", "index_put", "put",
)  # fmt: skip
FUNCTIONS_ONLY = ("where", "embedding")  # the method takes the tensor first: class Tensor has it
METHODS_ONLY = ()
__all__ = [
    "gather", "scatter", "scatter_add", "scatter_reduce", "take_along_dim", "index_select",
    "index_add", "index_copy", "index_fill", "index_reduce", "index_put", "take", "put",
    "masked_fill", "masked_select", "masked_scatter", "nonzero", "argwhere", "where", "embedding",
]  # fmt: skip
