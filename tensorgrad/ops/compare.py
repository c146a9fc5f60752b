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
