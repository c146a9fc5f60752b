"""Elementwise functions: arithmetic, comparison, rounding and the special functions."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..backend import xp
from ..variable import wrap

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
square, rsqrt, reciprocal = ops.square, ops.rsqrt, ops.reciprocal
exp2, expm1, log2, log10, log1p = ops.exp2, ops.expm1, ops.log2, ops.log10, ops.log1p
logaddexp = ops.logaddexp
tan, asin, acos, atan, atan2 = ops.tan, ops.asin, ops.acos, ops.atan, ops.atan2
sinh, cosh, asinh, acosh, atanh = ops.sinh, ops.cosh, ops.asinh, ops.acosh, ops.atanh
arcsin, arccos, arctan, arctan2, arcsinh, arccosh, arctanh = (
    asin, acos, atan, atan2, asinh, acosh, atanh
)  # fmt: skip
sigmoid, erfc, erfinv = ops.sigmoid, ops.erfc, ops.erfinv
fmod, remainder, isinf = ops.fmod, ops.remainder, ops.isinf
absolute, negative, multiply = ops.abs, ops.negative, ops.multiply


def add(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``input + alpha * other``."""
    return ops.add(input, other if alpha == 1 else ops.multiply(other, alpha))


def sub(input: Any, other: Any, *, alpha: float = 1) -> Any:
    """``input - alpha * other``."""
    return ops.subtract(input, other if alpha == 1 else ops.multiply(other, alpha))


def floor(input: Any) -> Any:
    """The largest integer not above each element; integers stay what they are."""
    return input if input.dtype.kind in "iu" else ops.floor(input)


def ceil(input: Any) -> Any:
    """The smallest integer not below each element; integers stay what they are."""
    return input if input.dtype.kind in "iu" else ops.ceil(input)


def trunc(input: Any) -> Any:
    """Each element without its fraction; integers stay what they are."""
    return input if input.dtype.kind in "iu" else ops.trunc(input)


def round(input: Any, *, decimals: int = 0) -> Any:
    """The nearest integer, or number of ``decimals`` digits; halves go to the even one."""
    return input if input.dtype.kind in "iu" else ops.round(input, decimals)


def frac(input: Any) -> Any:
    """The fraction, with the sign of the element."""
    return ops.subtract(input, ops.trunc(input))


def _quotient(input: Any, other: Any, to_integer: Any) -> Any:
    """The quotient made whole; integers are divided exactly, not through floats."""
    dtypes = [t.dtype.kind for t in (input, other) if hasattr(t, "dtype")]
    if "f" in dtypes or isinstance(input, float) or isinstance(other, float):
        return to_integer(ops.divide(input, other))
    rest = ops.remainder if to_integer is ops.floor else ops.fmod
    whole = ops.subtract(input, rest(input, other))
    return ops.floor_divide(whole, other)


def floor_divide(input: Any, other: Any) -> Any:
    """The quotient rounded down."""
    return _quotient(input, other, ops.floor)


def true_divide(input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    """The quotient; ``rounding_mode`` is None, ``"floor"`` or ``"trunc"`` (towards 0)."""
    if rounding_mode is None:
        return ops.divide(input, other)
    if rounding_mode not in ("floor", "trunc"):
        raise RuntimeError(f"div: rounding_mode is None, 'floor' or 'trunc', not {rounding_mode!r}")
    return _quotient(input, other, ops.floor if rounding_mode == "floor" else ops.trunc)


divide = div = true_divide


def clamp(input: Any, min: Any = None, max: Any = None) -> Any:
    """Elements below ``min`` become ``min``, those above ``max`` become ``max``.

    The bounds are numbers or tensors, one of them may be None. The gradient flows to the element
    where it is within the bounds, them included, else to the bound.
    """
    if min is None and max is None:
        raise RuntimeError("clamp: at least one of min and max must be given")
    if min is not None:
        input = ops.where(ops.less(input, min), min, input)
    if max is not None:
        input = ops.where(ops.greater(input, max), max, input)
    return input


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
    return ops.not_equal(input.to("bool"), other.to("bool"))


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
    "bitwise_or", "bitwise_xor", "bitwise_not",
]  # fmt: skip
FUNCTIONS_ONLY = METHODS_ONLY = ()
_NOT_IN_PLACE = {"logaddexp", "maximum", "minimum", "equal", "isclose", "allclose", "isfinite",
                 "isinf", "isnan"}  # fmt: skip
IN_PLACE = tuple(name for name in __all__ if name not in _NOT_IN_PLACE)
