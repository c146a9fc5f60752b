"""Scaled dot-product attention as loops, its matrix products among them.

The products of one head are too small for NumPy's: much of their time goes to calls, half of them
compute what the causal mask hides, and they stay on one thread. Here 32 queries are worked on
together and stand side by side in memory, as the columns of every matrix: scores [keys, 32],
queries [d, 32], results [e, 32]. So every innermost loop has the constant length 32, which becomes
vector instructions without a remainder, and a maximum or a sum over the keys adds whole rows. Where
there are no more than 16 queries, that many stand side by side: every part is told the ``side``,
and compiled for either, which the loops know as a constant.

As in ``attention``, two numbers are saved for each query, its largest score and its softmax's
denominator (Dao et al. 2022, section 3.1), and what is dropped follows from seeds.

The same code serves with and without a mask or dropout, for it takes seconds to compile: a mask is
what the scores begin with instead of zeros, and dropout a pass that may be left out.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from .. import coins
from ..threads import spread
from .loops import loop
from .machine_code import AVX512
from .parts import borrowed, part

contiguous, everything_from, exp = borrowed("lanes", "contiguous", "everything_from", "exp")
room, give_back = borrowed("lanes", "room", "give_back")
strip_4, strip_8, times = borrowed("tiles", "strip_4", "strip_8", "times")
transpose = borrowed("tiles", "transpose")

SIDE = 32  # queries side by side: two 512-bit registers of float32
SHORT = 16  # if there are no more
KEYS = 64  # worked on together: what is made of 32 queries and these stays in the first cache
# An unsigned index is not looked at for being negative, which would cost the vector instructions.
_U = np.uint64
_0, _1, _2, _3, _4, _8 = _U(0), _U(1), _U(2), _U(3), _U(4), _U(8)


@part
def _multiply_add(
    c, at, b, first,
    a00, a01, a02, a03, a10, a11, a12, a13, a20, a21, a22, a23, a30, a31, a32, a33, side,
):  # fmt: skip
    """c [4, side] += a [4, 4] b [4, side], where c begins at ``at`` and b at ``first``."""
    one, two, three = _U(side), _U(2 * side), _U(3 * side)  # rows further
    for j in range(one):
        b0, b1, b2, b3 = b[first + j], b[first + one + j], b[first + two + j], b[first + three + j]
        c[at + j] += a00 * b0 + a01 * b1 + a02 * b2 + a03 * b3
        c[at + one + j] += a10 * b0 + a11 * b1 + a12 * b2 + a13 * b3
        c[at + two + j] += a20 * b0 + a21 * b1 + a22 * b2 + a23 * b3
        c[at + three + j] += a30 * b0 + a31 * b1 + a32 * b2 + a33 * b3


@part
def _add_product(c, start, a, begin, row, column, b, first, height, depth, side):
    """c [height, side] += a [height, depth] b [depth, side], both sizes multiples of 4.

    c begins at ``start``, b at ``first``; element (i, p) of a lies at begin + i row + p column.
    Where row, column and depth are written as constants, Numba compiles a version for them.
    """
    begin, row, column, one = _U(begin), _U(row), _U(column), _U(side)
    if AVX512:
        i = _0
        if c.itemsize == 4:
            while i + _8 <= height:
                strip_8(
                    _U(depth), a, begin + i * row, row, column, b, first, c, start + i * one, side
                )
                i += _8
        while i < height:
            strip_4(_U(depth), a, begin + i * row, row, column, b, first, c, start + i * one, side)
            i += _4
        return
    for i in range(_0, height, _4):
        for p in range(_0, _U(depth), _4):
            x = begin + i * row + p * column
            y = x + row
            z = y + row
            w = z + row
            _multiply_add(
                c, start + i * one, b, first + p * one,
                a[x], a[x + column], a[x + _2 * column], a[x + _3 * column],
                a[y], a[y + column], a[y + _2 * column], a[y + _3 * column],
                a[z], a[z + column], a[z + _2 * column], a[z + _3 * column],
                a[w], a[w + column], a[w + _2 * column], a[w + _3 * column], side,
            )  # fmt: skip


@part
def _zeros(like, size):
    numbers = room(size, like)
    for i in range(size):
        numbers[i] = like.dtype.type(0)
    return numbers


@part
def _fill(x, height, value, side):
    """x [height, side] = value"""
    for i in range(height):
        at = _U(i * side)
        for j in range(_U(side)):
            x[at + j] = x.dtype.type(value)


@part
def _multiply(x, height, by, side):
    """x [height, side] *= by [side]"""
    for i in range(height):
        at = _U(i * side)
        for j in range(_U(side)):
            x[at + j] *= by[j]


@part
def _move(source, s, factor, target, t, width, side):
    """target[t + j] = source[s + j] factor, j < width"""
    by, whole = target.dtype.type(factor), width - width % side
    for first in range(0, whole, side):
        times(source, s + first, by, target, t + first, side)
    for j in range(_U(whole), _U(width)):
        target[_U(t) + j] = source[_U(s) + j] * by


@part
def _copy(matrix, out, width, factor, side):
    """out [rows, width] = ``matrix`` times ``factor``; what out has beyond stays."""
    numbers, stride = everything_from(matrix), matrix.strides[0] // matrix.itemsize
    for i in range(matrix.shape[0]):
        _move(numbers, i * stride, factor, out, i * width, matrix.shape[1], side)


@part
def _columns(matrix, start, out, side):
    """out [width, side] = the transpose of rows from ``start`` on, or of fewer and zeros."""
    rows, width = min(side, matrix.shape[0] - start), matrix.shape[1]
    if rows < side:
        _fill(out, out.size // side, 0.0, side)
    numbers, stride = everything_from(matrix), matrix.strides[0] // matrix.itemsize
    transpose(numbers, start * stride, stride, out, 0, side, rows, width)


@part
def _uncolumns(matrix, start, out, side):
    """So many rows of ``out`` [.., width] from ``start`` on = those of matrix [width, side]ᵀ."""
    rows, width = min(side, out.shape[0] - start), out.shape[1]
    numbers, stride = everything_from(out), out.strides[0] // out.itemsize
    transpose(matrix, 0, side, numbers, start * stride, stride, width, rows)


@part
def _slices(matrix, start, out, factor, side):
    """out [ceil(width / side), side, side] = rows from ``start`` on, cut into slices of columns."""
    rows, width = min(side, matrix.shape[0] - start), matrix.shape[1]
    if rows < side or width % side:
        _fill(out, out.size // side, 0.0, side)
    numbers, stride = everything_from(matrix), matrix.strides[0] // matrix.itemsize
    for i in range(rows):
        for first in range(0, width, side):
            there, at = (start + i) * stride + first, (first + i) * side
            _move(numbers, there, factor, out, at, min(side, width - first), side)


@part
def _unslice(slices, height, out, side):
    """out [rows, width] = slices [ceil(width / side), height, side]"""
    numbers, stride = everything_from(out), out.strides[0] // out.itemsize
    for i in range(out.shape[0]):
        for first in range(0, out.shape[1], side):
            at, there = first * height + i * side, i * stride + first
            _move(slices, at, 1.0, numbers, there, min(side, out.shape[1] - first), side)


@part
def _fours(size):
    return (size + 3) // 4 * 4


@part
def _sides(size, side):
    return (size + side - 1) // side


@part
def _scores(s, k_rows, depth, some_q, first, last, m, start, causal, masks, which, side):
    """s [last - first, side] = k_rows some_q plus a mask, -inf for keys a query does not see."""
    t = s.dtype.type
    if masks.size:
        mask = contiguous(masks, which)
        width = mask.size // _fours(m)
        for key in range(first, last):
            at, there = _U((key - first) * side), _U(key * width + start)
            for j in range(_U(side)):
                s[at + j] = mask[there + j]
    else:
        _fill(s, last - first, 0.0, side)
    _add_product(
        s, _0, k_rows, first * depth, _U(depth), _1, some_q, _0, _U(last - first), _U(depth), side
    )
    for key in range(max(first, min(start, m) if causal else m), last):
        at, seen = _U((key - first) * side), _U(side)  # from which query on
        if key < m:
            seen = _U(key - start)
        for j in range(_U(side)):
            s[at + j] = s[at + j] if j >= seen else t(-np.inf)


_MIX_1, _MIX_2, _STRIDE = map(np.uint32, (coins.MIX_1, coins.MIX_2, coins.STRIDE))


@part
def _mixed(x):
    """See :func:`..coins._mixed`. (Without these casts Numba would go on with 64 bits.)"""
    x = np.uint32(np.uint32(x ^ (x >> np.uint32(16))) * _MIX_1)
    x = np.uint32(np.uint32(x ^ (x >> np.uint32(15))) * _MIX_2)
    return np.uint32(x ^ (x >> np.uint32(16)))


@part
def _coin_rows(seed, start, out, side):
    """out [side] = what :func:`..coins.coin_flips` makes of a seed for rows from ``start`` on."""
    for j in range(side):
        out[j] = _mixed(np.uint32(np.uint32(seed) + _mixed(np.uint32(start + j))))


@part
def _drop(x, rows, first, last, limit, factor, side):
    """x [last - first, side] times ``factor``, or 0, as the coins fall; see :mod:`..coins`."""
    t = x.dtype.type
    for key in range(first, last):
        at, column = _U((key - first) * side), np.uint32(np.uint32(key) * _STRIDE)
        for j in range(_U(side)):
            hash = _mixed(np.uint32(rows[j] + column))
            heads = np.uint32(hash >> np.uint32(32 - coins.BITS)) < np.uint32(limit)
            x[at + j] = x[at + j] * t(factor) if heads else t(0)


@part
def _exponentials(s, keys, peak, total, top, factor, side):
    """s [keys, side] = exp(s - peak), where peak and total, of these and earlier keys, go on.

    ``factor`` is what makes up for the lower peak, in what was computed with that.
    """
    t = s.dtype.type
    one, two, three = _U(side), _U(2 * side), _U(3 * side)  # rows further
    for j in range(one):
        factor[j] = peak[j]
    for key in range(_0, _U(keys), _4):  # four at a time, for each must wait for the one before
        at = key * one
        for j in range(one):
            a, b = s[at + j], s[at + one + j]
            c, d = s[at + two + j], s[at + three + j]
            a, c = a if a > b else b, c if c > d else d
            a = a if a > c else c
            peak[j] = peak[j] if peak[j] > a else a
    for j in range(one):
        top[j] = peak[j] if peak[j] > t(-np.inf) else t(0)  # nothing to see: weights of 0
        factor[j] = exp(factor[j] - top[j])
        total[j] *= factor[j]
    for key in range(_0, _U(keys), _4):
        at = key * one
        for j in range(one):
            a, b = exp(s[at + j] - top[j]), exp(s[at + one + j] - top[j])
            c, d = exp(s[at + two + j] - top[j]), exp(s[at + three + j] - top[j])
            s[at + j], s[at + one + j], s[at + two + j], s[at + three + j] = a, b, c, d
            total[j] += (a + b) + (c + d)


@part
def _weights(p, gp, keys, peak, inverse, along, side):
    """p [keys, side] = the weights exp(p - peak) inverse; along += the sums of p gp."""
    for key in range(_0, _U(keys), _2):
        at, below = key * _U(side), (key + _1) * _U(side)
        for j in range(_U(side)):
            a = exp(p[at + j] - peak[j]) * inverse[j]
            b = exp(p[below + j] - peak[j]) * inverse[j]
            p[at + j], p[below + j] = a, b
            along[j] += a * gp[at + j] + b * gp[below + j]


@part
def _softmax_vjp(gp, p, keys, along, side):
    """gp [keys, side] = the gradient p (gp - along) of the scores."""
    for key in range(_0, _U(keys), _2):  # two at a time: a tenth of a backward pass less
        at, below = key * _U(side), (key + _1) * _U(side)
        for j in range(_U(side)):
            gp[at + j] = (gp[at + j] - along[j]) * p[at + j]
            gp[below + j] = (gp[below + j] - along[j]) * p[below + j]


def _forward(q, k, v, out, peaks, sums, seeds, which, masks, scale, causal, limit, factor, side):
    n, d, m, e = q.shape[2], q.shape[3], k.shape[2], v.shape[3]
    d4, e4, m4 = _fours(d), _fours(e), _fours(m)
    k_rows, v_rows, s = _zeros(q, m4 * d4), _zeros(q, m4 * e4), _zeros(q, KEYS * side)
    some_q, y = _zeros(q, d4 * side), _zeros(q, e4 * side)
    peak, total, rows = _zeros(q, side), _zeros(q, side), _zeros(seeds, side)
    top, lower = _zeros(q, side), _zeros(q, side)
    for a in range(q.shape[0]):
        for b in range(q.shape[1]):
            one_q, one_out, own = q[a, b], out[a, b], which[a, b]
            _copy(k[a, b], k_rows, d4, scale, side)
            _copy(v[a, b], v_rows, e4, 1.0, side)
            for start in range(0, n, side):
                keys = min(m4, start + side) if causal else m4
                _columns(one_q, start, some_q, side)
                if factor != 1:
                    _coin_rows(seeds[a, b], start, rows, side)
                _fill(y, e4, 0.0, side)
                _fill(total, 1, 0.0, side)
                _fill(peak, 1, -np.inf, side)
                for first in range(0, keys, KEYS):
                    last = min(first + KEYS, keys)
                    _scores(s, k_rows, d4, some_q, first, last, m, start, causal, masks, own, side)
                    _exponentials(s, last - first, peak, total, top, lower, side)
                    if factor != 1:
                        _drop(s, rows, first, last, limit, factor, side)
                    if first > 0:
                        _multiply(y, e4, lower, side)
                    size = _U(last - first)
                    _add_product(y, _0, v_rows, first * e4, _1, _U(e4), s, _0, _U(e4), size, side)
                for i in range(side):
                    total[i] = total[i] if total[i] != 0 else 1
                    lower[i] = 1 / total[i]
                _multiply(y, e4, lower, side)
                _uncolumns(y, start, one_out, side)
                for i in range(min(side, n - start)):
                    peaks[a, b, start + i], sums[a, b, start + i] = top[i], total[i]
    for numbers in (k_rows, v_rows, s, some_q, y, peak, total, top, lower):
        give_back(numbers)
    give_back(rows)


def _vjp(
    q, k, v, g, peaks, sums, gq, gk, gv, g_mask, seeds, which, masks, scale, causal, limit,
    factor, side,
):  # fmt: skip
    n, d, m, e = q.shape[2], q.shape[3], k.shape[2], v.shape[3]
    d4, e4, m4 = _fours(d), _fours(e), _fours(m)
    k_rows, v_rows, p, gp = (
        _zeros(q, m4 * d4), _zeros(q, m4 * e4), _zeros(q, m4 * side), _zeros(q, m4 * side)
    )  # fmt: skip
    all_gk, all_gv = _zeros(q, m4 * _sides(d, side) * side), _zeros(q, m4 * _sides(e, side) * side)
    some_q, some_g, some_gq = _zeros(q, d4 * side), _zeros(q, e4 * side), _zeros(q, d4 * side)
    q_slices = _zeros(q, _sides(d, side) * side * side)
    g_slices = _zeros(q, _sides(e, side) * side * side)
    peak, inverse, along, rows = (
        _zeros(q, side), _zeros(q, side), _zeros(q, side), _zeros(seeds, side)
    )  # fmt: skip
    for a in range(q.shape[0]):
        for b in range(q.shape[1]):
            one_q, one_g, one_gq, own = q[a, b], g[a, b], gq[a, b], which[a, b]
            _copy(k[a, b], k_rows, d4, scale, side)
            _copy(v[a, b], v_rows, e4, 1.0, side)
            _fill(all_gk, m4 * _sides(d, side), 0.0, side)
            _fill(all_gv, m4 * _sides(e, side), 0.0, side)
            for start in range(0, n, side):
                keys = min(m4, start + side) if causal else m4
                _columns(one_q, start, some_q, side)
                _columns(one_g, start, some_g, side)
                _slices(one_q, start, q_slices, scale, side)
                _slices(one_g, start, g_slices, 1.0, side)
                if factor != 1:
                    _coin_rows(seeds[a, b], start, rows, side)
                for i in range(side):
                    there = start + i < n  # or there is no such query
                    peak[i] = peaks[a, b, start + i] if there else 0
                    inverse[i] = 1 / sums[a, b, start + i] if there else 0
                    along[i] = 0
                for first in range(0, keys, KEYS):
                    last = min(first + KEYS, keys)
                    x, gx = p[first * side : last * side], gp[first * side : last * side]
                    size = _U(last - first)
                    _scores(x, k_rows, d4, some_q, first, last, m, start, causal, masks, own, side)
                    _fill(gx, last - first, 0.0, side)
                    _add_product(
                        gx, _0, v_rows, first * e4, _U(e4), _1, some_g, _0, size, _U(e4), side
                    )
                    if factor != 1:
                        _drop(gx, rows, first, last, limit, factor, side)
                    _weights(x, gx, size, peak, inverse, along, side)
                _fill(some_gq, d4, 0.0, side)
                for first in range(0, keys, KEYS):
                    last = min(first + KEYS, keys)
                    x, gx = p[first * side : last * side], gp[first * side : last * side]
                    size = _U(last - first)
                    _softmax_vjp(gx, x, last - first, along, side)
                    if g_mask.size:
                        _uncolumns(gx, start, g_mask[a, b][:, first:last], side)
                    if factor != 1:
                        _drop(x, rows, first, last, limit, factor, side)
                    _add_product(
                        some_gq, _0, k_rows, first * d4, _1, _U(d4), gx, _0, _U(d4), size, side
                    )
                    for i in range(_U(_sides(d, side))):
                        at, piece = (i * _U(m4) + _U(first)) * _U(side), i * _U(side) * _U(side)
                        _add_product(all_gk, at, gx, 0, side, 1, q_slices, piece, size, side, side)
                    for i in range(_U(_sides(e, side))):
                        at, piece = (i * _U(m4) + _U(first)) * _U(side), i * _U(side) * _U(side)
                        _add_product(all_gv, at, x, 0, side, 1, g_slices, piece, size, side, side)
                _uncolumns(some_gq, start, one_gq, side)
            _unslice(all_gk, m4, gk[a, b], side)
            _unslice(all_gv, m4, gv[a, b], side)
    for numbers in (
        k_rows, v_rows, p, gp, all_gk, all_gv, some_q, some_g, some_gq, q_slices, g_slices,
        peak, inverse, along,
    ):  # fmt: skip
        give_back(numbers)
    give_back(rows)


_long_forward, _short_forward = (loop(_forward, any_layout=True, last=n) for n in (SIDE, SHORT))
_long_vjp, _short_vjp = (loop(_vjp, any_layout=True, last=n) for n in (SIDE, SHORT))


# --- the kernel -----------------------------------------------------------------------------------


def takes(q, k, v, mask, seeds):
    """Whether the loops can do it, and would not mostly work on queries that are not there."""
    lead = q.shape[:-2]
    return (
        q.ndim <= 4
        and q.shape[-2] >= SIDE // 4
        and k.size > 0
        and v.size > 0
        and q.size > 0
        and lead == k.shape[:-2] == v.shape[:-2]
        and (seeds is None or seeds.shape == lead)
        and (mask is None or (mask.ndim >= 2 and _fits(mask.shape[:-2], lead)))
    )


def _fits(own, lead):
    """Whether the dims ``own`` broadcast to ``lead``."""
    return len(own) <= len(lead) and all(a in (1, b) for a, b in zip(own[::-1], lead[::-1]))


def forward(q, k, v, mask, seeds, *, scale, causal, dropout):
    """q [..., n, d], k [..., m, d], v [..., m, e] → [..., n, e]; for the vjp, two [..., n]."""
    q, k, v = map(_whole_rows, (q, k, v))
    # Laid out like q, so that merging the heads afterwards is a view and not a copy.
    out = np.empty_like(q, shape=(*q.shape[:-1], v.shape[-1]))
    arrays = _in_two_dims(q, k, v, out)
    peaks, sums = (np.empty(arrays[0].shape[:3], q.dtype) for _ in range(2))
    *heads, masks = _of_heads(q, k, mask, seeds)
    numbers = float(scale), causal, *_odds(dropout)
    loops = _short_forward if q.shape[-2] <= SHORT else _long_forward
    spread(loops, (*arrays, peaks, sums, *heads), masks, *numbers, work=_work(q, k))
    return out, (peaks, sums)


def vjp(g, inputs, saved, needs, *, scale, causal, dropout):
    """The gradients of q, k and v, and of the mask if it needs one."""
    *qkv, mask, seeds = inputs
    g, q, k, v = map(_whole_rows, (g, *qkv))
    gq, gk, gv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
    pairs = (q.shape[-2], k.shape[-2]) if needs[3] else (0, 0)
    g_mask = np.zeros((*q.shape[:-2], *pairs), q.dtype)
    q2, k2, v2, g2, *gradients = _in_two_dims(q, k, v, g, gq, gk, gv, g_mask)
    *heads, masks = _of_heads(q, k, mask, seeds)
    numbers = float(scale), causal, *_odds(dropout)
    arrays = (q2, k2, v2, g2, *saved, *gradients, *heads)
    loops = _short_vjp if q.shape[-2] <= SHORT else _long_vjp
    spread(loops, arrays, masks, *numbers, work=3 * _work(q, k))
    return gq, gk, gv, g_mask if needs[3] else None, None


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


def _of_heads(q, k, mask, seeds):
    """Each head's seed and the number of its mask; the masks [count, keys, queries], as numbers.

    As the scores lie: so keys and queries are filled up to whole turns of the loops.
    """
    (*lead, n, _), m = q.shape, k.shape[-2]
    if mask is None and seeds is None:
        return _nothing(*_in_two_dims(q)[0].shape[:2], q.dtype)
    seeds = np.zeros(lead, np.int64) if seeds is None else np.asarray(seeds, np.int64)
    which, masks = np.zeros_like(seeds), np.empty((0, 0), q.dtype)
    if mask is not None:
        *own, _, _ = mask.shape
        if mask.dtype == np.bool_:
            mask = np.where(mask, q.dtype.type(0), q.dtype.type(-np.inf))
        masks = np.full((*own, -(-m // 4) * 4, -(-n // SIDE) * SIDE), -np.inf, q.dtype)
        masks[..., :m, :n] = mask.swapaxes(-1, -2)
        masks = masks.reshape(math.prod(own), -1)
        which[...] = np.arange(len(masks)).reshape(own)
    heads = _in_two_dims(seeds[..., None, None], which[..., None, None])
    return *(np.ascontiguousarray(x[..., 0, 0]) for x in heads), masks


@lru_cache(maxsize=64)
def _nothing(rows, columns, dtype):
    """What :func:`_of_heads` gives without masks and seeds; nobody writes into it."""
    none = np.zeros((rows, columns), np.int64)
    return none, none, np.empty((0, 0), dtype)


def _odds(dropout):
    """What is compared with a hash, and what the weights that are left are multiplied by."""
    return coins.heads_below(1 - dropout), 1 / (1 - dropout) if dropout < 1 else 0.0


def _work(q, k):
    """How long the forward pass takes, in elements of an elementwise loop."""
    return q.size * k.shape[-2] // 8
