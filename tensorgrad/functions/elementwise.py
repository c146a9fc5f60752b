"""Elementwise functions: arithmetic, comparison, rounding and the special functions."""

from __future__ import annotations

import math
from typing import Any

from .. import ops
from ..backend import result_dtype, xp
from ..variable import Variable, wrap

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
isfinite, isnan = ops.isfinite, ops.isnan
rsqrt, reciprocal = ops.rsqrt, ops.reciprocal
exp2, expm1, log2, log10, log1p = ops.exp2, ops.expm1, ops.log2, ops.log10, ops.log1p
logaddexp = ops.logaddexp
tan, asin, acos, atan, atan2 = ops.tan, ops.asin, ops.acos, ops.atan, ops.atan2
sinh, cosh, asinh, acosh, atanh = ops.sinh, ops.cosh, ops.asinh, ops.acosh, ops.atanh
arcsin, arccos, arctan, arctan2, arcsinh, arccosh, arctanh = (
    asin, acos, atan, atan2, asinh, acosh, atanh
)  # fmt: skip
sigmoid, erfc, erfinv = ops.sigmoid, ops.erfc, ops.erfinv
fmod, remainder, isinf = ops.fmod, ops.remainder, ops.isinf
hypot, copysign, xlogy, sinc, logaddexp2 = (
    ops.hypot,
    ops.copysign,
    ops.xlogy,
    ops.sinc,
    ops.logaddexp2,
)
fmax, fmin, signbit = ops.fmax, ops.fmin, ops.signbit
absolute, negative, multiply, sgn = ops.abs, ops.negative, ops.multiply, ops.sign
not_equal, less, less_equal, greater, greater_equal = ne, lt, le, gt, ge


def add(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``input + alpha * other``."""
    return ops.add(input, other if alpha == 1 else _scaled(input, other, alpha))


def sub(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``input - alpha * other``."""
    return ops.subtract(input, other if alpha == 1 else _scaled(input, other, alpha))


def _scaled(input: Any, other: Any, alpha: float) -> Any:
    if isinstance(alpha, float) and not _has_floats(input, other):
        raise RuntimeError(f"integers are added with an integer alpha, not with {alpha}")
    if hasattr(other, "array"):
        other = other.to(result_dtype(getattr(input, "array", input), other.array))
    # A number stays a number, which does not take part in the promotion of dtypes.
    return ops.multiply(other, alpha) if isinstance(other, Variable) else other * alpha


def _has_floats(*values: Any) -> bool:
    return any(isinstance(v, float) or (hasattr(v, "dtype") and v.dtype.kind == "f")
               for v in values)  # fmt: skip


subtract = sub


def rsub(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``other - alpha * input``."""
    return sub(other, input, alpha=alpha)


def positive(input: Any) -> Any:
    """The tensor itself."""
    if input.dtype.kind == "b":
        raise RuntimeError("positive: bools are no numbers")
    return input


def float_power(input: Any, exponent: Any) -> Any:
    """The power, computed in float64."""
    tensors = [_tensor(v, "float64") for v in (input, exponent)]
    return ops.power(*(ops.astype(t, "float64") for t in tensors))


def _tensor(value: Any, dtype: Any) -> Any:
    """A tensor as it is, a number as one."""
    return value if isinstance(value, Variable) else wrap(xp.asarray(value, dtype))


def ldexp(input: Any, other: Any) -> Any:
    """``input * 2**other``."""
    return ops.multiply(input, ops.power(2.0, other))


def square(input: Any) -> Any:
    """``input * input``; bools count as integers."""
    return ops.square(ops.astype(input, "int64") if input.array.dtype.kind == "b" else input)


def deg2rad(input: Any) -> Any:
    """Degrees as radians."""
    return ops.multiply(input, math.pi / 180)


def rad2deg(input: Any) -> Any:
    """Radians as degrees."""
    return ops.multiply(input, 180 / math.pi)


def floor(input: Any) -> Any:
    """The largest integer not above each element; integers stay what they are."""
    return (ops.clone if input.dtype.kind in "iu" else ops.floor)(input)


def ceil(input: Any) -> Any:
    """The smallest integer not below each element; integers stay what they are."""
    return (ops.clone if input.dtype.kind in "iu" else ops.ceil)(input)


def trunc(input: Any) -> Any:
    """Each element without its fraction; integers stay what they are."""
    return (ops.clone if input.dtype.kind in "iu" else ops.trunc)(input)


def round(input: Any, *, decimals: int = 0) -> Any:
    """The nearest integer, or number of ``decimals`` digits; halves go to the even one."""
    return ops.clone(input) if input.dtype.kind in "iu" else ops.round(input, decimals)


def frac(input: Any) -> Any:
    """The fraction, with the sign of the element."""
    return ops.subtract(input, ops.trunc(input))


fix = trunc
floor_divide = ops.floor_divide  # exact: 1.0 // 0.1 is 9, for 0.1 is a little more than a tenth


def _truncated_quotient(input: Any, other: Any) -> Any:
    """The quotient rounded towards 0; integers are divided exactly, not through floats."""
    if _has_floats(input, other):
        return ops.trunc_divide(input, other)
    return ops.floor_divide(ops.subtract(input, ops.fmod(input, other)), other)


def true_divide(input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """The quotient; ``rounding_mode`` is None, ``"floor"`` or ``"trunc"`` (towards 0)."""
    if rounding_mode is None:
        return ops.divide(input, other)
    if rounding_mode not in ("floor", "trunc"):
        raise RuntimeError(f"div: rounding_mode is None, 'floor' or 'trunc', not {rounding_mode!r}")
    return (ops.floor_divide if rounding_mode == "floor" else _truncated_quotient)(input, other)


divide = div = true_divide


def clamp(input: Any, min: Any = None, max: Any = None) -> Any:
    """Elements below ``min`` become ``min``, those above ``max`` become ``max``.

    The bounds are numbers or tensors, one of them may be None. The gradient flows to the element
    where it is within the bounds, them included, else to the bound.
    """
    if min is None and max is None:
        raise RuntimeError("clamp: at least one of min and max must be given")
    if min is not None:
        input = ops.clamp_min(input, min)
    return input if max is None else ops.clamp_max(input, max)


clip = clamp


def clamp_min(input: Any, min: Any) -> Any:
    """:func:`clamp` from below."""
    return clamp(input, min=min)


def clamp_max(input: Any, max: Any) -> Any:
    """:func:`clamp` from above."""
    return clamp(input, max=max)


def lerp(input: Any, end: Any, weight: Any) -> Any:
    """``input + weight * (end - input)``."""
    return ops.add(input, ops.multiply(weight, ops.subtract(end, input)))


def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    """``input + value * tensor1 * tensor2``."""
    product = ops.multiply(tensor1, tensor2)
    return ops.add(input, product if value == 1 else ops.multiply(product, value))


def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Any:
    """``input + value * tensor1 / tensor2``."""
    quotient = ops.divide(tensor1, tensor2)
    return ops.add(input, quotient if value == 1 else ops.multiply(quotient, value))


def logit(input: Any, eps: float | None = None) -> Any:
    """log(x / (1 - x)); with ``eps``, x is first clamped to [eps, 1 - eps]."""
    if input.dtype.kind != "f":
        input = ops.multiply(input, 1.0)  # small integers would wrap around in 1 - x
    if eps is not None:
        input = clamp(input, eps, 1 - eps)
    return ops.log(ops.divide(input, ops.subtract(1, input)))


def nan_to_num(
    input: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Any:
    """nan and the infinities replaced; by default the latter by the largest finite numbers."""
    if input.dtype.kind != "f":
        return ops.clone(input)
    limits = xp.finfo(input.dtype)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    input = ops.where(ops.isnan(input), nan, input)
    input = ops.where(ops.equal(input, xp.inf), high, input)
    return ops.where(ops.equal(input, -xp.inf), low, input)


def logical_xor(input: Any, other: Any) -> Any:
    """Whether exactly one of the two is true."""
    return ops.not_equal(ops.not_equal(input, 0), ops.not_equal(other, 0))


def isposinf(input: Any) -> Any:
    """Where an element is +inf."""
    return ops.equal(input, xp.inf)


def isneginf(input: Any) -> Any:
    """Where an element is -inf."""
    return ops.equal(input, -xp.inf)


def isreal(input: Any) -> Any:
    """True everywhere: there are no complex numbers here."""
    return wrap(xp.ones(input.shape, dtype="bool"))


def is_nonzero(input: Any) -> bool:
    """Whether the one element is not 0."""
    return bool(input)


def _of_integers(function: Any, name: str) -> Any:
    """A function of two integer tensors or numbers, which says so when given others."""

    def checked(input: Any, other: Any) -> Any:
        values = [v.array if isinstance(v, Variable) else v for v in (input, other)]
        dtype = result_dtype(*values)
        if dtype.kind not in "iu":
            raise NotImplementedError(f"{name}: is for integers, not for {dtype}")
        return function(input, other)

    checked.__name__ = name
    checked.__doc__ = function.__doc__ or f"The bits of ``input`` {name[8:].replace('_', ' ')}ed."
    return checked


gcd, lcm = _of_integers(ops.gcd, "gcd"), _of_integers(ops.lcm, "lcm")
bitwise_left_shift = _of_integers(ops.bitwise_left_shift, "bitwise_left_shift")
bitwise_right_shift = _of_integers(ops.bitwise_right_shift, "bitwise_right_shift")


def heaviside(input: Any, values: Any) -> Any:
    """0 below 0, 1 above, and at 0 what ``values``, a tensor of the same dtype, says."""
    if input.dtype != values.dtype:
        raise RuntimeError(
            f"heaviside: the dtypes must be equal, got {input.dtype} and {values.dtype}"
        )
    return ops.heaviside(input, values)


def isclose(
    input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    """|input - other| <= atol + rtol |other|, elementwise."""
    close = xp.isclose(input.array, other.array, rtol=rtol, atol=atol, equal_nan=equal_nan)
    return wrap(xp.asarray(close))


def allclose(
    input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether :func:`isclose` holds everywhere."""
    return bool(isclose(input, other, rtol, atol, equal_nan).array.all())


def equal(input: Any, other: Any) -> bool:
    """Whether shapes and all elements are equal."""
    same = tuple(input.shape) == tuple(other.shape)
    return same and bool((input.array == other.array).all())


__all__ = [
    "abs", "absolute", "neg", "negative", "sign", "square", "sqrt", "rsqrt", "reciprocal",
    "add", "sub", "mul", "multiply", "div", "divide", "true_divide", "floor_divide", "fmod",
    "remainder", "pow", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logaddexp",
    "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh",
    "atanh", "arcsin", "arccos", "arctan", "arctan2", "arcsinh", "arccosh", "arctanh", "sigmoid",
    "logit", "relu", "erf", "erfc", "erfinv", "floor", "ceil", "trunc", "round", "frac", "clamp",
    "clip", "clamp_min", "clamp_max", "maximum", "minimum", "lerp", "addcmul", "addcdiv",
    "nan_to_num", "eq", "ne", "lt", "le", "gt", "ge", "equal", "isclose", "allclose", "isfinite",
    "isinf", "isnan", "logical_not", "logical_and", "logical_or", "logical_xor", "bitwise_and",
    "bitwise_or", "bitwise_xor", "bitwise_not", "bitwise_left_shift", "bitwise_right_shift",
    "subtract", "rsub", "positive", "float_power", "ldexp", "deg2rad", "rad2deg", "fix", "sgn",
    "signbit", "hypot", "copysign", "xlogy", "sinc", "logaddexp2", "fmax", "fmin", "heaviside",
    "gcd", "lcm", "isposinf", "isneginf", "isreal", "is_nonzero", "not_equal", "less",
    "less_equal", "greater", "greater_equal",
]  # fmt: skip
FUNCTIONS_ONLY = ("rsub",)
METHODS_ONLY = ()
_NOT_IN_PLACE = {"logaddexp", "logaddexp2", "maximum", "minimum", "fmax", "fmin", "equal",
                 "isclose", "allclose", "isfinite", "isinf", "isnan", "isposinf", "isneginf",
                 "isreal", "is_nonzero", "signbit", "positive", "rsub"}  # fmt: skip
IN_PLACE = tuple(name for name in __all__ if name not in _NOT_IN_PLACE)
