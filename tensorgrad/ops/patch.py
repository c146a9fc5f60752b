"""Patches, windows that slide over the last axes: a matrix product makes them a convolution, a
maximum a pooling. Taking the windows and adding them up again are each other's derivative."""

from __future__ import annotations

from ..core import op


def _patches(source):
    yield (source.normal(2, 3, 5),), {"size": (2,), "step": (1,), "dilation": (1,)}
    yield (source.normal(2, 4, 5),), {"size": (2, 3), "step": (2, 1), "dilation": (1, 1)}
    yield (source.normal(4, 5),), {"size": (2, 2), "step": (1, 2), "dilation": (3, 2)}
    yield (source.normal(6, 4).T,), {"size": (2, 2), "step": (3, 3), "dilation": (1, 1)}
    yield (source.normal(0, 3),), {"size": (2,), "step": (1,), "dilation": (1,)}


@op(samples=_patches)
def patches(xp, x, /, size, step, dilation):
    """[..., *shape] → [..., *size, *counts]: every element once for each window that it is in."""
    return xp.patches(x, size=size, step=step, dilation=dilation)


patches.vjp(
    lambda xp, g, x_shape, size, step, dilation: xp.add_patches(
        g, shape=x_shape[len(x_shape) - len(size) :], step=step, dilation=dilation
    )
)


def _folds(source):
    one, two = {"step": (2,), "dilation": (1,)}, {"step": (1, 2), "dilation": (2, 1)}
    yield (source.normal(2, 3, 3),), {"shape": (7,), **one}
    yield (source.normal(2, 3, 3),), {"shape": (8,), **one}  # the last element is in no window
    yield (source.normal(2, 2, 3, 2, 2),), {"shape": (4, 5), **two}


@op(samples=_folds)
def add_patches(xp, w, /, shape, step, dilation):
    """[..., *size, *counts] → [..., *shape]: sums over the windows that an element is in.

    ``counts`` must be the number of windows that fit into ``shape``.
    """
    return xp.add_patches(w, shape=shape, step=step, dilation=dilation)


add_patches.vjp(
    lambda xp, g, w_shape, shape, step, dilation: xp.patches(
        g, size=w_shape[-2 * len(shape) : -len(shape)], step=step, dilation=dilation
    )
)


def _frames(source):
    yield (source.normal(2, 3),), {"widths": ((0, 1), (2, 0))}
    yield (source.normal(3),), {"widths": ((1, 1),), "value": -1.5}
    yield (source.normal(0, 2),), {"widths": ((1, 0), (0, 0))}


@op(samples=_frames)
def pad(xp, x, /, widths, value=0.0):
    """``x`` in a frame of ``value``; ``widths`` are (before, after) of each axis."""
    return xp.pad(x, widths, value)


pad.vjp(
    lambda xp, g, x_shape, widths: g[
        tuple(slice(before, before + n) for n, (before, _) in zip(x_shape, widths))
    ]
)
