"""Scaled dot-product attention as loops, its matrix products among them.

The products of one head are too small for NumPy's: much of their time goes to calls, half of them
compute what the causal mask hides, and they stay on one thread. Here 32 queries are worked on
together and stand side by side in memory, as the columns of every matrix: scores [keys, 32],
queries [d, 32], results [e, 32]. So every innermost loop has the constant length 32, which becomes
vector instructions without a remainder, and a maximum or a sum over the keys adds whole rows.

As in ``attention``, two numbers are saved for each query, its largest score and its softmax's
denominator (Dao et al. 2022, section 3.1).
"""

from __future__ import annotations

import numpy as np

from ..threads import spread
from .lanes import contiguous, exp, jit

SIDE = 32  # queries side by side: two 512-bit registers of float32
# An unsigned index is not looked at for being negative, which would cost the vector instructions.
_U = np.uint64
_0, _1, _2, _3, _4 = _U(0), _U(1), _U(2), _U(3), _U(4)
_S, _S2, _S3 = _U(SIDE), _U(2 * SIDE), _U(3 * SIDE)


@jit
def _multiply_add(
    c, at, b, first,
    a00, a01, a02, a03, a10, a11, a12, a13, a20, a21, a22, a23, a30, a31, a32, a33,
):  # fmt: skip
    """c [4, 32] += a [4, 4] b [4, 32], where c begins at ``at`` and b at ``first``."""
    for j in range(_S):
        b0, b1, b2, b3 = b[first + j], b[first + _S + j], b[first + _S2 + j], b[first + _S3 + j]
        c[at + j] += a00 * b0 + a01 * b1 + a02 * b2 + a03 * b3
        c[at + _S + j] += a10 * b0 + a11 * b1 + a12 * b2 + a13 * b3
        c[at + _S2 + j] += a20 * b0 + a21 * b1 + a22 * b2 + a23 * b3
        c[at + _S3 + j] += a30 * b0 + a31 * b1 + a32 * b2 + a33 * b3


@jit
def _add_product(c, start, a, row, column, b, first, height, depth):
    """c [height, 32] += a [height, depth] b [depth, 32], both sizes multiples of 4.

    c begins at ``start`` and b at ``first``; element (i, p) of a lies at i row + p column.
    """
    row, column = _U(row), _U(column)
    for i in range(_0, _U(height), _4):
        for p in range(_0, _U(depth), _4):
            x = i * row + p * column
            y = x + row
            z = y + row
            w = z + row
            _multiply_add(
                c, _U(start) + i * _S, b, _U(first) + p * _S,
                a[x], a[x + column], a[x + _2 * column], a[x + _3 * column],
                a[y], a[y + column], a[y + _2 * column], a[y + _3 * column],
                a[z], a[z + column], a[z + _2 * column], a[z + _3 * column],
                a[w], a[w + column], a[w + _2 * column], a[w + _3 * column],
            )  # fmt: skip


@jit
def _copy(matrix, out, width, factor):
    """out [rows, width] = ``matrix`` times ``factor``; what out has beyond stays."""
    for i in range(matrix.shape[0]):
        row, at = contiguous(matrix, i), _U(i * width)
        for j in range(_U(matrix.shape[1])):
            out[at + j] = row[j] * out.dtype.type(factor)


@jit
def _columns(matrix, start, out, factor):
    """out [width, 32] = the transpose of 32 rows from ``start`` on, or of fewer and zeros."""
    rows = min(SIDE, matrix.shape[0] - start)
    if rows < SIDE:
        out[:] = out.dtype.type(0)
    for i in range(rows):
        row = contiguous(matrix, start + i)
        for j in range(_U(matrix.shape[1])):
            out[j * _S + _U(i)] = row[j] * out.dtype.type(factor)


@jit
def _uncolumns(matrix, start, out):
    for i in range(min(SIDE, out.shape[0] - start)):
        row = contiguous(out, start + i)
        for j in range(_U(out.shape[1])):
            row[j] = matrix[j * _S + _U(i)]


@jit
def _slices(matrix, start, out, factor):
    """out [ceil(width / 32), 32, 32] = 32 rows from ``start`` on, cut into slices of columns."""
    rows, width = min(SIDE, matrix.shape[0] - start), matrix.shape[1]
    if rows < SIDE or width % SIDE:
        out[:] = out.dtype.type(0)
    for i in range(rows):
        row = contiguous(matrix, start + i)
        for first in range(0, width, SIDE):
            at = _U(first * SIDE + i * SIDE)
            for j in range(_U(min(SIDE, width - first))):
                out[at + j] = row[_U(first) + j] * out.dtype.type(factor)


@jit
def _unslice(slices, height, out):
    """out [rows, width] = slices [ceil(width / 32), height, 32]"""
    for i in range(out.shape[0]):
        row = contiguous(out, i)
        for first in range(0, out.shape[1], SIDE):
            at = _U(first * height + i * SIDE)
            for j in range(_U(min(SIDE, out.shape[1] - first))):
                row[_U(first) + j] = slices[at + j]


@jit
def _fours(size):
    return (size + 3) // 4 * 4


@jit
def _sides(size):
    return (size + SIDE - 1) // SIDE


@jit
def _scores(s, k_rows, depth, some_q, keys, m, start, causal):
    """s [keys, 32] = the scaled scores; -inf for keys that a query does not see."""
    t = s.dtype.type
    for j in range(_U(keys * SIDE)):
        s[j] = t(0)
    _add_product(s, 0, k_rows, depth, 1, some_q, 0, keys, depth)
    for key in range(min(start, m) if causal else m, keys):
        at = _U(key * SIDE)
        for j in range(SIDE):
            if key >= m or (causal and key > start + j):
                s[at + _U(j)] = t(-np.inf)


@jit
def _forward(q, k, v, out, peaks, sums, scale, causal):
    t = q.dtype.type
    n, d, m, e = q.shape[2], q.shape[3], k.shape[2], v.shape[3]
    d4, e4, m4 = _fours(d), _fours(e), _fours(m)
    k_rows, v_rows = np.zeros(m4 * d4, q.dtype), np.zeros(m4 * e4, q.dtype)
    some_q, y = np.zeros(d4 * SIDE, q.dtype), np.empty(e4 * SIDE, q.dtype)
    s, peak, total = np.empty(m4 * SIDE, q.dtype), np.empty(SIDE, q.dtype), np.empty(SIDE, q.dtype)
    for a in range(q.shape[0]):
        for b in range(q.shape[1]):
            _copy(k[a, b], k_rows, d4, 1.0)
            _copy(v[a, b], v_rows, e4, 1.0)
            for start in range(0, n, SIDE):
                keys = min(m4, start + SIDE) if causal else m4
                _columns(q[a, b], start, some_q, scale)
                _scores(s, k_rows, d4, some_q, keys, m, start, causal)
                peak[:] = t(-np.inf)
                for key in range(keys):
                    at = _U(key * SIDE)
                    for j in range(_S):
                        peak[j] = peak[j] if peak[j] > s[at + j] else s[at + j]
                total[:] = t(0)
                for key in range(keys):
                    at = _U(key * SIDE)
                    for j in range(_S):
                        w = exp(s[at + j] - peak[j])
                        s[at + j] = w
                        total[j] += w
                y[:] = t(0)
                _add_product(y, 0, v_rows, 1, e4, s, 0, e4, keys)
                for i in range(e4):
                    at = _U(i * SIDE)
                    for j in range(_S):
                        y[at + j] /= total[j]
                _uncolumns(y, start, out[a, b])
                for i in range(min(SIDE, n - start)):
                    peaks[a, b, start + i, 0], sums[a, b, start + i, 0] = peak[i], total[i]


@jit
def _vjp(q, k, v, g, peaks, sums, gq, gk, gv, scale, causal):
    t = q.dtype.type
    n, d, m, e = q.shape[2], q.shape[3], k.shape[2], v.shape[3]
    d4, e4, m4 = _fours(d), _fours(e), _fours(m)
    k_rows, v_rows = np.zeros(m4 * d4, q.dtype), np.zeros(m4 * e4, q.dtype)
    all_gk = np.empty(m4 * _sides(d) * SIDE, q.dtype)
    all_gv = np.empty(m4 * _sides(e) * SIDE, q.dtype)
    some_q, some_g = np.zeros(d4 * SIDE, q.dtype), np.zeros(e4 * SIDE, q.dtype)
    q_slices = np.empty(_sides(d) * SIDE * SIDE, q.dtype)
    g_slices = np.empty(_sides(e) * SIDE * SIDE, q.dtype)
    some_gq = np.empty(d4 * SIDE, q.dtype)
    p, gp = np.empty(m4 * SIDE, q.dtype), np.empty(m4 * SIDE, q.dtype)
    peak, share, along = np.empty(SIDE, q.dtype), np.empty(SIDE, q.dtype), np.empty(SIDE, q.dtype)
    for a in range(q.shape[0]):
        for b in range(q.shape[1]):
            _copy(k[a, b], k_rows, d4, 1.0)
            _copy(v[a, b], v_rows, e4, 1.0)
            all_gk[:] = t(0)
            all_gv[:] = t(0)
            for start in range(0, n, SIDE):
                keys = min(m4, start + SIDE) if causal else m4
                _columns(q[a, b], start, some_q, scale)
                _columns(g[a, b], start, some_g, 1.0)
                _slices(q[a, b], start, q_slices, scale)
                _slices(g[a, b], start, g_slices, 1.0)
                _scores(p, k_rows, d4, some_q, keys, m, start, causal)
                for j in range(_U(keys * SIDE)):
                    gp[j] = t(0)
                _add_product(gp, 0, v_rows, e4, 1, some_g, 0, keys, e4)
                peak[:], share[:], along[:] = t(0), t(0), t(0)
                for i in range(min(SIDE, n - start)):
                    peak[i], share[i] = peaks[a, b, start + i, 0], t(1) / sums[a, b, start + i, 0]
                for key in range(keys):
                    at = _U(key * SIDE)
                    for j in range(_S):
                        w = exp(p[at + j] - peak[j]) * share[j]
                        p[at + j] = w
                        along[j] += w * gp[at + j]
                for key in range(keys):
                    at = _U(key * SIDE)
                    for j in range(_S):
                        gp[at + j] = (gp[at + j] - along[j]) * p[at + j]
                some_gq[:] = t(0)
                _add_product(some_gq, 0, k_rows, 1, d4, gp, 0, d4, keys)
                for j in range(_U(d4 * SIDE)):
                    some_gq[j] *= t(scale)
                _uncolumns(some_gq, start, gq[a, b])
                for i in range(_sides(d)):
                    _add_product(
                        all_gk, i * m4 * SIDE, gp, SIDE, 1, q_slices, i * SIDE * SIDE, keys, SIDE
                    )
                for i in range(_sides(e)):
                    _add_product(
                        all_gv, i * m4 * SIDE, p, SIDE, 1, g_slices, i * SIDE * SIDE, keys, SIDE
                    )
            _unslice(all_gk, m4, gk[a, b])
            _unslice(all_gv, m4, gv[a, b])


# --- the kernel -----------------------------------------------------------------------------------


def takes(q, k, v, mask, keep):
    """Whether the loops can do it, and would not mostly work on queries that are not there."""
    return (
        mask is None
        and keep is None
        and q.ndim <= 4
        and q.shape[-2] >= SIDE // 4
        and k.size > 0
        and v.size > 0
        and q.size > 0
        and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
    )


def forward(q, k, v, scale, causal):
    """q [..., n, d], k [..., m, d], v [..., m, e] → [..., n, e]; peaks and sums, each [..., n]."""
    q, k, v = map(_whole_rows, (q, k, v))
    # Laid out like q, so that merging the heads afterwards is a view and not a copy.
    out = np.empty_like(q, shape=(*q.shape[:-1], v.shape[-1]))
    peaks, sums = np.empty(q.shape[:-1], q.dtype), np.empty(q.shape[:-1], q.dtype)
    arrays = _in_two_dims(q, k, v, out, peaks[..., None], sums[..., None])
    spread(_forward, arrays, float(scale), causal, work=_work(q, k))
    return out, (peaks, sums)


def vjp(g, q, k, v, peaks, sums, scale, causal):
    """The gradients of q, k and v."""
    g, q, k, v = map(_whole_rows, (g, q, k, v))
    gq, gk, gv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    arrays = _in_two_dims(q, k, v, g, peaks[..., None], sums[..., None], gq, gk, gv)
    spread(_vjp, arrays, float(scale), causal, work=3 * _work(q, k))
    return gq, gk, gv


def _whole_rows(a):
    """The array with the elements of a row side by side, as the loops take them to lie."""
    return a if a.strides[-1] == a.itemsize else np.ascontiguousarray(a)


def _in_two_dims(*arrays):
    """The arrays with two leading dims, of which the longer one is first, to be spread."""
    ndim = arrays[0].ndim
    if ndim < 4:
        arrays = tuple(a[(None,) * (4 - ndim)] for a in arrays)
    if arrays[0].shape[0] < arrays[0].shape[1]:
        arrays = tuple(a.swapaxes(0, 1) for a in arrays)
    return arrays


def _work(q, k):
    """How long the forward pass takes, in elements of an elementwise loop."""
    return q.size * k.shape[-2] // 8
