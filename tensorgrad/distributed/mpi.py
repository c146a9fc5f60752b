"""MPI: the one file that imports mpi4py.

Arrays go through the buffer interface, in place and without pickling. Every operation is started
without blocking, and then awaited by a loop that asks whether it is done: so Ctrl-C gets through,
there is a time limit, and a process that has ended without the others is noticed by them.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ..backend import xp
from .group import Group

SPIN = 0.05  # seconds of waiting with all its might, before a process leaves its core to others
PAUSE = 0.0005  # between two looks, from then on
GRACE = 5.0  # seconds for what is on its way from a process that has ended already
LEFT = 1  # the tag of the message of one that ends

_yield: Callable[[], None] = getattr(os, "sched_yield", lambda: time.sleep(0))


class World(Group):
    """All processes that one mpiexec has started."""

    def __init__(self, timeout: float) -> None:
        from mpi4py import MPI

        self.mpi = MPI
        self.comm = MPI.COMM_WORLD.Dup()
        self.farewells = MPI.COMM_WORLD.Dup()
        super().__init__(self.comm.Get_rank(), self.comm.Get_size())
        self.timeout = timeout
        self.ops = {
            "SUM": MPI.SUM, "PRODUCT": MPI.PROD, "MIN": MPI.MIN, "MAX": MPI.MAX,
            "BAND": MPI.BAND, "BOR": MPI.BOR, "BXOR": MPI.BXOR,
        }  # fmt: skip
        self.previous_hook = sys.excepthook
        if self.size > 1:
            sys.excepthook = self._end_all
            atexit.register(self._say_goodbye)

    def close(self) -> None:
        if self.size > 1:
            if sys.excepthook == self._end_all:
                sys.excepthook = self.previous_hook
            atexit.unregister(self._say_goodbye)
            self._say_goodbye()

    # --- operations: what they start is awaited by ``wait`` ---------------------------------------

    def all_reduce(self, array: Any, op: str) -> Any:
        return self.comm.Iallreduce(self.mpi.IN_PLACE, array, self.ops[op])

    def reduce(self, array: Any, op: str, dst: int) -> Any:
        own, other = (self.mpi.IN_PLACE, array) if self.rank == dst else (array, None)
        return self.comm.Ireduce(own, other, self.ops[op], root=dst)

    def broadcast(self, array: Any, src: int) -> Any:
        return self.comm.Ibcast(array, root=src)

    def all_gather(self, out: Any, array: Any) -> Any:
        return self.comm.Iallgather(array, out)

    def reduce_scatter(self, out: Any, array: Any, op: str) -> Any:
        return self.comm.Ireduce_scatter_block(array, out, self.ops[op])

    def barrier(self) -> Any:
        return self.comm.Ibarrier()

    def done(self, request: Any) -> bool:
        return request.Test()

    def wait(self, request: Any, name: str) -> None:
        if request.Test():
            return
        now = time.monotonic()
        spin, end = now + SPIN, now + self.timeout
        left = None
        while not request.Test():
            if now < spin:
                _yield()
            else:
                time.sleep(PAUSE)
                if left is None and (left := self._who_left()) is not None:
                    end = min(end, now + GRACE)
                elif now > end:
                    raise RuntimeError(self._why_not(name, left))
            now = time.monotonic()

    def _why_not(self, name: str, left: int | None) -> str:
        waits = f"{name}: rank {self.rank} waits for the other processes"
        if left is not None:
            return f"{waits}, and rank {left} has ended without it"
        return f"{waits} for {self.timeout:g} s now; all of them have to call it"

    # --- the end ----------------------------------------------------------------------------------

    def _who_left(self) -> int | None:
        """A process that has ended its program."""
        status = self.mpi.Status()
        if self.farewells.Iprobe(tag=LEFT, status=status):
            return status.Get_source()
        return None

    def _say_goodbye(self) -> None:
        """Rank 0 hears of each that ends, and all hear of rank 0: none waits for ever."""
        nothing = xp.empty(0, xp.uint8)
        for other in range(1, self.size) if self.rank == 0 else [0]:
            self.farewells.Isend(nothing, dest=other, tag=LEFT)

    def _end_all(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """Instead of the interpreter's hook: a process that fails takes the others with it."""
        self.previous_hook(kind, error, trace)
        print(
            f"rank {self.rank} of {self.size} has failed, and ends the other processes too",
            file=sys.stderr,
        )
        sys.stdout.flush()
        sys.stderr.flush()
        self.comm.Abort(1)
