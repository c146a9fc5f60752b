"""What a process can do together with others; by itself, it is one of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Window:
    """Bytes that all processes see: what each writes into its part, and the result of all."""

    world: Group
    parts: list[Any]
    result: Any

    def meet(self, place: int) -> Iterator[Any]:
        """Yield what has to be awaited until all are here; then each sees what others wrote.

        There are two places, 0 and 1, and at each the meetings follow one another.
        """
        raise NotImplementedError


class Group:
    """Processes that exchange arrays; this class is a process by itself, which has them already.

    The arrays are contiguous, of a dtype that MPI knows. What a method starts may be None, for
    nothing is left to do; :meth:`wait` ends it.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def all_reduce(self, array: Any, op: str) -> Any:
        """Combine ``array`` with those of the others, in place."""

    def reduce(self, array: Any, op: str, dst: int) -> Any:
        """The same for the process ``dst`` only."""

    def broadcast(self, array: Any, src: int) -> Any:
        """Overwrite ``array`` with that of the process ``src``."""

    def all_gather(self, out: Any, array: Any) -> Any:
        """Write the arrays of all processes, [n] each, one behind the other into ``out``."""
        out[...] = array.reshape(out.shape)

    def reduce_scatter(self, out: Any, array: Any, op: str) -> Any:
        """Combine the arrays of all processes; ``out`` gets this process's share of the result."""
        out[...] = array.reshape(out.shape)

    def barrier(self) -> Any:
        """Begin to wait until all are here."""

    def window(self, size: int) -> Window | None:
        """New memory with parts of so many bytes; None, for all, where there can be none."""
        return None

    def done(self, request: Any) -> bool:
        """Whether what was started has ended; asking lets it go on."""
        return True

    def wait(self, request: Any, name: str) -> None:
        """Return when what was started has ended."""

    def close(self) -> None:
        """Part from the others."""
