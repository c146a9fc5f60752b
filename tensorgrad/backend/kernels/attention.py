"""Scaled dot-product attention, block by block: memory grows with the sequence, not its square.

A block is some queries of some heads against all the keys that they may see, small enough that
its scores stay in the cache. The matrix products are NumPy's; the passes over the scores between
them come from the gallery in use, ``plain`` or ``compiled``. What is saved for the backward pass
are two numbers for each query, its largest score and its softmax's denominator, from which the
weights are computed again (Dao et al. 2022, section 3.1, where also a query's row is split); and
which weights are dropped, seeds tell again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..coins import coin_flips
from .kernel import Kernel

SCORES = 1 << 17  # numbers in a block: half a megabyte of float32
QUERIES = 64  # of a block, at least, for the matrix products to be worth their call


def attention_kernel(rows: Any) -> Kernel:
    """The kernel made of ``rows.softmax_scores``, ``.weights_again`` and ``.scores_vjp``."""

    def forward(q, k, v, mask, seeds, *, scale, causal, dropout):
        q, k, v, mask, seeds = _aligned(q, k, v, mask, seeds)
        lead, n = q.shape[:-2], q.shape[-2]
        # Laid out like q, so that merging the heads afterwards is a view and not a copy.
        make = np.empty_like if k.shape[-2] else np.zeros_like
        out = make(q, shape=(*lead, n, v.shape[-1]))
        peaks, sums = np.empty((*lead, n), q.dtype), np.empty((*lead, n), q.dtype)
        for at, queries, keys in _blocks(lead, n, k.shape[-2], causal):
            here, seen, pairs = (*at, queries), (*at, keys), (*at, queries, keys)
            p = q[here] @ np.swapaxes(k[seen], -1, -2)
            factor = scale
            if mask is not None:
                factor = _add_mask(p, mask[pairs], scale)
            first = queries.start if causal else None
            peaks[here], total = rows.softmax_scores(p, factor, first)
            sums[here] = total
            if seeds is not None:
                p *= _kept(seeds[at], queries, keys, dropout, p.dtype)
            block = np.matmul(p, v[seen], out=out[here])
            block /= total[..., None]  # rather than p, whose rows are longer
        return out, (peaks, sums)

    def vjp(g, inputs, saved, needs, *, scale, causal, dropout):
        peaks, sums = saved
        q, k, v, mask, seeds = _aligned(*inputs)
        lead, n, m = q.shape[:-2], q.shape[-2], k.shape[-2]
        # Keys that no query sees are in no block.
        make = np.zeros_like if m == 0 or n == 0 or (causal and n < m) else np.empty_like
        gq, gk, gv = make(q), make(k), make(v)
        g_mask = np.zeros((*lead, n, m), q.dtype) if needs[3] else None
        for at, queries, keys in _blocks(lead, n, m, causal):
            here, seen, pairs = (*at, queries), (*at, keys), (*at, queries, keys)
            first = queries.start if causal else None
            p = q[here] @ np.swapaxes(k[seen], -1, -2)
            factor = scale if mask is None else _add_mask(p, mask[pairs], scale)
            rows.weights_again(p, factor, first, peaks[here], sums[here])
            gp = g[here] @ np.swapaxes(v[seen], -1, -2)
            dropped = p
            if seeds is not None:
                kept = _kept(seeds[at], queries, keys, dropout, p.dtype)
                gp *= kept
                dropped = p * kept
            last = queries.stop == n  # the first block of its heads: it sees all keys
            _put(gv[seen], dropped, g[here], add=not last)
            rows.scores_vjp(gp, p)
            if g_mask is not None:
                g_mask[pairs] = gp
            gp *= gp.dtype.type(scale)
            np.matmul(gp, k[seen], out=gq[here])
            _put(gk[seen], gp, q[here], add=not last)
        return gq, gk, gv, g_mask, None

    return Kernel(forward, vjp)


def _put(out, a, b, add):
    """out = aᵀ b, or what was there plus that."""
    a = np.swapaxes(a, -1, -2)
    if add:
        out += a @ b
    else:
        np.matmul(a, b, out=out)


def _add_mask(scores, mask, scale):
    """scores = scale scores + mask; returns the factor that is left, 1."""
    scores *= scores.dtype.type(scale)
    if mask.dtype == np.bool_:
        np.copyto(scores, -np.inf, where=~mask)
    else:
        scores += mask
    return 1.0


def _kept(seeds, queries, keys, dropout, dtype):
    """What dropout multiplies the weights of a block by."""
    factor = 1 / (1 - dropout) if dropout < 1 else 0.0
    shape = (queries.stop - queries.start, keys.stop)
    return coin_flips(seeds, shape, 1 - dropout, queries.start) * dtype.type(factor)


def _aligned(q, k, v, mask, seeds):
    """The arrays with the same leading dims; mask [..., n, m] and seeds [...] if there are any."""
    n, m = q.shape[-2], k.shape[-2]
    lead = q.shape[:-2]
    given = [a.shape[:-2] for a in (k, v, mask) if a is not None]
    given += [] if seeds is None else [seeds.shape]
    if any(own != lead for own in given) or mask is not None:
        lead = np.broadcast_shapes(lead, *given)
        q, k, v = (np.broadcast_to(a, lead + a.shape[-2:]) for a in (q, k, v))
        mask = mask if mask is None else np.broadcast_to(mask, (*lead, n, m))
        seeds = seeds if seeds is None else np.broadcast_to(seeds, lead)
    return q, k, v, mask, seeds


def _blocks(lead, n, m, causal) -> Iterator[tuple[tuple, slice, slice]]:
    """(heads, queries, keys) of every block; for the same heads the last queries come first."""
    if causal:
        m = min(n, m)
    if not (n and m):
        return
    size = n if not causal and n * m <= SCORES else min(n, max(QUERIES, SCORES // m // 8))
    for heads in _pieces(lead, max(1, SCORES // (size * m))):
        for start in reversed(range(0, n, size)):
            stop = min(start + size, n)
            yield heads, slice(start, stop), slice(0, min(stop, m) if causal else m)


def _pieces(lead, most) -> Iterator[tuple]:
    """Indices that together select all of the leading dims, at most ``most`` elements each."""
    axis, whole = len(lead), 1
    while axis and whole * lead[axis - 1] <= most:
        axis -= 1
        whole *= lead[axis]
    rest = (slice(None),) * (len(lead) - axis)
    if not axis:
        yield rest
        return
    step = most // whole
    for outer in np.ndindex(*lead[: axis - 1]):
        for i in range(0, lead[axis - 1], step):
            yield (*outer, slice(i, i + step), *rest)
