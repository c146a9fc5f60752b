"""How many threads there are, and long loops spread over them.

NumPy's matrix products have threads of their own, as many as ``OMP_NUM_THREADS`` says or else as
there are cores, and between two products these go on spinning for a while. A loop of ours
therefore runs on the caller's thread alone, unless it is so long that calling in others (some
50 µs) is nothing to it. It is then cut into more pieces than there are threads, and each takes
the next one when it is done: should another process take one of the cores, the other threads do
most of the work, and nobody waits for a thread that has not even started.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import launch

ALONE = 1 << 18  # elements up to which a loop is not spread
PIECES = 3  # for each thread
COUNT = launch.threads()  # as NumPy does, once

_pool: ThreadPoolExecutor | None = None


def spread(loop: Callable, arrays: Sequence[Any], *rest: Any, work: int | None = None) -> None:
    """``loop(*arrays, *rest)``, where arrays are cut along their first axis, of one length.

    ``loop`` releases the interpreter's lock and writes into the pieces it is given. ``work`` is how
    long it takes, compared to a loop over so many elements; by default those of the first array.
    """
    if COUNT == 1 or (arrays[0].size if work is None else work) <= ALONE or len(arrays[0]) == 1:
        loop(*arrays, *rest)
        return
    rows = len(arrays[0])
    size = -(-rows // (PIECES * COUNT))
    pieces = deque(slice(i, i + size) for i in range(0, rows, size))

    def take_pieces() -> None:
        while pieces:
            try:
                piece = pieces.popleft()
            except IndexError:  # another thread has taken the last one
                return
            loop(*(a[piece] for a in arrays), *rest)

    helpers = [_helpers().submit(take_pieces) for _ in range(COUNT - 1)]
    take_pieces()
    for helper in helpers:
        if not helper.cancel():
            helper.result()


def _helpers() -> ThreadPoolExecutor:
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(COUNT - 1, thread_name_prefix="tensorgrad")
    return _pool


def _forget() -> None:
    """A forked process has the pool, but not its threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
