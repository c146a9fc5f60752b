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
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any
from weakref import ref

from ..backend import xp
from .group import Group, Window
from .progress import Progress

SPIN = 0.05  # seconds of waiting with all its might, before a process leaves its core to others
PAUSE = 0.0005  # between two looks, from then on
GRACE = 5.0  # seconds for what is on its way from a process that has ended already
LONG = 1 << 21  # bytes that take a network so long that much can be computed meanwhile
SHARED_FILES = "/dev/shm"  # where Linux has the memory that processes share
LEFT = 1  # the tag of the message of one that ends
NEVER = 2  # that of no message

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
        here = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        self.on_one_machine = here.Get_size() == self.size
        here.Free()
        self.windows: list[tuple[ref[Window], list[Any]]] = []  # and what has to be freed
        several_threads = MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self.progress = (
            Progress(lambda: self.farewells.Iprobe(tag=NEVER), PAUSE)
            if several_threads and not self.on_one_machine  # where all cores are busy anyway
            else None
        )
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
        request = self.comm.Iallreduce(self.mpi.IN_PLACE, array, self.ops[op])
        if self.progress is not None and array.nbytes >= LONG:
            self.progress.began(request)
        return request

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

    def window(self, size: int) -> Window | None:
        """Memory that the processes share; None if they are on several machines, or it is too much.

        The environment variable ``TENSORGRAD_SHARED_MEMORY=0`` says that there shall be none.
        """
        self._free_windows()
        if not self._all(self._may_share(size * (self.size + 1))):
            return None
        try:
            found = SharedWindow(self, size)
        except (self.mpi.Exception, NotImplementedError):
            found = None
        if not self._all(found is not None):
            return None
        assert found is not None
        self.windows.append((ref(found), found.kept))
        return found

    def _may_share(self, size: int) -> bool:
        """Whether this process may and can have so many bytes together with all others."""
        if os.environ.get("TENSORGRAD_SHARED_MEMORY") == "0" or not self.on_one_machine:
            return False
        try:  # what is too much is given all the same, and ends who writes there
            disk = os.statvfs(SHARED_FILES)
        except (OSError, AttributeError):
            return True
        return disk.f_bavail * disk.f_frsize > size

    def _free_windows(self) -> None:
        """Give back the memory that no process needs any more, which all have to do together."""
        windows, self.windows = self.windows, []
        for window, kept in windows:
            if self._all(window() is None):
                kept[0].Unlock_all()
                for handle in kept:
                    handle.Free()
            else:
                self.windows.append((window, kept))

    def _all(self, yes: bool) -> bool:
        """Whether all processes say yes."""
        answer = xp.asarray([yes], dtype=xp.uint8)
        self.wait(self.all_reduce(answer, "MIN"), "window")
        return bool(answer[0])

    def done(self, request: Any) -> bool:
        ended = request.Test()
        if ended and self.progress is not None:
            self.progress.ended(request)
        return ended

    def wait(self, request: Any, name: str) -> None:
        if self.done(request):
            return
        now = time.monotonic()
        spin, end = now + SPIN, now + self.timeout
        left = None
        while not self.done(request):
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
        """Rank 0 hears of each that ends, and all hear of rank 0: none waits for ever.

        MPI's own end waits for the others, too, but spins on a core that they may need, and over a
        network complains about messages that nobody has received.
        """
        if self.progress is not None:
            self.progress.stop()
        nothing = xp.empty(0, xp.uint8)
        others = range(1, self.size) if self.rank == 0 else [0]
        for other in others:
            self.farewells.Isend(nothing, dest=other, tag=LEFT)
        for other in others:
            heard = self.farewells.Irecv(nothing, source=other, tag=LEFT)
            while not heard.Test():
                time.sleep(PAUSE)

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


class SharedWindow(Window):
    """Memory that all processes see, in MPI's terms: a shared window, open for all of its life.

    What a process has written is there for those that meet it afterwards: MPI's barrier orders the
    processes, and its ``Sync``, before and after, the memory of each.
    """

    def __init__(self, world: World, size: int) -> None:
        mpi, first = world.mpi, world.rank == 0
        self.world = world
        # The first has the result behind its own.
        self.shared = mpi.Win.Allocate_shared(size * (1 + first), 1, mpi.INFO_NULL, world.comm)
        self.shared.Lock_all(mpi.MODE_NOCHECK)
        # Barriers of one communicator have to begin in the same order everywhere.
        self.places = [world.comm.Dup() for _ in range(2)]
        self.kept = [self.shared, *self.places]
        parts = [xp.asarray(self.shared.Shared_query(rank)[0]) for rank in range(world.size)]
        self.parts = [part[:size] for part in parts]
        self.result = parts[0][size:]
        parts[world.rank][...] = 0  # so that it is taken, and nobody else counts on it

    def meet(self, place: int) -> Iterator[Any]:
        self.shared.Sync()
        yield self.places[place].Ibarrier()
        self.shared.Sync()
