"""Scans: what has been seen up to each position along one axis, or with ``reverse`` from it on."""

from __future__ import annotations

import numpy as np


def _scan(ufunc, x, axis, reverse):
    """``ufunc`` accumulated; float32 in float64, for rounding errors add up along the way."""
    x = np.flip(x, axis) if reverse else x
    wide = np.float64 if x.dtype.kind == "f" else x.dtype
    y = ufunc.accumulate(x, axis=axis, dtype=wide).astype(x.dtype, copy=False)
    return np.flip(y, axis) if reverse else y


def cumsum(x, axis, reverse=False):
    return _scan(np.add, x, axis, reverse)


def cumprod(x, axis, reverse=False):
    return _scan(np.multiply, x, axis, reverse)


def logcumsumexp(x, axis, reverse=False):
    return _scan(np.logaddexp, x, axis, reverse)


def cumargmax(x, axis, largest=True):
    """Where the largest element so far lies, the last of equal ones; nan counts as extreme."""
    extreme = (np.maximum if largest else np.minimum).accumulate(x, axis=axis)
    here = np.expand_dims(np.arange(x.shape[axis]), [a for a in range(x.ndim) if a != axis])
    return np.maximum.accumulate(np.where((x == extreme) | (x != x), here, 0), axis=axis)
