"""Moving elements without changing them: each derivative is the move back."""

from __future__ import annotations

from ..core import op
from .samples import normal, unary


def _one(**params):
    return lambda source: [((source.normal(2, 3, 2),), params)]


@op(samples=unary(normal), view=True)
def alias(xp, x):
    """The same array as a new node of the graph."""
    return x[...]


alias.vjp(lambda xp, g: g)


@op(samples=unary(normal))
def clone(xp, x):
    return xp.array(x, copy=True)


clone.vjp(lambda xp, g: g)


@op(samples=unary(normal))
def contiguous(xp, x):
    """A copy whose elements lie one after the other, the last axis fastest."""
    return xp.asarray(x, order="C", copy=True)


contiguous.vjp(lambda xp, g: g)


def _reshapes(source):
    yield (source.normal(2, 3),), {"shape": (3, 2)}
    yield (source.normal(2, 3, 2),), {"shape": (2, -1)}
    yield (source.normal(2, 3).T,), {"shape": (6,)}  # impossible without a copy
    yield (source.normal(0, 3),), {"shape": (3, 0)}
    yield (source.normal(),), {"shape": (1, 1)}


@op(samples=_reshapes, view=True)
def reshape(xp, x, /, shape):
    return xp.reshape(x, shape)


reshape.vjp(lambda xp, g, x_shape: xp.reshape(g, x_shape))


@op(samples=_one(axes=(2, 0, 1)), view=True)
def permute_dims(xp, x, /, axes):
    return xp.permute_dims(x, axes)


def _inverse(axes):
    return tuple(sorted(range(len(axes)), key=lambda i: axes[i] % len(axes)))


permute_dims.vjp(lambda xp, g, axes: xp.permute_dims(g, _inverse(axes)))


@op(samples=_one(axis1=0, axis2=-1), view=True)
def swapaxes(xp, x, /, axis1, axis2):
    return xp.swapaxes(x, axis1, axis2)


swapaxes.vjp(lambda xp, g, axis1, axis2: xp.swapaxes(g, axis1, axis2))


def _broadcasts(source):
    yield (source.normal(3),), {"shape": (2, 3)}
    yield (source.normal(2, 1),), {"shape": (4, 2, 3)}
    yield (source.normal(),), {"shape": (2,)}
    yield (source.normal(1, 2),), {"shape": (0, 2)}


@op(samples=_broadcasts, view=True)
def broadcast_to(xp, x, /, shape):
    return xp.broadcast_to(x, shape)


broadcast_to.vjp(lambda xp, g: g)  # the engine undoes broadcasting


@op(samples=_one(axis=(0, 2)), view=True)
def expand_dims(xp, x, /, axis):
    return xp.expand_dims(x, axis=axis)


expand_dims.vjp(lambda xp, g, x_shape: xp.reshape(g, x_shape))


@op(samples=lambda source: [((source.normal(1, 3, 1),), {"axis": (0, 2)})], view=True)
def squeeze(xp, x, /, axis):
    return xp.squeeze(x, axis=axis)


squeeze.vjp(lambda xp, g, x_shape: xp.reshape(g, x_shape))


def _lists(source):
    yield (source.normal(2, 3), source.normal(1, 3)), {"axis": 0}
    yield (source.normal(2, 3), source.normal(2, 1), source.normal(2, 0)), {"axis": -1}
    yield (source.normal(3),), {"axis": 0}


@op(samples=_lists, promotes="same")
def concat_(xp, *arrays, axis=0):
    return xp.concat(arrays, axis=axis)


def _slice_of(xp, g, i, shapes, axis):
    axis %= len(shapes[i])
    start = 0
    for shape in shapes[:i]:
        start += shape[axis]
    return g[(slice(None),) * axis + (slice(start, start + shapes[i][axis]),)]


concat_.vjp(_slice_of)


def concat(arrays, axis=0):
    """Join arrays along an axis that they have."""
    return concat_(*arrays, axis=axis)


def _alike(source):
    yield (source.normal(2, 3), source.normal(2, 3)), {"axis": 1}
    yield (source.normal(2), source.normal(2), source.normal(2)), {"axis": -1}
    yield (source.normal(), source.normal()), {"axis": 0}
    yield (source.normal(0, 2),), {"axis": 0}


@op(samples=_alike, promotes="same")
def stack_(xp, *arrays, axis=0):
    return xp.stack(arrays, axis=axis)


def _layer_of(xp, g, i, axis):
    return g[(slice(None),) * (axis % len(g.shape)) + (i,)]


stack_.vjp(_layer_of)


def stack(arrays, axis=0):
    """Join arrays along a new axis."""
    return stack_(*arrays, axis=axis)


def _flips(source):
    for axis in (0, 1, (0, 2), ()):
        yield (source.normal(2, 3, 2),), {"axis": axis}


@op(samples=_flips)
def flip(xp, x, /, axis):
    return xp.array(xp.flip(x, axis=axis), copy=True)


flip.vjp(lambda xp, g, axis: xp.flip(g, axis=axis))


def _rolls(source):
    yield (source.normal(2, 3),), {"shift": 2}
    yield (source.normal(2, 3),), {"shift": (1, -1), "axis": (0, 1)}
    yield (source.normal(3, 0),), {"shift": (1,), "axis": (0,)}


@op(samples=_rolls)
def roll(xp, x, /, shift, axis=None):
    """Elements moved on by ``shift``, those at the end to the front; all in a row by default."""
    return xp.roll(x, shift, axis=axis)


def _back(shift):
    return tuple(-s for s in shift) if isinstance(shift, tuple) else -shift


roll.vjp(lambda xp, g, shift, axis: xp.roll(g, _back(shift), axis=axis))


def _windows(source):
    for axis, size, step in ((0, 2, 1), (1, 3, 2), (1, 2, 3), (1, 5, 1), (0, 1, 1), (1, 0, 2)):
        yield (source.normal(3, 5, 2),), {"axis": axis, "size": size, "step": step}
    yield (source.normal(5, 3).T,), {"axis": 1, "size": 3, "step": 1}


@op(samples=_windows, view=True)
def windows(xp, x, /, axis, size, step):
    """Windows over an axis (counted from the front): [.., n, ..] → [.., m, .., size]."""
    return xp.windows(x, axis=axis, size=size, step=step)


windows.vjp(
    lambda xp, g, x_shape, axis, step: xp.add_windows(g, axis=axis, step=step, n=x_shape[axis])
)


def _window_sums(source):
    yield (source.normal(3, 2, 2),), {"axis": 0, "step": 1, "n": 4}
    yield (source.normal(2, 2, 3),), {"axis": 1, "step": 2, "n": 5}
    yield (source.normal(2, 2),), {"axis": 0, "step": 3, "n": 6}


@op(samples=_window_sums)
def add_windows(xp, x, /, axis, step, n):
    """The transpose of :func:`windows`: an element that several windows show is their sum."""
    return xp.add_windows(x, axis=axis, step=step, n=n)


add_windows.vjp(
    lambda xp, g, x_shape, axis, step: xp.windows(g, axis=axis, size=x_shape[-1], step=step)
)


def _triangles(source):
    yield (source.normal(3, 3),), {"k": 0}
    yield (source.normal(2, 2, 3),), {"k": 1}
    yield (source.normal(3, 2),), {"k": -1}


@op(samples=_triangles)
def tril(xp, x, /, k=0):
    return xp.tril(x, k)


tril.vjp(lambda xp, g, k: xp.tril(g, k))


@op(samples=_triangles)
def triu(xp, x, /, k=0):
    return xp.triu(x, k)


triu.vjp(lambda xp, g, k: xp.triu(g, k))
