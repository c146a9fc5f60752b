"""The compiled product: against sums of whole numbers and products in higher precision."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the tiles are compiled by Numba")

from tensorgrad.backend import kernels, products, threads
from tensorgrad.backend.kernels import product_loops

pytestmark = pytest.mark.skipif(not product_loops.AVAILABLE, reason="the processor has no AVX-512")

SIZES = st.integers(1, 70) | st.sampled_from([8, 16, 48, 64, 95, 96, 97, 383, 384, 385, 400])


def product(
    a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None, residual: np.ndarray | None = None
) -> np.ndarray:
    """By tiles, into an array whose surroundings must stay as they are."""
    around = np.full((len(a) + 2, b.shape[1] + 2), 77, a.dtype)
    product_loops.product(a, b, bias, residual, around[1:-1, 1:-1])
    assert (around[[0, -1]] == 77).all()
    assert (around[:, [0, -1]] == 77).all()
    return around[1:-1, 1:-1].copy()


def laid_out(x: np.ndarray, layout: str) -> np.ndarray:
    """The same numbers: rows or columns side by side, within a larger array or not; or from behind,
    as ``flip`` lays them out."""
    if "backwards" in layout:
        return laid_out(x[::-1, ::-1], layout.replace(" backwards", ""))[::-1, ::-1]
    if "from below" in layout:
        return laid_out(x[::-1], layout.replace(" from below", ""))[::-1]
    if "columns" in layout:
        return laid_out(x.T, layout.replace("columns", "rows")).T
    wide = np.full((x.shape[0], x.shape[1] + 5), np.nan, x.dtype)
    wide[:, 2:-3] = x
    return wide[:, 2:-3] if "within" in layout else np.ascontiguousarray(x)


LAYOUTS = [
    "rows", "columns", "rows within", "columns within", "rows from below", "columns from below",
    "columns within backwards",
]  # fmt: skip


@given(
    SIZES,
    SIZES,
    SIZES,
    st.sampled_from(LAYOUTS),
    st.sampled_from(LAYOUTS),
    st.sampled_from("fd"),
    st.integers(0, 99),
)
def test_whole_numbers(m: int, k: int, n: int, one: str, two: str, dtype: str, seed: int) -> None:
    """Their sums are exact in any order."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(-99, 100, (m, k)), rng.integers(-99, 100, (k, n))
    got = product(laid_out(a.astype(dtype), one), laid_out(b.astype(dtype), two))
    np.testing.assert_array_equal(got, a @ b)
    a, b, right = a.astype(dtype), b.astype(dtype), a @ b
    bias, residual = rng.integers(-99, 100, n).astype(dtype), rng.integers(-99, 100, (m, n))
    given = laid_out(residual.astype(dtype), two)
    np.testing.assert_array_equal(product(laid_out(a, one), b, bias), right + bias)
    np.testing.assert_array_equal(product(a, b, None, given), right + residual)
    np.testing.assert_array_equal(product(a, b, bias, given), right + bias + residual)


@pytest.mark.parametrize(("dtype", "bound"), [("f", 1.2e-7), ("d", 2.3e-16)])
def test_rounding(dtype: str, bound: float) -> None:
    """Within what k roundings can do (Higham 2002, section 3.5), and much less on the average."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(50, 1000)).astype(dtype), rng.normal(size=(1000, 70)).astype(dtype)
    exact = a.astype(np.longdouble) @ b.astype(np.longdouble)
    error = abs(product(a, b) - exact)
    assert (error <= 1000 * bound * (abs(a) @ abs(b))).all()
    assert error.mean() < 10 * bound * abs(exact).mean()


def test_what_is_not_finite() -> None:
    """A nan or inf reaches its row and its column, and nothing else."""
    a, b = np.ones((20, 30), "f"), np.ones((30, 60), "f")
    a[3, 4], a[17, 2], b[5, 50] = np.nan, np.inf, np.inf
    expected = np.full((20, 60), 30, "f")
    expected[:, 50], expected[17], expected[3] = np.inf, np.inf, np.nan
    np.testing.assert_array_equal(product(a, b), expected)


@given(st.integers(8, 300), st.integers(8, 300), st.integers(0, 99))
def test_a_row_does_not_depend_on_its_neighbours(m: int, n: int, seed: int) -> None:
    """Nor a column: the same bits, alone or in company. BLAS promises nothing like it."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(m, 500)).astype("f"), rng.normal(size=(500, n)).astype("f")
    whole = product(a, b)
    i, j = rng.integers(m), rng.integers(n)
    np.testing.assert_array_equal(product(a[i : i + 9], b), whole[i : i + 9])
    np.testing.assert_array_equal(product(a, b[:, j : j + 9]), whole[:, j : j + 9])


@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize(
    ("m", "k", "n"),
    # The last ones: more terms, rows further apart and more of b than are read in place.
    [(64, 64, 192), (8, 9, 16), (96, 400, 64), (16, 1100, 48), (2200, 40, 16), (24, 500, 1200)],
)
def test_where_they_lie_changes_nothing(m: int, k: int, n: int, dtype: str) -> None:
    """The same bits, whether tiles read a matrix where it is or a copy of it."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    whole = product(np.vstack([a, a[:1]]), b)[:-1]  # of rows that do not fill tiles there is a copy
    for one in LAYOUTS:
        for two in LAYOUTS:
            np.testing.assert_array_equal(product(laid_out(a, one), laid_out(b, two)), whole)


def before_a_wall(x: np.ndarray) -> np.ndarray:
    """The same numbers, in memory behind which nobody may read."""
    page = mmap.PAGESIZE
    size = -(-x.nbytes // page) * page
    memory = mmap.mmap(-1, size + page)
    here = np.frombuffer(memory, x.dtype, x.size, size - x.nbytes).reshape(x.shape)
    here[...] = x
    wall = ctypes.c_void_p(here.ctypes.data + x.nbytes)
    assert ctypes.CDLL(None, use_errno=True).mprotect(wall, page, 0) == 0, ctypes.get_errno()
    return here


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("k", [9, 500])
@pytest.mark.parametrize(("m", "n"), [(8, 16), (12, 20), (16, 24), (9, 48), (96, 17), (100, 8)])
def test_nothing_is_read_behind_them(m: int, k: int, n: int, dtype: str) -> None:
    """Or the process ends here."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-9, 10, shape).astype(dtype) for shape in ((m, k), (k, n)))
    for x in (before_a_wall(a), before_a_wall(a.T.copy()).T):
        for y in (before_a_wall(b), before_a_wall(b.T.copy()).T):
            np.testing.assert_array_equal(product(x, y), a @ b)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(300, 200)).astype("f"), rng.normal(size=(200, 150)).astype("f")
    monkeypatch.setattr(threads, "COUNT", 1)
    right, wide = rng.normal(size=150).astype("f"), rng.normal(size=300).astype("f")

    def results() -> list[np.ndarray]:
        both = [products.matmul(a, b), products.matmul(b.T, a.T)]
        both += [products.matmul(a, b, right), products.matmul(b.T, a.T, wide[::2].repeat(2))]
        more = np.arange(both[0].size, dtype="f").reshape(both[0].shape)
        both += [products.matmul(a, b, right, more), products.matmul(b.T, a.T, None, more.T)]
        np.testing.assert_allclose(both[-1], both[1] + more.T, rtol=1e-5, atol=1e-3)
        return both

    alone = results()
    monkeypatch.setattr(products, "SMALL", 0)
    monkeypatch.setattr(threads, "_inbox", None)
    monkeypatch.setattr(threads, "COUNT", 3)
    for got, want in zip(results(), alone, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("a", "b", "by_tiles"),
    [
        (np.ones((64, 64), "f"), np.ones((64, 64), "f"), True),
        (np.ones((64, 64)), np.ones((64, 64)), True),
        (np.ones((64, 64), "f").T, np.ones((64, 64), "f").T, True),
        (np.ones((8, 64), "f"), np.ones((64, 64), "f"), False),  # short
        (np.ones((4, 900), "f"), np.ones((900, 900), "f"), False),  # thin
        (np.ones((900, 900), "f"), np.ones((900, 1), "f"), False),
        (np.ones((64, 128), "f")[:, ::2], np.ones((64, 64), "f"), True),  # nothing side by side
        (np.broadcast_to(np.float32(1), (64, 64)), np.ones((64, 64), "f"), True),
        (
            np.zeros(64 * 64 * 4 + 1, "i1")[1:].view("f").reshape(64, 64),
            np.ones((64, 64), "f"),
            False,
        ),
        (np.ones((64, 64), "f"), np.ones((64, 64)), False),  # two dtypes
        (np.ones((64, 64), ">f4"), np.ones((64, 64), ">f4"), False),
        (np.ones((64, 64), "f2"), np.ones((64, 64), "f2"), False),
        (np.ones((64, 64), int), np.ones((64, 64), int), False),
        (np.ones((2, 64, 64), "f"), np.ones((2, 64, 64), "f"), False),  # a stack
    ],
)
def test_who_computes_it(
    monkeypatch: pytest.MonkeyPatch, a: np.ndarray, b: np.ndarray, by_tiles: bool
) -> None:
    """Whoever does, the numbers are right; with the backend numpy it is always NumPy."""
    if not products._openblas() or kernels.current() != "numba":
        pytest.skip("tiles stand in for OpenBLAS only, and where Numba is wanted")
    used: list[Any] = []
    tiled = kernels.routine("product")
    spy = lambda *arrays: used.append(1) or tiled(*arrays)
    monkeypatch.setitem(kernels._table, "product", spy)
    np.testing.assert_array_equal(products.matmul(a, b), np.einsum("...ij,...jk->...ik", a, b))
    assert bool(used) == by_tiles
    with monkeypatch.context() as patch:
        patch.setattr(kernels, "_backend", "numpy")
        patch.setattr(kernels, "_table", {})
        np.testing.assert_array_equal(products.matmul(a, b), np.einsum("...ij,...jk->...ik", a, b))
    assert len(used) == by_tiles


@pytest.mark.parametrize("bias", [np.arange(64.0), np.ones(1, "f"), np.ones((64, 1), "f")])
def test_a_bias_that_tiles_do_not_know(bias: np.ndarray) -> None:
    """Of another dtype or shape: NumPy adds it, or says why not."""
    x = np.ones((64, 64), "f")
    np.testing.assert_array_equal(products.matmul(x, x, bias), (x @ x + bias).astype("f"))
    residual = x.astype(bias.dtype)
    np.testing.assert_array_equal(products.matmul(x, x, None, residual), x @ x + 1)
    with pytest.raises(ValueError, match="broadcast"):
        products.matmul(x, x, np.ones(63, "f"))


def test_other_processors() -> None:
    """Those without the registers that tiles are made for leave products to OpenBLAS."""
    code = (
        "import numpy as np; from tensorgrad.backend import kernels, products\n"
        "x = np.ones((64, 64), 'f'); assert (products.matmul(x, x) == 64).all()\n"
        "print(kernels.current(), kernels.routine('product'))"
    )
    environment = {
        **os.environ, "TENSORGRAD_BACKEND": "numba",
        "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+avx2",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "numba None\n"
