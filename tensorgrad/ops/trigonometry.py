"""Trigonometric and hyperbolic functions and their inverses."""

from __future__ import annotations

from math import pi

from ..core import op
from .samples import above_one, away_from_zero, binary, inside_one, normal, unary


@op(samples=unary(inside_one), promotes="float")
def tan(xp, x):
    return xp.tan(x)


tan.vjp(lambda xp, g, y: g * (1 + y * y))


@op(samples=unary(inside_one), promotes="float")
def asin(xp, x):
    return xp.asin(x)


asin.vjp(lambda xp, g, x: g / xp.sqrt(1 - x * x))


@op(samples=unary(inside_one), promotes="float")
def acos(xp, x):
    return xp.acos(x)


acos.vjp(lambda xp, g, x: -g / xp.sqrt(1 - x * x))


@op(samples=unary(normal), promotes="float")
def atan(xp, x):
    return xp.atan(x)


atan.vjp(lambda xp, g, x: g / (1 + x * x))


@op(samples=binary(away_from_zero), promotes="float")
def atan2(xp, a, b):
    return xp.atan2(a, b)


def _over_square(xp, g, a, b):
    """g / (a² + b²); 0 at the origin, where there is no derivative, as in PyTorch."""
    square = a * a + b * b
    return xp.where(square == 0, 0.0, g / xp.where(square == 0, 1.0, square))


atan2.vjp(
    lambda xp, g, a, b: b * _over_square(xp, g, a, b),
    lambda xp, g, a, b: -a * _over_square(xp, g, a, b),
)


@op(samples=unary(normal), promotes="float")
def sinh(xp, x):
    return xp.sinh(x)


sinh.vjp(lambda xp, g, x: g * xp.cosh(x))


@op(samples=unary(normal), promotes="float")
def cosh(xp, x):
    return xp.cosh(x)


cosh.vjp(lambda xp, g, x: g * xp.sinh(x))


@op(samples=unary(normal), promotes="float")
def asinh(xp, x):
    return xp.asinh(x)


asinh.vjp(lambda xp, g, x: g / xp.sqrt(x * x + 1))


@op(samples=unary(above_one), promotes="float")
def acosh(xp, x):
    return xp.acosh(x)


acosh.vjp(lambda xp, g, x: g / xp.sqrt(x * x - 1))


@op(samples=unary(inside_one), promotes="float")
def atanh(xp, x):
    return xp.atanh(x)


atanh.vjp(lambda xp, g, x: g / (1 - x * x))


@op(samples=unary(away_from_zero), promotes="float")
def sinc(xp, x):
    """sin(πx) / (πx), and 1 at 0."""
    return xp.sinc(x)


def _sinc_slope(xp, g, y, x):
    apart = xp.where(x == 0, 1.0, x)
    return g * xp.where(x == 0, 0.0, (xp.cos(pi * x) - y) / apart)


sinc.vjp(_sinc_slope)
