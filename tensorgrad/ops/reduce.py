"""Reductions and what is built on them: sums, means, extremes, softmax.

``axis`` is None (all axes), an int or a tuple of ints, as in NumPy.
"""

from __future__ import annotations

from ..core import accelerated, op
from .samples import distinct, normal, reduction, unary
from .scan import exclusive_product


def _expand(xp, g, shape, axis, keepdims):
    """Repeat the gradient of a reduction along the axes that it reduced."""
    if axis is not None and not keepdims:
        axes = axis if isinstance(axis, tuple) else (axis,)
        g = xp.expand_dims(g, axis=tuple(a % len(shape) for a in axes))
    return xp.broadcast_to(g, shape)


def _count(shape, axis):
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    n = 1
    for a in axes:
        n *= shape[a]
    return n


@op(samples=reduction(normal))
def sum(xp, x, /, axis=None, keepdims=False):
    return xp.sum(x, axis=axis, keepdims=keepdims)


sum.vjp(lambda xp, g, x_shape, axis, keepdims: _expand(xp, g, x_shape, axis, keepdims))


@op(samples=reduction(normal), promotes="float")
def mean(xp, x, /, axis=None, keepdims=False):
    return xp.mean(x, axis=axis, keepdims=keepdims)


mean.vjp(
    lambda xp, g, x_shape, axis, keepdims: (
        _expand(xp, g, x_shape, axis, keepdims) / _count(x_shape, axis)
    )
)


def _deviations(source):
    for args, params in reduction(normal)(source):
        if _count(args[0].shape, params["axis"]) > 1:
            yield args, {**params, "correction": 1}
            yield args, {**params, "correction": 0}


def _centred(xp, x, axis):
    return x - xp.mean(x, axis=axis, keepdims=True) if _count(x.shape, axis) else x


def _freedom(shape, axis, correction):
    n = _count(shape, axis) - correction
    return n if n > 0 else 0.0


@op(samples=_deviations)
def var(xp, x, /, axis=None, keepdims=False, correction=1):
    centred = _centred(xp, x, axis)
    # Not centred**2: a variance of float32 must not be squared in float64 by a weak exponent.
    total = xp.sum(centred * centred, axis=axis, keepdims=keepdims)
    return total / _freedom(x.shape, axis, correction)


def _var_vjp(xp, g, x, axis, keepdims, correction):
    n = _freedom(x.shape, axis, correction)
    factor = 2.0 / n if n else xp.inf
    return _expand(xp, g, x.shape, axis, keepdims) * _centred(xp, x, axis) * factor


var.vjp(_var_vjp)


def _factors(source):
    """With no, one, two and more zeros among the factors."""
    x = source.normal(4, 5)
    x[1, 2] = x[2, 0] = x[2, 3] = x[3, 1] = x[3, 2] = x[3, 4] = 0.0
    for axis in (0, -1, None):
        yield (x,), {"axis": axis}
    for row in x:
        yield (row,), {"axis": None, "keepdims": True}
    yield (source.normal(),), {"axis": None}
    yield (source.normal(0, 2),), {"axis": 0, "keepdims": True}


@op(samples=_factors)
def prod(xp, x, /, axis=None, keepdims=False):
    """The product over one axis or all."""
    return xp.prod(x, axis=axis, keepdims=keepdims)


def _prod_vjp(xp, g, x, axis, keepdims):
    """Each factor's derivative is the product of the others: of those before and those after it.
    Dividing the whole product by the factor would fail at 0."""
    rows, n = (xp.reshape(x, (-1,)), 0) if axis is None else (x, axis % len(x.shape))
    others = exclusive_product(xp, rows, n) * exclusive_product(xp, rows, n, reverse=True)
    return _expand(xp, g, x.shape, axis, keepdims) * xp.reshape(others, x.shape)


prod.vjp(_prod_vjp)


def _shares(xp, hit, g, axis):
    """``g`` in equal shares for the elements hit."""
    hit = xp.astype(hit, g.dtype)
    return hit / xp.sum(hit, axis=axis, keepdims=True) * g


def _extreme(xp, g, y, x, axis, keepdims):
    """The gradient goes to the extreme elements, in equal shares where they tie."""
    hit = x == _expand(xp, y, x.shape, axis, keepdims)
    if axis is None:  # PyTorch's max() finds nan, its amax() does not
        hit = xp.logical_or(hit, xp.isnan(x))
    return _shares(xp, hit, _expand(xp, g, x.shape, axis, keepdims), axis)


@op(samples=reduction(distinct))
def max(xp, x, /, axis=None, keepdims=False):
    return xp.max(x, axis=axis, keepdims=keepdims)


max.vjp(_extreme)


@op(samples=reduction(distinct))
def min(xp, x, /, axis=None, keepdims=False):
    return xp.min(x, axis=axis, keepdims=keepdims)


min.vjp(_extreme)


def _medians(source):
    for ignore_nan in (False, True):
        yield (source.distinct(5),), {"ignore_nan": ignore_nan}
        yield (source.distinct(2, 3),), {"ignore_nan": ignore_nan}
    yield (source.distinct(),), {}


@op(samples=_medians)
def median(xp, x, /, ignore_nan=False):
    """The middle one of all elements in order, of two the lower; nan if there is one or none."""
    ordered = xp.sort(xp.reshape(x, (-1,)))  # nan comes last
    n, nans = len(ordered), int(xp.sum(xp.isnan(ordered)))
    if not n:
        return xp.asarray(xp.nan if x.dtype.kind == "f" else -(2**63)).astype(x.dtype)
    if nans and (nans == n or not ignore_nan):
        return ordered[-1]
    return ordered[(n - nans - 1) // 2]


def _median_vjp(xp, g, y, x):
    same = xp.logical_or(x == y, xp.logical_and(xp.isnan(x), xp.isnan(y)))
    return _shares(xp, same, g, None)


median.vjp(_median_vjp)


def _one_axis(kind):
    def samples(source):
        for shape, axis in (((3,), 0), ((2, 3), -1), ((2, 3, 2), 1), ((1, 3), 0), ((0, 2), -1)):
            yield (kind(source, *shape),), {"axis": axis}

    return samples


@op(samples=_one_axis(distinct))
def argmax(xp, x, /, axis=None, keepdims=False):
    return xp.argmax(x, axis=axis, keepdims=keepdims)


@op(samples=lambda source: [((source.distinct(2, 3),), {"axis": 1})])
def argmin(xp, x, /, axis=None, keepdims=False):
    return xp.argmin(x, axis=axis, keepdims=keepdims)


@op(samples=_one_axis(distinct))
def argsort(xp, x, /, axis=-1, descending=False):
    return xp.argsort(x, axis=axis, descending=descending)


@op(samples=unary(lambda source, *shape: source.mask(*shape)))
def any(xp, x, /, axis=None, keepdims=False):
    return xp.any(x, axis=axis, keepdims=keepdims)


@op(samples=unary(lambda source, *shape: source.mask(*shape)))
def all(xp, x, /, axis=None, keepdims=False):
    return xp.all(x, axis=axis, keepdims=keepdims)


@op(samples=reduction(normal), promotes="float")
def logsumexp(xp, x, /, axis=None, keepdims=False):
    peak = xp.max(x, axis=axis, keepdims=True)
    peak = xp.where(xp.isfinite(peak), peak, 0.0)  # rows of -inf have the value -inf, not nan
    total = xp.log(xp.sum(xp.exp(x - peak), axis=axis, keepdims=True)) + peak
    return total if keepdims else xp.squeeze(total, axis=_axes(x, axis))


def _axes(x, axis):
    return tuple(range(len(x.shape))) if axis is None else axis


logsumexp.vjp(
    lambda xp, g, y, x, axis, keepdims: (
        _expand(xp, g, x.shape, axis, keepdims)
        * xp.exp(x - _expand(xp, y, x.shape, axis, keepdims))
    )
)


@op(samples=_one_axis(normal), promotes="float")
@accelerated("softmax")
def softmax(xp, x, /, axis=-1):
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


softmax.vjp(
    accelerated("softmax_vjp")(
        lambda xp, g, y, axis: y * (g - xp.sum(g * y, axis=axis, keepdims=True))
    )
)


@op(samples=_one_axis(normal), promotes="float")
@accelerated("log_softmax")
def log_softmax(xp, x, /, axis=-1):
    shifted = x - xp.max(x, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


log_softmax.vjp(
    accelerated("log_softmax_vjp")(
        lambda xp, g, y, axis: g - xp.exp(y) * xp.sum(g, axis=axis, keepdims=True)
    )
)
