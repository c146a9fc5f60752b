"""Who shares memory with whom: what in-place writes through views have to know."""

from __future__ import annotations

import numpy as np


def is_view_of(y, x) -> bool:
    """Whether an operation on ``x`` gave ``y`` as ``x`` or a view of it, not as a new array."""
    base = y.base
    if y is x or base is None:
        return y is x
    # Between a view with strides of its own and its array NumPy puts an object.
    return base is x or base is x.base or getattr(base, "base", None) is x


def overlap(x, written):
    """Which elements of ``x`` lie in the memory of ``written``, an array of the same dtype.

    Returns a mask of the shape of ``x``, and for its true elements, in order, their positions in
    the flattened ``written``; or None if there are none.
    """
    if not np.may_share_memory(x, written):
        return None
    places = _addresses(written).reshape(-1)
    order = np.argsort(places)
    nearest = np.searchsorted(places, _addresses(x), sorter=order)
    positions = order[np.minimum(nearest, places.size - 1)]
    mask = places[positions] == _addresses(x)
    return (mask, positions[mask]) if mask.any() else None


def _addresses(x):
    """The address of every element."""
    total = np.full(x.shape, x.__array_interface__["data"][0], np.int64)
    for axis, (n, stride) in enumerate(zip(x.shape, x.strides)):
        steps = np.arange(n, dtype=np.int64) * stride
        total += steps.reshape((n,) + (1,) * (x.ndim - axis - 1))
    return total
