"""Making tensors from data or from a pattern; ``sampling`` makes them at random.

Floats default to float32, integers to int64, as in PyTorch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .backend import DTYPE, default_float, known_dtype, promote_types, xp
from .devices import require_ordinary
from .functions.dims import sizes_of
from .variable import Variable, wrap

if TYPE_CHECKING:
    from .tensor import Tensor


def factory(make: Callable) -> Callable[..., Tensor]:
    """``make``, an array, as a tensor: with the arguments that all such functions share.

    ``requires_grad``, and what names the only memory there is: ``device``, ``layout``,
    ``pin_memory``, ``memory_format``.
    """

    @functools.wraps(make)
    def made(
        *args: Any,
        device: Any = None,
        layout: Any = None,
        pin_memory: bool = False,
        memory_format: Any = None,
        requires_grad: bool = False,
        **kwargs: Any,
    ) -> Any:
        if not device is layout is memory_format is None or pin_memory:
            require_ordinary(device, layout, pin_memory, memory_format)
        tensor = wrap(make(*args, **kwargs))
        if requires_grad:
            tensor.requires_grad = True
        return tensor

    return made


def dtype_or_default(dtype: Any) -> Any:
    """NumPy's dtype for ``dtype``; the default float for None."""
    return default_float() if dtype is None else known_dtype(dtype)


def dtype_or_that_of(dtype: Any, input: Any) -> Any:
    """NumPy's dtype for ``dtype``; that of ``input`` for None."""
    return input.array.dtype if dtype is None else known_dtype(dtype)


def shape_of(sizes: tuple, size: Any = None) -> tuple[int, ...]:
    """The shape given as ``f(2, 3)``, ``f((2, 3))`` or ``f(size=(2, 3))``."""
    if size is not None and sizes:
        raise TypeError(f"the size is given twice: {sizes} and size={size}")
    shape = sizes_of(sizes if size is None else (size,))
    if min(shape, default=0) < 0:
        raise RuntimeError(f"sizes cannot be negative, got {shape}")
    return shape


# --- from data ------------------------------------------------------------------------------------


@factory
def tensor(data: Any, *, dtype: Any = None) -> Any:
    """A tensor with a copy of ``data``: numbers, nested lists, arrays, tensors.

    Python floats become the default float, float32, and integers int64; arrays keep their dtype.

    >>> tensor([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    if isinstance(data, Variable):
        data = data.array
    if hasattr(data, "dtype"):
        array = xp.array(data, dtype=None if dtype is None else known_dtype(dtype))
        return _held(array)
    return _from_lists(data, dtype)


def _held(array: Any) -> Any:
    """``array``, if tensors can have its dtype."""
    if array.dtype not in DTYPE:
        known_dtype(array.dtype)  # complains
    return array


def _from_lists(data: Any, dtype: Any) -> Any:
    """The array of numbers and nested sequences of them; also of arrays, and tensors."""
    types = set(_leaf_types(data))
    if any(issubclass(t, Variable) for t in types):
        dtype = dtype or functools.reduce(promote_types, _leaf_dtypes(data))
        data = _without_tensors(data)
    try:
        array = xp.asarray(data)
    except ValueError as error:
        raise ValueError(f"tensor: the nested lists are ragged ({error})") from None
    if array.dtype == object or array.dtype == "uint64":
        if types <= {int, bool}:
            raise ValueError("tensor: an integer is beyond the range of int64")
        found = ", ".join(sorted(t.__name__ for t in types))
        raise RuntimeError(f"tensor: no dtype holds {found}: expected numbers or lists of them")
    if dtype is not None:
        return _cast(array, known_dtype(dtype))
    if array.dtype == xp.float64:
        if types <= {float, int, bool}:
            return array.astype(default_float())
        return array.astype(functools.reduce(promote_types, _leaf_dtypes(data)))
    return _held(array)


def _leaf_types(data: Any) -> Iterable[type]:
    """The types of what stands in nested sequences, each at least once."""
    if not isinstance(data, (list, tuple)):
        return {int if isinstance(data, range) else type(data)}
    types = set(map(type, data))
    if types & {list, tuple, range}:
        return {t for item in data for t in _leaf_types(item)}
    return types


def _leaf_dtypes(data: Any) -> Iterable[Any]:
    """The dtype of everything that stands in nested sequences."""
    if isinstance(data, (list, tuple)):
        for item in data:
            yield from _leaf_dtypes(item)
    else:
        yield data.dtype if hasattr(data, "dtype") else tensor(data).dtype


def _without_tensors(data: Any) -> Any:
    """Nested sequences with the tensors in them as numbers."""
    if isinstance(data, (list, tuple)):
        return [_without_tensors(item) for item in data]
    if not isinstance(data, Variable):
        return data
    if data.array.size != 1:
        raise ValueError(
            f"tensor: within a list only tensors of one element count as numbers, not one of shape "
            f"{data.shape}; stack() joins tensors"
        )
    return data.array.item()


def _cast(array: Any, dtype: Any) -> Any:
    """Numbers written out, in ``dtype``, into whose range they must fall."""
    if dtype.kind in "iu" and array.dtype.kind in "if" and array.size:
        # PyTorch lets negative numbers wrap around in an unsigned dtype.
        top = xp.iinfo(dtype).max
        low = -top if dtype.kind == "u" else xp.iinfo(dtype).min
        if not (array.min() >= low and array.max() <= top):
            raise RuntimeError(f"tensor: {array.min()} … {array.max()} do not fit into {dtype}")
    with xp.errstate(over="ignore"):  # in a float dtype they become inf
        return array.astype(dtype)


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """Like :func:`tensor`, but tensors and arrays of the right dtype share their memory."""
    require_ordinary(device)
    if isinstance(data, Variable):
        return data.to(dtype)  # type: ignore[attr-defined]
    if isinstance(data, xp.ndarray) and (dtype is None or data.dtype == known_dtype(dtype)):
        return from_numpy(data)
    return tensor(data, dtype=dtype)


def asarray(
    obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """Like :func:`as_tensor`; ``copy`` insists on a copy, or with False on none."""
    if copy:
        return tensor(obj, dtype=dtype, device=device, requires_grad=requires_grad)
    if not isinstance(obj, (Variable, xp.ndarray)) and hasattr(obj, "__dlpack__"):
        obj = from_dlpack(obj)
    made = as_tensor(obj, dtype, device)
    source = obj.array if isinstance(obj, Variable) else obj
    if copy is False and made.array is not source:
        raise ValueError("asarray: without a copy there is no such tensor of these data")
    if made.requires_grad is not requires_grad:
        return made.detach().requires_grad_(requires_grad)
    return made


@factory
def scalar_tensor(s: Any, *, dtype: Any = None) -> Any:
    """A 0-dim tensor; of the default float, whatever the number."""
    return _from_lists(s, dtype_or_default(dtype))


def from_numpy(ndarray: Any) -> Tensor:
    """A tensor that shares the memory of a NumPy array."""
    if not isinstance(ndarray, xp.ndarray):
        raise TypeError(f"from_numpy: expected an array, got {type(ndarray).__name__}")
    return wrap(_held(xp.asarray(ndarray)))


def from_dlpack(ext_tensor: Any) -> Tensor:
    """A tensor that shares the memory of another library's, through the DLPack protocol."""
    return from_numpy(xp.from_dlpack(ext_tensor))


# --- patterns -------------------------------------------------------------------------------------


@factory
def zeros(*sizes: Any, size: Any = None, dtype: Any = None) -> Any:
    """Zeros of shape ``size``."""
    return xp.zeros(shape_of(sizes, size), dtype_or_default(dtype))


@factory
def ones(*sizes: Any, size: Any = None, dtype: Any = None) -> Any:
    """Ones of shape ``size``."""
    return xp.ones(shape_of(sizes, size), dtype_or_default(dtype))


@factory
def empty(*sizes: Any, size: Any = None, dtype: Any = None) -> Any:
    """A tensor of shape ``size`` whose values are whatever the memory holds."""
    return xp.empty(shape_of(sizes, size), dtype_or_default(dtype))


@factory
def full(size: Any, fill_value: Any, *, dtype: Any = None) -> Any:
    """A tensor filled with one number, whose type gives the dtype."""
    value = tensor(fill_value, dtype=dtype).array
    if value.ndim:
        raise TypeError(f"full: expected a number to fill with, got shape {value.shape}")
    return xp.full(shape_of((tuple(size),)), value)


@factory
def zeros_like(input: Tensor, *, dtype: Any = None) -> Any:
    """Zeros of the shape and dtype of ``input``."""
    return xp.zeros(input.shape, dtype_or_that_of(dtype, input))


@factory
def ones_like(input: Tensor, *, dtype: Any = None) -> Any:
    """Ones of the shape and dtype of ``input``."""
    return xp.ones(input.shape, dtype_or_that_of(dtype, input))


@factory
def empty_like(input: Tensor, *, dtype: Any = None) -> Any:
    """Whatever the memory holds, in the shape and dtype of ``input``."""
    return xp.empty(input.shape, dtype_or_that_of(dtype, input))


@factory
def full_like(input: Tensor, fill_value: Any, *, dtype: Any = None) -> Any:
    """One number in the shape and dtype of ``input``."""
    return full(input.shape, fill_value, dtype=dtype_or_that_of(dtype, input)).array


def _bounds(*numbers: Any) -> list[Any]:
    """Numbers and 0-dim tensors as numbers."""
    return [n.item() if hasattr(n, "item") else n for n in numbers]


def _steps(name: str, start: Any, end: Any, step: Any) -> list[Any]:
    start, end, step = _bounds(start, end, step)
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"{name}: there is no range from {start} to {end}")
    if step == 0 or (end - start) * step < 0:
        raise RuntimeError(f"{name}: steps of {step} do not lead from {start} to {end}")
    return [start, end, step]


@factory
def arange(start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None) -> Any:
    """``start``, ``start + step``, … up to but without ``end``; int64 if all are integers."""
    start, end = (0, start) if end is None else (start, end)
    start, end, step = _steps("arange", start, end, step)
    if dtype is None:
        whole = all(isinstance(v, int) for v in (start, end, step))
        dtype = xp.int64 if whole else default_float()
    elif known_dtype(dtype).kind in "iu":
        start, end, step = _steps("arange", int(start), int(end), int(step))
    return xp.arange(start, end, step).astype(known_dtype(dtype))


@factory
def inclusive_range(start: float, end: float, step: float = 1, *, dtype: Any = None) -> Any:
    """``torch.range``: ``start``, ``start + step``, … up to ``end``, which is included.

    Kept for old code; :func:`arange` is what is meant as a rule.
    """
    start, end, step = _steps("range", start, end, step)
    count = math.floor((end - start) / step) + 1
    return (start + step * xp.arange(count)).astype(dtype_or_default(dtype))


def _spaced(name: str, start: Any, end: Any, steps: int) -> Any:
    start, end = _bounds(start, end)
    if steps < 0:
        raise RuntimeError(f"{name}: the number of steps cannot be negative, got {steps}")
    return xp.linspace(start, end, steps)


@factory
def linspace(start: Any, end: Any, steps: int, *, dtype: Any = None) -> Any:
    """``steps`` evenly spaced values from ``start`` to ``end``, both included."""
    return _spaced("linspace", start, end, steps).astype(dtype_or_default(dtype))


@factory
def logspace(start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: Any = None) -> Any:
    """``base`` to the powers of ``steps`` evenly spaced exponents."""
    exponents = _spaced("logspace", start, end, steps)
    return (float(base) ** exponents).astype(dtype_or_default(dtype))


@factory
def eye(n: int, m: int | None = None, *, dtype: Any = None) -> Any:
    """The identity matrix [n, m or n]."""
    return xp.eye(*shape_of((n, n if m is None else m)), dtype=dtype_or_default(dtype))


# --- like another tensor, as methods --------------------------------------------------------------


@factory
def new_tensor(self: Tensor, data: Any, *, dtype: Any = None) -> Any:
    """A copy of ``data``, in the dtype of this tensor."""
    return tensor(data, dtype=dtype_or_that_of(dtype, self)).array


@factory
def new_zeros(self: Tensor, *sizes: Any, size: Any = None, dtype: Any = None) -> Any:
    """Zeros of another shape, in the dtype of this tensor."""
    return xp.zeros(shape_of(sizes, size), dtype_or_that_of(dtype, self))


@factory
def new_ones(self: Tensor, *sizes: Any, size: Any = None, dtype: Any = None) -> Any:
    """Ones of another shape, in the dtype of this tensor."""
    return xp.ones(shape_of(sizes, size), dtype_or_that_of(dtype, self))


@factory
def new_empty(self: Tensor, *sizes: Any, size: Any = None, dtype: Any = None) -> Any:
    """Whatever the memory holds, in another shape and the dtype of this tensor."""
    return xp.empty(shape_of(sizes, size), dtype_or_that_of(dtype, self))


@factory
def new_full(self: Tensor, size: Any, fill_value: Any, *, dtype: Any = None) -> Any:
    """One number in another shape, in the dtype of this tensor."""
    return full(size, fill_value, dtype=dtype_or_that_of(dtype, self)).array


METHODS = {m.__name__: m for m in (new_tensor, new_zeros, new_ones, new_empty, new_full)}
