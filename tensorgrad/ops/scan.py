"""Scans along one axis: sums, products and maxima of what has been seen so far.

``axis`` is counted from the front. With ``reverse`` a scan starts at the end: the derivative of a
scan is a scan in the other direction.
"""

from __future__ import annotations

from ..core import op
from .samples import normal


def _scans(kind):
    def samples(source):
        for shape, axis in (((4,), 0), ((2, 3), 1), ((3, 1, 2), 0), ((2, 0), 1), ((0, 2), 1)):
            for reverse in (False, True):
                yield (kind(source, *shape),), {"axis": axis, "reverse": reverse}

    return samples


@op(samples=_scans(normal))
def cumsum(xp, x, /, axis, reverse=False):
    return xp.cumsum(x, axis=axis, reverse=reverse)


cumsum.vjp(lambda xp, g, axis, reverse: xp.cumsum(g, axis=axis, reverse=not reverse))


def _part(x, axis, start, stop):
    return x[(slice(None),) * axis + (slice(start, stop),)]


def _joined(xp, first, second, axis, reverse):
    """Two parts in the order of the scan."""
    return xp.concat([second, first] if reverse else [first, second], axis=axis)


def _halves(x, step, axis, reverse):
    """The first ``step`` positions in the order of the scan, and the others."""
    n = x.shape[axis]
    if reverse:
        return _part(x, axis, n - step, n), _part(x, axis, 0, n - step)
    return _part(x, axis, 0, step), _part(x, axis, step, n)


def _before(xp, x, axis, reverse, first=None):
    """At each position what the previous one has; the first has ``first``, by default its own."""
    if not x.shape[axis]:
        return x
    own, _ = _halves(x, 1, axis, reverse)
    _, rest = _halves(x, 1, axis, not reverse)
    return _joined(xp, own if first is None else first(own), rest, axis, reverse)


def _recurrence(xp, a, b, axis, reverse):
    """``s[i] = b[i] + a[i] s[i-1]`` in log2(n) steps, after each of which ``b`` and ``a`` sum up
    twice as many positions."""
    n, step = b.shape[axis], 1
    while step < n:
        first_a, later_a = _halves(a, step, axis, reverse)
        first_b, later_b = _halves(b, step, axis, reverse)
        _, before_a = _halves(a, step, axis, not reverse)
        _, before_b = _halves(b, step, axis, not reverse)
        b = _joined(xp, first_b, later_b + later_a * before_b, axis, reverse)
        a = _joined(xp, first_a, later_a * before_a, axis, reverse)
        step *= 2
    return b


def exclusive_product(xp, x, axis, reverse=False):
    """The product of all elements before each one."""
    products = xp.cumprod(x, axis=axis, reverse=reverse)
    return _before(xp, products, axis, reverse, lambda own: xp.ones(own.shape, own.dtype))


def _with_zeros(kind):
    def samples(source):
        yield from _scans(kind)(source)
        x = kind(source, 3, 5)
        x[0, 2] = x[1, 0] = x[1, 3] = x[2, 1] = x[2, 2] = x[2, 4] = 0.0
        for reverse in (False, True):
            yield (x,), {"axis": 1, "reverse": reverse}

    return samples


@op(samples=_with_zeros(normal))
def cumprod(xp, x, /, axis, reverse=False):
    return xp.cumprod(x, axis=axis, reverse=reverse)


def _cumprod_vjp(xp, g, y, x, axis, reverse):
    """The sum over j >= i of g[j] y[j] / x[i], where the division is one by a factor of y[j]."""
    if not xp.any(x == 0):
        return xp.cumsum(g * y, axis=axis, reverse=not reverse) / x
    # s[i] = g[i] + x[i+1] s[i+1] is what comes after x[i], without what comes before.
    after = _recurrence(xp, _before(xp, x, axis, not reverse), g, axis, not reverse)
    return exclusive_product(xp, x, axis, reverse) * after


cumprod.vjp(_cumprod_vjp)


def _wide(source, *shape):
    return source.normal(*shape) * 5


@op(samples=_scans(_wide), promotes="float")
def logcumsumexp(xp, x, /, axis, reverse=False):
    return xp.logcumsumexp(x, axis=axis, reverse=reverse)


def _logcumsumexp_vjp(xp, g, y, x, axis, reverse):
    """The sum over j >= i of g[j] exp(x[i] - y[j]), which as exp(x[i]) times a sum overflows."""
    later = _before(xp, y, axis, not reverse)
    equal = xp.logical_and(xp.isinf(y), y == later)
    decay = xp.exp(xp.where(equal, 0.0, y - later))  # at most 1
    return _recurrence(xp, decay, g, axis, not reverse) * xp.exp(x - y)


logcumsumexp.vjp(_logcumsumexp_vjp)


@op(samples=lambda source: [((source.normal(2, 3),), {"axis": 1, "largest": False})])
def cumargmax(xp, x, /, axis, largest=True):
    """The indices of the largest (smallest) elements so far, the last of equal ones."""
    return xp.cumargmax(x, axis=axis, largest=largest)
