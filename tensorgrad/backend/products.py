"""Matrix products, shared by our threads and, where Numba is installed, computed by our tiles.

OpenBLAS could share them by itself, but its threads go on spinning when a product is done and take
the core that our loops would need; and should another process take a core, all wait for the thread
that has lost it: a training step of 75 ms became one of 360. So it is told to do each product with
one thread, and large ones are cut into pieces here, which our threads take one after the other.
Where NumPy has another library (Accelerate, MKL), that is left to do as it does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from . import threads
from .unwritten import Unwritten

SHORT = 1 << 17  # multiplications up to which tiles take longer to begin than OpenBLAS to end
THIN = 8  # rows, columns or terms of which fewer would leave tiles mostly empty
SMALL = 1 << 22  # multiplications up to which a product is the caller's alone
LARGE = 1 << 26  # from which there are two pieces for each thread, and else one
WHOLE = 48  # rows, or columns, of which a piece has a multiple, so that its tiles are whole ones
ROWS = 512  # of a product that NumPy adds to something, computed at a time: fewer take it longer

routine: Callable[[str], Any] = lambda name: None  # replaced by the kernels' when they are loaded


def matmul(a: Any, b: Any, bias: Any = None, residual: Any = None, out: Any = None) -> Any:
    """``a @ b``: of two matrices, or of stacks of them. Of matrices ``a @ b + bias + residual``,
    too, with a vector and a matrix that is like the result.

    It is written into ``out``, which is a new array, or the residual itself; no other memory of
    the size of the result is taken then.
    """
    matrices = a.ndim == b.ndim == 2
    work = a.size * b.shape[-1] if matrices or a.ndim == b.ndim > 2 else 0
    if not _openblas() or work <= SHORT or not _of_floats(a, b):  # it is told by any product
        return _numpys(a, b, bias, residual, out)
    product = _product(a, b, bias, residual) if matrices else _numpys
    shared = work > SMALL and threads.COUNT > 1 and (matrices or len(a) > 1)
    if product is _numpys and not shared:
        return _numpys(a, b, bias, residual, out)
    if out is None:
        out = np.empty((len(a), b.shape[1]) if matrices else (*a.shape[:-1], b.shape[-1]), a.dtype)

    if not shared:
        product(a, b, bias, residual, out)
    elif not matrices:
        _share(work, len(a), 1, lambda i: product(a[i], b[i], bias, residual, out[i]))
    elif len(a) >= b.shape[1]:
        _share(work, len(a), WHOLE, lambda i: product(a[i], b, bias, _part(residual, i), out[i]))
    else:
        _share(
            work, b.shape[1], WHOLE,
            lambda i: product(a, b[:, i], _part(bias, i), _part(residual, (..., i)), out[:, i]),
        )  # fmt: skip
    return out


class Product(Unwritten):
    """``a @ b`` of two matrices: the gradient of a weight."""

    __slots__ = ("a", "b")

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b

    @property
    def shape(self) -> tuple[int, int]:
        return self.a.shape[0], self.b.shape[1]

    @property
    def dtype(self) -> Any:
        return self.a.dtype

    def add_to(self, out: Any) -> None:
        a, b = self.a, self.b
        usual = out.flags.carray and out.dtype == a.dtype == b.dtype
        if usual and not (np.may_share_memory(out, a) or np.may_share_memory(out, b)):
            matmul(a, b, None, out, out)
        else:
            out += matmul(a, b)

    def written(self, strides: Any = ()) -> Any:
        return matmul(self.a, self.b)


def _numpys(a: Any, b: Any, bias: Any, residual: Any, out: Any = None) -> Any:
    if out is not None and residual is not None and np.may_share_memory(out, residual):
        for i in range(0, len(a), ROWS):
            out[i : i + ROWS] += np.matmul(a[i : i + ROWS], b)
        residual = None  # which is in it
    else:
        out = np.matmul(a, b, out=out)
    if bias is not None:
        out += bias
    if residual is not None:
        out += residual
    return out


def _part(array: Any, i: Any) -> Any:
    return None if array is None else array[i]


def _share(work: int, length: int, whole: int, task: Callable[[slice], Any]) -> None:
    threads.share(task, threads.cut(length, 1 if work < LARGE else 2, whole))


def _of_floats(a: Any, b: Any) -> bool:
    """Whether they are of one dtype that BLAS knows, and fit without broadcasting."""
    dtype, sizes = a.dtype, b.shape
    return (
        (dtype is b.dtype or dtype == b.dtype)
        and dtype.kind == "f"
        and a.shape[-1] == sizes[-2]
        and (len(sizes) == 2 or a.shape[:-2] == sizes[:-2])
    )


def _product(a: Any, b: Any, bias: Any, residual: Any) -> Callable:
    """Our tiles' product if it knows these matrices and is not slower; otherwise NumPy's."""
    dtype, (m, k), n = a.dtype, a.shape, b.shape[1]
    if m < THIN or k < THIN or n < THIN or dtype.char not in "fd" or not dtype.isnative:
        return _numpys
    if bias is not None and (bias.shape != (n,) or bias.dtype != dtype):
        return _numpys
    if residual is not None and (residual.dtype != dtype or not residual.flags.aligned):
        return _numpys
    if not (a.flags.aligned and b.flags.aligned):
        return _numpys
    return routine("product") or _numpys


@cache
def _openblas() -> bool:
    """Whether NumPy's products are OpenBLAS's, which is told to do each with one thread."""
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(internal_api="openblas")
    found.limit(limits=1)
    return len(found) > 0
