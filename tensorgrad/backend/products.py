"""Matrix products, shared by our threads instead of OpenBLAS's.

OpenBLAS could share them by itself, but its threads go on spinning when a product is done and take
the core that our loops would need; and should another process take a core, all wait for the thread
that has lost it: a training step of 75 ms became one of 360. So it is told to do each product with
one thread, and large ones are cut into pieces here, which our threads take one after the other.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from . import threads

SMALL = 1 << 22  # multiplications up to which a product is the caller's alone
PIECES = 2  # of a product, for each thread


def matmul(a: Any, b: Any) -> Any:
    """``a @ b``: of two matrices, or of stacks of them."""
    if threads.COUNT == 1 or not _one_thread_each() or not _worth_sharing(a, b):
        return a @ b
    out = np.empty((*a.shape[:-1], b.shape[-1]), a.dtype)
    if a.ndim > 2:
        rows, task = len(a), lambda i: np.matmul(a[i], b[i], out=out[i])
    elif len(a) >= b.shape[1]:
        rows, task = len(a), lambda i: np.matmul(a[i], b, out=out[i])
    else:
        rows, task = b.shape[1], lambda i: np.matmul(a, b[:, i], out=out[:, i])
    threads.share(task, threads.cut(rows, PIECES))
    return out


def _worth_sharing(a: Any, b: Any) -> bool:
    """Whether it is long, and of a kind that can be cut along one axis."""
    if a.ndim < 2 or a.ndim != b.ndim or a.size * b.shape[-1] <= SMALL:
        return False
    fitting = a.shape[:-2] == b.shape[:-2] and a.shape[-1] == b.shape[-2]
    return fitting and a.dtype == b.dtype and a.dtype.kind == "f" and (a.ndim == 2 or len(a) > 1)


@cache
def _one_thread_each() -> bool:
    """Whether NumPy's products are OpenBLAS's, which is told to do each with one thread."""
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(internal_api="openblas")
    found.limit(limits=1)
    return len(found) > 0
