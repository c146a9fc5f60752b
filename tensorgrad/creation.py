"""Making tensors: from data, from a pattern, at random. Also the dtypes.

Floats default to float32, integers to int64, as in PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .backend import DEFAULT_FLOAT, DTYPES, xp
from .functions.dims import sizes_of
from .random import Generator, draw_normal, draw_uniform, rng_of
from .tensor import Tensor
from .variable import Variable, wrap

float16, float32, float64 = (xp.dtype(t) for t in (xp.float16, xp.float32, xp.float64))
int8, int16, int32, int64 = (xp.dtype(t) for t in (xp.int8, xp.int16, xp.int32, xp.int64))
uint8, bool_ = xp.dtype(xp.uint8), xp.dtype(xp.bool_)
half, float_, double, long = float16, float32, float64, int64


def _made(array: Any, requires_grad: bool = False) -> Tensor:
    if array.dtype not in DTYPES:
        raise TypeError(
            f"tensors cannot hold {array.dtype}; they have {', '.join(map(str, DTYPES))}"
        )
    tensor = wrap(array)
    if requires_grad:
        tensor.requires_grad = True
    return tensor


def tensor(data: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of ``data``: numbers, nested lists, arrays.

    Python floats become float32 and integers int64; arrays keep their dtype.

    >>> tensor([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    if isinstance(data, Variable):
        data = data.array
    try:
        array = xp.array(data, dtype=dtype)
    except ValueError as error:
        raise ValueError(f"tensor: the nested lists are ragged ({error})") from None
    if dtype is None and not hasattr(data, "dtype") and array.dtype == xp.float64:
        array = array.astype(DEFAULT_FLOAT)
    return _made(array, requires_grad)


def as_tensor(data: Any, *, dtype: Any = None) -> Tensor:
    """Like :func:`tensor`, but tensors and arrays of the right dtype share their memory."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    if isinstance(data, xp.ndarray) and (dtype is None or data.dtype == dtype):
        return from_numpy(data)
    return tensor(data, dtype=dtype)


def from_numpy(array: Any) -> Tensor:
    """A tensor that shares the memory of a NumPy array."""
    if not isinstance(array, xp.ndarray):
        raise TypeError(f"from_numpy: expected an array, got {type(array).__name__}")
    return _made(xp.asarray(array))


def from_dlpack(source: Any) -> Tensor:
    """A tensor that shares the memory of another library's, through the DLPack protocol."""
    return _made(xp.from_dlpack(source))


# --- patterns -------------------------------------------------------------------------------------


def _shape(sizes: tuple) -> tuple[int, ...]:
    shape = sizes_of(sizes)
    if min(shape, default=0) < 0:
        raise RuntimeError(f"sizes cannot be negative, got {shape}")
    return shape


def zeros(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of shape ``size``."""
    return _made(xp.zeros(_shape(size), dtype or DEFAULT_FLOAT), requires_grad)


def ones(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of shape ``size``."""
    return _made(xp.ones(_shape(size), dtype or DEFAULT_FLOAT), requires_grad)


def empty(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of shape ``size`` whose values are whatever the memory holds."""
    return _made(xp.empty(_shape(size), dtype or DEFAULT_FLOAT), requires_grad)


def full(size: Sequence[int], fill_value: Any, *, dtype: Any = None,
         requires_grad: bool = False) -> Tensor:  # fmt: skip
    """A tensor filled with one value, whose type gives the dtype."""
    shape = _shape((tuple(size),))
    return _made(xp.full(shape, fill_value, dtype or tensor(fill_value).dtype), requires_grad)


def zeros_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of the shape and dtype of ``input``."""
    return _made(xp.zeros_like(input.array, dtype=dtype), requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of the shape and dtype of ``input``."""
    return _made(xp.ones_like(input.array, dtype=dtype), requires_grad)


def arange(start: float, end: float | None = None, step: float = 1, *,
           dtype: Any = None) -> Tensor:  # fmt: skip
    """``start``, ``start + step``, … up to but without ``end``; int64 if all are integers."""
    if end is None:
        start, end = 0, start
    if step == 0 or (end - start) * step < 0:
        raise RuntimeError(f"arange: steps of {step} do not lead from {start} to {end}")
    whole = all(isinstance(v, int) for v in (start, end, step))
    return _made(xp.arange(start, end, step, dtype=dtype or (int64 if whole else DEFAULT_FLOAT)))


def linspace(start: float, end: float, steps: int, *, dtype: Any = None) -> Tensor:
    """``steps`` evenly spaced values from ``start`` to ``end``, both included."""
    return _made(xp.linspace(start, end, steps, dtype=dtype or DEFAULT_FLOAT))


def eye(n: int, m: int | None = None, *, dtype: Any = None) -> Tensor:
    """The identity matrix [n, m or n]."""
    return _made(xp.eye(n, m, dtype=dtype or DEFAULT_FLOAT))


# --- random ---------------------------------------------------------------------------------------


def rand(*size: Any, generator: Generator | None = None, dtype: Any = None,
         requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Uniform draws from [0, 1)."""
    return _made(draw_uniform(_shape(size), dtype, generator), requires_grad)


def randn(*size: Any, generator: Generator | None = None, dtype: Any = None,
          requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Draws from the standard normal distribution."""
    return _made(draw_normal(_shape(size), dtype, generator), requires_grad)


def randint(low: int, high: int | None = None, size: Sequence[int] = (), *,
            generator: Generator | None = None, dtype: Any = None) -> Tensor:  # fmt: skip
    """Integers from [low, high), int64; ``randint(high, size=...)`` starts at 0."""
    if high is None:
        low, high = 0, low
    if low >= high:
        raise RuntimeError(f"randint: there is no integer in [{low}, {high})")
    drawn = rng_of(generator).integers(low, high, _shape((tuple(size),)))
    return _made(xp.asarray(drawn, dtype=dtype or int64))


def randperm(n: int, *, generator: Generator | None = None) -> Tensor:
    """The integers 0..n-1 in random order, int64."""
    return wrap(xp.asarray(rng_of(generator).permutation(n), dtype=int64))


def bernoulli(input: Tensor, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that each element of ``input`` gives, else 0; same dtype."""
    if not ((input.array >= 0) & (input.array <= 1)).all():
        raise RuntimeError("bernoulli: the probabilities must lie between 0 and 1")
    return wrap(xp.asarray(rng_of(generator).random(input.shape) < input.array, dtype=input.dtype))


def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *,
                generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Indices drawn with the weights in each row: [classes] or [n, classes] → [..., num_samples].

    The weights need not sum to 1.
    """
    rows = xp.asarray(input.detach().array, dtype=xp.float64)
    rows = rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1])
    if not (xp.isfinite(rows).all() and (rows >= 0).all() and (rows.sum(-1) > 0).all()):
        raise RuntimeError("multinomial: the weights must be finite, not negative, and not all 0")
    if not replacement and num_samples > int((rows > 0).sum(-1).min()):
        raise RuntimeError(
            f"multinomial: cannot draw {num_samples} different indices, fewer have a weight above 0"
        )
    rng = rng_of(generator)
    drawn = [rng.choice(len(p), num_samples, replace=replacement, p=p / p.sum()) for p in rows]
    return wrap(xp.asarray(drawn, dtype=int64).reshape(*input.shape[:-1], num_samples))
