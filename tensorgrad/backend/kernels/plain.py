"""A gallery of NumPy kernels for the fused ops: the composites of ``ops/fused.py``, hand-tuned.

What makes them fast is writing in place, working in blocks that stay in the cache, and leaving
sums over rows to the matrix product.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ..special import erf
from .kernel import Kernel
from .linear import column_sums

KERNELS: dict[str, Any] = {}


def _row_dots(a, b):
    """[..., d] and [..., d] → [...]: the dot product of each pair of rows, without a temporary."""
    return np.einsum("...d,...d->...", a, b)


# --- layer_norm: y = (x - mean) / sqrt(var + eps) * weight + bias ---------------------------------


def _layer_norm(x, weight, bias, *, eps, dims):
    width = math.prod(x.shape[x.ndim - dims :])
    rows = x.reshape(-1, width)
    mean = rows @ np.full(width, 1 / width, x.dtype)
    y = rows - mean[:, None]
    rstd = 1 / np.sqrt(_row_dots(y, y) / width + eps)
    y *= rstd[:, None]
    if weight is not None:
        y *= weight.reshape(-1)
    if bias is not None:
        y += bias.reshape(-1)
    return y.reshape(x.shape), (mean, rstd.astype(x.dtype, copy=False))


def _layer_norm_vjp(g, inputs, saved, needs, *, eps, dims):
    x, weight, bias = inputs
    mean, rstd = saved
    width = math.prod(x.shape[x.ndim - dims :])
    g = g.reshape(-1, width)
    normal = x.reshape(-1, width) - mean[:, None]  # made again rather than kept: two cheap passes
    normal *= rstd[:, None]
    g_weight = np.einsum("nd,nd->d", g, normal).reshape(weight.shape) if needs[1] else None
    g_bias = column_sums(g).reshape(bias.shape) if needs[2] else None
    if not needs[0]:
        return None, g_weight, g_bias
    # With h = g * weight:  gx = (h - mean(h) - normal * mean(h * normal)) * rstd
    h = g * weight.reshape(-1) if weight is not None else g.copy()
    mean_h = h @ np.full(width, 1 / width, x.dtype)
    normal *= (_row_dots(h, normal) / width)[:, None]
    h -= mean_h[:, None]
    h -= normal
    h *= rstd[:, None]
    return h.reshape(x.shape), g_weight, g_bias


KERNELS["layer_norm"] = Kernel(_layer_norm, _layer_norm_vjp)


# --- rms_norm: y = x / sqrt(mean(x²) + eps) * weight ----------------------------------------------


def _rms_norm(x, weight, *, eps, dims):
    width = math.prod(x.shape[x.ndim - dims :])
    rows = x.reshape(-1, width)
    rstd = (1 / np.sqrt(_row_dots(rows, rows) / width + eps)).astype(x.dtype, copy=False)
    y = rows * rstd[:, None]
    if weight is not None:
        y *= weight.reshape(-1)
    return y.reshape(x.shape), (rstd,)


def _rms_norm_vjp(g, inputs, saved, needs, *, eps, dims):
    x, weight = inputs
    (rstd,) = saved
    width = math.prod(x.shape[x.ndim - dims :])
    g = g.reshape(-1, width)
    normal = x.reshape(-1, width) * rstd[:, None]
    g_weight = np.einsum("nd,nd->d", g, normal).reshape(weight.shape) if needs[1] else None
    # With h = g * weight:  gx = (h - normal * mean(h * normal)) * rstd
    h = g * weight.reshape(-1) if weight is not None else g.copy()
    normal *= (_row_dots(h, normal) / width)[:, None]
    h -= normal
    h *= rstd[:, None]
    return h.reshape(x.shape), g_weight


KERNELS["rms_norm"] = Kernel(_rms_norm, _rms_norm_vjp)


# --- gelu: y = x Φ(x), or its tanh approximation --------------------------------------------------

_BLOCK = 65536  # elements: a few arrays of 256 KB (float32) stay in the level-2 cache
_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


def _blocks(*arrays):
    """The same pieces of several contiguous arrays, each small enough for the cache."""
    flat = [a.reshape(-1) for a in arrays]
    for i in range(0, flat[0].size, _BLOCK):
        yield [a[i : i + _BLOCK] for a in flat]


def _tanh_of_cubic(x):
    """tanh(sqrt(2/pi) (x + 0.044715 x^3)); products, for ``x**3`` calls pow on every element."""
    t = x * x
    t *= 0.044715 * _SQRT_2_OVER_PI
    t += _SQRT_2_OVER_PI
    t *= x
    return np.tanh(t, out=t)


def _gelu(x, *, approximate):
    x = np.asarray(x, order="C")
    y = np.empty_like(x)
    for u, out in _blocks(x, y):
        t = _tanh_of_cubic(u) if approximate == "tanh" else erf(u * _SQRT_HALF)
        t += 1
        t *= 0.5
        np.multiply(t, u, out=out)
    return y, ()


def _gelu_vjp(g, inputs, saved, needs, *, approximate):
    x, g = np.asarray(inputs[0], order="C"), np.asarray(g, order="C")
    gx = np.empty_like(x)
    for u, gu, out in _blocks(x, g, gx):
        if approximate == "tanh":
            # y' = (1 + t) / 2 + x (1 - t^2) / 2 * sqrt(2/pi) (1 + 3 * 0.044715 x^2)
            t = _tanh_of_cubic(u)
            np.multiply(u, u, out=out)
            out *= 3 * 0.044715 * _SQRT_2_OVER_PI
            out += _SQRT_2_OVER_PI
            out *= u
            out *= 1 - t * t
        else:
            # y' = (1 + erf(x / sqrt 2)) / 2 + x exp(-x^2 / 2) / sqrt(2 pi)
            t = erf(u * _SQRT_HALF)
            np.multiply(u, u, out=out)
            out *= -0.5
            np.exp(out, out=out)
            out *= u
            out *= _SQRT_2_OVER_PI
        out += t
        out += 1
        out *= 0.5
        out *= gu
    return (gx,)


KERNELS["gelu"] = Kernel(_gelu, _gelu_vjp)


# --- relu_: y = max(x, 0), written into x, for ``linear`` -----------------------------------------


def _relu_(x):
    return np.maximum(x, 0, out=x), ()


def _relu_vjp(g, inputs, saved, needs):
    return (np.where(inputs[0] <= 0, g.dtype.type(0), g),)


KERNELS["relu_"] = Kernel(_relu_, _relu_vjp)


# --- cross_entropy: -log softmax(logits)[target] --------------------------------------------------


def _row_blocks(rows, width):
    step = max(1, _BLOCK // max(width, 1))
    return (slice(i, i + step) for i in range(0, rows, step))


def _cross_entropy(logits, targets, *, ignore_index, label_smoothing):
    n, classes = logits.shape
    logsumexp = np.empty(n, logits.dtype)
    for rows in _row_blocks(n, classes):
        x = logits[rows]
        peak = x.max(axis=-1)
        e = x - peak[:, None]
        np.exp(e, out=e)
        logsumexp[rows] = np.log(e @ np.ones(classes, e.dtype)) + peak
    kept = targets != ignore_index
    picked = logits[np.arange(n), np.where(kept, targets, 0)]
    if label_smoothing:
        picked = (1 - label_smoothing) * picked + label_smoothing * logits.mean(axis=-1)
    return np.where(kept, logsumexp - picked, 0).astype(logits.dtype, copy=False), (logsumexp,)


def _cross_entropy_vjp(g, inputs, saved, needs, *, ignore_index, label_smoothing):
    logits, targets = inputs
    (logsumexp,) = saved
    n, classes = logits.shape
    kept = targets != ignore_index
    g = np.where(kept, g, 0).astype(logits.dtype, copy=False)
    gx = np.empty_like(logits)
    for rows in _row_blocks(n, classes):  # gx = (softmax - smoothed one-hot) * g
        p = np.subtract(logits[rows], logsumexp[rows, None], out=gx[rows])
        np.exp(p, out=p)
        if label_smoothing:
            p -= label_smoothing / classes
        p *= g[rows, None]
    gx[np.arange(n), np.where(kept, targets, 0)] -= (1 - label_smoothing) * g
    return gx, None


KERNELS["cross_entropy"] = Kernel(_cross_entropy, _cross_entropy_vjp)


# --- binary_cross_entropy: -(t log p + (1 - t) log(1 - p)), logarithms from -100 ------------------


def _two_logs(p):
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(p), -100), np.maximum(np.log1p(-p), -100)


def _binary_cross_entropy(p, target):
    log_p, log_q = _two_logs(p)
    y = log_q - log_p
    y *= target
    y -= log_q
    return y, ()


def _binary_cross_entropy_vjp(g, inputs, saved, needs):
    p, target = inputs
    # The bound is PyTorch's: a saturated probability gets a large gradient and not an infinite one.
    gp = g * (p - target) / np.maximum(p * (1 - p), 1e-12) if needs[0] else None
    if not needs[1]:
        return gp, None
    log_p, log_q = _two_logs(p)
    return gp, g * (log_q - log_p)


KERNELS["binary_cross_entropy"] = Kernel(_binary_cross_entropy, _binary_cross_entropy_vjp)


# --- the passes over the scores of scaled_dot_product_attention -----------------------------------


@functools.lru_cache(maxsize=16)
def _causal_bias(queries, keys, first, dtype):
    return np.where(np.tri(queries, keys, first, dtype=bool), 0, -np.inf).astype(dtype)


def _scaled(scores, factor, first):
    if factor != 1:
        scores *= scores.dtype.type(factor)
    if first is not None:
        scores += _causal_bias(*scores.shape[-2:], first, scores.dtype)


def softmax_scores(scores, factor, first):
    """scores [..., n, m] become e = exp(factor scores - maximum); → the maxima and the sums of e.

    With ``first``, row i is query ``first + i``, which sees the keys up to its own position. A row
    without anything to see becomes zeros, with the maximum 0 and the sum 1.
    """
    _scaled(scores, factor, first)
    peaks = scores.max(axis=-1)
    peaks[peaks == -np.inf] = 0
    scores -= peaks[..., None]
    np.exp(scores, out=scores)
    sums = np.einsum("...m->...", scores)
    sums[sums == 0] = 1
    return peaks, sums


def weights_again(scores, factor, first, peaks, sums):
    """scores [..., n, m] become e / sums, given what :func:`softmax_scores` returned."""
    _scaled(scores, factor, first)
    scores -= peaks[..., None]
    np.exp(scores, out=scores)
    scores /= sums[..., None]


def scores_vjp(gp, p):
    """gp [..., n, m] becomes the gradient p (gp - sum(gp p)) of the scores."""
    gp -= _row_dots(gp, p)[..., None]
    gp *= p


# --- what optimizers need -------------------------------------------------------------------------


def sum_of_squares(arrays):
    """Of all elements of all arrays, as a float."""
    return sum(map(_squares, arrays))


def _squares(x):
    # In the dtype of x only within a small block: in float32 a long sum loses digits.
    flat = x.reshape(-1)
    pieces = (flat[i : i + 4096] for i in range(0, flat.size, 4096))
    return sum(float(np.vdot(piece, piece)) for piece in pieces)


KERNELS["sum_of_squares"] = sum_of_squares
