"""Patches, windows that slide over the last axes, and a frame: the parts of convolutions."""

from __future__ import annotations

import itertools

import numpy as np


def _counts(shape, size, step, dilation):
    """How many windows fit along each axis."""
    return tuple((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(shape, size, step, dilation))


def patches(x, *, size, step, dilation):
    """[..., *shape] → [..., *size, *counts]: a copy in which each element stands in every window
    that it is part of. The elements of a window are ``dilation`` apart, the windows ``step``."""
    k = len(size)
    lead, strides = x.shape[: x.ndim - k], x.strides[x.ndim - k :]
    view = np.lib.stride_tricks.as_strided(
        x,
        (*lead, *size, *_counts(x.shape[x.ndim - k :], size, step, dilation)),
        (
            *x.strides[: x.ndim - k],
            *(stride * d for stride, d in zip(strides, dilation)),
            *(stride * s for stride, s in zip(strides, step)),
        ),
        writeable=False,
    )
    return np.array(view, order="C")


def add_patches(w, *, shape, step, dilation):
    """[..., *size, *counts] → [..., *shape]: the transpose, which adds up where windows overlap."""
    k = len(shape)
    size, counts = w.shape[w.ndim - 2 * k : w.ndim - k], w.shape[w.ndim - k :]
    lead = w.shape[: w.ndim - 2 * k]
    out = np.zeros((*lead, *shape), w.dtype)
    for offset in itertools.product(*map(range, size)):
        seen = [
            slice(i * d, i * d + s * (n - 1) + 1, s)
            for i, d, s, n in zip(offset, dilation, step, counts)
        ]
        here = (slice(None),) * len(lead)
        out[here + tuple(seen)] += w[here + offset]
    return out


def pad(x, widths, value=0.0):
    """``x`` in a frame of ``value``; ``widths`` are (before, after) of each axis."""
    out = np.full([b + n + a for n, (b, a) in zip(x.shape, widths)], value, x.dtype)
    out[tuple(slice(b, b + n) for n, (b, _) in zip(x.shape, widths))] = x
    return out
