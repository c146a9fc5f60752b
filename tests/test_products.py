"""Matrix products that several threads share: the same numbers, and OpenBLAS alone with each."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorgrad
from tensorgrad.backend import products, threads


@pytest.fixture
def three_threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Three threads, which share products of any size; the list grows with those shared."""
    shared: list[int] = []
    share = threads.share
    monkeypatch.setattr(threads, "COUNT", 3)
    monkeypatch.setattr(threads, "_inbox", None)
    monkeypatch.setattr(threads, "share", lambda t, p: (shared.append(len(p)), share(t, p)))
    monkeypatch.setattr(products, "SHORT", 0)
    monkeypatch.setattr(products, "SMALL", 0)
    return shared


def layouts(x: np.ndarray) -> list[np.ndarray]:
    """The same numbers: in rows, in columns, and as every other row and column of another array."""
    wide = np.zeros((*x.shape[:-2], 2 * x.shape[-2], 2 * x.shape[-1]), x.dtype)
    wide[..., ::2, ::2] = x
    return [x, np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2), wide[..., ::2, ::2]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize(
    ("a", "b"),
    [((7, 5), (5, 3)), ((3, 5), (5, 7)), ((1, 5), (5, 100)), ((100, 2), (2, 1)),
     ((4, 6, 5), (4, 5, 3)), ((2, 3, 6, 5), (2, 3, 5, 3))],
)  # fmt: skip
def test_shared_products(three_threads: list[int], a: Any, b: Any, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    # Whole numbers: their products and sums are exact in any order.
    a, b = (rng.integers(-9, 10, shape).astype(dtype) for shape in (a, b))
    for x in layouts(a):
        for y in layouts(b):
            got = products.matmul(x, y)
            np.testing.assert_array_equal(got, np.einsum("...ij,...jk->...ik", a, b))
            assert got.dtype == dtype
    assert len(three_threads) == 9


@pytest.mark.parametrize(
    ("a", "b"),
    [((5,), (5, 3)), ((3, 5), (5,)), ((4, 6, 5), (5, 3)), ((4, 6, 5), (1, 5, 3)), ((0, 5), (5, 3)),
     ((3, 0), (0, 2)), ((1, 6, 5), (1, 5, 3))],
)  # fmt: skip
def test_others_are_numpy_s(three_threads: list[int], a: Any, b: Any) -> None:
    a, b = np.ones(a), np.ones(b)
    np.testing.assert_array_equal(products.matmul(a, b), a @ b)
    np.testing.assert_array_equal(products.matmul(a.astype(int), b.astype(int)), a @ b)
    assert not three_threads
    with pytest.raises(ValueError, match="mismatch"):
        products.matmul(np.ones((4, 2)), np.ones((3, 4)))


@given(st.tuples(*[st.integers(1, 40)] * 3), st.integers(2, 5))
def test_any_number_of_threads(sizes: tuple[int, int, int], count: int) -> None:
    rows, inner, columns = sizes
    a = np.arange(rows * inner).reshape(rows, inner) % 7.0
    b = np.arange(inner * columns).reshape(inner, columns) % 5.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "COUNT", count)
        patch.setattr(threads, "_inbox", None)
        patch.setattr(products, "SMALL", 0)
        np.testing.assert_array_equal(products.matmul(a, b), a @ b)


def test_layers_use_them(three_threads: list[int]) -> None:
    """Linear layers and the operator @, both ways."""
    x, w = (tensorgrad.ones(6, 4, requires_grad=True) for _ in range(2))
    tensorgrad.nn.functional.linear(x, w).sum().backward()
    assert len(three_threads) == 3
    (x @ w.T).sum().backward()
    assert len(three_threads) == 6


def test_overflow_is_what_the_caller_says(three_threads: list[int]) -> None:
    big = np.full((7, 64, 64), 3e38, np.float32)
    with np.errstate(all="ignore"):
        assert np.isinf(products.matmul(big, big)).all()
    with np.errstate(over="raise", invalid="raise"), pytest.raises(FloatingPointError):
        products.matmul(big, big)


def threads_of_openblas(code: str) -> list[int]:
    code = (
        f"{code}\n"
        "from threadpoolctl import threadpool_info\n"
        "found = [i for i in threadpool_info() if i['internal_api'] == 'openblas']\n"
        "print(*(i['num_threads'] for i in found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_openblas_has_one_thread_for_each() -> None:
    alone = threads_of_openblas("import numpy")
    if not alone or max(alone) == 1:
        pytest.skip("NumPy's products have no OpenBLAS with several threads here")
    start = "import numpy, tensorgrad as t; t.backend.threads.COUNT = 2\n"
    assert threads_of_openblas(start) == alone, "until there is a product"
    assert set(threads_of_openblas(start + "t.ones(2, 2) @ t.ones(2, 2)")) == {1}
