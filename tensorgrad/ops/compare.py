"""Comparisons, logic and bits: integers and bools come out, nothing flows back."""

from __future__ import annotations

from ..core import op
from .samples import between, binary, distinct, normal, unary


@op(samples=binary(distinct, between), promotes="same")
def equal(xp, a, b):
    return xp.equal(a, b)


@op(samples=binary(distinct, between), promotes="same")
def not_equal(xp, a, b):
    return xp.not_equal(a, b)


@op(samples=binary(distinct, between), promotes="same")
def less(xp, a, b):
    return xp.less(a, b)


@op(samples=binary(distinct, between), promotes="same")
def less_equal(xp, a, b):
    return xp.less_equal(a, b)


@op(samples=binary(distinct, between), promotes="same")
def greater(xp, a, b):
    return xp.greater(a, b)


@op(samples=binary(distinct, between), promotes="same")
def greater_equal(xp, a, b):
    return xp.greater_equal(a, b)


@op(samples=unary(lambda source, *shape: source.mask(*shape)))
def logical_not(xp, x):
    return xp.logical_not(x)


@op(samples=binary(lambda source, *shape: source.mask(*shape)))
def logical_and(xp, a, b):
    return xp.logical_and(a, b)


@op(samples=binary(lambda source, *shape: source.mask(*shape)))
def logical_or(xp, a, b):
    return xp.logical_or(a, b)


def _bits(source, *shape):
    return source.integers(8, *shape)


@op(samples=binary(_bits, _bits, 3), promotes="same")
def bitwise_and(xp, a, b):
    return xp.bitwise_and(a, b)


@op(samples=binary(_bits, _bits, 3), promotes="same")
def bitwise_or(xp, a, b):
    return xp.bitwise_or(a, b)


@op(samples=binary(_bits, _bits, 3), promotes="same")
def bitwise_xor(xp, a, b):
    return xp.bitwise_xor(a, b)


@op(samples=unary(_bits))
def bitwise_invert(xp, x):
    return xp.bitwise_invert(x)


@op(samples=unary(normal))
def isfinite(xp, x):
    return xp.isfinite(x)


@op(samples=unary(normal))
def isnan(xp, x):
    return xp.isnan(x)


@op(samples=unary(normal))
def isinf(xp, x):
    return xp.isinf(x)


@op(samples=binary(_bits, _bits, 3), promotes="same")
def bitwise_left_shift(xp, a, b):
    return xp.bitwise_left_shift(a, b)


@op(samples=binary(_bits, _bits, 3), promotes="same")
def bitwise_right_shift(xp, a, b):
    return xp.bitwise_right_shift(a, b)


@op(samples=binary(_bits, _bits, 3), promotes="same")
def gcd(xp, a, b):
    """The greatest common divisor."""
    return xp.gcd(a, b)


@op(samples=binary(_bits, _bits, 3), promotes="same")
def lcm(xp, a, b):
    """The least common multiple."""
    return xp.lcm(a, b)


@op(samples=unary(normal))
def signbit(xp, x):
    """Whether the sign is a minus, also that of -0.0."""
    return xp.signbit(x)


@op(samples=binary(distinct, between), promotes="same")
def heaviside(xp, x, values):
    """0 below 0, 1 above, and at 0 what ``values`` says."""
    return xp.where(x == 0, values, x > 0)


def _seeds(source):
    yield (source.integers(2**32, 2, 3),), {"shape": (4, 5), "p": 0.3}
    yield (source.integers(9),), {"shape": (2, 3), "p": 0.5}
    yield (source.integers(9, 2),), {"shape": (0, 3), "p": 1.0}


@op(samples=_seeds)
def coin_flips(xp, seeds, /, shape, p):
    """Integers [...] → [..., *shape], each True with probability ``p``; the same for a seed."""
    return xp.coin_flips(seeds, shape, p)
