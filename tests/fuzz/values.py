"""Tensors of drawn numbers, the same in both libraries."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.lib.stride_tricks import as_strided

FLOATS = ("float64", "float32", "float16")
INTEGERS = ("int64", "int32", "int16", "int8", "uint8")
DTYPES = (*FLOATS, *INTEGERS, "bool")

SPECIAL = (0.0, 1.0, -1.0, -0.0, np.nan, np.inf, -np.inf, 0.5, -2.5, 90.0, -90.0, 3e4, 1e-4)


def _floats(rng, n, values):
    if values == "small":  # zeros, ties, halves
        return rng.integers(-6, 7, n) / 2
    if values == "normal":
        return rng.standard_normal(n).round(3)
    if values == "positive":
        return rng.uniform(0.5, 2.5, n).round(3)
    if values == "unit":
        return rng.uniform(-0.9, 0.9, n).round(3)
    if values == "distinct":
        return rng.permutation(n) * 0.25 - n * 0.1
    return rng.choice(SPECIAL, n)


def _integers(rng, n, values, dtype):
    if values == "positive":
        return rng.integers(1, 6, n)
    if values == "distinct":
        return rng.permutation(n)
    if values == "special":
        limits = np.iinfo(dtype)
        return rng.choice(np.array([0, 1, 2, 7, limits.max, limits.min], dtype), n)
    return rng.integers(0 if dtype == "uint8" else -3, 4, n)


def array(dtype, shape, seed, values="small", layout=""):
    """The numbers that ``seed`` stands for, as an array.

    ``layout``: "" is contiguous; "T" has its dims stored in reverse order, "S" every second element
    of a larger one, "E" is expanded along its last dim, whose elements are one and the same.
    """
    rng, n = np.random.default_rng(seed), prod(shape)
    if dtype == "bool":
        flat = rng.integers(0, 2, n).astype(bool)
    elif dtype in FLOATS:
        flat = _floats(rng, n, values).astype(dtype)
    else:
        flat = _integers(rng, n, values, dtype).astype(dtype)
    made = flat.reshape(shape)
    if layout == "T":
        made = np.asfortranarray(made)
    elif layout == "S" and made.ndim:
        larger = np.zeros((*shape[:-1], 2 * shape[-1] + 1), dtype)
        larger[..., 1::2] = made
        made = larger[..., 1::2]
    elif layout == "E" and made.size and shape[-1] > 1:
        first = np.array(made[..., :1])
        made = as_strided(first, shape, (*first.strides[:-1], 0), writeable=False)
    return made


def tensor_of(m):
    """The function ``t`` of a drawn line: :func:`array` as a tensor of the module ``m``."""
    return lambda *args: m.from_numpy(array(*args))


def indices_of(m):
    """The function ``i``: drawn integers in [low, high), int64 unless told otherwise."""

    def indices(low, high, shape, seed, dtype="int64"):
        drawn = np.random.default_rng(seed).integers(low, high, shape)
        return m.from_numpy(np.asarray(drawn, dtype))

    return indices


def permutation_of(m):
    """The function ``p``: the first k of the numbers 0..n-1 in a drawn order."""
    return lambda n, k, seed: m.from_numpy(np.random.default_rng(seed).permutation(n)[:k])
