"""Coin flips that a seed decides, wherever and in whatever order they are looked at.

Dropout within attention drops weights that are never all in memory at once, and has to know in the
backward pass which ones they were. So only a seed is drawn for each head; whether the weight in
row i and column j falls on heads is a hash of the seed, i and j: whole numbers, the same on every
machine and in every kernel.
"""

from __future__ import annotations

import numpy as np

BITS = 24  # of a hash that decide
STRIDE = 0x9E3779B9  # 2^32 over the golden ratio: neighbours get far apart
# Multipliers that C. Wellons found by search ("Prospecting for hash functions", 2018).
MIX_1, MIX_2 = 0x7FEB352D, 0x846CA68B


def heads_below(p):
    """The upper bits of a hash stand for heads where they are less than this number."""
    return round(p * 2**BITS)


def coin_flips(seeds, shape, p, first=0):
    """[...] integers → [..., rows, columns] booleans, each True with probability ``p``.

    ``first`` is the number of the first row: those of a block are those of the whole.
    """
    rows, columns = (np.arange(size, dtype=np.uint32) for size in shape)
    rows = _mixed(np.asarray(seeds).astype(np.uint32)[..., None] + _mixed(rows + np.uint32(first)))
    hashes = _mixed(rows[..., None] + columns * np.uint32(STRIDE))
    hashes >>= 32 - BITS
    return hashes < heads_below(p)


def _mixed(x):
    """A permutation of the 32-bit numbers in which every bit depends on every bit, in place."""
    t = x >> 16
    x ^= t
    x *= np.uint32(MIX_1)
    np.right_shift(x, 15, out=t)
    x ^= t
    x *= np.uint32(MIX_2)
    np.right_shift(x, 16, out=t)
    x ^= t
    return x
