"""Writing through an index: the transposes of indexing.

The gradient of ``x[index]`` is zero outside ``index``. It stays in that form, a :class:`Scattered`,
until it is added to another gradient: three slices of one array then fill one buffer, instead of
making three arrays of zeros and adding them up.
"""

from __future__ import annotations

import numpy as np


class Scattered:
    """Zeros of ``shape`` with ``values`` added at ``index``; ``np.asarray`` makes it an array."""

    __slots__ = ("index", "shape", "values")
    base = None

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

    def __array__(self, dtype=None, copy=None):
        out = np.zeros(self.shape, dtype or self.dtype)
        self.add_to(out)
        return out


class ScatteredRows(Scattered):
    """Rows of a matrix, named by integers of any shape: the gradient of an embedding."""

    __slots__ = ()

    def add_to(self, out):
        # Sorting brings equal indices together, and one reduceat adds each run: for a batch of
        # tokens a fraction of the time of np.add.at.
        flat = np.asarray(self.index).reshape(-1) % self.shape[0]  # -1 and the last row are one
        if not flat.size:
            return
        order = np.argsort(flat, kind="stable")
        ordered = flat[order]
        starts = np.concatenate(([0], np.flatnonzero(np.diff(ordered)) + 1))
        vectors = self.values.reshape(-1, self.shape[-1])[order]
        out[ordered[starts]] += np.add.reduceat(vectors, starts, axis=0)


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
    out[index] = value
    return out
