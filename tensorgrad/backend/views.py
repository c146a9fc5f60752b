"""Views that no slice can give: windows over an axis; and the sums that are their transposes."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided


def windows(x, *, axis, size, step):
    """Every ``step`` positions of ``axis`` one window of ``size``: [.., n, ..] → [.., m, .., size].

    A view, which cannot be written where windows overlap: an element would be there twice.
    """
    n, stride = x.shape[axis], x.strides[axis]
    shape = (*x.shape[:axis], (n - size) // step + 1, *x.shape[axis + 1 :], size)
    strides = (*x.strides[:axis], stride * step, *x.strides[axis + 1 :], stride)
    return as_strided(x, shape, strides, writeable=step >= size or shape[axis] == 1)


def add_windows(x, *, axis, step, n):
    """The transpose of :func:`windows`: [.., m, .., size] → [.., n, ..], overlaps add up."""
    out = np.zeros((*x.shape[:axis], n, *x.shape[axis + 1 : -1]), x.dtype)
    along, x = np.moveaxis(out, axis, -1), np.moveaxis(x, axis, -2)
    count, size = x.shape[-2:]
    if size <= count:  # the fewer and longer additions of the two
        for k in range(size):
            along[..., k : k + step * (count - 1) + 1 : step] += x[..., k]
    else:
        for k in range(count):
            along[..., k * step : k * step + size] += x[..., k, :]
    return out
