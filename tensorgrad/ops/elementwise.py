"""Elementwise calculus: one line of mathematics and one derivative per op.

The engine sums the gradients of broadcast arguments; no formula here mentions shapes.
"""

from __future__ import annotations

from ..backend import promote, xp
from ..core import op
from . import samples
from .samples import (
    away_from_zero,
    between,
    binary,
    distinct,
    inside_one,
    normal,
    positive,
    unary,
)

TWO_OVER_SQRT_PI = 1.1283791670955126
LN_2 = 0.6931471805599453
LN_10 = 2.302585092994046


# --- arithmetic -----------------------------------------------------------------------------------


@op(samples=binary(normal), promotes="same")
def add(xp, a, b):
    return a + b


add.vjp(lambda xp, g: g, lambda xp, g: g)


@op(samples=binary(normal), promotes="same")
def subtract(xp, a, b):
    return a - b


subtract.vjp(lambda xp, g: g, lambda xp, g: -g)


@op(samples=binary(normal), promotes="same")
def multiply(xp, a, b):
    return a * b


multiply.vjp(lambda xp, g, b: g * b, lambda xp, g, a: g * a)


@op(samples=binary(normal, away_from_zero), promotes="float")
def divide(xp, a, b):
    return a / b


divide.vjp(lambda xp, g, b: g / b, lambda xp, g, a, b: -g * (a / b) / b)


@op(samples=unary(normal))
def negative(xp, x):
    return -x


negative.vjp(lambda xp, g: -g)


def _powers(source):
    yield from binary(positive, normal)(source)
    for exponent in (2, 3, 0.5, -1, 0, 1):
        yield (positive(source, 3), exponent), {}
    with_zero = source.normal(3)
    with_zero[1] = 0.0  # 0**2 and 0**3 have the derivative 0, whatever log and 1/x say there
    yield (with_zero, 2), {}
    yield (with_zero, 3), {}


@op(samples=_powers, promotes="same")
def power(xp, a, b):
    if getattr(b, "ndim", 0) and b.dtype.kind == "i":  # NumPy refuses negative exponents
        vanishes = (b < 0) & (xp.abs(a) != 1)
        return xp.where(vanishes, 0, a ** xp.abs(b))
    return a**b


def _promoted(values):
    """Their common dtype, in which -1 may be 255: what has no integer power is refused before."""
    if isinstance(values[1], int) and values[1] < 0 and values[0].dtype.kind in "iub":
        raise RuntimeError(f"power: integers have no power {values[1]}; call .float() first")
    return promote(values)


power.op.promoted = _promoted


def _power_base(xp, g, a, b):
    if isinstance(b, (int, float)):
        if b == 2:  # by far the most frequent, and a**1 is a slow way to write a
            return g * (2 * a)
        return g * 0.0 if b == 0 else g * b * a ** (b - 1)
    return g * xp.where(b == 0, 0.0, b * a ** xp.where(b == 0, 1.0, b - 1))


def _array(xp, value, g):
    """A Python number in the dtype of ``g``, for as a tensor of its own it would be a float32."""
    return xp.zeros_like(g) + value if isinstance(value, (int, float)) else value


def _power_exponent(xp, g, y, a, b):
    a = _array(xp, a, g)
    at_0 = xp.where(b >= 0, 0.0, -xp.inf)
    return g * xp.where(a == 0, at_0, y * xp.log(xp.where(a == 0, 1.0, a)))


power.vjp(_power_base, _power_exponent)


@op(samples=unary(away_from_zero))
def abs(xp, x):
    return xp.abs(x)


abs.vjp(lambda xp, g, x: g * xp.sign(x))


@op(samples=unary(away_from_zero))
def sign(xp, x):
    return xp.sign(x)


sign.vjp(lambda xp, g: xp.zeros_like(g))


@op(samples=binary(distinct, between), promotes="same")
def maximum(xp, a, b):
    return xp.maximum(a, b)


# At a tie each argument gets half; where one is nan each gets all, as in PyTorch.
maximum.vjp(
    lambda xp, g, a, b: xp.where(a == b, 0.5 * g, xp.where(a < b, 0.0, g)),
    lambda xp, g, a, b: xp.where(a == b, 0.5 * g, xp.where(b < a, 0.0, g)),
)


@op(samples=binary(distinct, between), promotes="same")
def minimum(xp, a, b):
    return xp.minimum(a, b)


minimum.vjp(
    lambda xp, g, a, b: xp.where(a == b, 0.5 * g, xp.where(a > b, 0.0, g)),
    lambda xp, g, a, b: xp.where(a == b, 0.5 * g, xp.where(b > a, 0.0, g)),
)


@op(samples=binary(distinct, between), promotes="same")
def clamp_min(xp, x, low):
    """The larger one; unlike that of ``maximum`` the gradient of a tie goes to ``x`` alone."""
    return xp.maximum(x, low)


clamp_min.vjp(
    lambda xp, g, x, low: xp.where(x >= low, g, 0.0),
    lambda xp, g, x, low: xp.where(x < low, g, 0.0),
)


@op(samples=binary(distinct, between), promotes="same")
def clamp_max(xp, x, high):
    """The smaller one; unlike that of ``minimum`` the gradient of a tie goes to ``x`` alone."""
    return xp.minimum(x, high)


clamp_max.vjp(
    lambda xp, g, x, high: xp.where(x <= high, g, 0.0),
    lambda xp, g, x, high: xp.where(x > high, g, 0.0),
)


def _with_nan(source, *shape):
    return xp.where(source.mask(*shape), source.distinct(*shape), xp.nan)


@op(samples=binary(_with_nan, between), promotes="same")
def fmax(xp, a, b):
    """The larger one, or the one that is not nan."""
    return xp.fmax(a, b)


fmax.vjp(
    lambda xp, g, a, b: xp.where(xp.logical_or(a >= b, xp.isnan(b)), g, 0.0),
    lambda xp, g, a, b: xp.where(xp.logical_or(a >= b, xp.isnan(b)), 0.0, g),
)


@op(samples=binary(_with_nan, between), promotes="same")
def fmin(xp, a, b):
    """The smaller one, or the one that is not nan."""
    return xp.fmin(a, b)


fmin.vjp(
    lambda xp, g, a, b: xp.where(xp.logical_or(a <= b, xp.isnan(b)), g, 0.0),
    lambda xp, g, a, b: xp.where(xp.logical_or(a <= b, xp.isnan(b)), 0.0, g),
)


@op(samples=binary(away_from_zero), promotes="float")
def copysign(xp, a, b):
    """``a`` with the sign of ``b``."""
    return xp.copysign(a, b)


copysign.vjp(
    lambda xp, g, y, a: g * xp.where(a == 0, 0.0, y / xp.where(a == 0, 1.0, a)),
    lambda xp, g: g * 0.0,
)


@op(samples=binary(away_from_zero), promotes="float")
def hypot(xp, a, b):
    """The hypotenuse: sqrt(a² + b²) without overflow."""
    return xp.hypot(a, b)


hypot.vjp(lambda xp, g, y, a: g * (a / y), lambda xp, g, y, b: g * (b / y))


# --- exponentials and friends ---------------------------------------------------------------------


@op(samples=unary(positive), promotes="float")
def sqrt(xp, x):
    return xp.sqrt(x)


sqrt.vjp(lambda xp, g, y: 0.5 * g / y)


@op(samples=unary(normal), promotes="float")
def exp(xp, x):
    return xp.exp(x)


exp.vjp(lambda xp, g, y: g * y)


@op(samples=unary(positive), promotes="float")
def log(xp, x):
    return xp.log(x)


log.vjp(lambda xp, g, x: g / x)


@op(samples=unary(normal), promotes="float")
def sin(xp, x):
    return xp.sin(x)


sin.vjp(lambda xp, g, x: g * xp.cos(x))


@op(samples=unary(normal), promotes="float")
def cos(xp, x):
    return xp.cos(x)


cos.vjp(lambda xp, g, x: -g * xp.sin(x))


@op(samples=unary(normal), promotes="float")
def tanh(xp, x):
    return xp.tanh(x)


tanh.vjp(lambda xp, g, y: g * (1 - y * y))


@op(samples=unary(normal), promotes="float")
def erf(xp, x):
    return xp.erf(x)


erf.vjp(lambda xp, g, x: g * TWO_OVER_SQRT_PI * xp.exp(-x * x))


@op(samples=unary(away_from_zero))
def relu(xp, x):
    return xp.maximum(x, 0)


relu.vjp(lambda xp, g, y: xp.where(y <= 0, 0.0, g))


@op(samples=unary(away_from_zero), promotes="float")
def reciprocal(xp, x):
    return 1.0 / x


reciprocal.vjp(lambda xp, g, y: -g * y * y)


@op(samples=unary(normal))
def square(xp, x):
    return x * x


square.vjp(lambda xp, g, x: g * (2 * x))


@op(samples=unary(positive), promotes="float")
def rsqrt(xp, x):
    return 1.0 / xp.sqrt(x)


rsqrt.vjp(lambda xp, g, y: -0.5 * g * y * y * y)


# --- exponentials and logarithms to other bases, or near 1 ----------------------------------------


@op(samples=unary(normal), promotes="float")
def exp2(xp, x):
    return xp.exp2(x)


exp2.vjp(lambda xp, g, y: g * y * LN_2)


@op(samples=unary(normal), promotes="float")
def expm1(xp, x):
    return xp.expm1(x)


expm1.vjp(lambda xp, g, y: g * (y + 1))


@op(samples=unary(positive), promotes="float")
def log2(xp, x):
    return xp.log2(x)


log2.vjp(lambda xp, g, x: g / (x * LN_2))


@op(samples=unary(positive), promotes="float")
def log10(xp, x):
    return xp.log10(x)


log10.vjp(lambda xp, g, x: g / (x * LN_10))


@op(samples=unary(positive), promotes="float")
def log1p(xp, x):
    return xp.log1p(x)


log1p.vjp(lambda xp, g, x: g / (1 + x))


@op(samples=binary(normal), promotes="float")
def logaddexp(xp, a, b):
    return xp.logaddexp(a, b)


logaddexp.vjp(
    lambda xp, g, a, b: g / (1 + xp.exp(b - a)), lambda xp, g, a, b: g / (1 + xp.exp(a - b))
)


@op(samples=binary(normal), promotes="float")
def logaddexp2(xp, a, b):
    return xp.logaddexp2(a, b)


logaddexp2.vjp(
    lambda xp, g, a, b: g / (1 + xp.exp2(b - a)), lambda xp, g, a, b: g / (1 + xp.exp2(a - b))
)


def _xlogy_samples(source):
    yield from binary(normal, positive)(source)
    with_zero = source.normal(3)
    with_zero[1] = 0.0
    yield (with_zero, source.uniform(0.5, 2.5, 3)), {}


@op(samples=_xlogy_samples, promotes="float")
def xlogy(xp, a, b):
    """``a * log(b)``; 0 where ``a`` is 0, unless ``b`` is nan."""
    b = xp.asarray(b, dtype=xp.result_type(a, b))
    zero = xp.logical_and(a == 0, xp.logical_not(xp.isnan(b)))
    return xp.where(zero, 0.0, a * xp.log(xp.where(zero, 1.0, b)))


def _xlogy_factor(xp, g, a, b):
    b = _array(xp, b, g)
    return g * xp.log(xp.where(xp.logical_and(a == 0, b <= 0), 1.0, b))


xlogy.vjp(_xlogy_factor, lambda xp, g, a, b: g * a / b)


# --- probability ----------------------------------------------------------------------------------


@op(samples=unary(normal), promotes="float")
def sigmoid(xp, x):
    z = xp.exp(-xp.abs(x))  # never overflows
    return xp.where(x >= 0, 1.0, z) / (1 + z)


sigmoid.vjp(lambda xp, g, y: g * y * (1 - y))


@op(samples=unary(normal), promotes="float")
def softplus(xp, x):
    return xp.logaddexp(x, 0.0)


softplus.vjp(lambda xp, g, y, x: g * xp.exp(x - y))  # the sigmoid


@op(samples=unary(normal), promotes="float")
def erfc(xp, x):
    return xp.erfc(x)


erfc.vjp(lambda xp, g, x: -g * TWO_OVER_SQRT_PI * xp.exp(-x * x))


@op(samples=unary(inside_one), promotes="float")
def erfinv(xp, x):
    return xp.erfinv(x)


erfinv.vjp(lambda xp, g, y: g * xp.exp(y * y) / TWO_OVER_SQRT_PI)


# --- rounding: flat almost everywhere -------------------------------------------------------------


@op(samples=unary(distinct))
def floor(xp, x):
    return xp.floor(x)


@op(samples=unary(distinct))
def ceil(xp, x):
    return xp.ceil(x)


@op(samples=unary(distinct))
def trunc(xp, x):
    return xp.trunc(x)


@op(samples=unary(distinct))
def round(xp, x, /, decimals=0):
    return xp.round(x, decimals)


for flat in (floor, ceil, trunc, round):
    flat.vjp(lambda xp, g: xp.zeros_like(g))


def _refuse_zero(xp, a, b):
    """Integers have no infinity or nan to say what a division by zero gives; bools no division."""
    kind = xp.result_type(a, b).kind
    if kind == "b":
        raise RuntimeError("bools are no numbers to divide; .int() casts")
    if kind != "f" and not xp.all(b):
        raise RuntimeError("ZeroDivisionError: an integer was divided by zero")


@op(samples=binary(between, away_from_zero), promotes="same")
def floor_divide(xp, a, b):
    _refuse_zero(xp, a, b)
    return xp.floor_divide(a, b)


floor_divide.vjp(lambda xp, g: xp.zeros_like(g), lambda xp, g: xp.zeros_like(g))


@op(samples=binary(between, away_from_zero), promotes="float")
def trunc_divide(xp, a, b):
    """The quotient rounded towards 0."""
    return xp.trunc(a / b)


trunc_divide.vjp(lambda xp, g: xp.zeros_like(g), lambda xp, g: xp.zeros_like(g))


@op(samples=binary(between, away_from_zero), promotes="same")
def fmod(xp, a, b):
    """The remainder with the sign of ``a``."""
    _refuse_zero(xp, a, b)
    return xp.fmod(a, b)


fmod.vjp(lambda xp, g: g, lambda xp, g, a, b: -g * xp.trunc(a / b))


@op(samples=binary(between, away_from_zero), promotes="same")
def remainder(xp, a, b):
    """The remainder with the sign of ``b``."""
    _refuse_zero(xp, a, b)
    return xp.remainder(a, b)


remainder.vjp(lambda xp, g: g, lambda xp, g, a, b: -g * xp.floor(a / b))


# --- choosing -------------------------------------------------------------------------------------


def _choices(source):
    for a, b in samples.BROADCASTS:
        yield (source.mask(*a), source.normal(*b), source.normal(*a)), {}
    yield (source.mask(3), 0.0, source.normal(3)), {}


@op(samples=_choices, promotes="tail")
def where(xp, condition, a, b):
    return xp.where(condition, a, b)


where.vjp(
    None,
    lambda xp, g, condition: xp.where(condition, g, 0.0),
    lambda xp, g, condition: xp.where(condition, 0.0, g),
)


def _masks(source):
    for a, b in samples.BROADCASTS:
        yield (source.normal(*a), source.mask(*b)), {"value": 0.5}


@op(samples=_masks)
def masked_fill(xp, x, mask, /, value):
    return xp.where(mask, value if x.dtype.kind == "f" else x.dtype.type(value), x)


masked_fill.vjp(lambda xp, g, mask: xp.where(mask, 0.0, g), None)


@op(samples=lambda source: [((source.normal(2, 3),), {"dtype": "float64"})])
def astype(xp, x, /, dtype):
    return xp.astype(x, dtype)


astype.vjp(lambda xp, g: g)  # the engine casts a gradient back to its input's dtype
