"""The gradient of a weight is written straight into ``.grad``: nothing of its size is made beside.

The first product becomes ``.grad``; those of later batches, and of further uses, begin with it.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import nn
import nn.functional as F
import tensorgrad
from tensorgrad.backend import products, threads

BATCH, WIDTH, OUT = 64, 512, 2048
SIZE = OUT * WIDTH * 4  # bytes of the weight


@pytest.fixture(params=["numpy", "numba"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "numba":
        pytest.importorskip("numba")
    tensorgrad.backend.use(request.param)
    yield request.param
    tensorgrad.backend.use()


def peak(call: Callable[[], object]) -> int:
    """Bytes that are allocated at a time while ``call`` runs."""
    call()  # so that kernels are compiled
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def whole_numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Their products and sums are exact in any order."""
    return np.random.default_rng(seed).integers(-9, 10, shape).astype("f")


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("threads_", [1, 2])
def test_nothing_of_its_size_is_made(
    backend: str, threads_: int, hooked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "COUNT", threads_)
    layer = nn.Linear(WIDTH, OUT, bias=False)
    x, g = whole_numbers(BATCH, WIDTH), whole_numbers(BATCH, OUT, seed=1)
    told = []
    if hooked:
        layer.weight.register_post_accumulate_grad_hook(lambda p: told.append(p.grad.numpy()))

    def backward() -> None:
        layer(tensorgrad.from_numpy(x)).backward(tensorgrad.from_numpy(g))

    def first() -> None:
        layer.weight.grad = None
        backward()

    activations = 3 * g.nbytes  # the result, and what is copied of them
    assert peak(first) < SIZE + activations
    kept, memory = layer.weight.grad, layer.weight.grad.numpy()
    assert peak(backward) < 0.6 * SIZE + activations
    assert layer.weight.grad is kept
    assert kept.numpy() is memory
    np.testing.assert_array_equal(memory, 3 * (g.T @ x))
    if hooked:
        assert len(told) == 4
        assert told[-1] is memory


LAYERS: dict[str, Any] = {
    "linear": F.linear,
    "linear_add": lambda x, w, b: tensorgrad.fused.linear_add(x, w, b, tensorgrad.ones(1)),
    "linear_relu": tensorgrad.fused.linear_relu,
    "linear_gelu": tensorgrad.fused.linear_gelu,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_batches_and_uses_add_up(backend: str, name: str, dtype: str) -> None:
    """One weight used twice in each of two passes: the sum of the gradients by themselves."""
    rng = np.random.default_rng(0)
    w = tensorgrad.from_numpy(rng.standard_normal((48, 96)).astype(dtype)).requires_grad_()
    b = tensorgrad.from_numpy(rng.standard_normal(48).astype(dtype)).requires_grad_()
    inputs = [rng.standard_normal((3, 32, 96)).astype(dtype) for _ in range(4)]
    layer = LAYERS[name]
    alone = [
        tensorgrad.autograd.grad(layer(tensorgrad.from_numpy(x), w, b).square().sum(), [w, b])
        for x in inputs
    ]
    for pair in (inputs[:2], inputs[2:]):
        sum(layer(tensorgrad.from_numpy(x), w, b).square().sum() for x in pair).backward()
    rtol = {"float32": 2e-5, "float64": 1e-13}[dtype]
    for p, parts in zip((w, b), zip(*alone, strict=True), strict=True):
        expected = sum(part.numpy() for part in parts)
        np.testing.assert_allclose(p.grad.numpy(), expected, rtol, rtol * abs(expected).max())


def test_hooks_see_what_they_saw(backend: str) -> None:
    """One before sees the gradient of this pass alone; one after, all of it and once."""
    layer = nn.Linear(64, 96, bias=False)
    x = whole_numbers(32, 64)
    once = np.ones((96, 32), "f") @ x

    def backward() -> None:
        (layer(tensorgrad.from_numpy(x)) + layer(tensorgrad.from_numpy(x))).sum().backward()

    backward()
    seen: list[np.ndarray] = []
    after = layer.weight.register_post_accumulate_grad_hook(
        lambda p: seen.append(p.grad.numpy().copy())
    )
    backward()
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], 4 * once)
    layer.weight.register_hook(lambda g: seen.append(g.numpy().copy()))
    backward()
    assert len(seen) == 3
    np.testing.assert_array_equal(seen[1], 2 * once)
    np.testing.assert_array_equal(seen[2], 6 * once)
    after.remove()
    backward()
    assert len(seen) == 4
    np.testing.assert_array_equal(seen[3], 2 * once)
    np.testing.assert_array_equal(layer.weight.grad.numpy(), 8 * once)


def test_a_gradient_that_shares_memory_with_the_input(backend: str) -> None:
    """It is read to the end before it is written, and its other user is told."""
    n = 600  # more than is read, or computed, at a time
    w = tensorgrad.ones(n, n, requires_grad=True)
    x = tensorgrad.from_numpy(whole_numbers(n, n))
    expected = x.numpy() + np.ones((n, n), "f") @ x.numpy()
    y = F.linear(x, w)
    w.grad = x
    y.sum().backward()
    np.testing.assert_array_equal(x.numpy(), expected)
    factors = tensorgrad.ones(n, n, requires_grad=True)
    loss = (factors * x).sum() + F.linear(x, w).sum()
    with pytest.raises(RuntimeError, match="the accumulation of gradients"):
        loss.backward()


def test_what_was_computed_with_the_gradient_is_told(backend: str) -> None:
    layer, x = nn.Linear(64, 96), tensorgrad.from_numpy(whole_numbers(32, 64))
    layer(x).sum().backward()
    squares = (layer.weight.grad.detach().requires_grad_() ** 2).sum()
    layer(x).sum().backward()
    with pytest.raises(RuntimeError, match="the accumulation of gradients"):
        squares.backward()


def outs(x: np.ndarray) -> list[np.ndarray]:
    """Copies: in rows, in columns, and as a part of another array."""
    wide = np.zeros((x.shape[0] + 2, 2 * x.shape[1]), x.dtype)
    wide[1:-1, ::2] = x
    return [x.copy(), x.copy("F"), wide[1:-1, ::2]]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("shape", [(96, 64, 48), (1200, 3, 5), (5, 2, 1300), (100, 800, 100),
                                   (7, 0, 9), (0, 4, 9), (1, 1, 1)])  # fmt: skip
def test_a_product_is_added(
    backend: str, shape: tuple[int, int, int], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "COUNT", count)
    monkeypatch.setattr(threads, "_inbox", None)
    monkeypatch.setattr(products, "SHORT", 0)
    monkeypatch.setattr(products, "SMALL", 0)
    m, k, n = shape
    a, b = whole_numbers(m, k), whole_numbers(k, n, seed=1)
    before = whole_numbers(m, n, seed=2)
    product = products.Product(a, b)
    assert (product.shape, product.dtype) == ((m, n), np.float32)
    np.testing.assert_array_equal(np.asarray(product), a @ b)
    for out in outs(before):
        product.add_to(out)
        np.testing.assert_array_equal(out, before + a @ b)
    double = before.astype(np.float64)
    product.add_to(double)
    np.testing.assert_array_equal(double, before + a @ b)
    before.flags.writeable = False
    if before.size:
        kept = before.copy()
        with pytest.raises(ValueError, match="read-only"):
            product.add_to(before)
        np.testing.assert_array_equal(before, kept)
