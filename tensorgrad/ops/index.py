"""Reading and writing through an index. Gathering and scattering are each other's derivative."""

from __future__ import annotations

from ..backend import xp
from ..backend.xp import last_writes
from ..core import op


def _indices(source):
    shape = (3, 4, 2)
    for index in (
        1, -1, slice(None, None, 2), (slice(0, 2), -1), (Ellipsis, 0), (None, slice(1, 3)),
        source.integers(3, 4), (source.integers(3, 2, 2), slice(None), source.integers(2, 2, 1)),
        source.mask(3, 4), (slice(None), source.integers(4, 3)),
    ):  # fmt: skip
        yield shape, index


@op(samples=lambda source: [((source.normal(*s),), {"index": i}) for s, i in _indices(source)],
    view=True)  # fmt: skip
def getitem(xp, x, /, index):
    y = x[index]
    if isinstance(y, xp.ndarray):
        return y
    parts = index if isinstance(index, tuple) else (index,)
    return x[parts + (Ellipsis,)]  # one element as a view, which x[index] alone would copy


getitem.vjp(lambda xp, g, x_shape, index: xp.scatter(g, index=index, shape=x_shape))


def _scatters(source):
    for shape, index in _indices(source):
        values = source.normal(*shape)[index]
        yield (source.normal(*values.shape),), {"index": index, "shape": shape}


@op(samples=_scatters)
def scatter(xp, g, /, index, shape):
    """Zeros of ``shape`` with ``g`` added at ``index``, repeated indices adding up."""
    return xp.scatter(g, index=index, shape=shape)


scatter.vjp(lambda xp, g, index: g[index])


def _updates(source):
    for shape, index in ((3, 4), 1), ((3, 4), (slice(None), slice(1, 3))), ((3, 4), [0, 2]):
        x = source.normal(*shape)
        yield (x, source.normal(*x[index].shape)), {"index": index}
    yield (source.normal(3, 2), source.normal(1)), {"index": slice(0, 2)}
    yield (source.normal(3, 2), source.normal(4, 2)), {"index": xp.asarray([2, 0, 2, -1])}
    yield (source.normal(3, 2), source.normal(2)), {"index": xp.asarray([[0, 1], [1, 0]])}


@op(samples=_updates)
def update_index(xp, x, value, /, index):
    """A copy of ``x`` with ``value`` written at ``index``: assignment as a pure function."""
    return xp.update_index(x, value, index=index)


def _lasting(xp, g, index, shape):
    """``g[index]``, but 0 for what was written first and then overwritten."""
    last = last_writes(index, shape)
    return g[index] if last is None else xp.where(last, g[index], 0.0)


update_index.vjp(
    lambda xp, g, index: xp.update_index(g, 0.0, index=index),
    lambda xp, g, index, x_shape: _lasting(xp, g, index, x_shape),
)


def _rows(source):
    yield (source.normal(5, 3), source.integers(5, 4)), {}
    yield (source.normal(5, 3), source.integers(2, 2, 6)), {}
    yield (source.normal(5, 3), source.integers(5, 0)), {}


@op(samples=_rows)
def take_rows(xp, table, indices):
    """``table[indices]``: [rows, d] and integers [...] → [..., d], an embedding's look-up."""
    return table[indices]


take_rows.vjp(
    lambda xp, g, indices, table_shape: xp.scatter_rows(g, indices, rows=table_shape[0]), None
)


@op(samples=lambda source: [((source.normal(2, 6, 3), source.integers(5, 2, 6)), {"rows": 5})])
def scatter_rows(xp, g, indices, /, rows):
    """Sum vectors [..., d] into the rows [rows, d] that integers [...] name."""
    return xp.scatter_rows(g, indices, rows=rows)


scatter_rows.vjp(lambda xp, g, indices: g[indices], None)


def _along(source):
    yield (source.normal(3, 4), source.integers(4, 3, 2)), {"axis": 1}
    yield (source.normal(3, 2), source.integers(3, 5, 2)), {"axis": 0}


@op(samples=_along)
def take_along_axis(xp, x, indices, /, axis):
    return xp.take_along_axis(x, indices, axis=axis)


take_along_axis.vjp(
    lambda xp, g, indices, x_shape, axis: xp.scatter(g, index=_grid(indices, axis), shape=x_shape),
    None,
)


def _grid(indices, axis):
    """Index arrays that pick along ``axis`` and stay in place along every other axis."""
    raw = getattr(indices, "array", indices)
    axis %= raw.ndim
    grid = []
    for d, n in enumerate(raw.shape):
        shape = [1] * raw.ndim
        shape[d] = n
        grid.append(raw if d == axis else xp.reshape(xp.arange(n), shape))
    return tuple(grid)


def _groups(source):
    for largest in True, False:
        params = {"groups": xp.asarray([1, 0, 1, 2, 1]), "size": 3, "largest": largest}
        yield (source.distinct(5),), params


@op(samples=_groups)
def group_extreme(xp, values, /, groups, size, largest):
    """The largest or smallest of the values [n] that belong to each group → [size]."""
    return xp.group_extreme(values, groups=groups, size=size, largest=largest)


def _shares(xp, g, y, values, groups):
    """The gradient goes to the extreme values, in equal shares where they tie."""
    hit = xp.astype(values == y[groups], g.dtype)
    ties = xp.scatter(hit, index=groups, shape=y.shape)
    return hit * (g / ties)[groups]


group_extreme.vjp(_shares)
