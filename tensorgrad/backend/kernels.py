"""A gallery of NumPy kernels for the fused ops: the composites of ``ops/fused.py``, hand-tuned.

A kernel is a pair: ``forward(*inputs, **params) -> (y, saved)`` and
``vjp(g, inputs, saved, needs, **params) -> gradients``, with None where none is needed. What makes
them fast is writing in place, working in blocks that stay in the cache, and leaving sums over rows
to the matrix product. The returned arrays belong to the caller.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .special import erf


class Kernel(NamedTuple):
    forward: Callable
    vjp: Callable


_kernels: dict[str, Kernel] = {}
enabled = True  # False: every fused op runs as its composite


def find(name: str) -> Kernel | None:
    """The kernel of the op called ``name``, if there is one and kernels are wanted."""
    return _kernels.get(name) if enabled else None


def _column_sums(g):
    """[n, d] → [d]: a matrix product with ones, several times faster than ``sum(axis=0)``."""
    return np.ones(len(g), g.dtype) @ g


def _row_dots(a, b):
    """[..., d] and [..., d] → [...]: the dot product of each pair of rows, without a temporary."""
    return np.einsum("...d,...d->...", a, b)


# --- linear: y = x Wᵀ + b -------------------------------------------------------------------------


def _linear(x, weight, bias):
    y = x.reshape(-1, x.shape[-1]) @ weight.T
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[0]), ()


def _linear_vjp(g, inputs, saved, needs):
    x, weight, _ = inputs
    g = g.reshape(-1, g.shape[-1])
    return (
        (g @ weight).reshape(x.shape) if needs[0] else None,
        g.T @ x.reshape(-1, x.shape[-1]) if needs[1] else None,
        _column_sums(g) if needs[2] else None,
    )


_kernels["linear"] = Kernel(_linear, _linear_vjp)


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
    g_bias = _column_sums(g).reshape(bias.shape) if needs[2] else None
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


_kernels["layer_norm"] = Kernel(_layer_norm, _layer_norm_vjp)


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


_kernels["gelu"] = Kernel(_gelu, _gelu_vjp)


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


_kernels["cross_entropy"] = Kernel(_cross_entropy, _cross_entropy_vjp)


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


_kernels["binary_cross_entropy"] = Kernel(_binary_cross_entropy, _binary_cross_entropy_vjp)


# --- scaled_dot_product_attention: softmax(scale q kᵀ, masked) v ----------------------------------


@functools.lru_cache(maxsize=8)
def _causal(n, m):
    return np.tril(np.ones((n, m), dtype=bool))


@functools.lru_cache(maxsize=8)
def _causal_bias(n, m, dtype):
    return np.where(_causal(n, m), 0, -np.inf).astype(dtype)


def _attention(q, k, v, mask, keep, *, scale, causal):
    p = np.matmul(q * q.dtype.type(scale), np.swapaxes(k, -1, -2))  # scores [..., n, m]
    if causal:
        p += _causal_bias(*p.shape[-2:], p.dtype)
    if mask is not None:
        if mask.dtype == np.bool_:
            mask = np.where(mask, 0, -np.inf).astype(p.dtype)
        p = p + mask if np.broadcast_shapes(p.shape, mask.shape) != p.shape else np.add(p, mask, p)
    peak = p.max(axis=-1, keepdims=True, initial=-np.inf)
    peak[peak == -np.inf] = 0  # nothing allowed: all weights 0 instead of 0/0
    p -= peak
    np.exp(p, out=p)
    total = p.sum(axis=-1, keepdims=True)
    total[total == 0] = 1
    p /= total
    # Laid out like q, so that merging the heads afterwards is a view and not a copy.
    out = np.empty_like(
        q, shape=np.broadcast_shapes(p.shape[:-2], v.shape[:-2]) + (p.shape[-2], v.shape[-1])
    )
    return np.matmul(p if keep is None else p * keep, v, out=out), (p,)


def _attention_vjp(g, inputs, saved, needs, *, scale, causal):
    q, k, v, _mask, keep = inputs
    (p,) = saved
    kept = p if keep is None else p * keep
    gv = np.swapaxes(kept, -1, -2) @ g if needs[2] else None
    gp = g @ np.swapaxes(v, -1, -2)
    if keep is not None:
        gp *= keep
    # softmax: gs = p * (gp - sum(p * gp)), written over gp
    gp -= _row_dots(p, gp)[..., None]
    gp *= p
    g_mask = gp.copy() if needs[3] else None
    gp *= gp.dtype.type(scale)
    gq = gp @ k if needs[0] else None
    gk = np.swapaxes(gp, -1, -2) @ q if needs[1] else None
    g_keep = (g @ np.swapaxes(v, -1, -2)) * p if needs[4] else None
    return gq, gk, gv, g_mask, g_keep


_kernels["scaled_dot_product_attention"] = Kernel(_attention, _attention_vjp)
