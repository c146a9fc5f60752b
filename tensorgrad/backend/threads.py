"""One pool of threads, for long loops and for matrix products (``products.py``).

Whoever is ready takes the next piece of the work, which is cut into more pieces than there are
threads: should another process take one of the cores, the other threads do most of it, and nobody
waits for a thread that has not even started. Calling in the others takes some 30 µs, so what is
short is done by the caller alone.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from queue import SimpleQueue
from threading import Thread
from typing import Any

from . import launch

ALONE = 1 << 18  # elements up to which a loop is not shared
PIECES = 3  # of a loop, for each thread
COUNT = launch.threads()  # as NumPy does, once

_inbox: SimpleQueue | None = None  # what the other threads take their work from


def spread(loop: Callable, arrays: Sequence[Any], *rest: Any, work: int | None = None) -> None:
    """``loop(*arrays, *rest)``, where arrays are cut along their first axis, of one length.

    ``loop`` releases the interpreter's lock and writes into the pieces it is given. ``work`` is how
    long it takes, compared to a loop over so many elements; by default those of the first array.
    """
    if COUNT == 1 or (arrays[0].size if work is None else work) <= ALONE or len(arrays[0]) == 1:
        loop(*arrays, *rest)
        return
    share(lambda piece: loop(*(a[piece] for a in arrays), *rest), cut(len(arrays[0]), PIECES))


def cut(length: int, pieces: int, whole: int = 1) -> list[slice]:
    """So many pieces for each thread, of about the same size, which ``whole`` divides."""
    size = -(-length // (pieces * COUNT * whole)) * whole
    return [slice(i, i + size) for i in range(0, length, size)]


def share(task: Callable[[Any], object], pieces: Iterable[Any]) -> None:
    """``task(piece)`` for all pieces, by all threads; returns when all is done."""
    left, done = deque(pieces), deque[BaseException | None]()
    total = len(left)
    ended: SimpleQueue = SimpleQueue()

    def take_pieces() -> None:
        while left:
            try:
                piece = left.popleft()
            except IndexError:  # another thread has taken the last one
                return
            try:
                task(piece)
                done.append(None)
            except BaseException as error:  # the caller's to raise
                done.append(error)
            if len(done) == total:
                ended.put(None)

    for _ in range(min(COUNT, total) - 1):
        # With the caller's context, which says what NumPy does about an overflow.
        _helpers().put((copy_context().run, take_pieces))
    take_pieces()
    ended.get()
    for error in done:
        if error is not None:
            raise error


def _helpers() -> SimpleQueue:
    global _inbox
    if _inbox is None:
        _inbox = SimpleQueue()
        for i in range(COUNT - 1):
            Thread(target=_work, args=(_inbox,), name=f"tensorgrad-{i}", daemon=True).start()
    return _inbox


def _work(inbox: SimpleQueue) -> None:
    while True:
        run, task = inbox.get()
        run(task)
        del run, task  # and with them arrays, which nobody needs any more


def _forget() -> None:
    """A forked process has the queue, but not the threads."""
    global _inbox
    _inbox = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
