"""Initial values, written in place and outside of the recorded graph.

Each function fills the tensor that it is given and returns it. Draws come from ``generator``, or
from the default one. A fan is the number of inputs or outputs that an element of a weight is
connected with: a linear weight [out, in] has ``fan_in`` = in and ``fan_out`` = out; for a
convolution [out, in, *kernel] both are multiplied by the size of the kernel.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import tensorgrad
from tensorgrad import Generator, Tensor, linalg, no_grad

# --- skipping it ----------------------------------------------------------------------------------


class _State(threading.local):
    skipping = False


_state = _State()


@contextlib.contextmanager
def skipped() -> Iterator[None]:
    """Layers made within this context keep whatever their memory holds: their weights are loaded.

    A large model is there at once, its memory is not touched, and no random number is drawn.
    """
    before, _state.skipping = _state.skipping, True
    try:
        yield
    finally:
        _state.skipping = before


def _skippable(fill: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(fill)
    def unless_skipped(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return tensor if _state.skipping else fill(tensor, *args, **kwargs)

    return unless_skipped


# --- one distribution, one value ------------------------------------------------------------------


@_skippable
@no_grad()
def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with draws from N(mean, std²)."""
    return tensor.normal_(mean, std, generator=generator)


@_skippable
@no_grad()
def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with draws from the uniform distribution on [a, b)."""
    return tensor.uniform_(a, b, generator=generator)


@no_grad()
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with draws from N(mean, std²) that lie in [a, b]; the bounds are values, not multiples
    of ``std``."""
    if a > b:
        raise RuntimeError(f"trunc_normal_: there is nothing between a={a} and b={b}")
    if not a - 2 * std <= mean <= b + 2 * std:
        warnings.warn(
            f"trunc_normal_: the mean {mean} is more than two standard deviations away from "
            f"[{a}, {b}]: the draws are from a thin tail",
            stacklevel=3,
        )
    values = tensorgrad.zeros(tensor.numel(), dtype=tensor.dtype)
    pending = tensorgrad.ones(tensor.numel(), dtype=tensorgrad.bool)
    within = _normal_cdf((b - mean) / std) - _normal_cdf((a - mean) / std)
    while n := int(pending.sum()):  # what is not accepted is drawn again
        drawn = tensorgrad.empty(n, dtype=tensor.dtype)
        if within > 0.3:
            drawn.normal_(mean, std, generator=generator)
            accepted = (drawn >= a) & (drawn <= b)
        else:  # too rare for that: accept uniform draws as often as their density says
            drawn.uniform_(a, b, generator=generator)
            peak = ((min(max(mean, a), b) - mean) / std) ** 2
            density = ((peak - ((drawn - mean) / std) ** 2) / 2).exp()
            accepted = tensorgrad.rand(n, generator=generator) < density
        values[pending] = drawn
        pending[pending.clone()] = ~accepted
    return tensor.copy_(values.reshape(tensor.shape))


def _normal_cdf(x: float) -> float:
    return (1 + math.erf(x / math.sqrt(2))) / 2


@_skippable
@no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one value."""
    return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with 1."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with 0."""
    return constant_(tensor, 0.0)


# --- a scale that fits the layer ------------------------------------------------------------------


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on the standard deviation that makes up for what an activation takes away.

    ``param`` is the slope of ``"leaky_relu"`` (0.01). The gain of ``"selu"`` is PyTorch's 3/4.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"calculate_gain: the slope of leaky_relu is a number, got {param!r}")
        return math.sqrt(2 / (1 + slope**2))
    gains = {"sigmoid": 1, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4, "linear": 1}
    linear = {f"conv{kind}{n}d": 1 for kind in ("", "_transpose") for n in (1, 2, 3)}
    if nonlinearity not in {**gains, **linear}:
        known = ", ".join([*gains, "leaky_relu", *linear])
        raise ValueError(f"calculate_gain: {nonlinearity!r} is none of {known}")
    return {**gains, **linear}[nonlinearity]


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ValueError(
            "fan_in and fan_out are of tensors with two dims or more, this one has shape "
            f"{tuple(tensor.shape)}"
        )
    outputs, inputs, *kernel = tensor.shape
    return inputs * math.prod(kernel), outputs * math.prod(kernel)


def _xavier_std(tensor: Tensor, gain: float) -> float:
    return gain * math.sqrt(2 / sum(_calculate_fan_in_and_fan_out(tensor)))


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Uniform in ±gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    bound = math.sqrt(3) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with std gain sqrt(2 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    return normal_(tensor, 0.0, _xavier_std(tensor, gain), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode.lower() not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}")
    fan = _calculate_fan_in_and_fan_out(tensor)[mode.lower() == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def _is_empty(tensor: Tensor) -> bool:
    if 0 in tensor.shape:
        warnings.warn("a tensor without elements has no initial values", stacklevel=3)
        return True
    return False


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform in ±gain sqrt(3 / fan) (He et al. 2015); ``a`` is the slope of a leaky ReLU.

    ``mode`` keeps the variance of the values (``"fan_in"``) or of the gradients (``"fan_out"``).

    >>> import tensorgrad
    >>> weight = kaiming_uniform_(tensorgrad.empty(3, 600), nonlinearity="relu")
    >>> bool((weight.abs() <= 0.1).all())
    True
    """
    if _is_empty(tensor):
        return tensor
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with std gain / sqrt(fan), otherwise as :func:`kaiming_uniform_`."""
    if _is_empty(tensor):
        return tensor
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


# --- matrices with structure ----------------------------------------------------------------------


@no_grad()
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """``gain`` times a random matrix with orthonormal rows, or columns if it is tall.

    The dims after the first count as one. All such matrices are equally likely (Saxe et al. 2014;
    Mezzadri 2007 on the signs).
    """
    if tensor.ndim < 2:
        raise ValueError(
            f"orthogonal_: needs two dims or more, this tensor has shape {tuple(tensor.shape)}"
        )
    if not tensor.numel():
        return tensor
    rows = tensor.shape[0]
    columns = tensor.numel() // rows
    tall = (max(rows, columns), min(rows, columns))
    q, r = linalg.qr(tensorgrad.randn(*tall, dtype=tensor.dtype, generator=generator))
    q = q * r.diagonal().sign()  # else the signs would be what the algorithm makes them
    q = q.T if rows < columns else q
    return tensor.copy_(q.reshape(tensor.shape) * gain)


@no_grad()
def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix, as far as it goes: [n, m]."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_: needs a matrix, this tensor has shape {tuple(tensor.shape)}")
    return tensor.copy_(tensorgrad.eye(*tensor.shape, dtype=tensor.dtype))


@no_grad()
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution [out, in / groups, *kernel] that hands on its inputs, as many as it can."""
    if tensor.ndim not in (3, 4, 5):
        raise ValueError(
            f"dirac_: needs 3, 4 or 5 dims, this tensor has shape {tuple(tensor.shape)}"
        )
    outputs, inputs, *kernel = tensor.shape
    if outputs % groups:
        raise ValueError(f"dirac_: {groups} groups do not divide {outputs} outputs")
    middle = [size // 2 for size in kernel]
    tensor.zero_()
    for first in range(0, outputs, outputs // groups):
        for i in range(min(outputs // groups, inputs)):
            place = (first + i, i, *middle)
            tensor[place] = 1
    return tensor


@no_grad()
def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """N(0, std²) with zeros at the part ``sparsity`` of each column, at random (Martens 2010)."""
    if tensor.ndim != 2:
        raise ValueError(f"sparse_: needs a matrix, this tensor has shape {tuple(tensor.shape)}")
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    tensor.normal_(0, std, generator=generator)
    for column in range(columns):
        tensor[tensorgrad.randperm(rows, generator=generator)[:zeros], column] = 0
    return tensor
