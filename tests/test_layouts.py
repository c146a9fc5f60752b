"""Fused ops on arrays that lie otherwise in memory: from behind, every other number, transposed.

``from_numpy`` shares whatever memory an array has. The numbers must be those of a plain copy; a
loop that reads elsewhere would end the process.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import nn.functional as F
import tensorgrad
from tensorgrad import fused

HEADS = [(2, 3, 13, 9), (2, 3, 11, 9), (2, 3, 11, 7)]
LINEAR = [(45, 90), (91, 90), (91,)]

# name → (what is computed, the shapes of its arguments)
CASES: dict[str, tuple[Callable, list[tuple[int, ...]]]] = {
    "gelu": (F.gelu, [(13, 37)]),
    "gelu, tanh": (lambda x: F.gelu(x, approximate="tanh"), [(13, 37)]),
    "relu": (F.relu, [(13, 37)]),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (37,), w, b), [(13, 37), (37,), (37,)]),
    "rms_norm": (lambda x, w: F.rms_norm(x, (37,), w), [(13, 37), (37,)]),
    "softmax": (lambda x: F.softmax(x, -1), [(13, 37)]),
    "softmax of columns": (lambda x: F.softmax(x, 0), [(13, 37)]),
    "log_softmax": (lambda x: F.log_softmax(x, -1), [(13, 37)]),
    "cross_entropy": (
        lambda x: F.cross_entropy(x, tensorgrad.arange(13), reduction="none"), [(13, 37)]
    ),
    "embedding": (lambda w: F.embedding(tensorgrad.tensor([[1, 2, 2], [0, 5, 1]]), w), [(13, 37)]),
    "attention": (F.scaled_dot_product_attention, HEADS),
    "attention, causal": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        [(2, 3, 35, 9), (2, 3, 35, 9), (2, 3, 35, 7)],
    ),
    "attention with a mask": (F.scaled_dot_product_attention, [*HEADS, (13, 11)]),
    "matmul": (lambda x, w: x @ w, [(77, 90), (90, 91)]),
    "linear": (F.linear, LINEAR),
    "linear_relu": (fused.linear_relu, LINEAR),
    "linear_gelu": (fused.linear_gelu, LINEAR),
    "linear_add": (fused.linear_add, [*LINEAR, (45, 91)]),
}  # fmt: skip


def laid_out(x: np.ndarray) -> Iterator[np.ndarray]:
    """The same numbers in other places."""
    for count in range(1, x.ndim + 1):
        for axes in itertools.combinations(range(x.ndim), count):
            behind = tuple(slice(None, None, -1 if i in axes else 1) for i in range(x.ndim))
            yield x[behind].copy()[behind]
    yield x.repeat(2, axis=-1)[..., ::2]
    if x.ndim > 1:
        turned = np.ascontiguousarray(x.swapaxes(-1, -2))
        yield turned.swapaxes(-1, -2)
        yield turned[::-1].copy()[::-1].swapaxes(-1, -2)


def results(function: Callable, arrays: list[np.ndarray], g: np.ndarray) -> list[np.ndarray]:
    """What it gives, and the gradients of all arguments."""
    inputs: list[Any] = [tensorgrad.from_numpy(a).requires_grad_() for a in arrays]
    y = function(*inputs)
    y.backward(tensorgrad.from_numpy(g))
    return [y.detach().numpy(), *(x.grad.numpy() for x in inputs)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_the_same_numbers(backend: str, name: str, dtype: str) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    function, shapes = CASES[name]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    tensorgrad.backend.use(backend)
    try:
        shape = function(*map(tensorgrad.from_numpy, arrays)).shape
        arrays.append(rng.standard_normal(tuple(shape)).astype(dtype))
        expected = results(function, arrays[:-1], arrays[-1])
        tolerance = 1e-4 if dtype == "float32" else 1e-11
        for i, array in enumerate(arrays):
            for other in laid_out(array):
                given = [*arrays[:i], other, *arrays[i + 1 :]]
                found = results(function, given[:-1], given[-1])
                for a, b in zip(found, expected, strict=True):
                    np.testing.assert_allclose(a, b, tolerance, tolerance)
    finally:
        tensorgrad.backend.use()
