"""Activation functions. ``inplace`` writes the result into the input."""

from __future__ import annotations

import warnings

import tensorgrad
from tensorgrad import Generator, Tensor
from tensorgrad import fused as _fused
from tensorgrad import sigmoid as sigmoid
from tensorgrad import tanh as tanh

from .arguments import check_float

__all__ = [
    "relu", "relu_", "leaky_relu", "leaky_relu_", "elu", "elu_", "selu", "selu_", "celu", "celu_",
    "gelu", "silu", "mish", "softplus", "softsign", "sigmoid", "logsigmoid", "tanh", "hardtanh",
    "hardtanh_", "relu6", "hardswish", "hardsigmoid", "hardshrink", "softshrink", "tanhshrink",
    "threshold", "threshold_", "rrelu", "rrelu_", "prelu", "glu", "softmax", "log_softmax",
    "softmin",
]  # fmt: skip


# --- rectifiers -----------------------------------------------------------------------------------


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0)."""
    return input.relu_() if inplace else tensorgrad.relu(input)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where it is positive, ``negative_slope`` x elsewhere."""
    check_float(input, "leaky_relu")
    if inplace:
        return input.copy_(leaky_relu(input.clone(), negative_slope))
    return tensorgrad.where(input > 0, input, input * negative_slope)


def rrelu(
    input: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """:func:`leaky_relu` with a slope drawn for each element from [lower, upper) in training, and
    their mean elsewhere (Xu et al. 2015)."""
    if lower > upper:
        raise RuntimeError(f"rrelu: lower {lower} must not be greater than upper {upper}")
    if inplace:
        drawn = rrelu(input.clone(), lower, upper, training, generator=generator)
        return input.copy_(drawn)
    if not training:
        return leaky_relu(input, (lower + upper) / 2)
    slope = tensorgrad.rand(tuple(input.shape), generator=generator, dtype=input.dtype)
    return tensorgrad.where(input > 0, input, input * (slope * (upper - lower) + lower))


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where it is positive, weight x elsewhere; one weight, or one for each position of dim 1.

    (He et al. 2015.)
    """
    check_float(input, "prelu")
    if weight.numel() != 1:
        channels = input.shape[1] if input.ndim > 1 else 1
        if weight.ndim != 1 or weight.numel() != channels:
            raise RuntimeError(
                f"prelu: a weight of shape {tuple(weight.shape)} does not fit an input of "
                f"shape {tuple(input.shape)} with {channels} channels"
            )
        weight = weight.reshape(-1, *[1] * (input.ndim - 2))
    elif weight.ndim > input.ndim:
        weight = weight.reshape(())
    return tensorgrad.where(input > 0, input, weight * input)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)."""
    return hardtanh(input, 0.0, 6.0, inplace)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where it is greater than ``threshold``, ``value`` elsewhere."""
    above = input > threshold
    if inplace:
        return input.masked_fill_(~above, value)
    return tensorgrad.where(above, input, value)


# --- exponential units ----------------------------------------------------------------------------


def _elu(input: Tensor, alpha: float, width: float, scale: float) -> Tensor:
    """scale x where x is positive, scale alpha (exp(x / width) - 1) elsewhere."""
    positive = input > 0
    # Where x is positive the exponential is of 0: it could overflow, and 0 times inf is nan.
    below = tensorgrad.where(positive, 0.0, input / width if width != 1 else input)
    return tensorgrad.where(positive, input * scale, tensorgrad.expm1(below) * (alpha * scale))


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where it is positive, alpha (exp(x) - 1) elsewhere (Clevert et al. 2015)."""
    check_float(input, "elu")
    if inplace:
        return input.copy_(elu(input.clone(), alpha))
    return _elu(input, alpha, 1, 1)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """:func:`elu` with the scales that keep mean 0 and variance 1 (Klambauer et al. 2017)."""
    check_float(input, "selu")
    if inplace:
        return input.copy_(selu(input.clone()))
    return _elu(input, 1.6732632423543772, 1, 1.0507009873554805)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where it is positive, alpha (exp(x / alpha) - 1) elsewhere (Barron 2017)."""
    check_float(input, "celu")
    if alpha == 0:
        raise RuntimeError("celu: alpha must not be 0, x is divided by it")
    if inplace:
        return input.copy_(celu(input.clone(), alpha))
    return _elu(input, alpha, alpha, 1)


# --- smooth rectifiers ----------------------------------------------------------------------------


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function of x, or with ``"tanh"`` GPT-2's formula for it."""
    check_float(input, "gelu")
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu: approximate must be 'none' or 'tanh', not {approximate!r}")
    return _fused.gelu(input, approximate=approximate)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x sigmoid(x), also known as swish."""
    check_float(input, "silu")
    if inplace:
        return input.copy_(silu(input.clone()))
    return input * tensorgrad.sigmoid(input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x tanh(softplus(x)) (Misra 2019)."""
    check_float(input, "mish")
    if inplace:
        return input.copy_(mish(input.clone()))
    return input * tensorgrad.tanh(softplus(input))


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta; x itself where beta x is greater than ``threshold``."""
    check_float(input, "softplus")
    scaled = input * beta if beta != 1 else input
    linear = scaled > threshold
    curved = tensorgrad.logaddexp(tensorgrad.where(linear, 0.0, scaled), 0.0)
    return tensorgrad.where(linear, input, curved / beta if beta != 1 else curved)


def logsigmoid(input: Tensor) -> Tensor:
    """log(1 / (1 + exp(-x))), without overflow."""
    check_float(input, "logsigmoid")
    return -tensorgrad.logaddexp(-input, 0.0)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return input / (tensorgrad.abs(input) + 1)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    return input - tensorgrad.tanh(input)


# --- in straight pieces ---------------------------------------------------------------------------


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """x within [min_val, max_val]; unlike ``clamp`` with the gradient 0 at the bounds."""
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val {min_val} is greater than max_val {max_val}")
    if inplace:
        return input.copy_(hardtanh(input.clone(), min_val, max_val))
    return tensorgrad.where(
        input <= min_val, min_val, tensorgrad.where(input >= max_val, max_val, input)
    )


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """x / 6 + 1/2, within [0, 1]."""
    check_float(input, "hardsigmoid")
    if inplace:
        return input.copy_(hardsigmoid(input.clone()))
    inner = input / 6 + 0.5
    return tensorgrad.where(input <= -3, 0.0, tensorgrad.where(input >= 3, 1.0, inner))


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x hardsigmoid(x) (Howard et al. 2019)."""
    check_float(input, "hardswish")
    if inplace:
        return input.copy_(hardswish(input.clone()))
    inner = input * (input / 6 + 0.5)
    return tensorgrad.where(input <= -3, 0.0, tensorgrad.where(input >= 3, input, inner))


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x outside [-lambd, lambd], 0 inside."""
    check_float(input, "hardshrink")
    return tensorgrad.where((input >= -lambd) & (input <= lambd), 0.0, input)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by ``lambd``, and 0 where it would pass it."""
    check_float(input, "softshrink")
    if lambd < 0:
        raise RuntimeError(f"softshrink: lambd must be 0 or greater, not {lambd}")
    moved = tensorgrad.where(input > lambd, input - lambd, input * 0.0)
    return tensorgrad.where(input < -lambd, input + lambd, moved)


# --- along a dim ----------------------------------------------------------------------------------


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a sigmoid(b) of the halves a and b of ``dim`` (Dauphin et al. 2016)."""
    check_float(input, "glu")
    if not input.ndim:
        raise RuntimeError("glu: a 0-dim tensor has no halves")
    if input.shape[dim] % 2:
        raise RuntimeError(f"glu: dim {dim} of shape {tuple(input.shape)} must have an even size")
    a, b = input.chunk(2, dim)
    return a * tensorgrad.sigmoid(b)


def _dim_or_implicit(input: Tensor, dim: int | None, name: str, dtype: object) -> int:
    if dtype is None:
        check_float(input, name)
    if dim is not None:
        return dim
    warnings.warn(
        f"{name}: without a dim the choice depends on the number of dims; pass dim", stacklevel=3
    )
    return 0 if input.ndim in (0, 1, 3) else 1


def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: object = None
) -> Tensor:
    """exp(x) / sum(exp(x)) along ``dim``."""
    return tensorgrad.softmax(input, _dim_or_implicit(input, dim, "softmax", dtype), dtype)


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: object = None
) -> Tensor:
    """The logarithm of :func:`softmax`, without its cancellation."""
    return tensorgrad.log_softmax(input, _dim_or_implicit(input, dim, "log_softmax", dtype), dtype)


def softmin(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: object = None
) -> Tensor:
    """:func:`softmax` of -x."""
    return tensorgrad.softmax(-input, _dim_or_implicit(input, dim, "softmin", dtype), dtype)


# --- forms that write into their input ------------------------------------------------------------


def relu_(input: Tensor) -> Tensor:
    return relu(input, inplace=True)


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    return leaky_relu(input, negative_slope, inplace=True)


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    return elu(input, alpha, inplace=True)


def selu_(input: Tensor) -> Tensor:
    return selu(input, inplace=True)


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    return celu(input, alpha, inplace=True)


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    return hardtanh(input, min_val, max_val, inplace=True)


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    return input.masked_fill_(~(input > threshold), value)


def rrelu_(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False
) -> Tensor:
    return rrelu(input, lower, upper, training, inplace=True)
