"""Writing through an index: the transposes of indexing.

The gradient of ``x[index]`` is zero outside ``index``. It stays in that form, a :class:`Scattered`,
until it is added to another gradient, or to others of its form: three slices that make up an array
are copied into one, instead of making three arrays of zeros and adding them up.
"""

from __future__ import annotations

import math

import numpy as np

from . import kernels
from .unwritten import Unwritten

ALL = slice(None)


class Scattered(Unwritten):
    """Zeros of ``shape`` with ``values`` added at ``index``."""

    __slots__ = ("index", "shape", "values")

    def __init__(self, values, index, shape):
        self.values, self.index, self.shape = values, index, shape

    @property
    def dtype(self):
        return self.values.dtype

    def add_to(self, out):
        """``out += self``, touching only what the index selects."""
        if _selects_once(self.index):
            out[self.index] += self.values
        else:
            np.add.at(out, self.index, self.values)

    def written(self, strides=()):
        return assembled([self], strides or (0,) * len(self.shape))


class ScatteredRows(Scattered):
    """Rows of a matrix, named by integers of any shape: the gradient of an embedding."""

    __slots__ = ()

    def add_to(self, out):
        flat = np.asarray(self.index).reshape(-1) % self.shape[0]  # -1 and the last row are one
        if not flat.size:
            return
        rows = self.values.reshape(-1, self.shape[-1])
        routine = kernels.routine("add_rows")
        if routine and routine(out, flat, rows):
            return
        # Sorting brings equal indices together, and one reduceat adds each run: for a batch of
        # tokens a fraction of the time of np.add.at.
        order = np.argsort(flat, kind="stable")
        ordered = flat[order]
        starts = np.concatenate(([0], np.flatnonzero(np.diff(ordered)) + 1))
        out[ordered[starts]] += np.add.reduceat(rows[order], starts, axis=0)


def assembled(parts, strides):
    """The sum of ``parts``, its axes in memory in the order of those that have these strides."""
    order = sorted(range(len(strides)), key=lambda axis: -strides[axis])
    whole = _make_up_all(parts)
    make = np.empty if whole else np.zeros
    out = make([parts[0].shape[axis] for axis in order], parts[0].dtype)
    if order != sorted(order):
        out = out.transpose(sorted(order, key=order.__getitem__))
    for part in parts:
        if whole:
            out[part.index] = part.values
        else:
            part.add_to(out)
    return out


def _make_up_all(parts) -> bool:
    """Whether they are all pieces of one axis, one after the other, as ``split`` makes them."""
    axes, places, end = set(), [], 0
    for part in parts:
        index = part.index if type(part.index) is tuple else (part.index,)
        axis, last = len(index) - 1, index[-1] if index else None
        if axis and any(type(i) is not slice or i != ALL for i in index[:-1]):
            return False
        if type(last) is int:
            first = last if last >= 0 else last + part.shape[axis]
            places.append((first, first + 1, 1))
        elif type(last) is slice:
            places.append(last.indices(part.shape[axis]))
        else:
            return False
        axes.add(axis)
    places.sort()
    for start, stop, step in places:
        if start != end or step != 1:
            return False
        end = stop
    return len(axes) == 1 and end == parts[0].shape[axis]


def _selects_once(index) -> bool:
    """Whether ``x[index]`` can name no element twice (slices, integers, boolean masks)."""
    parts = index if isinstance(index, tuple) else (index,)
    return not any(
        isinstance(p, list) or (isinstance(p, np.ndarray) and p.dtype != np.bool_) for p in parts
    )


def scatter(g, *, index, shape):
    """The transpose of ``x[index]`` for ``x`` of ``shape``; repeated indices add up."""
    return Scattered(g, index, shape)


def scatter_rows(g, indices, *, rows):
    """The transpose of ``table[indices]``: vectors [..., d] and integers [...] → [rows, d]."""
    return ScatteredRows(g, indices, (rows, g.shape[-1]))


def update_index(x, value, *, index):
    """A copy of ``x`` with ``value`` written at ``index``."""
    out = np.array(x)  # a NumPy scalar too becomes an array
    write_at(out, index, value)
    return out


def write_at(out, index, value):
    """``out[index] = value``; values that do not fit are a ValueError, whatever the index."""
    try:
        out[index] = value
    except OverflowError:
        if not -np.iinfo(out.dtype).max <= value < 0:
            raise
        out[index] = np.asarray(value).astype(out.dtype)  # wraps around, as in PyTorch
    except TypeError as error:  # NumPy's complaint of a mask and values of several dims
        raise error if "boolean" not in str(error) else ValueError(error) from None


def last_writes(index, shape):
    """Which values of ``x[index] = values`` are still there afterwards, for ``x`` of ``shape``.

    Where an index is repeated the last value stays. None: all of them, for nothing is repeated.
    """
    if _selects_once(index):
        return None
    places = np.arange(math.prod(shape)).reshape(shape)[index]
    order = np.arange(places.size)
    last = np.zeros(math.prod(shape), order.dtype)
    last[places.reshape(-1)] = order
    return last[places] == order.reshape(places.shape)


def places_along(index, axis, shape):
    """The flat positions in an array of ``shape`` that ``index`` names along ``axis``.

    Along the other axes an element of ``index`` stays where it is.
    """
    grid = np.indices(index.shape, sparse=True)
    parts = [index if d == axis else where for d, where in enumerate(grid)]
    return np.ravel_multi_index(parts, shape)


def group_extreme(values, *, groups, size, largest):
    """The largest or smallest of the values [n] that belong to each group, 0 ≤ group < size."""
    best = np.empty(size, values.dtype)
    best[groups] = values  # any of them, to start from
    (np.maximum if largest else np.minimum).at(best, groups, values)
    return best
