"""Other sizes of the same picture: padding, interpolation, and channels turned into pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorgrad
from tensorgrad import Tensor
from tensorgrad import patch as _patch

from .pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

__all__ = ["pad", "interpolate", "upsample", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"]


def _take(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The positions ``index`` of ``dim``. As rows of a table, whose gradient is a fast sum."""
    moved = input.transpose(0, dim)
    rows = moved.reshape(moved.shape[0], -1)
    return tensorgrad.embedding(rows, index).reshape(-1, *moved.shape[1:]).transpose(0, dim)


# --- padding --------------------------------------------------------------------------------------


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """``input`` made larger, or smaller where a number is negative.

    Args:
        pad: (before, after) of the last dim, then of the one before it, and so on.
        mode: ``"constant"`` puts ``value`` there (default 0), ``"reflect"`` what lies on the other
            side of the edge, ``"replicate"`` the element at the edge, ``"circular"`` what is at the
            opposite end. All but the first take [n, c, ...] or [c, ...] and pad all dims after c.
    """
    pairs = list(zip(pad[::2], pad[1::2]))
    if len(pad) % 2 or len(pairs) > input.ndim:
        raise RuntimeError(
            f"pad: needs two numbers for each of at most {input.ndim} dims, got {list(pad)}"
        )
    if any(input.shape[-1 - i] + b + a < 0 for i, (b, a) in enumerate(pairs)):
        raise RuntimeError(f"pad: {list(pad)} takes more than shape {tuple(input.shape)} has")
    if mode == "constant":
        return _pad_constant(input, pairs, value or 0.0)
    if value:
        raise RuntimeError(f"pad: only mode 'constant' takes a value, not {mode!r}")
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(
            f"pad: mode must be constant, reflect, replicate or circular, not {mode!r}"
        )
    if input.ndim - len(pairs) not in (1, 2) or not 1 <= len(pairs) <= 3:
        raise NotImplementedError(
            f"pad: mode {mode!r} pads the last 1 to 3 dims, all but one or two; "
            f"{list(pad)} does not fit an input of shape {tuple(input.shape)}"
        )
    for i, (before, after) in enumerate(pairs):
        dim, n = input.ndim - 1 - i, input.shape[-1 - i]
        room = {"reflect": n - 1, "circular": n}.get(mode, max(before, after))
        if max(before, after) > room or not n:
            raise RuntimeError(
                f"pad: mode {mode!r} can add at most {room} to a dim of size {n}, not "
                f"{max(before, after)}"
            )
        if before or after:
            input = _take(input, dim, tensorgrad.tensor(_sources(n, before, after, mode)))
    return input


def _sources(n: int, before: int, after: int, mode: str) -> list[int]:
    """For each position of a padded dim, the one that its element comes from."""
    positions = range(-before, n + after)
    if mode == "circular":
        return [i % n for i in positions]
    if mode == "replicate":
        return [min(max(i, 0), n - 1) for i in positions]
    return [n - 1 - abs(n - 1 - abs(i)) for i in positions]


def _pad_constant(input: Tensor, pairs: list[tuple[int, int]], value: float) -> Tensor:
    pairs = [(0, 0)] * (input.ndim - len(pairs)) + pairs[::-1]
    if any(b < 0 or a < 0 for b, a in pairs):
        cut = tuple(slice(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(input.shape, pairs))
        input = input[cut]
    widths = tuple((max(b, 0), max(a, 0)) for b, a in pairs)
    return _patch.pad(input, widths=widths, value=value)


# --- interpolation --------------------------------------------------------------------------------

_LINEAR = {"linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2}  # and their dims


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """[n, c, ...] at another resolution: of ``size``, or ``scale_factor`` times that of the input.

    Args:
        mode: ``"nearest"``, ``"nearest-exact"``, ``"linear"`` (one dim), ``"bilinear"`` and
            ``"bicubic"`` (two), ``"trilinear"`` (three) or ``"area"``, which takes means.
        align_corners: whether the corner pixels of both pictures lie upon each other, rather than
            the pictures' edges.
        recompute_scale_factor: sample at the distances that the rounded size implies, and not
            those of ``scale_factor``.
    """
    dims = input.ndim - 2
    if not 1 <= dims <= 3 or _LINEAR.get(mode, dims) != dims:
        raise NotImplementedError(
            f"interpolate: mode {mode!r} does not take an input of {input.ndim} dims"
        )
    if mode not in (*_LINEAR, "nearest", "nearest-exact", "area"):
        raise NotImplementedError(f"interpolate: there is no mode {mode!r}")
    if antialias:
        raise NotImplementedError("interpolate: antialias is not supported")
    if align_corners is not None and mode not in _LINEAR:
        raise ValueError(f"interpolate: mode {mode!r} has no corners to align")
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: give either size or scale_factor")
    given = size if scale_factor is None else scale_factor
    given = tuple(given) if isinstance(given, (tuple, list)) else (given,) * dims
    if len(given) != dims:
        raise ValueError(f"interpolate: {given} does not fit the {dims} dims after the channels")
    sizes = tuple(input.shape[2:])
    wanted = given if scale_factor is None else [math.floor(n * f) for n, f in zip(sizes, given)]
    if min(wanted) < 1 or min(sizes) < 1:
        raise RuntimeError(f"interpolate: sizes must be positive, got {sizes} and {list(wanted)}")
    if mode == "area":
        pools = adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
        return pools[dims - 1](input, tuple(wanted))
    known = scale_factor is not None and not recompute_scale_factor
    for dim, (n, m) in enumerate(zip(sizes, wanted), 2):
        # How far apart neighbours of the result lie in the input.
        step = 1 / given[dim - 2] if known else n / m
        if mode in _LINEAR:
            input = _resampled(input, dim, m, step, bool(align_corners), mode == "bicubic")
        else:
            input = _nearest(input, dim, m, step, 0.5 if mode == "nearest-exact" else 0.0)
    return input


def _nearest(input: Tensor, dim: int, m: int, step: float, offset: float) -> Tensor:
    n = input.shape[dim]
    positions = (tensorgrad.arange(m).float() + offset) * step  # in float32, as in PyTorch
    return _take(input, dim, tensorgrad.clamp_max(positions.floor().long(), n - 1))


def _resampled(
    input: Tensor, dim: int, m: int, step: float, align_corners: bool, cubic: bool
) -> Tensor:
    """Each result a weighted sum of the 2 or 4 elements around its position in the input."""
    n = input.shape[dim]
    there = tensorgrad.arange(m).to(input.dtype)
    if align_corners:
        positions = there * ((n - 1) / (m - 1) if m > 1 else 0.0)
    else:
        positions = (there + 0.5) * step - 0.5
        positions = positions if cubic else tensorgrad.clamp_min(positions, 0.0)
    first = positions.floor()
    t = positions - first  # between 0 and 1
    taps = [(0, 1 - t), (1, t)]
    if cubic:  # (Keys 1981) with a = -3/4
        taps = [(-1, _far(t + 1)), (0, _near(t)), (1, _near(1 - t)), (2, _far(2 - t))]
    total: Any = 0.0
    for shift, weight in taps:
        index = tensorgrad.clamp(first.long() + shift, 0, n - 1)
        total = _take(input, dim, index) * weight.reshape(-1, *[1] * (input.ndim - 1 - dim)) + total
    return total


_A = -0.75


def _near(x: Tensor) -> Tensor:
    """The cubic kernel at distances from 0 to 1."""
    return ((_A + 2) * x - (_A + 3)) * x * x + 1


def _far(x: Tensor) -> Tensor:
    """The cubic kernel at distances from 1 to 2."""
    return ((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A


def upsample(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """An older name of :func:`interpolate`."""
    return interpolate(input, size, scale_factor, mode, align_corners)


# --- channels as pixels ---------------------------------------------------------------------------


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """[..., c r², h, w] → [..., c, h r, w r]: r² channels become squares (Shi et al. 2016)."""
    r = upscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-3] % r**2:
        raise RuntimeError(
            f"pixel_shuffle: the channels of shape {tuple(input.shape)} must be a multiple of the "
            f"square of the factor {r}"
        )
    *lead, c, h, w = input.shape
    x = input.reshape(-1, c // r**2, r, r, h, w).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(*lead, c // r**2, h * r, w * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """The inverse of :func:`pixel_shuffle`: [..., c, h r, w r] → [..., c r², h, w]."""
    r = downscale_factor
    if input.ndim < 3 or r < 1 or input.shape[-1] % r or input.shape[-2] % r:
        raise RuntimeError(
            f"pixel_unshuffle: height and width of shape {tuple(input.shape)} must be multiples "
            f"of the factor {r}"
        )
    *lead, c, h, w = input.shape
    x = input.reshape(-1, c, h // r, r, w // r, r).permute(0, 1, 3, 5, 2, 4)
    return x.reshape(*lead, c * r**2, h // r, w // r)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """[n, c, ...] with the channels of ``groups`` groups dealt out in turns (Zhang et al. 2018)."""
    if input.ndim < 3 or groups < 1 or input.shape[1] % groups:
        raise RuntimeError(
            f"channel_shuffle: the input must be [n, c, ...] with c a multiple of the {groups} "
            f"groups, its shape is {tuple(input.shape)}"
        )
    n, c, *sizes = input.shape
    return input.reshape(n, groups, c // groups, *sizes).transpose(1, 2).reshape(n, c, *sizes)
