"""A gallery of Numba kernels: the same as in ``plain``, as loops over elements or rows.

Above each stands the formula that it computes; the composite that it must equal is in
``ops/fused.py``. A loop passes over its arrays once or, where a row has to be known first, once
more while the row is in the cache.
"""

from __future__ import annotations

import math
import sys

import numpy as np

from ..threads import spread
from . import attention_loops, product_loops, steps
from .attention import attention_kernel
from .kernel import Kernel
from .loops import loop
from .parts import borrowed, part

exp, largest, normal_cdf = borrowed("lanes", "exp", "largest", "normal_cdf")


def _flat(a):
    return a if a.ndim == 1 and a.flags.c_contiguous else np.ascontiguousarray(a).reshape(-1)


def _rows(a, width):
    return np.ascontiguousarray(a).reshape(-1, width)


# --- gelu: y = x Φ(x), or its tanh approximation x sigmoid(2 u), u = sqrt(2/π)(x + 0.044715 x³) ---

_TWICE = 2 * math.sqrt(2 / math.pi)  # of the tanh form: (1 + tanh u) / 2 = sigmoid(2 u)
_CUBIC = 0.044715
_DENSITY = 1 / math.sqrt(2 * math.pi)


@loop
def _gelu_erf(x, y):
    t = x.dtype.type
    for i in range(x.size):
        v = x[i]
        y[i] = v * normal_cdf(v, exp(t(-0.5) * v * v))


@loop
def _gelu_erf_vjp(g, x, gx):
    t = x.dtype.type
    for i in range(x.size):
        v = x[i]
        bell = exp(t(-0.5) * v * v)
        # Bounded where the bell is 0: an infinite x has the slope 0 or 1, and not inf * 0.
        slope = t(_DENSITY) * bell * max(min(v, t(30)), t(-30))
        gx[i] = g[i] * (normal_cdf(v, bell) + slope)


@loop
def _gelu_tanh(x, y):
    t = x.dtype.type
    for i in range(x.size):
        v = x[i]
        u = t(_TWICE) * v * (t(1) + t(_CUBIC) * v * v)
        y[i] = max(v, t(-100)) * (t(1) / (t(1) + exp(min(-u, t(80)))))


@loop
def _gelu_tanh_vjp(g, x, gx):
    t = x.dtype.type
    for i in range(x.size):
        v = max(min(x[i], t(20)), t(-20))
        u = t(_TWICE) * v * (t(1) + t(_CUBIC) * v * v)
        slope = t(_TWICE) * (t(1) + t(3 * _CUBIC) * v * v)
        e = exp(min(-u, t(80)))
        s = t(1) / (t(1) + e)
        gx[i] = g[i] * s * (t(1) + v * slope * e * s)  # 1 - s = e s, without cancellation


def _gelu(x, *, approximate):
    y = np.empty(x.shape, x.dtype)
    spread(_gelu_tanh if approximate == "tanh" else _gelu_erf, (_flat(x), y.reshape(-1)))
    return y, ()


def _gelu_vjp(g, inputs, saved, needs, *, approximate):
    (x,) = inputs
    gx = np.empty(x.shape, x.dtype)
    loop = _gelu_tanh_vjp if approximate == "tanh" else _gelu_erf_vjp
    spread(loop, (_flat(g), _flat(x), gx.reshape(-1)))
    return (gx,)


# --- relu_: y = max(x, 0), written into x, for ``linear`` -----------------------------------------


@loop
def _relu_loop(x):
    zero = x.dtype.type(0)
    for i in range(x.size):
        x[i] = zero if x[i] <= zero else x[i]  # nan stays


@loop
def _relu_vjp_loop(g, y, gx):
    zero = g.dtype.type(0)
    for i in range(g.size):
        gx[i] = zero if y[i] <= zero else g[i]


def _relu_(x):
    spread(_relu_loop, (x.reshape(-1),))
    return x, ()


def _relu_vjp(g, inputs, saved, needs):
    gx = np.empty(g.shape, g.dtype)
    spread(_relu_vjp_loop, (_flat(g), _flat(inputs[0]), gx.reshape(-1)))
    return (gx,)


# --- layer_norm: y = (x - mean) / sqrt(var + eps) * weight + bias ---------------------------------


@loop
def _layer_norm_rows(x, y, mean, rstd, weight, bias, eps):
    t = x.dtype.type
    width = x.shape[1]
    for i in range(x.shape[0]):
        row, out = x[i], y[i]
        total = t(0)
        for j in range(width):
            total += row[j]
        centre = total / t(width)
        total = t(0)
        for j in range(width):
            total += (row[j] - centre) * (row[j] - centre)
        scale = t(1) / math.sqrt(total / t(width) + t(eps))
        for j in range(width):
            out[j] = (row[j] - centre) * scale * weight[j] + bias[j]
        mean[i], rstd[i] = centre, scale


@loop
def _layer_norm_vjp_rows(g, x, weight, mean, rstd, gx, g_weight, g_bias):
    """With h = g * weight and n the normal: gx = (h - mean(h) - n * mean(h * n)) * rstd."""
    t = x.dtype.type
    width = x.shape[1]
    for i in range(x.shape[0]):
        row, slope, out = x[i], g[i], gx[i]
        centre, scale = mean[i], rstd[i]
        total, along = t(0), t(0)
        for j in range(width):
            n = (row[j] - centre) * scale
            h = slope[j] * weight[j]
            total += h
            along += h * n
            g_weight[j] += slope[j] * n
            g_bias[j] += slope[j]
        total, along = total / t(width), along / t(width)
        for j in range(width):
            n = (row[j] - centre) * scale
            out[j] = (slope[j] * weight[j] - total - n * along) * scale


def _layer_norm(x, weight, bias, *, eps, dims):
    width = math.prod(x.shape[x.ndim - dims :])
    rows = _rows(x, width)
    y = np.empty(x.shape, x.dtype)
    mean, rstd = np.empty(len(rows), x.dtype), np.empty(len(rows), x.dtype)
    weight = np.ones(width, x.dtype) if weight is None else _flat(weight)
    bias = np.zeros(width, x.dtype) if bias is None else _flat(bias)
    spread(_layer_norm_rows, (rows, y.reshape(-1, width), mean, rstd), weight, bias, eps)
    return y, (mean, rstd)


def _layer_norm_vjp(g, inputs, saved, needs, *, eps, dims):
    x, weight, bias = inputs
    mean, rstd = saved
    width = math.prod(x.shape[x.ndim - dims :])
    gx = np.empty(x.shape, x.dtype)
    g_weight, g_bias = np.zeros(width, x.dtype), np.zeros(width, x.dtype)
    _layer_norm_vjp_rows(
        _rows(g, width), _rows(x, width),
        np.ones(width, x.dtype) if weight is None else _flat(weight),
        mean, rstd, gx.reshape(-1, width), g_weight, g_bias,
    )  # fmt: skip
    return (
        gx,
        g_weight.reshape(weight.shape) if needs[1] else None,
        g_bias.reshape(bias.shape) if needs[2] else None,
    )


# --- rms_norm: y = x / sqrt(mean(x²) + eps) * weight ----------------------------------------------


@loop
def _rms_norm_rows(x, y, rstd, weight, eps):
    t = x.dtype.type
    width = x.shape[1]
    for i in range(x.shape[0]):
        row, out = x[i], y[i]
        total = t(0)
        for j in range(width):
            total += row[j] * row[j]
        scale = t(1) / math.sqrt(total / t(width) + t(eps))
        for j in range(width):
            out[j] = row[j] * scale * weight[j]
        rstd[i] = scale


@loop
def _rms_norm_vjp_rows(g, x, weight, rstd, gx, g_weight):
    """With h = g * weight and n = x * rstd: gx = (h - n * mean(h * n)) * rstd."""
    t = x.dtype.type
    width = x.shape[1]
    for i in range(x.shape[0]):
        row, slope, out, scale = x[i], g[i], gx[i], rstd[i]
        along = t(0)
        for j in range(width):
            n = row[j] * scale
            along += slope[j] * weight[j] * n
            g_weight[j] += slope[j] * n
        along = along / t(width)
        for j in range(width):
            out[j] = (slope[j] * weight[j] - row[j] * scale * along) * scale


def _rms_norm(x, weight, *, eps, dims):
    width = math.prod(x.shape[x.ndim - dims :])
    rows = _rows(x, width)
    y, rstd = np.empty(x.shape, x.dtype), np.empty(len(rows), x.dtype)
    weight = np.ones(width, x.dtype) if weight is None else _flat(weight)
    spread(_rms_norm_rows, (rows, y.reshape(-1, width), rstd), weight, eps)
    return y, (rstd,)


def _rms_norm_vjp(g, inputs, saved, needs, *, eps, dims):
    x, weight = inputs
    (rstd,) = saved
    width = math.prod(x.shape[x.ndim - dims :])
    gx, g_weight = np.empty(x.shape, x.dtype), np.zeros(width, x.dtype)
    _rms_norm_vjp_rows(
        _rows(g, width), _rows(x, width),
        np.ones(width, x.dtype) if weight is None else _flat(weight),
        rstd, gx.reshape(-1, width), g_weight,
    )  # fmt: skip
    return gx, g_weight.reshape(weight.shape) if needs[1] else None


# --- cross_entropy: -log softmax(logits)[target] --------------------------------------------------


@loop
def _cross_entropy_rows(logits, targets, losses, logs, ignore_index, smoothing):
    t = logits.dtype.type
    classes = logits.shape[1]
    for i in range(logits.shape[0]):
        row = logits[i]
        if targets[i] == ignore_index:
            losses[i] = logs[i] = t(0)
            continue
        peak = largest(row, classes, t(1))
        total, mean = t(0), t(0)
        for j in range(classes):
            total += exp(row[j] - peak)
        logs[i] = math.log(total) + peak
        right = row[targets[i]]
        if smoothing != 0:
            for j in range(classes):
                mean += row[j]
            right = t(1 - smoothing) * right + t(smoothing) * (mean / t(classes))
        losses[i] = logs[i] - right


@loop
def _cross_entropy_vjp_rows(logits, g, targets, logs, gx, ignore_index, smoothing):
    """gx = (softmax - smoothed one-hot) * g"""
    t = logits.dtype.type
    classes = logits.shape[1]
    everywhere = t(smoothing / classes)
    for i in range(logits.shape[0]):
        row, out = logits[i], gx[i]
        if targets[i] == ignore_index:
            out[:] = t(0)
            continue
        for j in range(classes):
            out[j] = (exp(row[j] - logs[i]) - everywhere) * g[i]
        out[targets[i]] -= t(1 - smoothing) * g[i]


def _cross_entropy(logits, targets, *, ignore_index, label_smoothing):
    losses, logs = np.empty(len(logits), logits.dtype), np.empty(len(logits), logits.dtype)
    rows = (np.ascontiguousarray(logits), _flat(targets), losses, logs)
    spread(_cross_entropy_rows, rows, ignore_index, float(label_smoothing))
    return losses, (logs,)


def _cross_entropy_vjp(g, inputs, saved, needs, *, ignore_index, label_smoothing):
    logits, targets = inputs
    gx = np.empty(logits.shape, logits.dtype)
    rows = (np.ascontiguousarray(logits), _flat(g), _flat(targets), *saved, gx)
    spread(_cross_entropy_vjp_rows, rows, ignore_index, float(label_smoothing))
    return gx, None


# --- softmax: exp(x - max) / sum, and its logarithm, over the last axis ---------------------------


@loop
def _softmax(x, y):
    for i in range(x.shape[0]):
        row, out = x[i], y[i]
        peak, total = largest(row, row.size, x.dtype.type(1)), x.dtype.type(0)
        for j in range(row.size):
            e = exp(row[j] - peak)
            out[j] = e
            total += e
        for j in range(row.size):
            out[j] /= total


@loop
def _softmax_vjp(g, y, gx):
    for i in range(g.shape[0]):
        slope, row, out = g[i], y[i], gx[i]
        along = g.dtype.type(0)
        for j in range(row.size):
            along += slope[j] * row[j]
        for j in range(row.size):
            out[j] = (slope[j] - along) * row[j]


@loop
def _log_softmax(x, y):
    for i in range(x.shape[0]):
        row, out = x[i], y[i]
        # In double precision: the gradient g - exp(y) sum(g) shows every rounding of y.
        peak, total = largest(row, row.size, x.dtype.type(1)), 0.0
        for j in range(row.size):
            total += exp(row[j] - peak)
        logarithm = math.log(total) + peak
        for j in range(row.size):
            out[j] = row[j] - logarithm


@loop
def _log_softmax_vjp(g, y, gx):
    for i in range(g.shape[0]):
        slope, row, out = g[i], y[i], gx[i]
        total = g.dtype.type(0)
        for j in range(row.size):
            total += slope[j]
        for j in range(row.size):
            out[j] = slope[j] - exp(row[j]) * total


def _over_rows(loop, arrays, axis):
    """The loop's result; None unless the axis is the last one and all are floats of one dtype."""
    a = arrays[-1]
    fit = a.ndim and axis in (-1, a.ndim - 1) and a.size and a.dtype.char in "fd"
    if not fit or any(b.dtype != a.dtype for b in arrays):
        return None
    y = np.empty(a.shape, a.dtype)
    spread(loop, [*(_rows(b, a.shape[-1]) for b in arrays), y.reshape(-1, a.shape[-1])])
    return y


def softmax(x, axis):
    return _over_rows(_softmax, (x,), axis)


def softmax_vjp(g, y, axis):
    return _over_rows(_softmax_vjp, (g, y), axis)


def log_softmax(x, axis):
    return _over_rows(_log_softmax, (x,), axis)


def log_softmax_vjp(g, y, axis):
    return _over_rows(_log_softmax_vjp, (g, y), axis)


# --- dropout: y = x / (1 - p) where it is kept, else 0 --------------------------------------------


@loop
def _dropout(x, keep, y, factor):
    t = x.dtype.type
    for i in range(x.size):
        y[i] = x[i] * (t(factor) if keep[i] else t(0))


def dropout(x, keep, *, p):
    """The result; None unless these are floats, and a boolean for each."""
    if x.dtype.char not in "fd" or keep.dtype != np.bool_ or keep.shape != x.shape:
        return None
    y = np.empty(x.shape, x.dtype)
    spread(_dropout, (_flat(x), _flat(keep), y.reshape(-1)), 1 / (1 - p) if p < 1 else 0.0)
    return y


# --- the passes over the scores of scaled_dot_product_attention -----------------------------------


@part
def _hide(row, keys, factor):
    """Keys from ``keys`` on become -inf; how many of the row are then worth looking at.

    That is a multiple of what a turn of a vectorised loop takes, for what is left over costs its
    slow end, one element at a time. (But -inf times a factor of 0 would be nan.)
    """
    stop = min(row.size, (keys + 63) // 64 * 64 if factor > 0 else keys)
    for j in range(keys, stop):
        row[j] = row.dtype.type(-np.inf)
    for j in range(stop, row.size):
        row[j] = row.dtype.type(0)
    return stop


@loop
def _softmax_rows(scores, factor, queries, first, peaks, sums):
    t = scores.dtype.type
    for i in range(scores.shape[0]):
        row = scores[i]
        keys = _hide(row, first + i % queries + 1, factor) if first >= 0 else row.size
        peak = largest(row, keys, t(factor))
        if peak == t(-np.inf):
            peak = t(0)
        total = t(0)
        for j in range(keys):
            e = exp(t(factor) * row[j] - peak)
            row[j] = e
            total += e
        if total == t(0):  # nothing to see
            total = t(1)
        peaks[i], sums[i] = peak, total


@loop
def _weight_rows(scores, factor, queries, first, peaks, sums):
    t = scores.dtype.type
    for i in range(scores.shape[0]):
        row, peak, total = scores[i], peaks[i], sums[i]
        keys = _hide(row, first + i % queries + 1, factor) if first >= 0 else row.size
        for j in range(keys):
            row[j] = exp(t(factor) * row[j] - peak) / total


@loop
def _scores_vjp_rows(gp, p):
    for i in range(gp.shape[0]):
        slope, weights = gp[i], p[i]
        total = gp.dtype.type(0)
        for j in range(gp.shape[1]):
            total += slope[j] * weights[j]
        for j in range(gp.shape[1]):
            slope[j] = (slope[j] - total) * weights[j]


def softmax_scores(scores, factor, first):
    """See :func:`.plain.softmax_scores`."""
    *lead, n, m = scores.shape
    peaks, sums = np.empty((*lead, n), scores.dtype), np.empty((*lead, n), scores.dtype)
    first = -1 if first is None else first
    _softmax_rows(
        scores.reshape(-1, m), float(factor), n, first, peaks.reshape(-1), sums.reshape(-1)
    )
    return peaks, sums


def weights_again(scores, factor, first, peaks, sums):
    """See :func:`.plain.weights_again`."""
    n, m = scores.shape[-2:]
    first = -1 if first is None else first
    _weight_rows(scores.reshape(-1, m), float(factor), n, first, _flat(peaks), _flat(sums))


def scores_vjp(gp, p):
    """See :func:`.plain.scores_vjp`."""
    m = gp.shape[-1]
    _scores_vjp_rows(gp.reshape(-1, m), p.reshape(-1, m))


_by_blocks = attention_kernel(sys.modules[__name__])  # NumPy's products, these passes


def _attention(*inputs, **params):
    kernel = attention_loops if attention_loops.takes(*inputs) else _by_blocks
    return kernel.forward(*inputs, **params)


def _attention_vjp(g, inputs, saved, needs, **params):
    kernel = attention_loops if attention_loops.takes(*inputs) else _by_blocks
    return kernel.vjp(g, inputs, saved, needs, **params)


# --- the gradient of a look-up --------------------------------------------------------------------


@loop
def _add_rows(out, index, rows):
    for i in range(index.size):
        into = out[index[i]]
        for j in range(rows.shape[1]):
            into[j] += rows[i, j]


def add_rows(out, index, rows):
    """``out[index] += rows``, where the same index may come again; whether it was done here."""
    if out.dtype.char not in "fd" or rows.dtype != out.dtype or not out.flags.c_contiguous:
        return False
    _add_rows(out, index, np.ascontiguousarray(rows))
    return True


KERNELS = {
    "softmax": softmax,
    "softmax_vjp": softmax_vjp,
    "log_softmax": log_softmax,
    "log_softmax_vjp": log_softmax_vjp,
    "dropout": dropout,
    "add_rows": add_rows,
    "product": product_loops.product if product_loops.AVAILABLE else None,
    **steps.KERNELS,
    "gelu": Kernel(_gelu, _gelu_vjp),
    "relu_": Kernel(_relu_, _relu_vjp),
    "layer_norm": Kernel(_layer_norm, _layer_norm_vjp),
    "rms_norm": Kernel(_rms_norm, _rms_norm_vjp),
    "cross_entropy": Kernel(_cross_entropy, _cross_entropy_vjp),
    "scaled_dot_product_attention": Kernel(_attention, _attention_vjp),
}
